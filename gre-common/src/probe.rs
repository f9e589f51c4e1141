//! Health probes by replies: echo replies that a scrubbing centre sends through the tunnel to itself. That they come back tells it
//! that the tunnel and this host's way to it work; nobody here has asked, so nobody here is to take them.

use network_types::{
    icmp::{Icmpv4Hdr, Icmpv6Hdr},
    ip::{IpProto, Ipv4Hdr, Ipv6Hdr},
};

use crate::{Packet, endian::Be16};

/// RFC 792: type of an echo reply.
const ECHO_REPLY: u8 = 0;
/// RFC 4443 section 4.2.
const ECHO_REPLY_V6: u8 = 129;
/// The flag MF and the fragment offset of IPv4.
const MORE_FRAGMENTS_OR_OFFSET: u16 = 0x3fff;

/// Whether the inspected IPv4 packet at `start` is an echo reply. A fragment is none, for only the first would be known. `None`: it
/// does not lie in the first buffer.
#[inline(always)]
pub(crate) fn reply_v4<P: Packet>(packet: &P, start: usize, ip: &Ipv4Hdr) -> Option<bool> {
    let header_len = usize::from(ip.vihl & 0xf) * 4;
    let total_len = usize::from(u16::from_be_bytes(ip.tot_len));
    let is_whole = Be16::from_bytes(ip.frags).get() & MORE_FRAGMENTS_OR_OFFSET == 0;
    if ip.proto != IpProto::Icmp as u8 || !is_whole || total_len < header_len + Icmpv4Hdr::LEN {
        return Some(false);
    }
    let kind = kind(packet.load_far(start + header_len)?);
    Some(kind == ECHO_REPLY)
}

/// The same of IPv6; ICMPv6 behind extension headers is not looked for.
#[inline(always)]
pub(crate) fn reply_v6<P: Packet>(packet: &P, start: usize, ip: &Ipv6Hdr) -> Option<bool> {
    let payload_len = usize::from(u16::from_be_bytes(ip.payload_len));
    if ip.next_hdr != IpProto::Ipv6Icmp as u8 || payload_len < Icmpv6Hdr::LEN {
        return Some(false);
    }
    let kind = kind(packet.load_far(start + Ipv6Hdr::LEN)?);
    Some(kind == ECHO_REPLY_V6)
}

/// The type, of it and the code. A byte alone, at the very end of what was compared, the verifier does not let through.
#[inline(always)]
fn kind(type_and_code: Be16) -> u8 {
    type_and_code.to_bytes()[0]
}
