//! What becomes of packets after the program has sent them on. `XDP_REDIRECT` and `XDP_TX` are intentions: that an interface
//! or a core's queue did not take a packet is told by the kernel's tracepoints only (`trace/events/xdp.h`).
//!
//! The tracepoints tell of all XDP programs on the host. A packet is ours if it went by a map of ours, or if it came in on an
//! interface that the program is on, which can have no other.

use aya_ebpf::{
    Global,
    bindings::xdp_action::XDP_TX,
    helpers::bpf_probe_read_kernel,
    macros::{map, raw_tracepoint},
    maps::{Array, LruPerCpuHashMap},
    programs::RawTracePointContext,
};
use gre_common::{
    Reason,
    maps::{CPUS_ID, DEVICES_ID, MAX_REDIRECTS},
};

use crate::{
    count::of_interface,
    tables::{COUNTERS, INTERFACES},
};

/// The counters of what no tunnel is known of.
const NO_TUNNEL: u32 = 0;

/// What a full queue returns (`asm-generic/errno-base.h`).
const ENOSPC: i32 = 28;

#[map]
static REDIRECTS: LruPerCpuHashMap<u32, u64> = LruPerCpuHashMap::with_max_entries(MAX_REDIRECTS, 0);
#[map]
static REDIRECT_MAPS: Array<u32> = Array::with_max_entries(2, 0);

#[unsafe(no_mangle)]
static NET_DEVICE_IFINDEX: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static NET_DEVICE_NET: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static NET_INUM: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OWN_NETNS: Global<u32> = Global::new(0);

/// A packet could not be sent on at all: the interface is down or sends no redirected frames, or the packet is too big.
#[raw_tracepoint(tracepoint = "xdp_redirect_err")]
fn xdp_redirect_err(ctx: RawTracePointContext) -> i32 {
    // TP_PROTO(dev, prog, tgt, err, map_type, map_id, index)
    let (error, map, index): (i32, u32, u32) = (ctx.arg(3), ctx.arg(5), ctx.arg(6));
    if is_map(DEVICES_ID, map) {
        failed(index, 1);
    } else if is_map(CPUS_ID, map) && error != -ENOSPC {
        // That a queue is full is told by `xdp_cpumap_enqueue` too, and always.
        add(Reason::RedirectFailed, 1);
    }
    0
}

/// Packets were given to the driver of an interface.
#[raw_tracepoint(tracepoint = "xdp_devmap_xmit")]
fn xdp_devmap_xmit(ctx: RawTracePointContext) -> i32 {
    // TP_PROTO(from_dev, to_dev, sent, drops, err)
    let drops: i32 = ctx.arg(3);
    if drops > 0
        && is_ours(ctx.arg(0)).is_some()
        && let Some(interface) = interface(ctx.arg(1))
    {
        failed(interface, drops.unsigned_abs().into());
    }
    0
}

/// Packets were given to the driver that they came from.
#[raw_tracepoint(tracepoint = "xdp_bulk_tx")]
fn xdp_bulk_tx(ctx: RawTracePointContext) -> i32 {
    // TP_PROTO(dev, sent, drops, err)
    let drops: i32 = ctx.arg(2);
    if drops > 0
        && let Some(interface) = is_ours(ctx.arg(0))
    {
        failed(interface, drops.unsigned_abs().into());
    }
    0
}

/// A driver could not do with a packet what the program said. Of redirected ones `xdp_redirect_err` tells.
#[raw_tracepoint(tracepoint = "xdp_exception")]
fn xdp_exception(ctx: RawTracePointContext) -> i32 {
    // TP_PROTO(dev, prog, act)
    let action: u32 = ctx.arg(2);
    if action == XDP_TX
        && let Some(interface) = is_ours(ctx.arg(0))
    {
        failed(interface, 1);
    }
    0
}

