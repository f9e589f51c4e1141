//! Which packets are of one flow, and so meet the same core.

use std::net::{Ipv4Addr, Ipv6Addr};

use gre_common::endian::Be16;
use gre_common::flow;
use gre_common::tunnel::Cores;
use gre_tests::frame::{
    ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_MPLS, ETHERTYPE_MPLS_MULTICAST, ETHERTYPE_TEB, Extension,
    Ipv4, Ipv6, Link, PROTOCOL_ESP, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP, TPID_8021AD, TPID_8021Q,
};
use proptest::prelude::*;

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

/// A fragment that is not the first has no ports, and must meet the core of the one that has.
#[test]
fn ipv4_fragments_are_told_apart_by_addresses_and_protocol() {
    let of = |flow: Flow<Ipv4Addr>, offset, more| {
        let header = flow.header().fragment(offset, more);
        hash(ETHERTYPE_IPV4, &header.packet(&flow.segment()))
    };
    let flow = Flow::V4;
    let first = of(flow, 0, true);
    for (offset, more) in [(1, true), (1, false), (185, true), (0x1fff, false), (0x1000, false)] {
        for ports in [(1, 2), (3, 4)] {
            assert_eq!(
                of(Flow { ports, ..flow }, offset, more),
                first,
                "offset {offset}, more {more}"
            );
        }
    }
    for ports in other_ports(flow.ports) {
        assert_eq!(of(Flow { ports, ..flow }, 0, true), first, "the first fragment's ports");
    }
    assert_ne!(
        of(
            Flow {
                protocol: PROTOCOL_UDP,
                ..flow
            },
            0,
            true
        ),
        first
    );
    assert_ne!(
        of(
            Flow {
                source: Ipv4Addr::new(198, 18, 5, 8),
                ..flow
            },
            0,
            true
        ),
        first
    );
    assert_ne!(
        of(
            Flow {
                destination: Ipv4Addr::new(192, 0, 2, 81),
                ..flow
            },
            1,
            false
        ),
        first
    );

    // What may not be fragmented is no fragment, nor is what has the reserved flag.
    for (dont_fragment, reserved_flag) in [(true, false), (false, true), (true, true)] {
        let header = Ipv4 {
            dont_fragment,
            reserved_flag,
            ..flow.header()
        };
        let packet = header.packet(&flow.segment());
        assert_eq!(hash(ETHERTYPE_IPV4, &packet), hash(ETHERTYPE_IPV4, &flow.packet()));
    }
}

#[test]
fn ipv6_fragments_are_told_apart_by_addresses_and_protocol() {
    let flow = Flow::V6;
    let of = |flow: Flow<Ipv6Addr>, before: &[Extension], offset, more, id| {
        let extensions = [before, &[Extension::fragment(offset, more, id)]].concat();
        hash(ETHERTYPE_IPV6, &flow.behind(extensions))
    };
    let first = of(flow, &[], 0, true, 1);
    for (offset, more) in [(1, true), (1, false), (185, true), (0x1fff, false)] {
        for ports in [(1, 2), (3, 4)] {
            let later = Flow { ports, ..flow };
            assert_eq!(of(later, &[], offset, more, 1), first, "offset {offset}, more {more}");
            assert_eq!(of(later, &[], offset, more, 2), first, "another packet's");
            let behind = of(later, &[Extension::destination_options()], offset, more, 1);
            assert_eq!(behind, first, "behind options");
        }
    }
    for ports in other_ports(flow.ports) {
        assert_eq!(
            of(Flow { ports, ..flow }, &[], 0, true, 1),
            first,
            "the first fragment's ports"
        );
    }
    assert_ne!(
        of(
            Flow {
                protocol: PROTOCOL_TCP,
                ..flow
            },
            &[],
            0,
            true,
            1
        ),
        first
    );
    let other = "2001:db8:5::8".parse().unwrap();
    assert_ne!(of(Flow { source: other, ..flow }, &[], 1, false, 1), first);
    assert_ne!(
        of(
            Flow {
                destination: other,
                ..flow
            },
            &[],
            1,
            false,
            1
        ),
        first
    );
}

