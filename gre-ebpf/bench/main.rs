//! What `cargo xtask bench` runs around the program that it measures, and the floors that it holds it against. No part of what is
//! shipped.
//!
//! BPF_PROG_TEST_RUN does not restore a packet between the runs of one call: after the first, a program that strips headers would
//! see a stripped packet. So [`harness`] comes first in every run. It restores what the run before has changed and goes on, by a
//! tail call, with the program under measurement, as it was loaded. What the harness itself costs is measured with [`adjust`] or
//! [`empty`] in that place, and subtracted.
//!
//! [`inject`] is for the whole path: its frames are real ones.
//!
//! It also notes the time after every [`BATCH`] runs, for the kernel's own answer is a truncated mean over all.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics))]
#![cfg_attr(
    target_arch = "bpf",
    expect(internal_features, reason = "atomic addition, which the target claims not to have")
)]

mod encapsulate;
mod floors;
mod inject;
mod restore;

use aya_ebpf::{
    Global,
    bindings::xdp_action,
    helpers::generated::bpf_ktime_get_ns,
    macros::{map, xdp},
    maps::{Array, ProgramArray},
    programs::XdpContext,
};

/// Runs between two notes of the time.
const BATCH: u64 = 2048;
/// Notes that there is room for.
const MOST_TIMES: u32 = 1024;

/// What the harness keeps from run to run.
#[repr(C)]
#[derive(Clone, Copy)]
struct State {
    /// Runs so far.
    runs: u64,
    /// The last source address's place among all, as a pseudo-random number; never 0.
    random: u64,
    /// The last sequence number.
    number: u32,
    unused: u32,
    /// See [`wait_for_writes`].
    waits: u64,
}

#[map]
static STATE: Array<State> = Array::with_max_entries(1, 0);
/// When a batch began, in nanoseconds of `CLOCK_MONOTONIC`.
#[map]
static TIMES: Array<u64> = Array::with_max_entries(MOST_TIMES, 0);
/// The program under measurement.
#[map]
static MEASURED: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// How far the program under measurement moves the frame's start.
#[unsafe(no_mangle)]
static STRIPPED: Global<u32> = Global::new(0);
/// How many bytes it cuts off at the end.
#[unsafe(no_mangle)]
static PADDING: Global<u32> = Global::new(0);

/// Restores the packet and goes on with the program under measurement.
#[xdp(frags)]
fn harness(ctx: XdpContext) -> u32 {
    if try_harness(&ctx).is_some() {
        // SAFETY: nothing is left to be dropped. It returns only if the program is not there.
        unsafe { MEASURED.tail_call(&ctx, 0) };
    }
    xdp_action::XDP_ABORTED
}

#[inline(always)]
fn try_harness(ctx: &XdpContext) -> Option<()> {
    let state = note_time()?;
    restore::restore(ctx, state)?;
    wait_for_writes(&mut state.waits);
    Some(())
}

/// An atomic operation waits until all that was written is in the cache. Else the program would meet bytes that are still on their
/// way there, and in other pieces than it reads them in, which a packet from a network card never is.
#[inline(always)]
fn wait_for_writes(word: &mut u64) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: the word is valid and aligned.
    unsafe {
        core::intrinsics::atomic_xadd::<u64, u64, { core::intrinsics::AtomicOrdering::SeqCst }>(word, 1);
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        *word += 1;
    }
}

#[inline(always)]
fn note_time() -> Option<&'static mut State> {
    // SAFETY: one call of BPF_PROG_TEST_RUN at a time uses this object's maps.
    let state = unsafe { &mut *STATE.get_ptr_mut(0)? };
    if state.runs.is_multiple_of(BATCH)
        && let Some(time) = TIMES.get_ptr_mut((state.runs / BATCH) as u32)
    {
        // SAFETY: an element of the map; a pure reading of the clock.
        unsafe { time.write(bpf_ktime_get_ns()) };
    }
    state.runs += 1;
    Some(state)
}

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("gre-bench is a kernel program: `cargo xtask bench` builds and runs it");
    std::process::exit(1);
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
