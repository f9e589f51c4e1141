//! What no decapsulator can be cheaper than.

use core::ptr;

use aya_ebpf::{
    EbpfContext, Global,
    bindings::{bpf_fib_lookup, xdp_action},
    helpers::generated::{
        bpf_csum_diff, bpf_fib_lookup as look_up_route, bpf_redirect, bpf_xdp_adjust_head, bpf_xdp_adjust_tail,
        bpf_xdp_load_bytes,
    },
    macros::{map, xdp},
    maps::{HashMap, PerCpuArray},
    programs::XdpContext,
};
use network_types::{eth::EthHdr, ip::Ipv4Hdr};

use crate::{PADDING, STRIPPED, inject::WAY_OUT};

const GRE_LEN: usize = 4;
/// `AF_INET` (`bits/socket.h`).
const AF_INET: u8 = 2;
/// Bytes of the outer headers without options.
const OUTER_LEN: usize = Ipv4Hdr::LEN + GRE_LEN;

/// An outer IPv4 packet's addresses, as long as the shipped program's key.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Endpoints {
    keyed: u32,
    key: u32,
    local: u32,
    remote: u32,
}

/// Hash of endpoints to the index of a counter.
#[map]
static FLOOR_TUNNELS: HashMap<Endpoints, u32> = HashMap::with_max_entries(1024, 0);
/// Packets and bytes.
#[map]
static FLOOR_COUNTERS: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(1024, 0);

/// Where the bytes to be summed begin, and how many there are.
#[unsafe(no_mangle)]
static SUM_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static SUM_LEN: Global<u32> = Global::new(0);
/// Bytes that [`bpf_csum_diff`] takes in one call.
const BLOCK: usize = 512;
const MOST_BLOCKS: usize = 20;
#[map]
static FLOOR_SCRATCH: PerCpuArray<[u8; BLOCK]> = PerCpuArray::with_max_entries(1, 0);

