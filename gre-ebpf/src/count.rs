//! Counting: one look-up, one element, this CPU's own. No atomics: XDP runs to its end on one CPU.

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use gre_common::{Delivery, Reason, counters::Counters};

use crate::tables::COUNTERS;

/// Counts a packet that was decapsulated.
#[inline(always)]
pub(crate) fn delivered(delivery: &Delivery) {
    let Some(counters) = counters(delivery.tunnel) else {
        return;
    };
    counters.packets += 1;
    counters.bytes += delivery.inner_bytes() as u64;
    counters.outer_bytes += u64::from(delivery.outer_bytes);
    // SAFETY: a pure reading of the clock.
    counters.last_seen = unsafe { bpf_ktime_get_coarse_ns() };
    if delivery.restart {
        add(counters, Reason::SequenceRestart);
    }
}

/// Counts a packet that had another outcome; tunnel 0 is "none".
#[inline(always)]
pub(crate) fn refused(tunnel: u32, reason: Reason) {
    if let Some(counters) = counters(tunnel) {
        add(counters, reason);
    }
}

/// One more of `reason`. Written without an index that could panic: the verifier would refuse the panic's code.
#[inline(always)]
fn add(counters: &mut Counters, reason: Reason) {
    if let Some(count) = counters.reasons.get_mut(reason as usize) {
        *count += 1;
    }
}

/// A tunnel's counters. The loader makes the map large enough for every id it hands out.
#[inline(always)]
fn counters(tunnel: u32) -> Option<&'static mut Counters> {
    // SAFETY: this CPU's element, which nothing else changes while the program runs.
    COUNTERS.get_ptr_mut(tunnel).map(|counters| unsafe { &mut *counters })
}
