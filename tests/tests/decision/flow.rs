//! Which packets are of one flow, and so meet the same core.

mod bounds;
mod frames;
mod headers;

use std::net::{Ipv4Addr, Ipv6Addr};

use gre_common::endian::Be16;
use gre_common::flow;
use gre_tests::frame::{
    ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_MPLS, ETHERTYPE_TEB, Extension, Ipv4, Ipv6, Link,
    PROTOCOL_TCP, PROTOCOL_UDP,
};

use crate::support::bytes::Bytes;

const KEY: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

/// Protocols whose headers begin with two ports: TCP, UDP, DCCP, SCTP, UDP-Lite.
const WITH_PORTS: [u8; 5] = [PROTOCOL_TCP, PROTOCOL_UDP, 33, 132, 136];

/// The hash of a payload that is all there is.
fn hash(protocol: u16, payload: &[u8]) -> u32 {
    hash_within(protocol, payload, 0, payload.len())
}

/// The hash of the payload from `start` to `end` of a frame.
fn hash_within(protocol: u16, frame: &[u8], start: usize, end: usize) -> u32 {
    flow::hash(&Bytes::whole(frame), Be16::new(protocol), start, end, KEY)
}

/// Two ports and what follows them.
fn segment(source: u16, destination: u16, rest: &[u8]) -> Vec<u8> {
    [&source.to_be_bytes()[..], &destination.to_be_bytes(), rest].concat()
}

/// What tells flows apart.
#[derive(Clone, Copy, Debug)]
struct Flow<A> {
    source: A,
    destination: A,
    protocol: u8,
    ports: (u16, u16),
}

impl Flow<Ipv4Addr> {
    const V4: Self = Self {
        source: Ipv4Addr::new(198, 18, 5, 7),
        destination: Ipv4Addr::new(192, 0, 2, 80),
        protocol: PROTOCOL_TCP,
        ports: (40_000, 443),
    };

    fn header(&self) -> Ipv4 {
        Ipv4 {
            source: self.source,
            destination: self.destination,
            protocol: self.protocol,
            ..Ipv4::default()
        }
    }

    fn packet(&self) -> Vec<u8> {
        self.header().packet(&self.segment())
    }
}

impl Flow<Ipv6Addr> {
    const V6: Self = Self {
        source: Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, 7),
        destination: Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x80),
        protocol: PROTOCOL_UDP,
        ports: (40_000, 443),
    };

    fn header(&self) -> Ipv6 {
        Ipv6 {
            source: self.source,
            destination: self.destination,
            next_header: self.protocol,
            ..Ipv6::default()
        }
    }

    fn packet(&self) -> Vec<u8> {
        self.header().packet(&self.segment())
    }

    /// The same behind extension headers.
    fn behind(&self, extensions: Vec<Extension>) -> Vec<u8> {
        let header = Ipv6 {
            extensions,
            ..self.header()
        };
        header.packet(&self.segment())
    }
}

impl<A> Flow<A> {
    fn segment(&self) -> Vec<u8> {
        segment(self.ports.0, self.ports.1, b"sixteen bytes...")
    }
}

/// Both with another port in one bit each.
fn other_ports((source, destination): (u16, u16)) -> impl Iterator<Item = (u16, u16)> {
    (0..16).flat_map(move |bit| [(source ^ 1 << bit, destination), (source, destination ^ 1 << bit)])
}

fn v4(bits: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(bits)
}

fn v6(bits: u128) -> Ipv6Addr {
    Ipv6Addr::from_bits(bits)
}

#[test]
fn every_bit_of_an_ipv4_flow_matters() {
    let flow = Flow::V4;
    let one = hash(ETHERTYPE_IPV4, &flow.packet());
    let differs = |other: Flow<Ipv4Addr>| assert_ne!(hash(ETHERTYPE_IPV4, &other.packet()), one, "{other:?}");
    for bit in 0..32 {
        let flip = |address: Ipv4Addr| v4(address.to_bits() ^ 1 << bit);
        differs(Flow {
            source: flip(flow.source),
            ..flow
        });
        differs(Flow {
            destination: flip(flow.destination),
            ..flow
        });
    }
    for ports in other_ports(flow.ports) {
        differs(Flow { ports, ..flow });
    }
    for protocol in (0..=u8::MAX).filter(|protocol| *protocol != flow.protocol) {
        differs(Flow { protocol, ..flow });
    }
}

#[test]
fn every_bit_of_an_ipv6_flow_matters() {
    let flow = Flow::V6;
    let one = hash(ETHERTYPE_IPV6, &flow.packet());
    let differs = |other: Flow<Ipv6Addr>| assert_ne!(hash(ETHERTYPE_IPV6, &other.packet()), one, "{other:?}");
    for bit in 0..128 {
        let flip = |address: Ipv6Addr| v6(address.to_bits() ^ 1 << bit);
        differs(Flow {
            source: flip(flow.source),
            ..flow
        });
        differs(Flow {
            destination: flip(flow.destination),
            ..flow
        });
    }
    for ports in other_ports(flow.ports) {
        differs(Flow { ports, ..flow });
    }
    for protocol in (0..=u8::MAX).filter(|protocol| *protocol != flow.protocol) {
        differs(Flow { protocol, ..flow });
    }
}

/// Nobody who does not know the key can tell which flows fall together.
#[test]
fn the_key_matters() {
    let packets = [
        (ETHERTYPE_IPV4, Flow::V4.packet()),
        (ETHERTYPE_IPV6, Flow::V6.packet()),
        (ETHERTYPE_TEB, Link::default().frame(ETHERTYPE_ARP, &[0; 28])),
        (ETHERTYPE_MPLS, vec![0x12, 0x34, 0x51, 64]),
    ];
    for (protocol, packet) in packets {
        for bit in 0..64 {
            for key in [[KEY[0] ^ 1 << bit, KEY[1]], [KEY[0], KEY[1] ^ 1 << bit]] {
                let other = flow::hash(&Bytes::whole(&packet), Be16::new(protocol), 0, packet.len(), key);
                assert_ne!(other, hash(protocol, &packet), "{protocol:#06x}, {key:x?}");
            }
        }
    }
}

#[test]
fn only_some_protocols_have_ports() {
    for protocol in 0..=u8::MAX {
        let has_ports = WITH_PORTS.contains(&protocol);
        let ports = |ports| {
            let (v4, v6) = (
                Flow {
                    protocol,
                    ports,
                    ..Flow::V4
                },
                Flow {
                    protocol,
                    ports,
                    ..Flow::V6
                },
            );
            (hash(ETHERTYPE_IPV4, &v4.packet()), hash(ETHERTYPE_IPV6, &v6.packet()))
        };
        let ((v4, v6), (other_v4, other_v6)) = (ports((1, 2)), ports((3, 4)));
        assert_eq!(v4 != other_v4, has_ports, "IPv4, protocol {protocol}");
        // Of extension headers the first bytes say what follows.
        if ![0, 43, 44, 51, 60, 135].contains(&protocol) {
            assert_eq!(v6 != other_v6, has_ports, "IPv6, protocol {protocol}");
        }
    }
}