#[test]
fn extension_headers_are_seen_through() {
    let (flow, other) = (
        Flow::V6,
        Flow {
            ports: (40_000, 444),
            ..Flow::V6
        },
    );
    let plain = hash(ETHERTYPE_IPV6, &flow.packet());
    let long = Extension::options(Extension::DESTINATION_OPTIONS, &[], 264);
    for extensions in [
        vec![Extension::hop_by_hop()],
        vec![Extension::destination_options()],
        vec![Extension::routing()],
        vec![Extension::authentication()],
        vec![Extension::mobility()],
        vec![long],
        vec![Extension::hop_by_hop(), Extension::routing()],
        vec![
            Extension::hop_by_hop(),
            Extension::destination_options(),
            Extension::authentication(),
        ],
        // All that are looked behind.
        vec![
            Extension::hop_by_hop(),
            Extension::destination_options(),
            Extension::routing(),
            Extension::authentication(),
        ],
    ] {
        let of = |flow: Flow<Ipv6Addr>| hash(ETHERTYPE_IPV6, &flow.behind(extensions.clone()));
        assert_eq!(of(flow), plain, "{extensions:?}");
        assert_ne!(of(other), plain, "{extensions:?}");
    }
}

#[test]
fn behind_too_many_extension_headers_only_addresses_count() {
    let of = |flow: Flow<Ipv6Addr>| hash(ETHERTYPE_IPV6, &flow.behind(vec![Extension::destination_options(); 5]));
    let one = of(Flow::V6);
    assert_eq!(
        of(Flow {
            ports: (1, 2),
            ..Flow::V6
        }),
        one
    );
    assert_eq!(
        of(Flow {
            protocol: PROTOCOL_TCP,
            ..Flow::V6
        }),
        one
    );
    let source = "2001:db8:5::8".parse().unwrap();
    assert_ne!(of(Flow { source, ..Flow::V6 }), one);
}

#[test]
fn nothing_is_read_behind_encryption() {
    let of = |ports| {
        let flow = Flow {
            protocol: PROTOCOL_ESP,
            ports,
            ..Flow::V6
        };
        hash(ETHERTYPE_IPV6, &flow.behind(vec![Extension::hop_by_hop()]))
    };
    assert_eq!(of((1, 2)), of((3, 4)));
}

#[test]
fn ipv4_options_are_seen_through() {
    let header = Ipv4 {
        options: vec![1; 11],
        ..Flow::V4.header()
    };
    let packet = header.packet(&Flow::V4.segment());
    assert_eq!(hash(ETHERTYPE_IPV4, &packet), hash(ETHERTYPE_IPV4, &Flow::V4.packet()));
}

/// An inner frame's IP packet has the same hash as without the frame; the frame's own addresses, and tags, do not matter.
#[test]
fn inner_frames_are_told_apart_by_their_packets() {
    let links = [
        Link::default(),
        Link {
            destination: [2, 0, 0, 0, 9, 9],
            ..Link::default()
        },
        Link::default().tagged(TPID_8021Q, 100),
        Link::default().tagged(TPID_8021AD, 200).tagged(TPID_8021Q, 100),
    ];
    for link in links {
        let v4 = link.frame(ETHERTYPE_IPV4, &Flow::V4.packet());
        assert_eq!(
            hash(ETHERTYPE_TEB, &v4),
            hash(ETHERTYPE_IPV4, &Flow::V4.packet()),
            "{link:?}"
        );
        let v6 = link.frame(ETHERTYPE_IPV6, &Flow::V6.packet());
        assert_eq!(
            hash(ETHERTYPE_TEB, &v6),
            hash(ETHERTYPE_IPV6, &Flow::V6.packet()),
            "{link:?}"
        );
    }
}

