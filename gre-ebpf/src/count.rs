//! Counting: one look-up, one element, this CPU's own. No atomics: XDP runs to its end on one CPU.

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use gre_common::{Reason, arrivals::Arrival, counters::Counters, sizes};

use crate::{onward::Onward, tables::COUNTERS};

/// What is counted of a packet that was decapsulated.
pub(crate) struct Decapsulated {
    /// The tunnel it came by.
    pub(crate) tunnel: u32,
    /// Bytes of its payload.
    pub(crate) inner_bytes: u64,
    /// Bytes of the outer packet.
    pub(crate) outer_bytes: u64,
    /// Whether its sequence number told of a restarted sender.
    pub(crate) restart: bool,
    /// Not 0 if the inner packet is a fragment.
    pub(crate) fragment: u16,
}

/// Counts a packet that was decapsulated, by where it went.
#[inline(always)]
pub(crate) fn decapsulated(packet: &Decapsulated, onward: Onward) {
    let Some(counters) = counters(packet.tunnel) else {
        return;
    };
    add_at(counters, onward.reason());
    if onward.is_dropped() {
        return;
    }
    counters.packets += 1;
    counters.bytes += packet.inner_bytes;
    counters.outer_bytes += packet.outer_bytes;
    if let Some(count) = counters.sizes.get_mut(sizes::class(packet.inner_bytes as usize)) {
        *count += 1;
    }
    // SAFETY: a pure reading of the clock.
    counters.last_seen = unsafe { bpf_ktime_get_coarse_ns() };
    if packet.fragment != 0 {
        counters.fragments += 1;
    }
    if packet.restart {
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

/// Counts what a packet's sequence number tells.
#[inline(always)]
pub(crate) fn arrived(tunnel: u32, arrival: Arrival) {
    if let Some(counters) = counters(tunnel) {
        counters.arrivals.count(arrival);
    }
}

/// One more of `reason`.
#[inline(always)]
fn add(counters: &mut Counters, reason: Reason) {
    add_at(counters, reason as usize);
}

/// One more of the reason with this index, if there is one. Written without an index that could panic: the verifier would refuse the panic's code.
#[inline(always)]
fn add_at(counters: &mut Counters, index: usize) {
    if let Some(count) = counters.reasons.get_mut(index) {
        *count += 1;
    }
}

/// A tunnel's counters. The loader makes the map large enough for every id it hands out.
#[inline(always)]
fn counters(tunnel: u32) -> Option<&'static mut Counters> {
    // SAFETY: this CPU's element, which nothing else changes while the program runs.
    COUNTERS.get_ptr_mut(tunnel).map(|counters| unsafe { &mut *counters })
}
