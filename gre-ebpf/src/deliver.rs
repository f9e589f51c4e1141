//! Delivery of a decapsulated packet: to the stack, by route, or to an interface.

use aya_ebpf::programs::XdpContext;
use gre_common::{
    Reason,
    link::VlanTags,
    tunnel::Deliver,
    usual::{Form, Usual},
};

use crate::{
    count, decapsulate,
    onward::Onward,
    redirect, route, sample,
    tables::{HAVE_INTERFACE, HAVE_ROUTE},
};

/// A decapsulated packet, as far as delivery must know it.
#[derive(Clone, Copy)]
pub(crate) struct Decapsulated {
    /// The tunnel it came by.
    pub(crate) tunnel: u32,
    /// How it is to be delivered.
    pub(crate) deliver: Deliver,
    /// VLAN tags of its link header.
    pub(crate) tags: VlanTags,
    /// Whether the payload is an Ethernet frame, which is then the whole frame.
    pub(crate) is_ethernet: bool,
    /// Whether this core got the packet from another one, and so has no queue to send it back by ([`XDP_TX`]).
    ///
    /// [`XDP_TX`]: aya_ebpf::bindings::xdp_action::XDP_TX
    pub(crate) is_spread: bool,
}

/// Decapsulates a packet of a usual form, which its tunnel's target gets, and counts it. On the spot: what that takes of the stack is
/// so little that it fits beside the decision's.
#[inline(always)]
pub(crate) fn usual_to_target<F: Form>(ctx: &XdpContext, usual: &Usual<'_, F>) -> Result<u32, Reason> {
    decapsulate::usual(ctx, usual)?;
    let packet = Decapsulated {
        tunnel: usual.tunnel,
        deliver: usual.deliver,
        tags: F::LINK.tags,
        is_ethernet: false,
        is_spread: false,
    };
    let onward = redirect::to_target(ctx, packet);
    let counted = count::Decapsulated {
        tunnel: usual.tunnel,
        inner_bytes: usual.inner_bytes().into(),
        outer_bytes: usual.outer_bytes.into(),
        restart: usual.restart,
        fragment: 0,
        probe: false,
    };
    Ok(conclude(ctx, &counted, onward))
}

/// Counts a packet that was delivered, and samples it if there is something to note of it; gives the XDP action.
#[inline(always)]
pub(crate) fn conclude(ctx: &XdpContext, counted: &count::Decapsulated, onward: Onward) -> u32 {
    count::decapsulated(counted, onward);
    if let Some(reason) = onward.noted() {
        sample::sample(ctx, counted.tunnel, reason);
    }
    onward.action()
}

/// Delivers a packet. What is not configured is pruned when the program is loaded.
#[inline(always)]
pub(crate) fn deliver(ctx: &XdpContext, packet: Decapsulated) -> Onward {
    match packet.deliver {
        Deliver::Route if HAVE_ROUTE.load() != 0 => {
            if packet.is_ethernet {
                Onward::because(Reason::RouteOther)
            } else {
                route::route(ctx, packet.tags, packet.is_spread)
            }
        }
        Deliver::Interface if HAVE_INTERFACE.load() != 0 => redirect::to_target(ctx, packet),
        Deliver::Stack | Deliver::Route | Deliver::Interface => Onward::STACK,
    }
}
