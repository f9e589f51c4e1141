//! The XDP program: a thin shell around `gre_common::decide`.
//!
//! It supplies the bytes ([`frame`]), the look-ups ([`tables`]), carries the verdict out ([`decapsulate`], [`hand_over`],
//! [`deliver`]) and counts it ([`count`]), with a sample of what is refused for whoever watches ([`sample`]). On the host this
//! crate builds to a program that says how it is meant to be built, so that lints and editors work on the whole workspace.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics))]
#![cfg_attr(
    target_arch = "bpf",
    expect(internal_features, reason = "compare-and-swap, see `sequence`")
)]
#![cfg_attr(
    not(target_arch = "bpf"),
    expect(dead_code, reason = "on the host nothing calls the program")
)]

mod checksum;
mod count;
mod decapsulate;
mod deliver;
mod egress;
mod few;
mod frame;
mod hand_over;
mod keepalive;
mod mss;
mod onward;
mod protect;
mod redirect;
mod redirects;
mod route;
mod sample;
mod sequence;
mod slots;
mod switch;
mod tables;

use core::hint::black_box;

use aya_ebpf::{
    bindings::{xdp_action, xdp_md},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
#[cfg(not(feature = "bare"))]
use aya_log_ebpf::{
    debug,
    macro_support::{Level, level_enabled},
};
use gre_common::{
    Carrier, Delivery, Packet, Reason, Tables, decide_at_once, decide_in_full,
    keepalive::Returning,
    protect::Guard,
    tunnel::Deliver,
    usual::{Form, Usual},
};

use few::COUNT_IN_PLACE;
use frame::Frame;
use onward::Onward;
use tables::{HAVE_INTERFACE, HAVE_ROUTE};

/// Says nothing: what is logged is switched on too.
#[cfg(feature = "bare")]
macro_rules! debug {
    ($($of:expr),*) => {
        let _ = ($($of),*);
    };
}

/// Decapsulates GRE that is addressed to a configured tunnel; passes everything else as it came.
// Inlined into the function that the attribute makes: a call and a return for every packet on the host, ours or not, else.
#[xdp(frags)]
#[inline(always)]
fn gre_decap(ctx: XdpContext) -> u32 {
    decapsulate_or_pass::<HANDING_OVER>(ctx)
}

/// The same where no tunnel sends a packet on, or to another core. A program that may call another is prepared for it each time that it
/// runs, whatever the packet is.
#[xdp(frags)]
#[inline(always)]
fn gre_decap_stack(ctx: XdpContext) -> u32 {
    decapsulate_or_pass::<TO_STACK>(ctx)
}

#[inline(always)]
fn decapsulate_or_pass<const HANDS_OVER: bool>(ctx: XdpContext) -> u32 {
    let tables = tables::Maps(&ctx);
    // No closure, of which the compiler would make a function of its own.
    match decide_at_once(&Frame::new(&ctx), &tables, Datapath::<HANDS_OVER, IN_PLACE>(&ctx)) {
        Some(action) => action,
        None => decide_in_full(&Frame::afresh(&ctx), &tables, Datapath::<HANDS_OVER, OUT_OF_LINE>(&ctx)),
    }
}

/// Goes on with a decapsulated packet on the same core, where it does not simply go to the stack.
#[xdp(frags)]
fn gre_forward(ctx: XdpContext) -> u32 {
    hand_over::take_over(&ctx, false)
}

/// Goes on with a decapsulated packet on the core that its flow was spread to.
#[xdp(map = "cpumap", frags)]
fn gre_spread(ctx: XdpContext) -> u32 {
    hand_over::take_over(&ctx, true)
}

/// Passes everything. Some drivers take redirected frames only on interfaces that have a program.
#[xdp(frags)]
fn gre_pass(_: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Lowers the MSS of TCP SYNs that leave from protected addresses; lets other programs and the interface do what they do.
#[classifier]
fn gre_egress(ctx: TcContext) -> i32 {
    egress::clamp(&ctx)
}

/// Carries verdicts out on the packet at hand, and gives the XDP action. Packets may be handed over or all go to the stack; what a
/// decision refuses is counted in place, or by a call.
struct Datapath<'a, const HANDS_OVER: bool, const REFUSING_IN_PLACE: bool>(&'a XdpContext);

const HANDING_OVER: bool = true;
const TO_STACK: bool = false;

/// For what is decided at once, which is all that comes in a flood.
const IN_PLACE: bool = true;
/// For all else: the verifier meets it from too many sides.
const OUT_OF_LINE: bool = false;

impl<const HANDS_OVER: bool, const REFUSING_IN_PLACE: bool> Carrier for Datapath<'_, HANDS_OVER, REFUSING_IN_PLACE> {
    type Done = u32;

    #[inline(always)]
    fn not_ours(self) -> u32 {
        xdp_action::XDP_PASS
    }

    #[inline(always)]
    fn refuse(self, tunnel: u32, reason: Reason) -> u32 {
        if REFUSING_IN_PLACE && !logs() {
            refuse_in_place(self.0, tunnel, reason)
        } else {
            refuse(self.0, tunnel, reason as u32)
        }
    }

    #[inline(always)]
    fn deliver(self, delivery: Delivery) -> u32 {
        if tables::inner_destinations() == Guard::Monitor && delivery.passage.is_monitored() {
            refuse(self.0, delivery.tunnel, Reason::InnerDestinationMonitored as u32);
        }
        let result = if HANDS_OVER && hand_over::is_needed(&delivery) {
            hand_over::hand_over(self.0, &delivery)
        } else {
            self.deliver_to_stack(&delivery)
        };
        match result {
            Ok(action) => action,
            Err(reason) => refuse(self.0, delivery.tunnel, reason as u32),
        }
    }

    #[inline(always)]
    fn deliver_usual<F: Form>(self, usual: Usual<'_, F>) -> u32 {
        let delivered = match usual.deliver {
            Deliver::Interface if HANDS_OVER && HAVE_INTERFACE.load() != 0 => {
                return deliver::usual_to_target(self.0, &usual);
            }
            Deliver::Route if HANDS_OVER && HAVE_ROUTE.load() != 0 => hand_over::hand_over(self.0, &usual.delivery()),
            _ => self.deliver_usual_to_stack(&usual),
        };
        match delivered {
            Ok(action) => action,
            Err(reason) => refuse(self.0, usual.tunnel, reason as u32),
        }
    }

    #[inline(always)]
    fn returning<P: Packet, T: Tables>(self, _: &P, _: &T, returning: Returning) -> u32 {
        keepalive::returning(self.0, returning)
    }
}

