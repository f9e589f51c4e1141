//! The internet checksum over a packet's bytes, by the kernel's `bpf_csum_diff`.
//!
//! The helper takes multiples of 4 bytes, at most 512 a call, and the verifier wants a constant length for packet memory: so
//! whole blocks straight from the first buffer, and by way of a copy what is left, or what lies in other buffers.

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
/// An IP packet has at most 65,535 bytes.
const MOST_BLOCKS: usize = 65_535 / BLOCK;
/// The verifier lets a variable offset point 65,535 bytes into a packet; what lies farther is copied.
const MOST_DIRECT_BLOCKS: usize = 64;

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
    let scratch = SCRATCH.get_ptr_mut(0)?;
    let blocks = len / BLOCK;
    // Chosen once: a choice for each block would make the verifier walk the rest of the loop from each.
    let mut sum = if blocks <= MOST_DIRECT_BLOCKS && frame.holds(offset, len) {
        add_direct(frame, offset, blocks)?
    } else {
        add_by_copies(frame, scratch, offset, blocks)?
    };
    let rest = len % BLOCK;
    if rest != 0 {
        // Linux 6.1 learns nothing from a comparison with zero, and takes no length that may be zero.
        let rest = (black_box(rest - 1) & (BLOCK - 1)) + 1;
        sum = add_copied(frame, scratch, offset + len - rest, rest, sum)?;
    }
    Some(fold(u64::from(sum)))
}

/// The sum of so many blocks of the first buffer.
#[inline(always)]
fn add_direct(frame: &Frame<'_>, mut offset: usize, blocks: usize) -> Option<u32> {
    let mut sum = 0;
    for block in 0..MOST_DIRECT_BLOCKS {
        if block == blocks {
            break;
        }
        let bytes = frame.bytes(offset, BLOCK)?;
        // SAFETY: `bytes` has checked that the block is there.
        let added = unsafe { bpf_csum_diff(ptr::null_mut(), 0, bytes.cast(), BLOCK as u32, sum) };
        sum = u32::try_from(added).ok()?;
        offset += BLOCK;
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
