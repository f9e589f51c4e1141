//! Counting: one look-up, one element, this CPU's own. No atomics: XDP runs to its end on one CPU.

use core::hint::black_box;

use aya_ebpf::{
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns},
    maps::LruPerCpuHashMap,
};
use gre_common::{Reason, arrivals::Arrival, counters::Counters, sizes};

use crate::{
    onward::Onward,
    tables::{COUNTERS, have_probes},
};

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
    /// Whether it is a reply to a health probe.
    pub(crate) probe: bool,
}

/// Counts a packet that was decapsulated and goes to the stack. In place, for a call costs as much as the counting: where
/// [`COUNT_IN_PLACE`](crate::few::COUNT_IN_PLACE) says that this is not too much for the verifier.
#[inline(always)]
pub(crate) fn delivered_to_stack(packet: &Decapsulated) {
    if let Some(counters) = counters(packet.tunnel) {
        let (inner, outer) = (packet.inner_bytes as u32, packet.outer_bytes as u32);
        delivered(counters, inner, outer, packet.fragment.into(), packet.restart);
    }
}

/// Counts a packet of a usual form that is delivered: in place everywhere, for there is only one way to get here.
#[inline(always)]
pub(crate) fn usual(tunnel: u32, inner_bytes: u32, outer_bytes: u32, restart: bool) {
    if let Some(counters) = counters(tunnel) {
        delivered(counters, inner_bytes, outer_bytes, 0, restart);
    }
}

/// Counts a packet that was decapsulated, by where it went.
#[inline(always)]
pub(crate) fn decapsulated(packet: &Decapsulated, onward: Onward) {
    let notes = u32::from(packet.restart) | u32::from(packet.probe) << 1 | u32::from(packet.fragment) << FRAGMENT_SHIFT;
    let (inner, outer) = (packet.inner_bytes as u32, packet.outer_bytes as u32);
    decapsulated_out_of_line(packet.tunnel, inner, outer, notes, onward.pack());
}

/// Bit 0 of the notes: the sender has restarted; bit 1: it is a reply to a health probe; the others: not 0 if it is a fragment.
const RESTART: u32 = 1;
const PROBE: u32 = 1 << 1;
const FRAGMENT_SHIFT: u32 = 2;

/// A global function: verified once, not once for each kind of packet that comes here.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn decapsulated_out_of_line(
    tunnel: u32,
    inner_bytes: u32,
    outer_bytes: u32,
    notes: u32,
    onward: u32,
) -> u32 {
    let onward = Onward::unpack(onward);
    let Some(counters) = counters(tunnel) else {
        return 0;
    };
    add_at(counters, onward.reason());
    if have_probes() && notes & PROBE != 0 {
        add(counters, Reason::Probe);
    }
    if onward.is_dropped() {
        return 0;
    }
    delivered(
        counters,
        inner_bytes,
        outer_bytes,
        notes >> FRAGMENT_SHIFT,
        notes & RESTART != 0,
    );
    0
}

/// Counts a packet that was delivered; `fragment` is not 0 if it is one.
#[inline(always)]
fn delivered(counters: &mut Counters, inner_bytes: u32, outer_bytes: u32, fragment: u32, restart: bool) {
    counters.packets += 1;
    counters.bytes += u64::from(inner_bytes);
    counters.outer_bytes += u64::from(outer_bytes);
    if let Some(count) = counters.sizes.get_mut(sizes::class(inner_bytes as usize)) {
        *count += 1;
    }
    // The coarse clock goes on when the tick does, and a tick is read without a call.
    // SAFETY: a pure reading.
    let tick = unsafe { bpf_jiffies64() };
    if counters.tick != tick {
        counters.tick = tick;
        // SAFETY: a pure reading of the clock.
        counters.last_seen = unsafe { bpf_ktime_get_coarse_ns() };
    }
    counters.fragments += u64::from((fragment | fragment.wrapping_neg()) >> 31);
    if restart {
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

/// Counts a SYN whose MSS was lowered.
#[inline(always)]
pub(crate) fn mss_clamped(tunnel: u32) {
    if let Some(counters) = counters(tunnel) {
        counters.mss_clamped += 1;
    }
}

/// One more of `reason`.
#[inline(always)]
fn add(counters: &mut Counters, reason: Reason) {
    // The compiler knows that there are no other reasons than these and would leave out the check of the index, which Linux 6.1's
    // verifier needs: it loses what it knew of a word that was kept on the stack.
    add_at(counters, black_box(reason as u32) as usize);
}

/// One more of the reason with this index, if there is one. Written without an index that could panic: the verifier would refuse
/// the panic's code.
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

/// For bpf_map_update_elem(): only if there is none (`linux/bpf.h`).
const BPF_NOEXIST: u64 = 1;

/// This CPU's count of an interface, which is made if there is none. The map forgets the interface that has not counted for longest
/// rather than be full: one that is gone, unless there are more than it has room for.
#[inline(always)]
pub(crate) fn of_interface(counts: &LruPerCpuHashMap<u32, u64>, interface: u32) -> Option<*mut u64> {
    match counts.get_ptr_mut(interface) {
        Some(count) => Some(count),
        None => match counts.insert(interface, 0, BPF_NOEXIST) {
            // Or another core has made it meanwhile.
            Ok(()) | Err(_) => counts.get_ptr_mut(interface),
        },
    }
}