#[test]
fn inner_frames_of_others_are_told_apart_by_mac_addresses() {
    let link = Link::default();
    let arp = |link: &Link, payload: &[u8]| hash(ETHERTYPE_TEB, &link.frame(ETHERTYPE_ARP, payload));
    let one = arp(&link, &[0; 28]);
    assert_eq!(arp(&link, &[7; 60]), one);
    for byte in 0..6 {
        for bit in 0..8 {
            let flip = |mut mac: [u8; 6]| {
                mac[byte] ^= 1 << bit;
                mac
            };
            let (to, from) = (flip(link.destination), flip(link.source));
            assert_ne!(
                arp(
                    &Link {
                        destination: to,
                        ..link.clone()
                    },
                    &[0; 28]
                ),
                one
            );
            assert_ne!(
                arp(
                    &Link {
                        source: from,
                        ..link.clone()
                    },
                    &[0; 28]
                ),
                one
            );
        }
    }
    // More tags than are looked through, and an IP packet that is cut off.
    let tagged = link
        .clone()
        .tagged(TPID_8021AD, 1)
        .tagged(TPID_8021Q, 2)
        .tagged(TPID_8021Q, 3);
    assert_eq!(
        hash(ETHERTYPE_TEB, &tagged.frame(ETHERTYPE_IPV4, &Flow::V4.packet())),
        one
    );
    assert_eq!(
        hash(ETHERTYPE_TEB, &link.frame(ETHERTYPE_IPV4, &Flow::V4.packet()[..19])),
        one
    );
    assert_eq!(
        hash(ETHERTYPE_TEB, &link.frame(ETHERTYPE_IPV6, &Flow::V6.packet()[..39])),
        one
    );
}

/// RFC 3032 section 2.1: 20 bits of label, 3 of traffic class, the bottom of stack, 8 of TTL.
#[test]
fn mpls_is_told_apart_by_its_first_label_alone() {
    let stack = |entry: u32, rest: &[u8]| [&entry.to_be_bytes()[..], rest].concat();
    let of = |entry| hash(ETHERTYPE_MPLS, &stack(entry, &[0xab; 24]));
    let one = of(0x1234_5140);
    for bit in 0..12 {
        assert_eq!(
            of(0x1234_5140 ^ 1 << bit),
            one,
            "bit {bit}: traffic class, bottom of stack or TTL"
        );
    }
    for bit in 12..32 {
        assert_ne!(of(0x1234_5140 ^ 1 << bit), one, "bit {bit} of the label");
    }
    assert_eq!(hash(ETHERTYPE_MPLS, &stack(0x1234_5140, &[])), one, "what follows");
    assert_eq!(hash(ETHERTYPE_MPLS_MULTICAST, &stack(0x1234_5140, &[0xab; 24])), one);
}

/// Ports are read only from within the packet: padding is not always the same.
#[test]
fn ports_that_are_cut_off_are_none() {
    for (protocol, packet, header) in [
        (ETHERTYPE_IPV4, Flow::V4.packet(), 20),
        (ETHERTYPE_IPV6, Flow::V6.packet(), 40),
    ] {
        let without = hash(protocol, &packet[..header]);
        for end in header..packet.len() {
            let of_end = hash_within(protocol, &packet, 0, end);
            assert_eq!(of_end == without, end < header + 4, "{protocol:#06x}, {end} bytes");
            // Bytes behind the end are not the packet's.
            assert_eq!(of_end, hash(protocol, &packet[..end]), "{protocol:#06x}, {end} bytes");
        }
    }
}

/// A header that is not there, as where it lies outside the first buffer, is no reason to lose the packet.
#[test]
fn whatever_is_cut_off_has_a_hash_all_the_same() {
    let behind = Flow::V6.behind(vec![Extension::hop_by_hop(), Extension::fragment(0, true, 1)]);
    for (protocol, packet) in [
        (ETHERTYPE_IPV4, Flow::V4.packet()),
        (ETHERTYPE_IPV6, Flow::V6.packet()),
        (ETHERTYPE_IPV6, behind),
        (
            ETHERTYPE_TEB,
            Link::default()
                .tagged(TPID_8021Q, 7)
                .frame(ETHERTYPE_IPV4, &Flow::V4.packet()),
        ),
        (ETHERTYPE_MPLS, vec![0x12, 0x34, 0x51, 0x40, 0, 0, 0, 0]),
    ] {
        for first in 0..=packet.len() {
            let bytes = Bytes::split(&packet, first);
            let of = || flow::hash(&bytes, Be16::new(protocol), 0, packet.len(), KEY);
            assert_eq!(of(), of());
        }
    }
    assert_eq!(hash(ETHERTYPE_IPV4, &Flow::V4.packet()[..19]), 0);
    assert_eq!(hash(ETHERTYPE_IPV6, &Flow::V6.packet()[..39]), 0);
    assert_eq!(hash(ETHERTYPE_TEB, &[0; 13]), 0);
    assert_eq!(hash(ETHERTYPE_MPLS, &[0; 3]), 0);
}