impl<const HANDS_OVER: bool, const REFUSING_IN_PLACE: bool> Datapath<'_, HANDS_OVER, REFUSING_IN_PLACE> {
    /// Decapsulates a packet, which then goes to the stack.
    #[inline(always)]
    fn deliver_to_stack(&self, delivery: &Delivery) -> Result<u32, Reason> {
        decapsulate::decapsulate::<0>(self.0, delivery)?;
        let counted = count::Decapsulated {
            tunnel: delivery.tunnel,
            inner_bytes: delivery.inner_bytes() as u64,
            outer_bytes: delivery.outer_bytes.into(),
            restart: delivery.restart,
            fragment: delivery.fragment,
            // They never go straight to the stack.
            probe: false,
        };
        if COUNT_IN_PLACE.load() != 0 {
            count::delivered_to_stack(&counted);
        } else {
            count::decapsulated(&counted, Onward::STACK);
        }
        log_delivered(delivery.tunnel, delivery.inner_bytes() as u32);
        Ok(Onward::STACK.action())
    }

    /// The same for a packet of a usual form.
    #[inline(always)]
    fn deliver_usual_to_stack<F: Form>(&self, usual: &Usual<'_, F>) -> Result<u32, Reason> {
        decapsulate::usual(self.0, usual)?;
        count::usual(usual.tunnel, usual.inner_bytes(), usual.outer_bytes, usual.restart);
        log_delivered(usual.tunnel, usual.inner_bytes());
        Ok(Onward::STACK.action())
    }
}

/// Says so, if what becomes of each packet is logged.
#[inline(always)]
fn log_delivered(tunnel: u32, inner_bytes: u32) {
    if logs() {
        log_delivered_out_of_line(tunnel, inner_bytes);
    }
}

/// A global function: in place, what is to be said would be put together for each packet before it is known that nothing is. The
/// macro does not look at the context. If one were passed for it, the verifier would want it, and the compiler pass nothing.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn log_delivered_out_of_line(tunnel: u32, inner_bytes: u32) -> u32 {
    debug!((), "tunnel {}: delivered {} bytes", tunnel, inner_bytes);
    0
}

/// Counts a packet that is not delivered, or would not be by a rule that is only monitored, samples it, and gives the XDP action of
/// the reason with this index.
#[inline(always)]
pub(crate) fn refuse(ctx: &XdpContext, tunnel: u32, reason: u32) -> u32 {
    // The compiler knows what such a function can return; the verifier does not.
    black_box(refuse_out_of_line(ctx.ctx, tunnel, reason))
}

/// A global function: verified once, not once for each packet that comes here.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn refuse_out_of_line(ctx: *mut xdp_md, tunnel: u32, reason: u32) -> u32 {
    let ctx = XdpContext::new(ctx);
    let Some(reason) = Reason::at(reason) else {
        return xdp_action::XDP_DROP;
    };
    debug!(&ctx, "tunnel {}: {}", tunnel, reason.name());
    refuse_in_place(&ctx, tunnel, reason)
}

/// The same, but that it is not logged.
#[inline(always)]
fn refuse_in_place(ctx: &XdpContext, tunnel: u32, reason: Reason) -> u32 {
    count::refused(tunnel, reason);
    sample::sample(ctx, tunnel, reason as u32);
    Onward::because(reason).action()
}

/// Whether what becomes of each packet is logged: a constant of the loaded program.
#[inline(always)]
fn logs() -> bool {
    #[cfg(not(feature = "bare"))]
    let logs = level_enabled(Level::Debug);
    #[cfg(feature = "bare")]
    let logs = false;
    logs
}

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("gre-ebpf is a kernel program: build it with `cargo xtask build`, load it with `gre-decap load`");
    std::process::exit(1);
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The helpers that the program calls are for GPL-compatible programs only.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
