//! Forwarding an inner packet by this host's routes: what is asked of the kernel, what its answer means, and what changes in the
//! packet.
//!
//! Only what the kernel's own forwarding (`ip_forward`, `ip6_forward`) would do without looking closer is done here. All else
//! goes to the kernel, decapsulated.

use network_types::ip::{IpProto, Ipv6Hdr};

use crate::{
    Packet, Reason, checksum,
    endian::{Be16, Be32},
    link::ETHER_TYPE_IPV4,
    outer::words,
    target::Macs,
    transport::Transport,
};

/// The question to the kernel's routing tables, and its answer: `struct bpf_fib_lookup` of linux/bpf.h.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Lookup {
    /// AF_INET or AF_INET6.
    pub family: u8,
    /// Transport protocol.
    pub protocol: u8,
    /// Source port.
    pub source_port: Be16,
    /// Destination port.
    pub destination_port: Be16,
    /// Bytes of the whole IP packet; in an answer that it is too long, the MTU.
    pub length: u16,
    /// The interface that the packet came in on; in the answer, the one it leaves by.
    pub interface: u32,
    /// IPv4: the TOS in the first byte. IPv6: traffic class and flow label.
    pub flow_info: Be32,
    /// The source address, IPv4 in the first word.
    pub source: [Be32; 4],
    /// The destination address; in the answer the next hop's.
    pub destination: [Be32; 4],
    /// In the answer, the VLAN to send in.
    pub vlan: u32,
    /// In the answer, the MAC address of the interface (3 pieces), then that of the next hop (3 pieces). In the question the
    /// first two pieces are a firewall mark.
    pub macs: [u16; 6],
}

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

impl Lookup {
    /// The MAC addresses of the answer in the order of a frame.
    #[inline(always)]
    pub const fn macs(&self) -> Macs {
        let [s0, s1, s2, d0, d1, d2] = self.macs;
        Macs([joined(d0, d1), joined(d2, s0), joined(s1, s2)])
    }
}

