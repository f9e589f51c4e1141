//! `clamp_mss`: on the way out of an interface, as a TC program, lowers the MSS of TCP SYNs from protected addresses.
//!
//! The packet may lie in several pieces, so it is read and written through helpers, which also know where a network card computes
//! the checksum (`CHECKSUM_PARTIAL`): there it must not be touched.

use core::mem::{MaybeUninit, offset_of};

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::generated::{bpf_l4_csum_replace, bpf_skb_load_bytes, bpf_skb_store_bytes},
    macros::map,
    maps::{HashMap, LruPerCpuHashMap},
    programs::TcContext,
};
use gre_common::{
    Packet,
    endian::{Be16, Be32},
    link::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, Link},
    maps::MAX_EGRESS,
    mss::{Clamp, Lowered, Syn},
    plain::Plain,
};
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::{
    count::of_interface,
    tables::{is_protected4, is_protected6},
};

#[map]
static EGRESS: HashMap<u32, Clamp> = HashMap::with_max_entries(MAX_EGRESS, 0);
#[map]
static EGRESS_CLAMPED: LruPerCpuHashMap<u32, u64> = LruPerCpuHashMap::with_max_entries(MAX_EGRESS, 0);

/// Lowers the MSS of a SYN from a protected address. Gives what leaves the packet to other programs.
#[inline(always)]
pub(crate) fn clamp(ctx: &TcContext) -> i32 {
    let Some((interface, lowered)) = lower(ctx) else {
        return TC_ACT_UNSPEC;
    };
    match write(ctx, &lowered) {
        Written::Whole => count(interface),
        Written::Not => {}
        // It cannot be right any more. What could not be made writable now was a moment ago.
        Written::Half => return TC_ACT_SHOT,
    }
    TC_ACT_UNSPEC
}

/// The interface that the packet leaves by, and what is to change in the packet.
#[inline(always)]
fn lower(ctx: &TcContext) -> Option<(u32, Lowered)> {
    let packet = Skb(ctx);
    let link = Link::parse(&packet)?;
    let (protocol, start) = (link.ether_type, link.len());
    let syn = Syn::of(&packet, protocol, start)?;
    // SAFETY: the context is the one the kernel gave this program.
    let interface = unsafe { (*ctx.skb.skb).ifindex };
    // SAFETY: userspace replaces elements and never changes one in place; it is copied at once.
    let limits = *unsafe { EGRESS.get(interface) }?;
    let limit = if protocol == ETHER_TYPE_IPV4 {
        limits.v4
    } else {
        limits.v6
    };
    let lowered = syn.lower(&packet, limit)?;
    is_protected(&packet, protocol, start)?.then_some((interface, lowered))
}

/// Whether the packet comes from a protected address.
#[inline(always)]
fn is_protected(packet: &Skb<'_>, protocol: Be16, start: usize) -> Option<bool> {
    // Word by word: the compiler would copy a whole address by eight bytes at a time to where the verifier allows four.
    let word = |offset: usize| packet.load::<Be32>(start + offset);
    match protocol {
        ETHER_TYPE_IPV4 => Some(is_protected4(&[word(IPV4_SOURCE)?])),
        ETHER_TYPE_IPV6 => {
            let [a, b, c, d] = [0, 4, 8, 12].map(|offset| word(IPV6_SOURCE + offset));
            Some(is_protected6(&[a?, b?, c?, d?]))
        }
        _ => None,
    }
}

/// Offsets of the source address in IP headers.
const IPV4_SOURCE: usize = offset_of!(Ipv4Hdr, src_addr);
const IPV6_SOURCE: usize = offset_of!(Ipv6Hdr, src_addr);

/// How much of a change was written.
enum Written {
    Whole,
    Half,
    Not,
}

#[inline(always)]
fn write(ctx: &TcContext, lowered: &Lowered) -> Written {
    let skb = ctx.skb.skb;
    let value = lowered.value;
    let [before, after] = [lowered.words.0, lowered.words.1].map(|word| u64::from(u16::from_ne_bytes(word)));
    // SAFETY: the context is the one the kernel gave this program, and `value` is as long as is said.
    unsafe {
        let stored = bpf_skb_store_bytes(
            skb,
            lowered.value_at as u32,
            value.as_ptr().cast(),
            value.len() as u32,
            0,
        );
        if stored != 0 {
            return Written::Not;
        }
        // The low bits of the flags are the size of the words.
        if bpf_l4_csum_replace(skb, lowered.check_at as u32, before, after, value.len() as u64) != 0 {
            return Written::Half;
        }
    }
    Written::Whole
}

#[inline(always)]
fn count(interface: u32) {
    if let Some(count) = of_interface(&EGRESS_CLAMPED, interface) {
        // SAFETY: this CPU's element; packets are sent with softirqs off, so that none comes between.
        unsafe { *count += 1 };
    }
}

/// A packet on its way out, from its link header on.
struct Skb<'a>(&'a TcContext);

/// On the stack, where the verifier wants every access to be aligned.
#[repr(C, align(8))]
struct Aligned<T>(MaybeUninit<T>);

impl Packet for Skb<'_> {
    #[inline(always)]
    fn load<T: Plain>(&self, offset: usize) -> Option<T> {
        let mut value = Aligned(MaybeUninit::<T>::uninit());
        let to = value.0.as_mut_ptr();
        // SAFETY: the context is the one the kernel gave this program, and there is room for what is loaded.
        let loaded =
            unsafe { bpf_skb_load_bytes(self.0.skb.skb.cast(), offset as u32, to.cast(), size_of::<T>() as u32) };
        // SAFETY: then the helper has written all of it, and any bytes are a valid `T`.
        (loaded == 0).then(|| unsafe { value.0.assume_init() })
    }

    /// Nothing here needs it.
    #[inline(always)]
    fn beginning<T: Plain>(&self) -> Option<&T> {
        None
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.0.len() as usize
    }

    /// Nothing here needs one.
    #[inline(always)]
    fn sum(&self, _: usize, _: usize) -> Option<u16> {
        None
    }
}
