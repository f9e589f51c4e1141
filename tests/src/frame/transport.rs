//! What an inner packet carries: UDP (RFC 768), TCP (RFC 9293), ICMP echo (RFC 792, RFC 4443).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, internet_checksum};

/// Source and destination of a segment, which its checksum covers.
#[derive(Clone, Copy, Debug)]
pub enum Addresses {
    /// Between two IPv4 addresses: source, destination.
    V4(Ipv4Addr, Ipv4Addr),
    /// Between two IPv6 addresses: source, destination.
    V6(Ipv6Addr, Ipv6Addr),
}

impl Addresses {
    /// The checksum of `segment` with the pseudo-header (RFC 9293 section 3.1, RFC 8200 section 8.1).
    pub(super) fn checksum(self, protocol: u8, segment: &[u8]) -> u16 {
        let length = u32::try_from(segment.len()).expect("a segment is shorter than 4 GiB");
        let (source, destination): (IpAddr, IpAddr) = match self {
            Self::V4(source, destination) => (source.into(), destination.into()),
            Self::V6(source, destination) => (source.into(), destination.into()),
        };
        let mut covered = Vec::new();
        for address in [source, destination] {
            match address {
                IpAddr::V4(address) => covered.extend_from_slice(&address.octets()),
                IpAddr::V6(address) => covered.extend_from_slice(&address.octets()),
            }
        }
        // IPv4's pseudo-header has 8 bits of protocol and 16 of length, IPv6's 32 of each in the other order:
        // the same words but for zeros, and so the same sum.
        covered.extend_from_slice(&length.to_be_bytes());
        covered.extend_from_slice(&[0, 0, 0, protocol]);
        covered.extend_from_slice(segment);
        internet_checksum(&covered)
    }
}

/// A UDP header and `payload`, between ports 40000 and 443.
///
/// # Panics
/// If the payload is too long for a UDP length.
pub fn udp_datagram(addresses: Addresses, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).expect("a UDP datagram holds at most 65,535 bytes");
    let mut datagram = [40_000_u16, 443, length, 0].map(u16::to_be_bytes).concat();
    datagram.extend_from_slice(payload);
    // A computed zero is sent as all ones, zero meaning "no checksum" (RFC 768).
    let checksum = match addresses.checksum(PROTOCOL_UDP, &datagram) {
        0 => 0xffff,
        checksum => checksum,
    };
    datagram[6..8].copy_from_slice(&checksum.to_be_bytes());
    datagram
}

/// A TCP header (ACK, PSH; no options) and `payload`, between ports 40000 and 443.
pub fn tcp_segment(addresses: Addresses, payload: &[u8]) -> Vec<u8> {
    let mut segment = [40_000_u16, 443].map(u16::to_be_bytes).concat();
    segment.extend_from_slice(&0x1001_u32.to_be_bytes());
    segment.extend_from_slice(&0x2002_u32.to_be_bytes());
    segment.extend_from_slice(&[5 << 4, 0b0001_1000, 0xfa, 0xf0, 0, 0, 0, 0]);
    segment.extend_from_slice(payload);
    let checksum = addresses.checksum(PROTOCOL_TCP, &segment);
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    segment
}

/// An echo request of ICMP or ICMPv6, as the addresses demand, with `payload`.
pub fn echo_request(addresses: Addresses, payload: &[u8]) -> Vec<u8> {
    let kind = match addresses {
        Addresses::V4(..) => 8,
        Addresses::V6(..) => 128,
    };
    echo(kind, addresses, payload)
}

/// An echo reply, as [`echo_request`].
pub fn echo_reply(addresses: Addresses, payload: &[u8]) -> Vec<u8> {
    let kind = match addresses {
        Addresses::V4(..) => 0,
        Addresses::V6(..) => 129,
    };
    echo(kind, addresses, payload)
}

fn echo(kind: u8, addresses: Addresses, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, 0x12, 0x34, 0, 1];
    message.extend_from_slice(payload);
    let checksum = match addresses {
        Addresses::V4(..) => internet_checksum(&message),
        Addresses::V6(..) => addresses.checksum(PROTOCOL_ICMPV6, &message),
    };
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

#[cfg(test)]
mod tests {
    use etherparse::{Icmpv4Slice, Icmpv6Slice, TcpSlice, UdpSlice};

    use super::*;

    const V4: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 2));
    const V6: (Ipv6Addr, Ipv6Addr) = (
        Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 3, 4, 5, 6),
        Ipv6Addr::new(0x2001, 0xdb8, 7, 8, 9, 10, 11, 12),
    );

    /// A second opinion on every checksum, for even and odd lengths.
    #[test]
    fn checksums_agree_with_etherparse() {
        for length in 0..9_u8 {
            let payload: Vec<u8> = (0..length).map(|byte| 0xf0 | byte).collect();
            for addresses in [Addresses::V4(V4.0, V4.1), Addresses::V6(V6.0, V6.1)] {
                let datagram = udp_datagram(addresses, &payload);
                let udp = UdpSlice::from_slice(&datagram).unwrap();
                assert_eq!(udp.payload(), payload);
                let segment = tcp_segment(addresses, &payload);
                let tcp = TcpSlice::from_slice(&segment).unwrap();
                assert_eq!(tcp.payload(), payload);
                let (udp_checksum, tcp_checksum) = match addresses {
                    Addresses::V4(source, destination) => (
                        udp.to_header()
                            .calc_checksum_ipv4_raw(source.octets(), destination.octets(), &payload),
                        tcp.calc_checksum_ipv4(source.octets(), destination.octets()),
                    ),
                    Addresses::V6(source, destination) => (
                        udp.to_header()
                            .calc_checksum_ipv6_raw(source.octets(), destination.octets(), &payload),
                        tcp.calc_checksum_ipv6(source.octets(), destination.octets()),
                    ),
                };
                assert_eq!(udp.checksum(), udp_checksum.unwrap());
                assert_eq!(tcp.checksum(), tcp_checksum.unwrap());
            }
            let echo = echo_request(Addresses::V4(V4.0, V4.1), &payload);
            let icmp = Icmpv4Slice::from_slice(&echo).unwrap();
            assert_eq!(icmp.checksum(), icmp.icmp_type().calc_checksum(&payload));
            let echo = echo_request(Addresses::V6(V6.0, V6.1), &payload);
            let icmp = Icmpv6Slice::from_slice(&echo).unwrap();
            assert!(icmp.is_checksum_valid(V6.0.octets(), V6.1.octets()));
        }
    }
}