/// Two pieces of a frame as one.
#[inline(always)]
const fn joined(first: u16, second: u16) -> u32 {
    let ([a, b], [c, d]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

/// What changes in the IP header of a packet that is forwarded: one hop less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The TTL or hop limit that the packet has.
    pub limit: u8,
    /// IPv4: the header checksum after the change, as it lies in the packet.
    pub check: [u8; 2],
    /// Bytes of the IP packet, by its own header.
    pub length: u16,
}

/// Offset of the TTL in an IPv4 header.
pub const TTL: usize = 8;
/// Offset of the checksum in an IPv4 header.
pub const CHECK: usize = 10;
/// Offset of the hop limit in an IPv6 header.
pub const HOP_LIMIT: usize = 7;

/// Fills in the question for the IP packet of a frame that begins at `start`, whose EtherType is `ether_type`, and that came in
/// on `interface`.
///
/// # Errors
///
/// Why it is left to the kernel without asking.
#[inline(always)]
pub fn ask<P: Packet>(
    packet: &P,
    ether_type: Be16,
    start: usize,
    interface: u32,
    lookup: &mut Lookup,
) -> Result<Hop, Reason> {
    lookup.interface = interface;
    lookup.vlan = 0;
    lookup.macs = [0; 6];
    if ether_type == ETHER_TYPE_IPV4 {
        ask_v4(packet, start, lookup)
    } else {
        ask_v6(packet, start, lookup)
    }
}

/// An IPv4 header without options as five words. As a structure of bytes it would go over the stack in pieces that the verifier
/// refuses.
type Ipv4Words = [Be32; 5];

#[inline(always)]
fn ask_v4<P: Packet>(packet: &P, start: usize, lookup: &mut Lookup) -> Result<Hop, Reason> {
    let [first, second, third, source, destination]: Ipv4Words = packet.load(start).ok_or(Reason::RouteOther)?;
    let [vihl, tos, ..] = first.to_bytes();
    let [limit, protocol, check @ ..] = third.to_bytes();
    let sum = [first, second, third, source, destination]
        .map(checksum::sum_word)
        .iter()
        .sum();
    // Options are the kernel's to act on, and a header whose checksum is wrong is its to discard (RFC 1812 section 5.2.2).
    let is_plain = vihl == 0x45 && checksum::is_valid(checksum::fold(sum));
    if !is_plain || is_never_forwarded(source) {
        return Err(Reason::RouteOther);
    }
    if is_never_forwarded(destination) {
        return Err(Reason::RouteLocal);
    }
    let length = first.get() as u16;
    let payload = start + size_of::<Ipv4Words>();
    let transport = Transport::of_v4(
        packet,
        protocol,
        second.get() as u16,
        payload,
        start + usize::from(length),
    );
    let none = Be32::new(0);
    lookup.family = AF_INET;
    lookup.length = length;
    lookup.flow_info = Be32::from_bytes([tos, 0, 0, 0]);
    lookup.source = [source, none, none, none];
    lookup.destination = [destination, none, none, none];
    lookup.set_transport(transport);
    Ok(Hop {
        limit,
        check: checksum::update(check, [limit, protocol], [limit.wrapping_sub(1), protocol]),
        length,
    })
}

#[inline(always)]
fn ask_v6<P: Packet>(packet: &P, start: usize, lookup: &mut Lookup) -> Result<Hop, Reason> {
    const FLOW_INFO: u32 = 0x0fff_ffff;
    const HOP_BY_HOP: u8 = IpProto::HopOpt as u8;

    let ip: Ipv6Hdr = packet.load(start).ok_or(Reason::RouteOther)?;
    let source = words(ip.src_addr);
    // Every router on the way may have to look at hop-by-hop options (RFC 8200 section 4.3).
    if ip.next_hdr == HOP_BY_HOP || is_never_forwarded_v6(&source) {
        return Err(Reason::RouteOther);
    }
    // No longer than the payload of an IP packet, or it would have been refused.
    let length = (Ipv6Hdr::LEN as u16).wrapping_add(u16::from_be_bytes(ip.payload_len));
    let transport = Transport::of_v6(packet, start, start + usize::from(length), &ip);
    lookup.family = AF_INET6;
    lookup.length = length;
    lookup.flow_info = Be32::new(u32::from_be_bytes(ip.vcf) & FLOW_INFO);
    lookup.source = source;
    lookup.destination = words(ip.dst_addr);
    lookup.set_transport(transport);
    Ok(Hop {
        limit: ip.hop_limit,
        check: [0; 2],
        length,
    })
}

impl Lookup {
    #[inline(always)]
    fn set_transport(&mut self, transport: Transport) {
        let [a, b, c, d] = transport.ports;
        self.protocol = transport.protocol;
        self.source_port = Be16::from_bytes([a, b]);
        self.destination_port = Be16::from_bytes([c, d]);
    }
}

/// Addresses that no router forwards from or to: "this network", loopback, multicast and reserved (RFC 1122 section 3.2.1.3,
/// RFC 1812 section 5.3.7). The kernel knows what to do with them.
#[inline(always)]
const fn is_never_forwarded(address: Be32) -> bool {
    let [first, ..] = address.to_bytes();
    first == 0 || first == 127 || first >= 224
}

/// Sources that no router forwards: multicast, unspecified, loopback (RFC 4291 section 2). Link-local ones the look-up refuses,
/// and all such destinations.
#[inline(always)]
const fn is_never_forwarded_v6(address: &[Be32; 4]) -> bool {
    let [a, b, c, _] = *address;
    a.to_bytes()[0] == 0xff || (a.get() | b.get() | c.get()) == 0
}

/// What the kernel's answer (the return value of `bpf_fib_lookup`) means for a packet.
///
/// # Errors
///
/// Why it is not redirected: by the reason's action it is dropped, or left to the kernel.
#[inline(always)]
pub const fn judge(answer: i64, hop: Hop) -> Result<(), Reason> {
    // BPF_FIB_LKUP_RET_* of linux/bpf.h.
    const SUCCESS: i64 = 0;
    const BLACKHOLE: i64 = 1;
    const PROHIBIT: i64 = 3;
    const NOT_FORWARDED: i64 = 4;
    const NO_NEIGHBOUR: i64 = 7;
    const FRAGMENTATION_NEEDED: i64 = 8;

    match answer {
        // There is a way, but not for a packet at the end of its life: `ip_forward` looks at that first.
        SUCCESS | NO_NEIGHBOUR | FRAGMENTATION_NEEDED if hop.limit <= 1 => Err(Reason::RouteTtl),
        SUCCESS => Ok(()),
        BLACKHOLE..=PROHIBIT => Err(Reason::RouteDenied),
        NOT_FORWARDED => Err(Reason::RouteLocal),
        NO_NEIGHBOUR => Err(Reason::RouteNoNeighbour),
        FRAGMENTATION_NEEDED => Err(Reason::RouteTooBig),
        // Forwarding is disabled, a lightweight tunnel, and what older or newer kernels say.
        _ => Err(Reason::RouteOther),
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    /// `struct bpf_fib_lookup` of linux/bpf.h, field by field. The helper refuses fewer than its 64 bytes.
    #[test]
    fn the_question_is_laid_out_as_the_kernel_reads_it() {
        assert_eq!((size_of::<Lookup>(), align_of::<Lookup>()), (64, 4));
        for (field, offset) in [
            (offset_of!(Lookup, family), 0),           // __u8 family
            (offset_of!(Lookup, protocol), 1),         // __u8 l4_protocol
            (offset_of!(Lookup, source_port), 2),      // __be16 sport
            (offset_of!(Lookup, destination_port), 4), // __be16 dport
            (offset_of!(Lookup, length), 6),           // __u16 tot_len, or mtu_result
            (offset_of!(Lookup, interface), 8),        // __u32 ifindex
            (offset_of!(Lookup, flow_info), 12),       // __u8 tos, __be32 flowinfo, or __u32 rt_metric
            (offset_of!(Lookup, source), 16),          // __be32 ipv4_src, or __u32 ipv6_src[4]
            (offset_of!(Lookup, destination), 32),     // __be32 ipv4_dst, or __u32 ipv6_dst[4]
            (offset_of!(Lookup, vlan), 48),            // __be16 h_vlan_proto and h_vlan_TCI, or __u32 tbid
            (offset_of!(Lookup, macs), 52),            // __u8 smac[6] and dmac[6], or __u32 mark
        ] {
            assert_eq!(field, offset);
        }
    }

    #[test]
    fn the_answers_addresses_are_turned_round() {
        let none = Be32::new(0);
        let lookup = Lookup {
            family: AF_INET,
            protocol: 0,
            source_port: Be16::new(0),
            destination_port: Be16::new(0),
            length: 0,
            interface: 0,
            flow_info: none,
            source: [none; 4],
            destination: [none; 4],
            vlan: 0,
            macs: [1, 2, 3, 4, 5, 6],
        };
        let bytes = |pieces: [u16; 3]| {
            let [[a, b], [c, d], [e, f]] = pieces.map(u16::to_ne_bytes);
            [a, b, c, d, e, f]
        };
        assert_eq!(lookup.macs(), Macs::new(bytes([4, 5, 6]), bytes([1, 2, 3])));
    }

    /// What the kernel's answers mean, by their names in linux/bpf.h; errors of the helper are negative.
    #[test]
    fn every_answer_is_judged_whatever_the_ttl() {
        use Reason::*;
        const EINVAL: i64 = -22;
        const ENODEV: i64 = -19;
        const EAFNOSUPPORT: i64 = -97;

        for limit in 0..=u8::MAX {
            let dies = limit <= 1;
            let unless_dies = |judged| if dies { Err(RouteTtl) } else { judged };
            let wanted = [
                (0, unless_dies(Ok(()))),                // SUCCESS
                (1, Err(RouteDenied)),                   // BLACKHOLE
                (2, Err(RouteDenied)),                   // UNREACHABLE
                (3, Err(RouteDenied)),                   // PROHIBIT
                (4, Err(RouteLocal)),                    // NOT_FWDED
                (5, Err(RouteOther)),                    // FWD_DISABLED
                (6, Err(RouteOther)),                    // UNSUPP_LWT
                (7, unless_dies(Err(RouteNoNeighbour))), // NO_NEIGH
                (8, unless_dies(Err(RouteTooBig))),      // FRAG_NEEDED
                (9, Err(RouteOther)),                    // NO_SRC_ADDR
                (10, Err(RouteOther)),                   // what comes later
                (u32::MAX.into(), Err(RouteOther)),
                (i64::MAX, Err(RouteOther)),
                (EINVAL, Err(RouteOther)),
                (ENODEV, Err(RouteOther)),
                (EAFNOSUPPORT, Err(RouteOther)),
                (i64::MIN, Err(RouteOther)),
            ];
            for (answer, judged) in wanted {
                let hop = Hop {
                    limit,
                    check: [0xab, 0xcd],
                    length: 1500,
                };
                assert_eq!(judge(answer, hop), judged, "answer {answer}, TTL {limit}");
            }
        }
    }
}
