//! The internet checksum over a packet's bytes, by the kernel's `bpf_csum_diff`.
//!
//! The helper takes multiples of 4 bytes, at most 512 a call, and the verifier wants a constant length for packet memory: so
//! whole blocks of 512 bytes, then one block of each smaller power of two that the rest holds.

use core::ptr;

use aya_ebpf::{
    EbpfContext,
    helpers::generated::{bpf_csum_diff, bpf_xdp_load_bytes},
    macros::map,
    maps::PerCpuArray,
    programs::XdpContext,
};
use gre_common::{checksum::fold, plain::Plain};

use crate::frame::Frame;

const BLOCK: usize = 512;
/// An IP packet has at most 65,535 bytes.
const MOST_BLOCKS: usize = 65_535 / BLOCK + 1;

/// A block, with room to pad it to a multiple of 4.
type Scratch = [u8; BLOCK + 4];

/// Where bytes outside the first buffer are copied to.
#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// The folded sum of `len` bytes at `offset`, wherever they lie; `None`: a helper refused.
#[inline(always)]
pub(crate) fn sum(ctx: &XdpContext, frame: &Frame<'_>, offset: usize, len: usize) -> Option<u16> {
    match sum_linear(frame, offset, len) {
        Some(sum) => Some(sum),
        None => sum_copied(ctx, offset, len),
    }
}

/// Straight from the first buffer; `None`: it does not hold all.
#[inline(always)]
fn sum_linear(frame: &Frame<'_>, mut offset: usize, len: usize) -> Option<u16> {
    let mut sum = 0;
    for _ in 0..len / BLOCK {
        sum = add::<BLOCK>(frame, offset, sum)?;
        offset += BLOCK;
    }
    macro_rules! rest {
        ($($block:literal)+) => {$(
            if len & $block != 0 {
                sum = add::<$block>(frame, offset, sum)?;
                offset += $block;
            }
        )+};
    }
    rest!(256 128 64 32 16 8 4);
    let mut sum = u64::from(sum);
    if len & 2 != 0 {
        sum += u64::from(u16::from_ne_bytes(load(frame, offset)?));
        offset += 2;
    }
    if len & 1 != 0 {
        let last: u8 = load(frame, offset)?;
        sum += u64::from(u16::from_ne_bytes([last, 0]));
    }
    Some(fold(sum))
}

#[inline(always)]
fn load<T: Plain>(frame: &Frame<'_>, offset: usize) -> Option<T> {
    gre_common::Packet::load(frame, offset)
}

/// Adds `N` bytes of the first buffer to `sum`.
#[inline(always)]
fn add<const N: usize>(frame: &Frame<'_>, offset: usize, sum: u32) -> Option<u32> {
    let block = frame.bytes(offset, N)?;
    // SAFETY: `bytes` has checked that `N` bytes are there.
    let sum = unsafe { bpf_csum_diff(ptr::null_mut(), 0, block.cast(), N as u32, sum) };
    u32::try_from(sum).ok()
}

/// By way of a copy, for packets in several buffers.
#[inline(always)]
fn sum_copied(ctx: &XdpContext, mut offset: usize, mut len: usize) -> Option<u16> {
    let scratch = SCRATCH.get_ptr_mut(0)?;
    let mut sum = 0;
    for _ in 0..MOST_BLOCKS {
        if len == 0 {
            return Some(fold(u64::from(sum)));
        }
        let chunk = len.min(BLOCK);
        sum = add_copied(ctx, scratch, offset, chunk, sum)?;
        offset += chunk;
        len -= chunk;
    }
    None
}

/// Adds `len` bytes, 1 to [`BLOCK`], by way of `scratch` to `sum`.
#[inline(always)]
fn add_copied(ctx: &XdpContext, scratch: *mut Scratch, offset: usize, len: usize, sum: u32) -> Option<u32> {
    let bytes = scratch.cast::<u8>();
    // SAFETY: `scratch` is this CPU's own, and `len` and the three zero bytes after it fit into it.
    let sum = unsafe {
        if bpf_xdp_load_bytes(ctx.as_ptr().cast(), offset as u32, bytes.cast(), len as u32) != 0 {
            return None;
        }
        bytes.add(len).cast::<[u8; 3]>().write_unaligned([0; 3]);
        bpf_csum_diff(ptr::null_mut(), 0, bytes.cast(), (len as u32 + 3) & !3, sum)
    };
    u32::try_from(sum).ok()
}