/// Does nothing.
#[xdp(frags)]
fn empty(_: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Moves the frame's ends as the program under measurement does, and nothing else.
#[xdp(frags)]
fn adjust(ctx: XdpContext) -> u32 {
    // SAFETY: the context is the one the kernel gave this program; there are no pointers into the packet.
    let moved = unsafe { bpf_xdp_adjust_head(ctx.as_ptr().cast(), STRIPPED.load() as i32) };
    let padding = PADDING.load() as i32;
    // SAFETY: as above.
    if moved != 0 || padding != 0 && unsafe { bpf_xdp_adjust_tail(ctx.as_ptr().cast(), -padding) } != 0 {
        return xdp_action::XDP_ABORTED;
    }
    xdp_action::XDP_PASS
}

/// Strips outer IPv4 and GRE without options, whatever is there.
#[xdp(frags)]
fn strip(ctx: XdpContext) -> u32 {
    try_strip(&ctx).unwrap_or(xdp_action::XDP_ABORTED)
}

/// The same after one look-up in a hash map, and counted.
#[xdp(frags)]
fn strip_counted(ctx: XdpContext) -> u32 {
    try_strip_counted(&ctx).unwrap_or(xdp_action::XDP_ABORTED)
}

/// Strips, and sends what is left out of an interface that is known beforehand.
#[xdp(frags)]
fn strip_redirected(ctx: XdpContext) -> u32 {
    match try_strip(&ctx) {
        // SAFETY: plain numbers.
        Some(_) => unsafe { bpf_redirect(WAY_OUT.load(), 0) as u32 },
        None => xdp_action::XDP_ABORTED,
    }
}

/// Strips, and sends what is left where the kernel's routing table says, without a look at its TTL.
#[xdp(frags)]
fn strip_routed(ctx: XdpContext) -> u32 {
    try_strip_routed(&ctx).unwrap_or(xdp_action::XDP_ABORTED)
}

/// Sums bytes of the first buffer.
#[xdp(frags)]
fn sum(ctx: XdpContext) -> u32 {
    try_sum(&ctx).unwrap_or(xdp_action::XDP_ABORTED)
}

/// Sums bytes wherever they lie.
#[xdp(frags)]
fn sum_copied(ctx: XdpContext) -> u32 {
    try_sum_copied(&ctx).unwrap_or(xdp_action::XDP_ABORTED)
}

#[inline(always)]
fn try_strip(ctx: &XdpContext) -> Option<u32> {
    let start = bytes(ctx, 0, EthHdr::LEN)?;
    // SAFETY: `bytes` has checked the bounds; the accesses may be unaligned, and the packet's pointers are made anew after it was
    // moved.
    unsafe {
        let macs: (u64, u32) = (
            start.cast::<u64>().read_unaligned(),
            start.add(8).cast::<u32>().read_unaligned(),
        );
        if bpf_xdp_adjust_head(ctx.as_ptr().cast(), OUTER_LEN as i32) != 0 {
            return None;
        }
        let start = bytes(ctx, 0, EthHdr::LEN)?;
        start.cast::<u64>().write_unaligned(macs.0);
        start.add(8).cast::<u32>().write_unaligned(macs.1);
        start.add(12).cast::<u16>().write_unaligned(0x0800_u16.to_be());
    }
    Some(xdp_action::XDP_PASS)
}

#[inline(always)]
fn try_strip_counted(ctx: &XdpContext) -> Option<u32> {
    let ip = bytes(ctx, EthHdr::LEN, Ipv4Hdr::LEN)?;
    // SAFETY: `bytes` has checked the bounds; the reads may be unaligned.
    let endpoints = unsafe {
        Endpoints {
            keyed: 0,
            key: 0,
            local: ip.add(16).cast::<u32>().read_unaligned(),
            remote: ip.add(12).cast::<u32>().read_unaligned(),
        }
    };
    // SAFETY: the value is copied at once; nothing changes it while the program runs.
    let tunnel = *unsafe { FLOOR_TUNNELS.get(endpoints) }?;
    let counter = FLOOR_COUNTERS.get_ptr_mut(tunnel)?;
    // SAFETY: this CPU's element.
    unsafe {
        (*counter)[0] += 1;
        (*counter)[1] += (ctx.data_end() - ctx.data()) as u64;
    }
    try_strip(ctx)
}

#[inline(always)]
fn try_strip_routed(ctx: &XdpContext) -> Option<u32> {
    try_strip(ctx)?;
    let ip = bytes(ctx, EthHdr::LEN, Ipv4Hdr::LEN)?;
    // SAFETY: every member is an integer or a union of such.
    let mut route: bpf_fib_lookup = unsafe { core::mem::zeroed() };
    route.family = AF_INET;
    // SAFETY: `bytes` has checked the bounds; the reads may be unaligned. The context is the one the kernel gave this program.
    let found = unsafe {
        route.l4_protocol = *ip.add(9);
        route.__bindgen_anon_1.tot_len = u16::from_be(ip.add(2).cast::<u16>().read_unaligned());
        route.__bindgen_anon_3.ipv4_src = ip.add(12).cast::<u32>().read_unaligned();
        route.__bindgen_anon_4.ipv4_dst = ip.add(16).cast::<u32>().read_unaligned();
        route.ifindex = (*ctx.ctx).ingress_ifindex;
        look_up_route(
            ctx.as_ptr().cast(),
            &raw mut route,
            size_of::<bpf_fib_lookup>() as i32,
            0,
        )
    };
    if found != 0 {
        return None;
    }
    let start = bytes(ctx, 0, EthHdr::LEN)?;
    // SAFETY: as above; the answer has both addresses.
    unsafe {
        start.cast::<[u8; 6]>().write_unaligned(route.dmac);
        start.add(6).cast::<[u8; 6]>().write_unaligned(route.smac);
        Some(bpf_redirect(route.ifindex, 0) as u32)
    }
}

#[inline(always)]
fn try_sum(ctx: &XdpContext) -> Option<u32> {
    let (mut at, len) = (SUM_AT.load() as usize, SUM_LEN.load() as usize);
    let mut sum = 0;
    for block in 0..MOST_BLOCKS {
        if block == len / BLOCK {
            break;
        }
        // SAFETY: `bytes` has checked that they are there.
        sum = unsafe {
            bpf_csum_diff(
                ptr::null_mut(),
                0,
                bytes(ctx, at, BLOCK)?.cast(),
                BLOCK as u32,
                sum as u32,
            )
        };
        at += BLOCK;
    }
    let rest = (len % BLOCK) & !3;
    if rest != 0 {
        // SAFETY: as above.
        sum = unsafe {
            bpf_csum_diff(
                ptr::null_mut(),
                0,
                bytes(ctx, at, rest)?.cast(),
                rest as u32,
                sum as u32,
            )
        };
    }
    (sum >= 0).then_some(xdp_action::XDP_PASS)
}

#[inline(always)]
fn try_sum_copied(ctx: &XdpContext) -> Option<u32> {
    let (mut at, len) = (SUM_AT.load(), SUM_LEN.load() as usize);
    let scratch = FLOOR_SCRATCH.get_ptr_mut(0)?.cast::<u8>();
    let mut sum = 0;
    for block in 0..MOST_BLOCKS {
        if block == len / BLOCK {
            break;
        }
        // SAFETY: the scratch is this CPU's own and has room for a block.
        unsafe {
            if bpf_xdp_load_bytes(ctx.as_ptr().cast(), at, scratch.cast(), BLOCK as u32) != 0 {
                return None;
            }
            sum = bpf_csum_diff(ptr::null_mut(), 0, scratch.cast(), BLOCK as u32, sum as u32);
        }
        at += BLOCK as u32;
    }
    (sum >= 0).then_some(xdp_action::XDP_PASS)
}

#[inline(always)]
fn bytes(ctx: &XdpContext, offset: usize, len: usize) -> Option<*mut u8> {
    let start = ctx.data() + offset;
    (start + len <= ctx.data_end()).then_some(start as *mut u8)
}
