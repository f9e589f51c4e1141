//! Handing a decapsulated packet over: to the program that forwards, or to another core.
//!
//! What the other side must know goes in front of the frame ([`HandOver`]). Forwarding is a program of its own because its stack
//! does not fit beside the decision's, and because what is verified apart is verified once.

use aya_ebpf::{
    bindings::{xdp_action, xdp_md},
    helpers::generated::bpf_xdp_adjust_head,
    programs::XdpContext,
};
use gre_common::{
    Delivery, Packet, Reason,
    endian::Be16,
    flow,
    hand_over::HandOver,
    link::ETHER_TYPE_TEB,
    tunnel::{Cores, Deliver},
};

use crate::{
    count,
    decapsulate::decapsulate,
    deliver::{self, Decapsulated},
    frame::{Frame, write},
    redirect::Header,
    tables::{CORES, CPUS, FLOW_KEY, FORWARD, HAVE_INTERFACE, HAVE_ROUTE, HAVE_SPREAD, have_probes},
};

const ROOM: usize = size_of::<HandOver>();

/// Whether a packet is handed over: not if it stays on this core and goes to the stack.
#[inline(always)]
pub(crate) fn is_needed(delivery: &Delivery) -> bool {
    let is_spread = HAVE_SPREAD.load() != 0 && delivery.cores != Cores::NONE;
    let forwards = HAVE_ROUTE.load() != 0 || HAVE_INTERFACE.load() != 0;
    is_spread || forwards && (delivery.deliver != Deliver::Stack || have_probes() && delivery.passage.is_probe())
}

/// Decapsulates a packet and hands it over. The other side counts it.
///
/// # Errors
///
/// Those of [`decapsulate`], and [`Reason::Internal`].
#[inline(always)]
pub(crate) fn hand_over(ctx: &XdpContext, delivery: &Delivery) -> Result<u32, Reason> {
    if HAVE_SPREAD.load() != 0 && delivery.cores != Cores::NONE {
        let core = core_of(ctx, delivery).ok_or(Reason::Internal)?;
        prepare(ctx, delivery)?;
        // What is in front of the frame makes it useless for anybody else.
        return CPUS
            .redirect(core, xdp_action::XDP_DROP.into())
            .map_err(|_| Reason::Internal);
    }
    prepare(ctx, delivery)?;
    // SAFETY: nothing is left to be dropped. It returns only if the program is not there.
    unsafe { FORWARD.tail_call(ctx, 0) };
    Err(Reason::Internal)
}

/// Decapsulates a packet and puts what must be known about it in front.
#[inline(always)]
fn prepare(ctx: &XdpContext, delivery: &Delivery) -> Result<(), Reason> {
    decapsulate::<ROOM>(ctx, delivery)?;
    let front = Frame::new(ctx).bytes(0, ROOM).ok_or(Reason::Internal)?;
    // SAFETY: the bounds were just checked.
    unsafe { write(front as usize, HandOver::of(delivery)) };
    Ok(())
}

/// The core of the inner packet's flow.
#[inline(always)]
fn core_of(ctx: &XdpContext, delivery: &Delivery) -> Option<u32> {
    let protocol = delivery.ether_type.unwrap_or(ETHER_TYPE_TEB);
    let hash = hash_out_of_line(
        ctx.ctx,
        protocol.get().into(),
        delivery.inner as u32,
        delivery.end as u32,
    );
    CORES.get(delivery.cores.slot(hash)).copied()
}

/// A global function: verified once, not once for each way to get there.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn hash_out_of_line(ctx: *mut xdp_md, protocol: u32, start: u32, end: u32) -> u32 {
    let ctx = XdpContext::new(ctx);
    let (start, end) = ((start & FARTHEST) as usize, (end & LAST) as usize);
    flow::hash(
        &Frame::new(&ctx),
        Be16::new(protocol as u16),
        start,
        end,
        FLOW_KEY.load(),
    )
}

/// No payload begins farther into a frame; as a mask it tells the verifier so.
pub(crate) const FARTHEST: u32 = 0x1fff;
/// No IP packet ends farther into a frame.
pub(crate) const LAST: u32 = 0x1_ffff;

/// Goes on with a packet that was handed over, `is_spread` from another core.
#[inline(always)]
pub(crate) fn take_over(ctx: &XdpContext, is_spread: bool) -> u32 {
    let Some(hand_over) = Frame::new(ctx).load::<HandOver>(0) else {
        count::refused(0, Reason::Internal);
        return xdp_action::XDP_DROP;
    };
    // SAFETY: the context is the one the kernel gave this program; every pointer into the packet is read anew below.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx.cast(), ROOM as i32) } != 0 {
        count::refused(hand_over.tunnel, Reason::Internal);
        return xdp_action::XDP_DROP;
    }
    let (tags, is_ethernet) = (hand_over.tags(), hand_over.is_ethernet());
    let link_len = if is_ethernet {
        0
    } else {
        Header::with_tags(tags as u32).len()
    };
    let inner_bytes = (Frame::new(ctx).len() - link_len) as u64;
    let packet = Decapsulated {
        tunnel: hand_over.tunnel,
        deliver: hand_over.deliver(),
        tags,
        is_ethernet,
        is_spread,
    };
    let onward = deliver::deliver(ctx, packet);
    let counted = count::Decapsulated {
        tunnel: hand_over.tunnel,
        inner_bytes,
        outer_bytes: inner_bytes + u64::from(hand_over.overhead()),
        restart: hand_over.restart(),
        fragment: hand_over.fragment(),
        probe: hand_over.probe(),
    };
    deliver::conclude(ctx, &counted, onward)
}