/// A client's connections, which differ in one port alone, keep all cores busy alike.
#[test]
fn flows_are_spread_evenly() {
    const FLOWS: u16 = 8192;
    let cores = Cores::new(0, 8);
    let mut flows = [0_u32; 8];
    for port in 0..FLOWS {
        let ports = (port, 443);
        flows[cores.slot(hash(ETHERTYPE_IPV4, &Flow { ports, ..Flow::V4 }.packet())) as usize] += 1;
    }
    let fair = u32::from(FLOWS) / 8;
    assert!(flows.iter().all(|flows| flows.abs_diff(fair) < fair / 8), "{flows:?}");
}

proptest! {
    #![proptest_config(super::properties::config())]

    /// Wherever it lies in a frame, and whatever else its header and payload say.
    #[test]
    fn an_ipv4_flow_has_one_hash(
        (source, destination, ports, protocol) in (any::<u32>(), any::<u32>(), any::<(u16, u16)>(), proptest::sample::select(&WITH_PORTS[..])),
        (tos, identification, ttl, checksum, dont_fragment) in any::<(u8, u16, u8, Option<u16>, bool)>(),
        options in proptest::collection::vec(any::<u8>(), 0..=40),
        payload in proptest::collection::vec(any::<u8>(), 0..64),
        (before, after) in (0..100_usize, 0..30_usize),
    ) {
        let flow = Flow { source: v4(source), destination: v4(destination), protocol, ports };
        let header = Ipv4 { tos, identification, ttl, checksum, dont_fragment, options, ..flow.header() };
        let packet = header.packet(&segment(ports.0, ports.1, &payload));
        let frame = [vec![0xaa; before], packet.clone(), vec![0xbb; after]].concat();
        let within = hash_within(ETHERTYPE_IPV4, &frame, before, before + packet.len());
        prop_assert_eq!(within, hash(ETHERTYPE_IPV4, &flow.packet()));
    }

    #[test]
    fn an_ipv6_flow_has_one_hash(
        (source, destination, ports, protocol) in (any::<u128>(), any::<u128>(), any::<(u16, u16)>(), proptest::sample::select(&WITH_PORTS[..])),
        (traffic_class, flow_label, hop_limit) in (any::<u8>(), 0..=0xf_ffff_u32, any::<u8>()),
        payload in proptest::collection::vec(any::<u8>(), 0..64),
        (before, after) in (0..100_usize, 0..30_usize),
    ) {
        let flow = Flow { source: v6(source), destination: v6(destination), protocol, ports };
        let header = Ipv6 { traffic_class, flow_label, hop_limit, ..flow.header() };
        let packet = header.packet(&segment(ports.0, ports.1, &payload));
        let frame = [vec![0xaa; before], packet.clone(), vec![0xbb; after]].concat();
        let within = hash_within(ETHERTYPE_IPV6, &frame, before, before + packet.len());
        prop_assert_eq!(within, hash(ETHERTYPE_IPV6, &flow.packet()));
    }

    #[test]
    fn messages_without_ports_are_one_flow(first in any::<[u8; 8]>(), second in any::<[u8; 8]>()) {
        let header = Flow { protocol: PROTOCOL_ICMP, ..Flow::V4 }.header();
        prop_assert_eq!(hash(ETHERTYPE_IPV4, &header.packet(&first)), hash(ETHERTYPE_IPV4, &header.packet(&second)));
    }

    /// No bytes make it fail.
    #[test]
    fn arbitrary_bytes_have_a_hash(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        protocol in proptest::sample::select(vec![ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_TEB, ETHERTYPE_MPLS]),
        first in 0..200_usize,
    ) {
        let of = || flow::hash(&Bytes::split(&bytes, first), Be16::new(protocol), 0, bytes.len(), KEY);
        prop_assert_eq!(of(), of());
    }
}
