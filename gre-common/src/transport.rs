//! What tells the flows between two addresses apart: the transport protocol and its ports.

use network_types::ip::{IpProto, Ipv6Hdr};

use crate::{
    Packet,
    extension::{Extension, ExtensionHdr},
};

/// The transport of an inner packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// The protocol's number; of a fragment, that of what was fragmented.
    pub protocol: u8,
    /// Source and destination port as they lie in the packet; zeros without ports, and for every fragment, since only the first
    /// one has them.
    pub ports: [u8; 4],
}

/// Extension headers that are looked behind. Packets with more are told apart by their addresses alone.
const WALKED: u32 = 4;

impl Transport {
    /// Of an IPv4 packet that ends at `end`: its protocol field, its flags and fragment offset, and where its payload begins.
    #[inline(always)]
    pub fn of_v4<P: Packet>(packet: &P, protocol: u8, fragment: u16, payload: usize, end: usize) -> Self {
        const MORE_FRAGMENTS_AND_OFFSET: u16 = 0x3fff;
        if fragment & MORE_FRAGMENTS_AND_OFFSET != 0 {
            return Self::without_ports(protocol);
        }
        Self::at(packet, protocol, payload, end)
    }

    /// Of an IPv6 packet that begins at `start` with this header and ends at `end`: what is behind the extension headers.
    #[inline(always)]
    pub fn of_v6<P: Packet>(packet: &P, start: usize, end: usize, ip: &Ipv6Hdr) -> Self {
        let mut protocol = ip.next_hdr;
        let mut offset = start + Ipv6Hdr::LEN;
        // Once more than headers are walked, to look behind the last.
        for _ in 0..=WALKED {
            let unit = match Extension::of(protocol) {
                None => return Self::at(packet, protocol, offset, end),
                Some(Extension::Authentication) => 4,
                Some(Extension::Options | Extension::Opaque | Extension::Fragment) => 8,
            };
            let Some(header) = packet.load_far::<ExtensionHdr>(offset) else {
                break;
            };
            if let Some(Extension::Fragment) = Extension::of(protocol) {
                return Self::without_ports(header.next);
            }
            offset += 8 + usize::from(header.len) * unit;
            protocol = header.next;
        }
        Self::without_ports(IpProto::Ipv6NoNxt as u8)
    }

    #[inline(always)]
    fn at<P: Packet>(packet: &P, protocol: u8, offset: usize, end: usize) -> Self {
        if !has_ports(protocol) || offset + size_of::<[u8; 4]>() > end {
            return Self::without_ports(protocol);
        }
        let ports = packet.load_far(offset).unwrap_or_default();
        Self { protocol, ports }
    }

    const fn without_ports(protocol: u8) -> Self {
        Self {
            protocol,
            ports: [0; 4],
        }
    }
}

/// Whether a protocol's header begins with two ports.
#[inline(always)]
fn has_ports(protocol: u8) -> bool {
    const TCP: u8 = IpProto::Tcp as u8;
    const UDP: u8 = IpProto::Udp as u8;
    const DCCP: u8 = IpProto::Dccp as u8;
    const SCTP: u8 = IpProto::Sctp as u8;
    const UDP_LITE: u8 = IpProto::UdpLite as u8;
    matches!(protocol, TCP | UDP | DCCP | SCTP | UDP_LITE)
}