/// Packets were put into the queue of a core.
#[raw_tracepoint(tracepoint = "xdp_cpumap_enqueue")]
fn xdp_cpumap_enqueue(ctx: RawTracePointContext) -> i32 {
    // TP_PROTO(map_id, processed, drops, to_cpu)
    let drops: u32 = ctx.arg(2);
    if drops > 0 && is_map(CPUS_ID, ctx.arg(0)) {
        add(Reason::SpreadFull, drops.into());
    }
    0
}

/// Packets were taken from the queue of a core. Those dropped here had no memory to become packets of the stack; what the
/// program there drops it counts itself.
#[raw_tracepoint(tracepoint = "xdp_cpumap_kthread")]
fn xdp_cpumap_kthread(ctx: RawTracePointContext) -> i32 {
    // TP_PROTO(map_id, processed, drops, sched, xdp_stats)
    let drops: u32 = ctx.arg(2);
    if drops > 0 && is_map(CPUS_ID, ctx.arg(0)) {
        add(Reason::RedirectFailed, drops.into());
    }
    0
}

/// Whether a map is the one of ours whose id is at this place.
#[inline(always)]
fn is_map(place: u32, id: u32) -> bool {
    // No map has the id 0, which is what userspace has not written.
    id != 0 && REDIRECT_MAPS.get(place) == Some(&id)
}

/// The index of an interface that the program is on.
#[inline(always)]
fn is_ours(device: *const u8) -> Option<u32> {
    interface(device).filter(|index| INTERFACES.get_ptr(index).is_some())
}

/// The index of an interface of our network namespace, given as `struct net_device *`. Indices are a namespace's own.
#[inline(always)]
fn interface(device: *const u8) -> Option<u32> {
    let net: *const u8 = read(device, &NET_DEVICE_NET)?;
    let namespace: u32 = read(net, &NET_INUM)?;
    if namespace != OWN_NETNS.load() {
        return None;
    }
    read(device, &NET_DEVICE_IFINDEX)
}

#[inline(always)]
fn read<T>(structure: *const u8, offset: &Global<u32>) -> Option<T> {
    let member = structure.wrapping_add(offset.load() as usize);
    // SAFETY: the kernel checks the address, and copies; any bytes are a value of the integers and pointers read here.
    unsafe { bpf_probe_read_kernel(member.cast()) }.ok()
}

/// Counts packets that an interface did not take.
#[inline(always)]
fn failed(interface: u32, packets: u64) {
    add(Reason::RedirectFailed, packets);
    if let Some(count) = of_interface(&REDIRECTS, interface) {
        // SAFETY: an element of the map, aligned to 8 bytes.
        unsafe { atomic_add(count, packets) };
    }
}

/// Counts packets of which nobody knows the tunnel any more.
#[inline(always)]
fn add(reason: Reason, packets: u64) {
    let Some(counters) = COUNTERS.get_ptr_mut(NO_TUNNEL) else {
        return;
    };
    // SAFETY: an element of the map, aligned to 8 bytes; the pointer is to one of its counters.
    unsafe {
        atomic_add(
            (&raw mut (*counters).reasons).cast::<u64>().add(reason as usize),
            packets,
        )
    };
}

/// Adds in one step: one of these programs may interrupt another on the same core, for some of the tracepoints are reached in
/// threads and others in interrupts.
///
/// # Safety
/// `word` must be valid, and aligned to 8 bytes.
#[cfg(target_arch = "bpf")]
#[inline(always)]
unsafe fn atomic_add(word: *mut u64, addend: u64) {
    use core::intrinsics::{AtomicOrdering::Relaxed, atomic_xadd};
    // SAFETY: the caller's promise.
    unsafe { atomic_xadd::<u64, u64, { Relaxed }>(word, addend) };
}

/// The same on the host.
///
/// # Safety
/// `word` must be valid, and aligned to 8 bytes.
#[cfg(not(target_arch = "bpf"))]
unsafe fn atomic_add(word: *mut u64, addend: u64) {
    use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
    // SAFETY: the caller's promise.
    unsafe { AtomicU64::from_ptr(word) }.fetch_add(addend, Relaxed);
}
