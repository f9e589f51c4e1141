//! Packets of one tunnel that are decapsulated.

use std::net::{Ipv4Addr, Ipv6Addr};

use gre_tests::figures::costs::Group;
use gre_tests::frame::{
    Addresses, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_MPLS, ETHERTYPE_TEB, Extension, Gre, GreChecksum, Ipv4, Ipv6,
    Link, Outer, PROTOCOL_GRE, Packet, TPID_8021AD, TPID_8021Q, udp_datagram,
};

use super::{Shape, XDP_DROP, XDP_REDIRECT};
use crate::harness::Kind;

pub(crate) const LOCAL: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 20);
pub(crate) const REMOTE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
const LOCAL6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 0x20);
const REMOTE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x10);
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 5, 7);
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);
/// A blackhole route leads there: see `prepare` in the main file.
const DENIED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 200);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, 7);
const SERVER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x80);

pub(super) const IPV4: &str = r#"local = "198.51.100.20"
remote = "203.0.113.10""#;
const IPV6: &str = r#"local = "2001:db8:51::20"
remote = "2001:db8:113::10""#;

/// Bytes of the outer IP packets under a checksum.
const SIZES: [usize; 4] = [64, 512, 1500, 9000];
/// Bytes that the first buffer of a test run holds: a page less what the kernel wants around them.
const FIRST_BUFFER: usize = 3000;

/// A configuration of one tunnel.
pub(super) fn one(endpoints: &str, more: &str) -> String {
    format!("[[tunnel]]\nname = \"scrub\"\n{endpoints}\n{more}\n")
}

/// The plainest GRE packet.
pub(crate) fn plain() -> Packet {
    Packet {
        link: Link::default(),
        outer: Outer::V4(Ipv4 {
            protocol: PROTOCOL_GRE,
            source: REMOTE,
            destination: LOCAL,
            ..Ipv4::default()
        }),
        gre: Gre::default(),
        payload: inner(8),
        padding: Vec::new(),
    }
}

/// An inner IPv4 packet with so many bytes of UDP payload.
fn inner(len: usize) -> Vec<u8> {
    header().packet(&udp_datagram(Addresses::V4(CLIENT, SERVER), &vec![0xa5; len]))
}

/// A short one to this address.
fn to(destination: Ipv4Addr) -> Vec<u8> {
    let header = Ipv4 {
        destination,
        ..header()
    };
    header.packet(&udp_datagram(Addresses::V4(CLIENT, destination), b"8 bytes!"))
}

fn header() -> Ipv4 {
    Ipv4 {
        source: CLIENT,
        destination: SERVER,
        ..Ipv4::default()
    }
}

fn inner6() -> Vec<u8> {
    let header = Ipv6 {
        source: CLIENT6,
        destination: SERVER6,
        ..Ipv6::default()
    };
    header.packet(&udp_datagram(Addresses::V6(CLIENT6, SERVER6), b"8 bytes!"))
}

/// The plain packet with other GRE fields.
fn with_gre(gre: Gre) -> Packet {
    Packet { gre, ..plain() }
}

/// A packet whose outer IP packet has so many bytes.
fn sized(gre: Gre, len: usize) -> Packet {
    let overhead = 20 + gre.header_len() + 28;
    Packet {
        payload: inner(len - overhead),
        ..with_gre(gre)
    }
}

fn over_ipv6(extensions: Vec<Extension>) -> Packet {
    Packet {
        outer: Outer::V6(Ipv6 {
            next_header: PROTOCOL_GRE,
            source: REMOTE6,
            destination: LOCAL6,
            extensions,
            ..Ipv6::default()
        }),
        ..plain()
    }
}

fn carrying(protocol: u16, payload: Vec<u8>) -> Packet {
    Packet {
        payload,
        ..with_gre(Gre {
            protocol,
            ..Gre::default()
        })
    }
}

pub(super) fn shapes() -> Vec<Shape> {
    let plain = Shape::stripped(Group::Stripped, "plain", one(IPV4, ""), &plain())
        .with_kinds(&[Kind::Strip, Kind::StripCounted])
        .judging_programs();
    let mut shapes = vec![plain.built_without_what_is_off()];
    shapes.insert(0, plain);
    shapes.extend(headers());
    shapes.extend(contents());
    shapes.extend(SIZES.into_iter().flat_map(checksums));
    shapes.extend(forwarded());
    shapes
}

