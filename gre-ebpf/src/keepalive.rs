//! Keepalives: recognising and answering them, out of the good path.

use aya_ebpf::{bindings::xdp_md, helpers::generated::bpf_ktime_get_ns, programs::XdpContext};
use gre_common::{
    Delivery, Reason,
    ecn::Codepoint,
    keepalive::Returning,
    link::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, Link, VlanTags},
};

use crate::{
    decapsulate::decapsulate,
    frame::{Frame, read, write},
    hand_over::FARTHEST,
    onward::Onward,
    refuse,
    sequence::compare_exchange,
    tables::{KEEPALIVES, Maps},
};

/// Bits 0–1 of the place: how many VLAN tags there are.
const TAGS: u32 = 3;
/// Bit 2: IPv6.
const V6: u32 = 1 << 2;
/// Bit 3: the tunnel answers keepalives.
const ANSWERS: u32 = 1 << 3;
/// Bits 4–5: the outer ECN field.
const ECN_SHIFT: u32 = 4;
/// From here on: where the inner packet begins.
const INNER_SHIFT: u32 = 8;

/// Decides on a packet that would leave for where it came from, carries that out, and gives the XDP action.
#[inline(always)]
pub(crate) fn returning(ctx: &XdpContext, packet: Returning) -> u32 {
    let v6 = if packet.link.ether_type == ETHER_TYPE_IPV6 {
        V6
    } else {
        0
    };
    let answers = if packet.answers { ANSWERS } else { 0 };
    let ecn = u32::from(packet.ecn.put(0)) << ECN_SHIFT;
    let place = packet.link.tags as u32 | v6 | answers | ecn | (packet.inner as u32) << INNER_SHIFT;
    let word = returning_out_of_line(ctx.ctx, packet.tunnel, place);
    let onward = Onward::unpack(word);
    // Not where the packet is turned round: the stack would not do.
    refuse(ctx, packet.tunnel, onward.reason() as u32);
    onward.action()
}

/// A global function: verified once, not once for each way to get there, and its stack is not the decision's.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn returning_out_of_line(ctx: *mut xdp_md, tunnel: u32, place: u32) -> u32 {
    let ctx = XdpContext::new(ctx);
    let tags = match place & TAGS {
        0 => VlanTags::None,
        1 => VlanTags::One,
        _ => VlanTags::Two,
    };
    let ether_type = if place & V6 != 0 {
        ETHER_TYPE_IPV6
    } else {
        ETHER_TYPE_IPV4
    };
    let packet = Returning {
        tunnel,
        answers: place & ANSWERS != 0,
        link: Link { tags, ether_type },
        inner: (place >> INNER_SHIFT & FARTHEST) as usize,
        ecn: Codepoint::of((place >> ECN_SHIFT) as u8),
    };
    match packet
        .judge(&Frame::new(&ctx), &Maps(&ctx))
        .and_then(|reply| turn_round(&ctx, &reply))
    {
        Ok(()) => Onward::answered(),
        Err(reason) => Onward::because(reason),
    }
    .pack()
}

/// Each failed try is a reply that another CPU was quicker to send.
const TRIES: u32 = 16;

/// Whether a tunnel may answer one more keepalive now; if so, that is one more. In a flood nearly all end without having written
/// anything, so that CPUs don't contend.
///
/// In place: another function's stack, on those of the decision and of [`returning_out_of_line`], is more than Linux 6.1 allows.
#[inline(always)]
pub(crate) fn may_answer(tunnel: u32) -> bool {
    let Some(quota) = KEEPALIVES.get_ptr_mut(tunnel) else {
        return false;
    };
    // SAFETY: a pure reading of the clock.
    let now = unsafe { bpf_ktime_get_ns() };
    for _ in 0..TRIES {
        // SAFETY: an element of the map, aligned to 8 bytes.
        let seen = unsafe { quota.read_volatile() };
        let Some(due) = seen.take(now) else {
            return false;
        };
        // SAFETY: as above.
        if unsafe { compare_exchange(&raw mut (*quota).due, seen.due, due) } {
            return true;
        }
    }
    false
}

/// Decapsulates a keepalive and turns its frame round.
///
/// # Errors
///
/// Those of [`decapsulate`].
#[inline(always)]
pub(crate) fn turn_round(ctx: &XdpContext, delivery: &Delivery) -> Result<(), Reason> {
    decapsulate::<0>(ctx, delivery)?;
    exchange_macs(ctx).ok_or(Reason::Internal)
}

#[inline(always)]
fn exchange_macs(ctx: &XdpContext) -> Option<()> {
    const DESTINATION: usize = 0;
    const SOURCE: usize = 6;
    const REST: usize = 4;

    let start = Frame::new(ctx).bytes(0, 2 * SOURCE)? as usize;
    let (destination, source) = (start + DESTINATION, start + SOURCE);
    // SAFETY: the bounds were just checked.
    unsafe {
        let (first, first_rest): (u32, u16) = (read(destination), read(destination + REST));
        let (second, second_rest): (u32, u16) = (read(source), read(source + REST));
        write(destination, second);
        write(destination + REST, second_rest);
        write(source, first);
        write(source + REST, first_rest);
    }
    Some(())
}
