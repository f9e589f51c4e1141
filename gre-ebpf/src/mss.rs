//! Lowering the MSS that a TCP SYN announces.

use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use gre_common::{Delivery, endian::Be16, mss};

use crate::{
    count,
    frame::{Frame, write},
};

/// Lowers it in the decapsulated packet, if it is such a SYN, whose IP header begins at `start`.
#[inline(always)]
pub(crate) fn lower(ctx: &XdpContext, delivery: &Delivery, start: usize) {
    // What has no EtherType of its own is an Ethernet frame.
    if let Some(protocol) = delivery.ether_type {
        let word = u32::from(protocol.get()) | u32::from(delivery.mss) << LIMIT_SHIFT;
        lower_out_of_line(ctx.ctx, delivery.tunnel, start as u32, word);
    }
}

/// Below: the EtherType.
const LIMIT_SHIFT: u32 = 16;
/// No decapsulated packet begins farther into a frame; as a mask it tells the verifier so.
const FARTHEST: u32 = 0x3f;

/// A global function: its loop is verified once, not once for each way to get there.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn lower_out_of_line(ctx: *mut xdp_md, tunnel: u32, start: u32, word: u32) -> u32 {
    let ctx = XdpContext::new(ctx);
    let (protocol, limit) = (Be16::new(word as u16), (word >> LIMIT_SHIFT) as u16);
    let frame = Frame::new(&ctx);
    let start = (start & FARTHEST) as usize;
    let Some(lowered) = mss::lower(&frame, protocol, start, limit) else {
        return 0;
    };
    // Both before either is written.
    let (Some(value), Some(check)) = (
        frame.far_bytes(lowered.value_at, lowered.value.len()),
        frame.far_bytes(lowered.check_at, lowered.check.len()),
    ) else {
        return 0;
    };
    // SAFETY: the bounds were just checked.
    unsafe {
        write(value as usize, lowered.value);
        write(check as usize, lowered.new_check());
    }
    count::mss_clamped(tunnel);
    0
}
