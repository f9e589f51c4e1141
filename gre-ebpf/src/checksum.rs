//! The internet checksum over a packet's bytes, by the kernel's `bpf_csum_diff`.
//!
//! The helper takes multiples of 4 bytes, at most 512 a call, and the verifier wants a length for packet memory that it knows: so
//! whole blocks straight from the first buffer, then one of a multiple of [`UNIT`], and the last bytes one by one without a call.
//! What lies in other buffers is copied first.

use core::{hint::black_box, ptr};

use aya_ebpf::{
    bindings::xdp_md,
    helpers::generated::{bpf_csum_diff, bpf_xdp_load_bytes},
    macros::map,
    maps::PerCpuArray,
    programs::XdpContext,
};
use gre_common::checksum::fold;

use crate::frame::Frame;

const BLOCK: usize = 512;
/// The last block is so many times this long: what is left takes fewer instructions than another call.
const UNIT: usize = 32;
/// An IP packet has at most 65,535 bytes.
const MOST_BLOCKS: usize = 65_535 / BLOCK;
/// What has more blocks is copied: so nothing is read directly that lies farther than [`FARTHEST_DIRECT`].
const MOST_DIRECT_BLOCKS: usize = 40;
/// As a mask it tells the verifier so.
const FARTHEST_DIRECT: usize = 0x7fff;
const _: () = assert!(FARTHEST as usize + (MOST_DIRECT_BLOCKS + 1) * BLOCK <= FARTHEST_DIRECT);

/// A block, with room to pad it to a multiple of 4.
type Scratch = [u8; BLOCK + 4];

/// Where bytes are copied to.
#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// The folded sum of `len` bytes at `offset`, wherever they lie; `None`: a helper refused.
#[inline(always)]
pub(crate) fn sum(ctx: &XdpContext, offset: usize, len: usize) -> Option<u16> {
    u16::try_from(sum_out_of_line(ctx.ctx, offset as u32, len as u32)).ok()
}

/// The sum, or [`REFUSED`]. A function of its own in the kernel too: the good path of packets without a checksum stays short,
/// and the verifier walks the loops once for each caller instead of once for each way to get there.
#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn sum_out_of_line(ctx: *mut xdp_md, offset: u32, len: u32) -> u32 {
    let ctx = XdpContext::new(ctx);
    let (offset, len) = ((offset & FARTHEST) as usize, (len & LONGEST) as usize);
    match sum_blocks(&Frame::new(&ctx), offset, len) {
        Some(sum) => u32::from(sum),
        None => REFUSED,
    }
}

/// No folded sum.
const REFUSED: u32 = u32::MAX;
/// No GRE header begins farther into a frame, not behind the longest extension headers; as a mask it tells the verifier so.
const FARTHEST: u32 = 0x1fff;
/// No IP packet is longer; as a mask it tells the verifier so.
const LONGEST: u32 = 0xffff;

#[inline(always)]
fn sum_blocks(frame: &Frame<'_>, offset: usize, len: usize) -> Option<u16> {
    let blocks = len / BLOCK;
    // Chosen once: a choice for each block would make the verifier walk the rest of the loop from each.
    if blocks <= MOST_DIRECT_BLOCKS && frame.holds(offset, len) {
        return sum_direct(frame, offset, len).map(fold);
    }
    let scratch = SCRATCH.get_ptr_mut(0)?;
    let mut sum = add_by_copies(frame, scratch, offset, blocks)?;
    let rest = len % BLOCK;
    if rest != 0 {
        // Linux 6.1 learns nothing from a comparison with zero, and takes no length that may be zero.
        let rest = (black_box(rest - 1) & (BLOCK - 1)) + 1;
        sum = add_copied(frame, scratch, offset + len - rest, rest, sum)?;
    }
    Some(fold(u64::from(sum)))
}

/// The sum of bytes of the first buffer, not folded. The whole blocks come last: from each number of them on the verifier walks
/// through what follows.
#[inline(always)]
fn sum_direct(frame: &Frame<'_>, mut offset: usize, len: usize) -> Option<u64> {
    // The compiler knows how far it can be and would leave out the mask; older verifiers know less of a sum than its parts.
    let rest = black_box(offset + len / BLOCK * BLOCK) & FARTHEST_DIRECT;
    let units = known_multiple(black_box(len) % BLOCK);
    let mut sum = match units {
        0 => 0,
        units => add_direct(frame, rest, units, 0)?,
    };
    // Found by the length itself, not by `units`: the same to the verifier, whatever those are.
    let last = sum_last(frame, rest + len % BLOCK / UNIT * UNIT, len % UNIT)?;
    let blocks = len / BLOCK;
    for block in 0..MOST_DIRECT_BLOCKS {
        if block == blocks {
            break;
        }
        sum = add_direct(frame, offset, BLOCK, sum)?;
        offset += BLOCK;
    }
    Some(u64::from(sum) + last)
}

