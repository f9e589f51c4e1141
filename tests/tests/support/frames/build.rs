//! GRE packets put together at random: mostly good, between ends that the fixtures' configurations know.

use std::net::{Ipv4Addr, Ipv6Addr};

use gre_tests::frame::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_MPLS, ETHERTYPE_MPLS_MULTICAST, ETHERTYPE_TEB, Extension, Gre,
    GreChecksum, Ipv4, Ipv6, Link, Outer, PROTOCOL_GRE, Packet, TPID_8021AD, TPID_8021Q,
};
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;

/// Where most packets here go: it stands in the configurations that are worth trying with them.
pub(super) const LOCAL: &str = "198.51.100.20";

pub(super) fn frame() -> impl Strategy<Value = Vec<u8>> {
    let padding = prop_oneof![3 => Just(0), 1 => 1..60_usize];
    let total_length = weighted(0.05, any::<u16>());
    let returning = weighted(
        0.05,
        (select(vec![0, 0, 4, ETHERTYPE_IPV6, ETHERTYPE_IPV4]), gre(), 0..6_usize),
    );
    (link(), outer(), gre(), payload(), padding, total_length, returning).prop_map(
        |(link, mut outer, mut gre, (protocol, mut payload), padding, total_length, returning)| {
            gre.protocol = protocol.unwrap_or(gre.protocol);
            if let Some((kind, inner, content)) = returning {
                gre.protocol = outer.ethertype();
                let inner = Gre {
                    protocol: kind,
                    ..inner
                };
                payload = back(&outer, &inner.packet(&noise(content.saturating_sub(3), 0)));
            }
            if let Some(total) = total_length {
                outer.set_total_length(total.max(40));
            }
            let padding = vec![0xee; padding];
            Packet {
                link,
                outer,
                gre,
                payload,
                padding,
            }
            .frame()
        },
    )
}

/// A GRE packet that goes back to where the outer one came from, as a keepalive does.
fn back(outer: &Outer, content: &[u8]) -> Vec<u8> {
    match outer {
        Outer::V4(outer) => Ipv4 {
            source: outer.destination,
            destination: outer.source,
            protocol: PROTOCOL_GRE,
            ..Ipv4::default()
        }
        .packet(content),
        Outer::V6(outer) => Ipv6 {
            source: outer.destination,
            destination: outer.source,
            next_header: PROTOCOL_GRE,
            ..Ipv6::default()
        }
        .packet(content),
    }
}

fn link() -> impl Strategy<Value = Link> {
    let known = || select(vec![TPID_8021Q, TPID_8021AD]);
    let tag = |tpid| (tpid, any::<u16>());
    let few = vec(tag(known().boxed()), 0..3);
    let odd = vec(tag(prop_oneof![known(), Just(0x9100)].boxed()), 1..4);
    prop_oneof![12 => few, 1 => odd].prop_map(|tags| {
        tags.into_iter()
            .fold(Link::default(), |link, (tpid, tci)| link.tagged(tpid, tci))
    })
}

fn outer() -> impl Strategy<Value = Outer> {
    prop_oneof![outer_v4().prop_map(Outer::V4), outer_v6().prop_map(Outer::V6)]
}

fn outer_v4() -> impl Strategy<Value = Ipv4> {
    let source = (
        prop_oneof![9 => Just([203, 0, 113]), 1 => Just([203, 0, 1])],
        last_byte(),
    );
    let destination = prop_oneof![12 => Just(20), 1 => select(vec![21, 99])];
    let options = prop_oneof![4 => Just(0), 1 => 1..41_usize];
    let fragment = prop_oneof![15 => Just((0, false)), 1 => (0..0x2000_u16, any::<bool>())];
    (source, destination, traffic_class(), options, fragment).prop_map(
        |(([a, b, c], d), local, tos, options, (offset, more))| Ipv4 {
            source: Ipv4Addr::new(a, b, c, d),
            destination: Ipv4Addr::new(198, 51, 100, local),
            protocol: PROTOCOL_GRE,
            tos,
            options: vec![1; options],
            fragment_offset: offset,
            more_fragments: more,
            ..Ipv4::default()
        },
    )
}

fn outer_v6() -> impl Strategy<Value = Ipv6> {
    let source = (prop_oneof![9 => Just(0x113), 1 => Just(0x114)], last_byte());
    let destination = prop_oneof![12 => Just(0x20), 1 => select(vec![0x21, 0x99])];
    let extensions = prop_oneof![2 => Just(Vec::new()), 1 => vec(extension(), 1..4)];
    (source, destination, traffic_class(), extensions).prop_map(|((net, last), local, traffic_class, extensions)| {
        Ipv6 {
            source: Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, last.into()),
            destination: Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, local),
            next_header: PROTOCOL_GRE,
            traffic_class,
            extensions,
            ..Ipv6::default()
        }
    })
}