/// What the outer headers can have.
fn headers() -> Vec<Shape> {
    let of = |name: &str, config: String, packet: &Packet| Shape::stripped(Group::Stripped, name, config, packet);
    let numbered = with_gre(Gre {
        sequence: Some(7),
        ..Gre::default()
    });
    let keyed = with_gre(Gre {
        key: Some(4200),
        ..Gre::default()
    });
    let in_sequence = |shape: Shape| Shape {
        number_at: numbered.payload_offset() - 4,
        first_number: 7,
        ..shape
    };
    let tagged = |link: Link| Packet { link, ..plain() };
    vec![
        of("key", one(IPV4, "key = 4200"), &keyed),
        in_sequence(of("sequence, ignored", one(IPV4, ""), &numbered)),
        in_sequence(of("sequence, ordered", one(IPV4, "sequence = \"ordered\""), &numbered)),
        of(
            "one VLAN tag",
            one(IPV4, ""),
            &tagged(Link::default().tagged(TPID_8021Q, 100)),
        ),
        of(
            "two VLAN tags",
            one(IPV4, ""),
            &tagged(Link::default().tagged(TPID_8021AD, 200).tagged(TPID_8021Q, 100)),
        ),
        of("outer IPv6", one(IPV6, ""), &over_ipv6(Vec::new())),
        of(
            "outer IPv6, encapsulation limit",
            one(IPV6, ""),
            &over_ipv6(vec![Extension::tunnel_encapsulation_limit()]),
        ),
        of(
            "Ethernet padding",
            one(IPV4, ""),
            &Packet {
                padding: vec![0; 6],
                ..plain()
            },
        ),
    ]
}

/// What tunnels can carry.
fn contents() -> Vec<Shape> {
    let of = |name: &str, packet: &Packet| Shape::stripped(Group::Stripped, name, one(IPV4, ""), packet);
    let all = one(IPV4, r#"inner = ["ipv4", "ipv6", "ethernet", "mpls"]"#);
    let frame = Link::default().frame(ETHERTYPE_IPV4, &inner(8));
    let label = [vec![0x00, 0x01, 0x01, 0x40], inner(8)].concat();
    let mut congested = carrying(
        ETHERTYPE_IPV4,
        Ipv4 { tos: 2, ..header() }.packet(&udp_datagram(Addresses::V4(CLIENT, SERVER), b"8 bytes!")),
    );
    congested.outer.set_traffic_class(3);
    vec![
        of("inner IPv6", &carrying(ETHERTYPE_IPV6, inner6())),
        of("congestion experienced", &congested).changing_inner(),
        Shape::stripped(
            Group::Stripped,
            "inner Ethernet",
            all.clone(),
            &carrying(ETHERTYPE_TEB, frame),
        ),
        Shape::stripped(Group::Stripped, "inner MPLS", all, &carrying(ETHERTYPE_MPLS, label)),
    ]
}

/// A packet of a length with and without a checksum, and with a wrong one.
fn checksums(len: usize) -> [Shape; 3] {
    let given = |checksum| {
        sized(
            Gre {
                checksum,
                ..Gre::default()
            },
            len,
        )
    };
    let of = |name: &str, packet: &Packet| {
        Shape::stripped(Group::Stripped, format!("{name}, {len} bytes"), one(IPV4, ""), packet)
    };
    let wrong = given(GreChecksum::Given(1));
    let bad = Shape::intact(
        Group::Refused,
        format!("wrong checksum, {len} bytes"),
        one(IPV4, ""),
        wrong.frame(),
        XDP_DROP,
    );
    let bad = Shape {
        summed: (wrong.gre_offset(), len - 20),
        ..bad
    };
    [
        of("plain", &sized(Gre::default(), len)),
        of("checksum", &given(GreChecksum::Right)),
        bad.with_kinds(&[if len > FIRST_BUFFER { Kind::SumCopied } else { Kind::Sum }]),
    ]
}

/// Ways to send what was decapsulated on.
fn forwarded() -> Vec<Shape> {
    let of = |name: &str, more: &str| {
        Shape::stripped(Group::Forwarded, name, one(IPV4, more), &plain())
            .with_action(XDP_REDIRECT)
            .changing_inner()
            .judging_programs()
    };
    let denied = Packet {
        payload: to(DENIED),
        ..plain()
    };
    vec![
        of("route", r#"deliver = "route""#),
        of("interface", r#"deliver = { interface = "lan0" }"#),
        of("spread", r#"spread = "all""#),
        Shape::stripped(
            Group::Forwarded,
            "route_denied, dropped",
            one(IPV4, r#"deliver = "route""#),
            &denied,
        )
        .with_action(XDP_DROP),
    ]
}
