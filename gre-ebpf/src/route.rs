//! `deliver = "route"`: the way on is looked up in the kernel's routing tables.

use aya_ebpf::{bindings::xdp_md, helpers::generated::bpf_fib_lookup, programs::XdpContext};
use gre_common::{
    Packet, Reason,
    endian::Be16,
    forward::{self, Lookup},
    link::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, VlanTags},
};

use crate::{
    frame::{Frame, ingress},
    onward::Onward,
    redirect::{self, Change, Header, Way},
    tables::LOOKUP,
};

/// Forwards an IP packet, if it is one.
#[inline(always)]
pub(crate) fn route(ctx: &XdpContext, tags: VlanTags, is_spread: bool) -> Onward {
    Onward::unpack(route_out_of_line(ctx.ctx, tags as u32, is_spread.into()))
}

/// A global function: verified once, not once for each way to get there.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn route_out_of_line(ctx: *mut xdp_md, tags: u32, is_spread: u32) -> u32 {
    let ctx = XdpContext::new(ctx);
    match forward(&ctx, Header::with_tags(tags), is_spread != 0) {
        Ok(onward) => onward,
        Err(reason) => Onward::because(reason),
    }
    .pack()
}

#[inline(always)]
fn forward(ctx: &XdpContext, header: Header, is_spread: bool) -> Result<Onward, Reason> {
    let lookup = LOOKUP.get_ptr_mut(0).ok_or(Reason::Internal)?;
    // SAFETY: this CPU's own element, which nothing else uses while this function runs.
    let lookup: &mut Lookup = unsafe { &mut *lookup };
    let frame = Frame::new(ctx);
    let ether_type: Be16 = frame.load(header.ether_type()).ok_or(Reason::RouteOther)?;
    if ether_type != ETHER_TYPE_IPV4 && ether_type != ETHER_TYPE_IPV6 {
        return Err(Reason::RouteOther);
    }
    let hop = forward::ask(&frame, ether_type, header.len(), ingress(ctx), lookup)?;
    // SAFETY: `lookup` is laid out as the helper's `struct bpf_fib_lookup`, and as long as is said.
    let answer = unsafe { bpf_fib_lookup(ctx.ctx.cast(), (&raw mut *lookup).cast(), size_of::<Lookup>() as i32, 0) };
    forward::judge(answer, hop)?;
    let way = Way {
        interface: lookup.interface,
        macs: lookup.macs(),
        may_turn_back: !is_spread,
    };
    let change = if ether_type == ETHER_TYPE_IPV4 {
        Change::Ttl(hop)
    } else {
        Change::HopLimit(hop)
    };
    redirect::send(ctx, header, usize::from(hop.length), way, change)
}
