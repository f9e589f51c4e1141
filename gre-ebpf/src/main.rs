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
#![expect(
    missing_docs,
    reason = "the xdp macro emits a function of its own without its comment"
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
use gre_common::{Action, Reason, Verdict, decide};

/// Decapsulates GRE that is addressed to a configured tunnel; passes everything else as it came.
#[xdp(frags)]
fn gre_decap(ctx: XdpContext) -> u32 {
    match decide(&frame::Frame::new(&ctx), &tables::Maps) {
        Verdict::NotOurs => xdp_action::XDP_PASS,
        Verdict::Refuse { tunnel, reason } => refuse(&ctx, tunnel, reason),
        Verdict::Deliver(delivery) => match decapsulate::decapsulate(&ctx, &delivery) {
            Ok(()) => {
                count::delivered(&delivery);
                debug!(
                    &ctx,
                    "tunnel {}: delivered {} bytes",
                    delivery.tunnel,
                    delivery.inner_bytes()
                );
                xdp_action::XDP_PASS
            }
            Err(reason) => refuse(&ctx, delivery.tunnel, reason),
        },
    }
}

/// Counts the reason, and does with the packet what it says.
#[inline(always)]
fn refuse(ctx: &XdpContext, tunnel: u32, reason: Reason) -> u32 {
    count::refused(tunnel, reason);
    debug!(ctx, "tunnel {}: reason {}", tunnel, reason as u32);
    match reason.action() {
        Action::Pass => xdp_action::XDP_PASS,
        Action::Drop => xdp_action::XDP_DROP,
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
