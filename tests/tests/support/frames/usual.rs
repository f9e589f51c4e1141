//! Frames of the forms that have a way of their own, or with one thing that takes them out of it.

use std::net::{Ipv4Addr, Ipv6Addr};

use gre_tests::frame::{ETHERTYPE_IPV4, Gre, Ipv4, Ipv6, Link, Outer, PROTOCOL_GRE, Packet, TPID_8021AD, TPID_8021Q};
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;

/// Bytes of the longest headers: IPv6 outside, or two VLAN tags and a field, and what is inside.
pub(super) const HEADERS: usize = 90;

pub(super) fn frame() -> impl Strategy<Value = Vec<u8>> {
    let padding = prop_oneof![Just(0), 1..60_usize];
    (link(), outer(), gre(), inner(), 0..60_usize, padding).prop_map(
        |(link, outer, gre, (inner, is_returned), content, padding)| {
            let destination = match &outer {
                Outer::V4(outer) if is_returned => outer.source,
                _ => inner.destination,
            };
            let payload = Ipv4 { destination, ..inner }.packet(&vec![0xa5; content]);
            Packet {
                link,
                outer,
                gre,
                payload,
                padding: vec![0xee; padding],
            }
            .frame()
        },
    )
}

fn link() -> impl Strategy<Value = Link> {
    let tag = (select(vec![TPID_8021Q, TPID_8021AD]), any::<u16>());
    proptest::collection::vec(tag, 0..3).prop_map(|tags| {
        let tagged = |link: Link, (tpid, tci)| link.tagged(tpid, tci);
        tags.into_iter().fold(Link::default(), tagged)
    })
}

/// Between ends that the configurations know, or nearly.
fn outer() -> impl Strategy<Value = Outer> {
    let ecn = || select(vec![0b00, 0b00, 0b10, 0b01, 0b11]);
    let remote = select(vec![10, 10, 10, 11, 12, 13, 200, 99]);
    let v4 = (remote, select(vec![20, 20, 20, 21, 99]), ecn()).prop_map(|(remote, local, tos)| Ipv4 {
        source: Ipv4Addr::new(203, 0, 113, remote),
        destination: Ipv4Addr::new(198, 51, 100, local),
        protocol: PROTOCOL_GRE,
        tos,
        ..Ipv4::default()
    });
    let remote = select(vec![0x10, 0x10, 0x10, 0x11, 0x12, 0x13, 0xa, 0xc8, 0x99]);
    let local = select(vec![0x20, 0x20, 0x20, 0x21, 0x99]);
    let v6 = (remote, local, ecn()).prop_map(|(remote, local, traffic_class)| Ipv6 {
        source: Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, remote),
        destination: Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, local),
        next_header: PROTOCOL_GRE,
        traffic_class,
        ..Ipv6::default()
    });
    prop_oneof![2 => v4.prop_map(Outer::V4), 1 => v6.prop_map(Outer::V6)]
}

fn gre() -> impl Strategy<Value = Gre> {
    let key = prop_oneof![4 => select(vec![0, 7, 4200, u32::MAX]), 1 => any::<u32>()];
    let number = prop_oneof![
        4 => select(vec![0, 1, 4999, 5000, 5001, 5002, 1 << 31, u32::MAX]),
        1 => any::<u32>()
    ];
    (weighted(0.4, key), weighted(0.4, number)).prop_map(|(key, sequence)| Gre {
        key,
        sequence,
        protocol: ETHERTYPE_IPV4,
        ..Gre::default()
    })
}

/// An inner header, and whether it is addressed to where the packet came from.
fn inner() -> impl Strategy<Value = (Ipv4, bool)> {
    let total_length = weighted(0.1, 0..100_u16);
    let fragment = prop_oneof![6 => Just((0, false)), 1 => (0..0x2000_u16, any::<bool>())];
    let is_returned = proptest::bool::weighted(0.1);
    (total_length, fragment, any::<u8>(), is_returned).prop_map(
        |(total_length, (fragment_offset, more_fragments), tos, is_returned)| {
            let header = Ipv4 {
                tos,
                total_length,
                fragment_offset,
                more_fragments,
                ..Ipv4::default()
            };
            (header, is_returned)
        },
    )
}
