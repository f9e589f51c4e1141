//! The far end of a tunnel, as fast as the kernel sends: what leaves an interface is put into GRE.

use aya_ebpf::{
    EbpfContext, Global,
    bindings::{BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, TC_ACT_OK, TC_ACT_SHOT, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC},
    helpers::generated::{bpf_skb_adjust_room, bpf_skb_store_bytes},
    macros::classifier,
    programs::TcContext,
};
use network_types::eth::EthHdr;

/// Bytes of IPv4 without options and GRE without options.
const OUTER_LEN: usize = 24;
const TOTAL_LENGTH: usize = 2;
const HEADER_CHECKSUM: usize = 10;
const ETHERTYPE_IPV4: u32 = (0x0800_u16).to_be() as u32;

/// The outer headers, with zeros for length and checksum.
#[unsafe(no_mangle)]
static OUTER: Global<[u8; OUTER_LEN]> = Global::new([0; OUTER_LEN]);
/// The sum of the IPv4 header's 16-bit words, in host byte order.
#[unsafe(no_mangle)]
static OUTER_SUM: Global<u32> = Global::new(0);

/// Puts IPv4 into GRE; what is not IPv4 leaves as it is.
#[classifier]
fn encapsulate(ctx: TcContext) -> i32 {
    // SAFETY: the context is the one the kernel gave this program.
    if unsafe { (*ctx.skb.skb).protocol } != ETHERTYPE_IPV4 {
        return TC_ACT_OK;
    }
    try_encapsulate(&ctx).unwrap_or(TC_ACT_SHOT)
}

#[inline(always)]
fn try_encapsulate(ctx: &TcContext) -> Option<i32> {
    let length = ctx.len() - EthHdr::LEN as u32 + OUTER_LEN as u32;
    let sum = OUTER_SUM.load() + length;
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let mut outer = OUTER.load();
    outer[TOTAL_LENGTH..TOTAL_LENGTH + 2].copy_from_slice(&(length as u16).to_be_bytes());
    outer[HEADER_CHECKSUM..HEADER_CHECKSUM + 2].copy_from_slice(&(!sum as u16).to_be_bytes());
    // SAFETY: the context is the one the kernel gave this program; the headers are on the stack.
    unsafe {
        let flags = u64::from(BPF_F_ADJ_ROOM_ENCAP_L3_IPV4);
        if bpf_skb_adjust_room(ctx.as_ptr().cast(), OUTER_LEN as i32, BPF_ADJ_ROOM_MAC, flags) != 0 {
            return None;
        }
        let stored = bpf_skb_store_bytes(
            ctx.as_ptr().cast(),
            EthHdr::LEN as u32,
            outer.as_ptr().cast(),
            OUTER_LEN as u32,
            0,
        );
        (stored == 0).then_some(TC_ACT_OK)
    }
}
