//! Frames for the whole path: BPF_PROG_TEST_RUN sends them through [`inject`], and what it says of them happens (live frames).

use aya_ebpf::{
    Global,
    bindings::{TC_ACT_SHOT, xdp_action},
    helpers::generated::bpf_redirect,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};

use crate::{MEASURED, STATE, restore};

/// What becomes of injected frames: an XDP action, or 0 (which is none of them) to go on with the program under measurement.
#[unsafe(no_mangle)]
static ACTION: Global<u32> = Global::new(xdp_action::XDP_DROP);
/// The index of the interface that XDP_REDIRECT, or a floor that redirects, sends them out of.
#[unsafe(no_mangle)]
pub(crate) static WAY_OUT: Global<u32> = Global::new(0);

/// Makes the frame what the template says, of a flow of its own, and does with it what the constants say.
#[xdp(frags)]
fn inject(ctx: XdpContext) -> u32 {
    let Some(state) = STATE.get_ptr_mut(0) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: one call of BPF_PROG_TEST_RUN at a time uses this object's maps.
    if restore::restore(&ctx, unsafe { &mut *state }).is_none() {
        return xdp_action::XDP_ABORTED;
    }
    match ACTION.load() {
        0 => {
            // SAFETY: nothing is left to be dropped. It returns only if the program is not there.
            unsafe { MEASURED.tail_call(&ctx, 0) };
            xdp_action::XDP_ABORTED
        }
        // SAFETY: plain numbers.
        xdp_action::XDP_REDIRECT => unsafe { bpf_redirect(WAY_OUT.load(), 0) as u32 },
        action => action,
    }
}

/// Where frames end.
#[xdp(frags)]
fn sink(_: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

/// The same behind a device of the kernel: the first place there that can drop a packet.
#[classifier]
fn sink_behind(_: TcContext) -> i32 {
    TC_ACT_SHOT
}
