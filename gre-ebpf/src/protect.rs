//! The rules of `gre_common::protect`, in functions of their own: verified once each, and out of the way of packets that no rule is
//! for. Without any rule nothing of this is loaded.

use core::hint::black_box;

use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use gre_common::{
    endian::Be16,
    protect::{self, Guard, Inner, Ruling},
};

use crate::{
    frame::Frame,
    hand_over::{FARTHEST, LAST},
    tables::{Maps, has_lockdown, have_bypass, have_probes, inner_destinations, lockdown},
};

/// Rules on a packet that came by a tunnel.
#[inline(always)]
pub(crate) fn judge_inner(ctx: &XdpContext, inner: &Inner) -> Ruling {
    let (bypasses, probes) = (have_bypass() && inner.bypasses, have_probes() && inner.probes);
    if inner_destinations() == Guard::Off && !bypasses && !probes {
        return Ruling::DELIVER;
    }
    let flags = u32::from(inner.bypasses) << BYPASSES_SHIFT | u32::from(inner.probes) << PROBES_SHIFT;
    let kind = u32::from(inner.protocol.get()) | flags;
    let number = judge_inner_out_of_line(ctx.ctx, inner.tunnel, kind, inner.start as u32, inner.end as u32);
    // The compiler knows what the function can return, and would leave out the checks that tell the verifier.
    Ruling::from_number(black_box(number))
}

/// `kind` is the GRE protocol type in bits 0 to 15, in bit 16 whether the tunnel has a bypass, and in bit 17 whether it sends
/// replies to health probes on.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn judge_inner_out_of_line(ctx: *mut xdp_md, tunnel: u32, kind: u32, start: u32, end: u32) -> u32 {
    if inner_destinations() == Guard::Off && !have_bypass() && !have_probes() {
        return Ruling::DELIVER.number();
    }
    let ctx = XdpContext::new(ctx);
    let inner = Inner {
        tunnel,
        protocol: Be16::new(kind as u16),
        start: (start & FARTHEST) as usize,
        end: (end & LAST) as usize,
        bypasses: have_bypass() && kind >> BYPASSES_SHIFT & 1 != 0,
        probes: have_probes() && kind >> PROBES_SHIFT & 1 != 0,
    };
    protect::inner(&Frame::new(&ctx), &Maps(&ctx), &inner).number()
}

/// The rule on a packet that came by no tunnel.
#[inline(always)]
pub(crate) fn breaks_lockdown(ctx: &XdpContext) -> bool {
    if !has_lockdown() {
        return false;
    }
    // As above.
    black_box(breaks_lockdown_out_of_line(ctx.ctx)) != 0
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn breaks_lockdown_out_of_line(ctx: *mut xdp_md) -> u32 {
    if lockdown() == Guard::Off {
        return 0;
    }
    let ctx = XdpContext::new(ctx);
    protect::breaks_lockdown(&Frame::new(&ctx), &Maps(&ctx)).into()
}

const BYPASSES_SHIFT: u32 = 16;
const PROBES_SHIFT: u32 = 17;
