//! Frames of the forms that have a way of their own, or with one thing that takes them out of it.

use std::net::{Ipv4Addr, Ipv6Addr};

use gre_tests::frame::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, Gre, GreChecksum, Ipv4, Ipv6, Link, Outer, PROTOCOL_GRE, Packet, TPID_8021AD,
    TPID_8021Q,
};
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;

/// Bytes of the longest headers: IPv6 outside and inside, or two VLAN tags and a field.
pub(super) const HEADERS: usize = 14 + 40 + 4 + 40;

/// An inner header.
#[derive(Clone, Debug)]
enum Inner {
    V4(Ipv4),
    V6(Ipv6),
}

pub(super) fn frame() -> impl Strategy<Value = Vec<u8>> {
    let padding = prop_oneof![Just(0), 1..60_usize];
    let is_returned = proptest::bool::weighted(0.1);
    (link(), outer(), gre(), (inner(), is_returned), 0..60_usize, padding).prop_map(
        |(link, outer, gre, (mut inner, is_returned), content, padding)| {
            match (&mut inner, &outer) {
                (Inner::V4(inner), Outer::V4(outer)) if is_returned => inner.destination = outer.source,
                (Inner::V6(inner), Outer::V6(outer)) if is_returned => inner.destination = outer.source,
                _ => {}
            }
            let content = vec![0xa5; content];
            let (protocol, payload) = match inner {
                Inner::V4(inner) => (ETHERTYPE_IPV4, inner.packet(&content)),
                Inner::V6(inner) => (ETHERTYPE_IPV6, inner.packet(&content)),
            };
            Packet {
                link,
                outer,
                gre: Gre { protocol, ..gre },
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
    let checksum = prop_oneof![
        8 => Just(GreChecksum::Absent),
        3 => Just(GreChecksum::Right),
        1 => any::<u16>().prop_map(GreChecksum::Given)
    ];
    (weighted(0.4, key), weighted(0.4, number), checksum).prop_map(|(key, sequence, checksum)| Gre {
        checksum,
        key,
        sequence,
        ..Gre::default()
    })
}

fn inner() -> impl Strategy<Value = Inner> {
    let length = || weighted(0.1, 0..100_u16);
    let fragment = prop_oneof![6 => Just((0, false)), 1 => (0..0x2000_u16, any::<bool>())];
    let v4 =
        (length(), fragment, any::<u8>()).prop_map(|(total_length, (fragment_offset, more_fragments), tos)| Ipv4 {
            tos,
            total_length,
            fragment_offset,
            more_fragments,
            ..Ipv4::default()
        });
    let next_header = prop_oneof![4 => Just(17_u8), 1 => Just(44), 1 => any::<u8>()];
    let v6 = (length(), next_header, any::<u8>()).prop_map(|(payload_length, next_header, traffic_class)| Ipv6 {
        traffic_class,
        payload_length,
        next_header,
        ..Ipv6::default()
    });
    prop_oneof![2 => v4.prop_map(Inner::V4), 1 => v6.prop_map(Inner::V6)]
}