/// With an ECN field that is often one of the extremes, which are only dropped together.
fn traffic_class() -> impl Strategy<Value = u8> {
    prop_oneof![any::<u8>(), select(vec![0b00, 0b11])]
}

fn last_byte() -> impl Strategy<Value = u8> {
    prop_oneof![4 => select(vec![10, 10, 10, 11, 12, 13, 14, 16, 200]), 1 => any::<u8>()]
}

fn extension() -> impl Strategy<Value = Extension> {
    let options = select(vec![Extension::HOP_BY_HOP, Extension::DESTINATION_OPTIONS]);
    prop_oneof![
        6 => (options, 1..12_usize).prop_map(|(number, length)| Extension::options(number, &[], 8 * length)),
        1 => Just(Extension::options(Extension::DESTINATION_OPTIONS, &[], 2048)),
        1 => select(vec![
            Extension::tunnel_encapsulation_limit(),
            Extension::routing(),
            Extension::authentication(),
            Extension::mobility(),
            Extension::fragment(0, false, 1),
            Extension::new(Extension::EXPERIMENT, vec![0; 7]),
        ]),
    ]
}

fn gre() -> impl Strategy<Value = Gre> {
    let checksum = prop_oneof![
        3 => Just(GreChecksum::Absent),
        3 => Just(GreChecksum::Right),
        1 => any::<u16>().prop_map(GreChecksum::Given),
    ];
    let key = weighted(
        0.2,
        prop_oneof![4 => select(vec![0, 7, 4200, u32::MAX]), 1 => any::<u32>()],
    );
    let sequence = weighted(
        0.5,
        prop_oneof![select(vec![0, 1, 4999, 5000, 5001, 1 << 31, u32::MAX]), any::<u32>()],
    );
    let version = prop_oneof![12 => Just(0), 1 => 0..8_u8];
    let bits = prop_oneof![8 => Just(0), 1 => (0..16_u32).prop_map(Gre::bit)];
    let protocol = prop_oneof![
        select(vec![0, 0x0806, 0x88be, ETHERTYPE_IPV4, ETHERTYPE_IPV6]),
        any::<u16>()
    ];
    (checksum, any::<u16>(), key, sequence, protocol, version, bits).prop_map(
        |(checksum, reserved1, key, sequence, protocol, version, bits)| Gre {
            checksum,
            reserved1,
            key,
            sequence,
            protocol,
            version,
            bits,
        },
    )
}

/// Bytes of no simple pattern.
fn noise(length: usize, first: u8) -> Vec<u8> {
    let next = |byte: &u8| Some(byte.wrapping_mul(29).wrapping_add(101));
    std::iter::successors(Some(first), next).take(length).collect()
}

/// A payload, and its protocol type unless it is to be announced as something else.
fn payload() -> impl Strategy<Value = (Option<u16>, Vec<u8>)> {
    let kind = select(vec![
        ETHERTYPE_IPV4,
        ETHERTYPE_IPV4,
        ETHERTYPE_IPV6,
        ETHERTYPE_TEB,
        ETHERTYPE_MPLS,
        ETHERTYPE_MPLS_MULTICAST,
    ]);
    let length = prop_oneof![20 => 0..200_usize, 4 => 200..3000_usize, 1 => 3000..20_000_usize];
    let content = (length, any::<u8>()).prop_map(|(length, first)| noise(length, first));
    let announced = proptest::bool::weighted(0.9);
    let total = weighted(0.1, 0..200_u16);
    let ihl = weighted(0.1, 0..16_u8);
    let cut = weighted(0.1, 0..64_usize);
    (kind, content, announced, traffic_class(), total, ihl, cut).prop_map(
        |(kind, content, announced, tos, total_length, ihl, cut)| {
            let mut payload = match kind {
                ETHERTYPE_IPV4 => Ipv4 {
                    tos,
                    total_length,
                    ihl,
                    ..Ipv4::default()
                }
                .packet(&content),
                ETHERTYPE_IPV6 => Ipv6 {
                    traffic_class: tos,
                    payload_length: total_length,
                    ..Ipv6::default()
                }
                .packet(&content),
                _ => content,
            };
            payload.truncate(cut.unwrap_or(usize::MAX));
            (announced.then_some(kind), payload)
        },
    )
}
