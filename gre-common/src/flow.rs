//! The flow that an inner packet belongs to, as a hash: what spreads a tunnel over cores.
//!
//! The same flow always has the same hash. It is keyed, so that nobody outside can choose flows that all fall to one core; the
//! kernel's own flow hash (`flow_hash_from_keys`) is keyed by the same function for the same reason.

use network_types::{
    eth::EthHdr,
    ip::{Ipv4Hdr, Ipv6Hdr},
};

use crate::{
    Packet,
    endian::Be16,
    link::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, ETHER_TYPE_TEB, Link},
    siphash::{Key, SipHash13},
    transport::Transport,
};

/// The hash of the flow of the payload from `start` to `end`, whose GRE protocol type is `protocol`: by addresses, transport
/// protocol and ports of IP, also within Ethernet; else by MAC addresses, or by the first MPLS label.
#[inline(always)]
pub fn hash<P: Packet>(packet: &P, protocol: Be16, start: usize, end: usize, key: Key) -> u32 {
    match protocol {
        ETHER_TYPE_IPV4 => v4(packet, start, end, key),
        ETHER_TYPE_IPV6 => v6(packet, start, end, key),
        ETHER_TYPE_TEB => ethernet(packet, start, end, key),
        _ => mpls(packet, start, key),
    }
    .unwrap_or(0)
}

#[inline(always)]
fn v4<P: Packet>(packet: &P, start: usize, end: usize, key: Key) -> Option<u32> {
    let ip: Ipv4Hdr = packet.load(start)?;
    let payload = start + usize::from(ip.vihl & 0xf) * 4;
    let transport = Transport::of_v4(packet, ip.proto, u16::from_be_bytes(ip.frags), payload, end);
    let hash = SipHash13::new(key)
        .write(join(ip.src_addr, ip.dst_addr))
        .write(pack(transport));
    Some(fold(hash.finish(2)))
}

#[inline(always)]
fn v6<P: Packet>(packet: &P, start: usize, end: usize, key: Key) -> Option<u32> {
    let ip: Ipv6Hdr = packet.load(start)?;
    let transport = Transport::of_v6(packet, start, end, &ip);
    let [s0, s1] = halves(ip.src_addr);
    let [d0, d1] = halves(ip.dst_addr);
    let hash = SipHash13::new(key).write(s0).write(s1).write(d0).write(d1);
    Some(fold(hash.write(pack(transport)).finish(5)))
}

#[inline(always)]
fn ethernet<P: Packet>(packet: &P, start: usize, end: usize, key: Key) -> Option<u32> {
    let link = Link::parse_at(packet, start)?;
    match link.ether_type {
        ETHER_TYPE_IPV4 => v4(packet, start + link.len(), end, key),
        ETHER_TYPE_IPV6 => v6(packet, start + link.len(), end, key),
        _ => None,
    }
    .or_else(|| {
        let header: EthHdr = packet.load(start)?;
        let mac = |[a, b, c, d, e, f]: [u8; 6]| u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]);
        let hash = SipHash13::new(key)
            .write(mac(header.src_addr))
            .write(mac(header.dst_addr));
        Some(fold(hash.finish(2)))
    })
}

/// A label stack entry begins with 20 bits of label; what follows, the TTL for one, may differ within a flow (RFC 3032 section
/// 2.1).
#[inline(always)]
fn mpls<P: Packet>(packet: &P, start: usize, key: Key) -> Option<u32> {
    let [a, b, c, _]: [u8; 4] = packet.load(start)?;
    let label = u64::from_ne_bytes([a, b, c & 0xf0, 0, 0, 0, 0, 0]);
    Some(fold(SipHash13::new(key).write(label).finish(1)))
}

#[inline(always)]
fn join([a, b, c, d]: [u8; 4], [e, f, g, h]: [u8; 4]) -> u64 {
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

#[inline(always)]
fn halves(address: [u8; 16]) -> [u64; 2] {
    let words = crate::outer::words(address).map(|word| word.to_bytes());
    [join(words[0], words[1]), join(words[2], words[3])]
}

#[inline(always)]
fn pack(transport: Transport) -> u64 {
    join(transport.ports, [transport.protocol, 0, 0, 0])
}

#[inline(always)]
fn fold(hash: u64) -> u32 {
    (hash >> 32) as u32 ^ hash as u32
}
