//! The XDP program: a thin shell around `gre_common::decide`.
//!
//! It supplies the bytes ([`frame`]), the look-ups ([`tables`]), carries the verdict out ([`decapsulate`]) and counts it
//! ([`count`]). On the host this crate builds to a program that says how it is meant to be built, so that lints and editors
//! work on the whole workspace.
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
mod frame;
mod sequence;
mod tables;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use aya_log_ebpf::debug;
use gre_common::{Action, Carrier, Delivery, Reason, decide_and};

/// Decapsulates GRE that is addressed to a configured tunnel; passes everything else as it came.
#[xdp(frags)]
fn gre_decap(ctx: XdpContext) -> u32 {
    decide_and(&frame::Frame::new(&ctx), &tables::Maps, Datapath(&ctx))
}

/// Carries verdicts out on the packet at hand, and gives the XDP action.
struct Datapath<'a>(&'a XdpContext);

impl Carrier for Datapath<'_> {
    type Done = u32;

    #[inline(always)]
    fn not_ours(self) -> u32 {
        xdp_action::XDP_PASS
    }

    #[inline(always)]
    fn refuse(self, tunnel: u32, reason: Reason) -> u32 {
        count::refused(tunnel, reason);
        debug!(self.0, "tunnel {}: {}", tunnel, reason.name());
        match reason.action() {
            Action::Pass => xdp_action::XDP_PASS,
            Action::Drop => xdp_action::XDP_DROP,
        }
    }

    #[inline(always)]
    fn deliver(self, delivery: Delivery) -> u32 {
        match decapsulate::decapsulate(self.0, &delivery) {
            Ok(()) => {
                count::delivered(&delivery);
                debug!(
                    self.0,
                    "tunnel {}: delivered {} bytes",
                    delivery.tunnel,
                    delivery.inner_bytes()
                );
                xdp_action::XDP_PASS
            }
            Err(reason) => self.refuse(delivery.tunnel, reason),
        }
    }
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
