//! Moving a tunnel's sequence state, which several CPUs may do at once.

use core::hint::black_box;

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns};
use gre_common::{
    arrivals::{self, Arrival},
    sequence::{self, Order, SequenceState},
};

use crate::{
    count,
    tables::{ARRIVALS, SEQUENCES},
};

/// Each failed try is a packet that another CPU has accepted or refused in between.
const TRIES: u64 = 16;

/// Counts what a packet's number tells of its way, then judges it and moves the state with it.
#[inline(always)]
pub(crate) fn order(tunnel: u32, number: u32) -> Order {
    Order::unpack(numbered_out_of_line(tunnel, number, ARRIVED | JUDGED))
}

/// Counts what a packet's number tells of its way.
#[inline(always)]
pub(crate) fn arrived(tunnel: u32, number: u32) {
    numbered_out_of_line(tunnel, number, ARRIVED);
}

/// The same as [`order`], in place if the number is the next one: a call costs as much as that.
#[inline(always)]
pub(crate) fn order_in_place(tunnel: u32, number: u32) -> Order {
    if !has_arrived_next(tunnel, number) {
        return order(tunnel, number);
    }
    if is_accepted_next(tunnel, number) {
        return Order::InOrder;
    }
    Order::unpack(numbered_out_of_line(tunnel, number, JUDGED))
}

/// The same as [`arrived`], in place if the number is the next one.
#[inline(always)]
pub(crate) fn arrived_in_place(tunnel: u32, number: u32) {
    if !has_arrived_next(tunnel, number) {
        arrived(tunnel, number);
    }
}

/// What is to be done with a number: counted.
const ARRIVED: u32 = 1;
/// Judged.
const JUDGED: u32 = 1 << 1;

/// A global function: its loops are verified once, not once for each way to get there.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn numbered_out_of_line(tunnel: u32, number: u32, what: u32) -> u32 {
    if what & ARRIVED != 0 {
        count_arrival(tunnel, number);
    }
    let order = if what & JUDGED == 0 {
        Order::InOrder
    } else {
        judge(tunnel, number)
    };
    order.pack()
}

/// Counts the arrival of the next number. If it is not the next, or another CPU was quicker, nothing is done.
#[inline(always)]
fn has_arrived_next(tunnel: u32, number: u32) -> bool {
    let Some(state) = ARRIVALS.get_ptr_mut(tunnel) else {
        return false;
    };
    // SAFETY: an element of the map, aligned to 8 bytes.
    let seen = unsafe { state.read_volatile() };
    let Some(next) = arrivals::next(seen, number) else {
        return false;
    };
    // SAFETY: as above.
    let is_next = unsafe { compare_exchange(state, seen, next) };
    if is_next {
        count::arrived(tunnel, Arrival::Next);
    }
    is_next
}

/// Moves the state with the expected number. If it is not the expected, or another CPU was quicker, nothing is done.
#[inline(always)]
fn is_accepted_next(tunnel: u32, number: u32) -> bool {
    let Some(state) = SEQUENCES.get_ptr_mut(tunnel) else {
        return false;
    };
    // SAFETY: an element of the map, aligned to 8 bytes.
    let seen = unsafe { (&raw const (*state).cursor).read_volatile() };
    let Some(next) = sequence::next(seen, number) else {
        return false;
    };
    // SAFETY: as above.
    let is_next = unsafe { compare_exchange(&raw mut (*state).cursor, seen, next) };
    if is_next {
        // SAFETY: as above.
        accepted(state, unsafe { (&raw const (*state).tick).read_volatile() });
    }
    is_next
}

#[inline(always)]
fn judge(tunnel: u32, number: u32) -> Order {
    let Some(state) = SEQUENCES.get_ptr_mut(tunnel) else {
        return Order::Late;
    };
    let mut tries = TRIES;
    loop {
        // SAFETY: `state` is an element of the map, aligned to 8 bytes; a torn one only misjudges a silence.
        let seen = unsafe { state.read_volatile() };
        // SAFETY: a pure reading of the clock.
        let (order, next) = sequence::judge(seen, number, || unsafe { bpf_ktime_get_ns() });
        // SAFETY: as above.
        if unsafe { compare_exchange(&raw mut (*state).cursor, seen.cursor, next) } {
            if order != Order::Late {
                accepted(state, seen.tick);
            }
            return order;
        }
        // Counted down right before the test, which the compiler would else put elsewhere: kernel 6.1 takes a loop only if its
        // last instruction is a jump (check_cfg() in kernel/bpf/verifier.c).
        tries = black_box(tries - 1);
        if tries == 0 {
            return Order::Late;
        }
    }
}

/// Notes when a packet was accepted, once a tick: the coarse clock goes on when the tick does, which is read without a call.
#[inline(always)]
fn accepted(state: *mut SequenceState, last: u64) {
    // SAFETY: a pure reading.
    let tick = unsafe { bpf_jiffies64() };
    if tick != last {
        // SAFETY: a pure reading of the clock; `state` is an element of the map, aligned to 8 bytes.
        unsafe {
            (&raw mut (*state).accepted_at).write_volatile(bpf_ktime_get_coarse_ns());
            (&raw mut (*state).tick).write_volatile(tick);
        }
    }
}

#[inline(always)]
fn count_arrival(tunnel: u32, number: u32) {
    let Some(state) = ARRIVALS.get_ptr_mut(tunnel) else {
        return;
    };
    for _ in 0..TRIES {
        // SAFETY: an element of the map, aligned to 8 bytes.
        let seen = unsafe { state.read_volatile() };
        let (arrival, next) = arrivals::judge(seen, number);
        // SAFETY: as above.
        if unsafe { compare_exchange(state, seen, next) } {
            count::arrived(tunnel, arrival);
            return;
        }
    }
    // So many other CPUs were quicker: what is estimated can do without this one.
}

/// Atomically puts `new` in the place of `old`; false if something else is there.
///
/// The target claims to have no compare-and-swap, because the oldest BPF processors lack it; the one that the program is
/// built for (v3) has it.
///
/// # Safety
/// `word` must be valid, and aligned to 8 bytes.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub(crate) unsafe fn compare_exchange(word: *mut u64, old: u64, new: u64) -> bool {
    use core::intrinsics::{AtomicOrdering::SeqCst, atomic_cxchg};
    // SAFETY: the caller's promise.
    unsafe { atomic_cxchg::<u64, { SeqCst }, { SeqCst }>(word, old, new).1 }
}

/// The same on the host.
///
/// # Safety
/// `word` must be valid, and aligned to 8 bytes.
#[cfg(not(target_arch = "bpf"))]
pub(crate) unsafe fn compare_exchange(word: *mut u64, old: u64, new: u64) -> bool {
    use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
    // SAFETY: the caller's promise.
    unsafe { AtomicU64::from_ptr(word) }
        .compare_exchange(old, new, SeqCst, SeqCst)
        .is_ok()
}
