//! Delivery of a decapsulated packet: to the stack, by route, or to an interface.

use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use gre_common::{
    Reason,
    link::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, Link, VlanTags},
    tunnel::Deliver,
    usual::{Form, Usual},
};

use crate::{
    count, decapsulate,
    onward::Onward,
    redirect, refuse, route, sample,
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

/// Decapsulates a packet of a usual form, which its tunnel's target gets, counts it, and gives the XDP action.
#[inline(always)]
pub(crate) fn usual_to_target<F: Form>(ctx: &XdpContext, usual: &Usual<'_, F>) -> u32 {
    let restart = if usual.restart { RESTART } else { 0 };
    let inner = if F::ETHER_TYPE == ETHER_TYPE_IPV6 { IPV6 } else { 0 };
    let form = F::STRIPPED as u32 | (F::LINK.tags as u32) << TAGS_SHIFT | restart | inner;
    match usual_to_target_out_of_line(ctx.ctx, usual.tunnel, form, usual.outer_bytes) {
        action @ ..REFUSED => action,
        refused => refuse(ctx, usual.tunnel, refused - REFUSED),
    }
}

/// Of the form: bytes of the headers that are stripped, VLAN tags, whether the sender has restarted, and whether IPv6 is inside.
const STRIPPED: u32 = 0xff;
const TAGS_SHIFT: u32 = 8;
const RESTART: u32 = 1 << 10;
const IPV6: u32 = 1 << 11;

/// More than any XDP action: with this a reason is added, of a packet that was not delivered, and is not counted yet.
const REFUSED: u32 = 1 << 8;

/// A global function: verified once, not once for each form.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn usual_to_target_out_of_line(ctx: *mut xdp_md, tunnel: u32, form: u32, outer_bytes: u32) -> u32 {
    let ctx = XdpContext::new(ctx);
    if HAVE_INTERFACE.load() == 0 {
        return Onward::STACK.action();
    }
    let (stripped, tags, restart) = (form & STRIPPED, form >> TAGS_SHIFT & 3, form & RESTART != 0);
    let ether_type = if form & IPV6 != 0 {
        ETHER_TYPE_IPV6
    } else {
        ETHER_TYPE_IPV4
    };
    let inner_bytes = outer_bytes.wrapping_sub(stripped);
    let why = match redirect::stripped_to_target(&ctx, tunnel, stripped + tags * 4, ether_type) {
        Ok(action) => {
            count::usual(tunnel, inner_bytes, outer_bytes, restart);
            return action;
        }
        Err(Reason::Internal) => return REFUSED + Reason::Internal as u32,
        Err(why) => why,
    };
    let link = Link {
        tags: VlanTags::from_number(tags),
        ether_type,
    };
    if let Err(reason) = decapsulate::plainly(&ctx, link, stripped as usize, ether_type) {
        return REFUSED + reason as u32;
    }
    let counted = count::Decapsulated {
        tunnel,
        inner_bytes: inner_bytes.into(),
        outer_bytes: outer_bytes.into(),
        restart,
        fragment: 0,
        probe: false,
    };
    conclude(&ctx, &counted, Onward::because(why))
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
