//! What is cut off, what lies around, and what no bytes may do.

use gre_common::endian::Be16;
use gre_common::flow;
use gre_common::tunnel::Cores;
use gre_tests::frame::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_MPLS, ETHERTYPE_TEB, Extension, Ipv4, Ipv6, Link, PROTOCOL_ICMP,
    TPID_8021Q,
};
use proptest::prelude::*;

use super::{Flow, KEY, WITH_PORTS, hash, hash_within, segment, v4, v6};
use crate::support::bytes::Bytes;

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
    #![proptest_config(crate::properties::config())]

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
