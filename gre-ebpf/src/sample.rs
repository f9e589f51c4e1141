//! Samples of packets that are not delivered, for a reader if there is one.

use core::hint::black_box;

use aya_ebpf::{
    bindings::xdp_md,
    helpers::generated::{bpf_ktime_get_coarse_ns, bpf_ktime_get_ns, bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
    macros::map,
    maps::{Array, PerCpuArray, RingBuf},
    programs::XdpContext,
};
use gre_common::{
    Reason,
    sample::{Bucket, HELD, RING_BYTES, Sample, SampleHeader},
    tunnel::TRIAL,
};

#[map]
static SAMPLES: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);
#[map]
static READER: Array<u64> = Array::with_max_entries(1, 0);
#[map]
static BUCKETS: PerCpuArray<Bucket> = PerCpuArray::with_max_entries(Reason::COUNT as u32, 0);

/// Samples the packet if somebody reads; the reason is given by its index. A packet that was decapsulated before is sampled
/// as it is now.
#[inline(always)]
pub(crate) fn sample(ctx: &XdpContext, tunnel: u32, reason: u32) {
    if is_read() {
        sample_out_of_line(ctx.ctx, tunnel, reason);
    }
}

/// Where nobody has ever read, or the last reader has cleared up, not even the clock is asked.
#[inline(always)]
fn is_read() -> bool {
    let Some(until) = READER.get_ptr(0) else {
        return false;
    };
    // SAFETY: an element of the map; the reader writes it as a whole.
    let until = unsafe { until.read_volatile() };
    // SAFETY: a pure reading of the clock.
    until != 0 && unsafe { bpf_ktime_get_coarse_ns() } < until
}

/// A global function: verified once, not once for each packet that is refused, and out of the way of those that are not.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn sample_out_of_line(ctx: *mut xdp_md, tunnel: u32, reason: u32) -> u32 {
    if tunnel == TRIAL {
        return 0;
    }
    let ctx = XdpContext::new(ctx);
    let Some(bucket) = BUCKETS.get_ptr_mut(reason) else {
        return 0;
    };
    // SAFETY: this CPU's element, which nothing else changes while the program runs.
    let bucket = unsafe { &mut *bucket };
    // In a flood nearly all end here: the coarse clock is the cheaper one.
    // SAFETY: a pure reading of the clock.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    if bucket.take(now) && !submit(&ctx, tunnel, reason) {
        bucket.lost += 1;
    }
    0
}

/// Hands a sample to the reader; false if there is no room for it.
#[inline(always)]
fn submit(ctx: &XdpContext, tunnel: u32, reason: u32) -> bool {
    let Some(mut entry) = SAMPLES.reserve::<Sample>(0) else {
        return false;
    };
    let sample = entry.as_mut_ptr();
    let ctx = ctx.ctx;
    // SAFETY: the context is the one the kernel gave this program. Volatile, because the verifier lets no two words of it be
    // read as one.
    let (at, len, interface, queue) = unsafe {
        (
            bpf_ktime_get_ns(),
            bpf_xdp_get_buff_len(ctx),
            (&raw const (*ctx).ingress_ifindex).read_volatile(),
            (&raw const (*ctx).rx_queue_index).read_volatile(),
        )
    };
    // No frame is without a byte, but the verifier does not know.
    // As a sum of one and a bounded number, for Linux 6.1 learns nothing from a comparison with zero, and takes no length
    // that may be zero.
    let held = black_box(len.clamp(1, HELD as u64) - 1).min(HELD as u64 - 1) as u32 + 1;
    // SAFETY: `held` bytes fit into the entry, which is whole and this call's own.
    unsafe {
        let loaded = bpf_xdp_load_bytes(ctx, 0, (&raw mut (*sample).bytes).cast(), held);
        (&raw mut (*sample).header).write(SampleHeader {
            at,
            interface,
            queue,
            tunnel,
            reason,
            len: len as u32,
            held: if loaded == 0 { held } else { 0 },
        });
    }
    entry.submit(0);
    true
}