/// Adds so many bytes of the first buffer, a number that the verifier knows, to `sum`.
#[inline(always)]
fn add_direct(frame: &Frame<'_>, offset: usize, len: usize, sum: u32) -> Option<u32> {
    let bytes = frame.bytes(offset, len)?;
    // SAFETY: `bytes` has checked that they are there.
    let sum = unsafe { bpf_csum_diff(ptr::null_mut(), 0, bytes.cast(), len as u32, sum) };
    u32::try_from(sum).ok()
}

/// `len`, less than a block, without what is beyond the last [`UNIT`]: put together from constants, by branches that the compiler can
/// make no arithmetic of, so that the verifier knows it on each way.
#[inline(always)]
fn known_multiple(len: usize) -> usize {
    let mut known = 0;
    for part in [BLOCK / 2, BLOCK / 4, BLOCK / 8, UNIT] {
        if known + part <= black_box(len) {
            known += part;
        }
    }
    known
}

/// The sum of the last bytes, fewer than [`UNIT`].
#[inline(always)]
fn sum_last(frame: &Frame<'_>, offset: usize, len: usize) -> Option<u64> {
    let mut sum = 0;
    // Where a part begins does not depend on whether there were those before, for the verifier.
    let begins = |part: usize| offset + (len & !(2 * part - 1));
    for part in [16, 8, 4] {
        if len & part != 0 {
            let words = frame.bytes(begins(part), part)?.cast::<u32>();
            for word in 0..part / size_of::<u32>() {
                // SAFETY: `bytes` has checked that they are there; the read may be unaligned.
                sum += u64::from(unsafe { words.add(word).read_unaligned() });
            }
        }
    }
    if len & 2 != 0 {
        // SAFETY: as above.
        sum += u64::from(unsafe { frame.bytes(begins(2), 2)?.cast::<u16>().read_unaligned() });
    }
    if len & 1 != 0 {
        // With the byte before, which is the header's at least: from a single byte that the compiler asks for, the verifier learns
        // nothing. As a masked number, for Linux 7.3 knows no bounds of a pointer from which something is taken away.
        let before = black_box(begins(1) - 1) & FARTHEST_DIRECT;
        // SAFETY: as above.
        let last = unsafe { frame.bytes(before, 2)?.add(1).read() };
        // As if a zero byte followed (RFC 1071 section 4.1).
        sum += u64::from(u16::from_ne_bytes([last, 0]));
    }
    Some(sum)
}

/// The sum of so many blocks, wherever they lie.
#[inline(always)]
fn add_by_copies(frame: &Frame<'_>, scratch: *mut Scratch, mut offset: usize, blocks: usize) -> Option<u32> {
    let mut sum = 0;
    for block in 0..MOST_BLOCKS {
        if block == blocks {
            break;
        }
        sum = add_copied(frame, scratch, offset, BLOCK, sum)?;
        offset += BLOCK;
    }
    Some(sum)
}

/// Adds `len` bytes, 1 to [`BLOCK`], by way of `scratch` to `sum`.
#[inline(always)]
fn add_copied(frame: &Frame<'_>, scratch: *mut Scratch, offset: usize, len: usize, sum: u32) -> Option<u32> {
    let bytes = scratch.cast::<u8>();
    // SAFETY: `scratch` is this CPU's own, and `len` and the three zero bytes after it fit into it.
    let sum = unsafe {
        if bpf_xdp_load_bytes(frame.ctx.ctx, offset as u32, bytes.cast(), len as u32) != 0 {
            return None;
        }
        bytes.add(len).cast::<u16>().write_unaligned(0);
        bytes.add(len + 2).write(0);
        bpf_csum_diff(ptr::null_mut(), 0, bytes.cast(), (len as u32 + 3) & !3, sum)
    };
    u32::try_from(sum).ok()
}
