//! Inner packets that a router must look at closely: all that it forwards, and all that it must not.

use std::net::{Ipv4Addr, Ipv6Addr};

use gre_tests::frame::{
    Addresses, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Extension, Ipv4, Ipv6, PROTOCOL_ESP, PROTOCOL_ICMP, PROTOCOL_ICMPV6,
    PROTOCOL_TCP, echo_request, tcp_segment, udp_datagram,
};

use crate::bench::{NOWHERE_V4, NOWHERE_V6, datagram_v4, datagram_v6, inner_v4, inner_v6};
use crate::net::{CLIENT_V4, CLIENT_V6, GATEWAY_V4, GATEWAY_V6, ROUTER_V4, ROUTER_V6, SERVER_V4, SERVER_V6};

/// IP protocol number of SCTP.
const PROTOCOL_SCTP: u8 = 132;
/// "No next header" of IPv6.
const NO_NEXT_HEADER: u8 = 59;

/// An inner packet.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// The GRE protocol type that announces it.
    pub(crate) protocol: u16,
    pub(crate) inner: Vec<u8>,
}

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    let v4 = [
        contents_v4(),
        headers_v4(),
        options_v4(),
        sources_v4(),
        destinations_v4(),
    ]
    .concat();
    let v6 = [
        contents_v6(),
        headers_v6(),
        extensions_v6(),
        sources_v6(),
        destinations_v6(),
    ]
    .concat();
    let case = |protocol| move |(name, inner)| Case { name, protocol, inner };
    v4.into_iter()
        .map(case(ETHERTYPE_IPV4))
        .chain(v6.into_iter().map(case(ETHERTYPE_IPV6)))
        .collect()
}

type Named = (String, Vec<u8>);

/// Bytes that differ.
fn data(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 7 + length) as u8).collect()
}

fn contents_v4() -> Vec<Named> {
    let addresses = Addresses::V4(CLIENT_V4, SERVER_V4);
    let with = |protocol| Ipv4 { protocol, ..inner_v4() };
    let mut cases: Vec<Named> = [0, 1, 2, 3, 17, 18, 19, 100, 1001, 1400]
        .map(|length| {
            (
                format!("UDP of {length} bytes"),
                datagram_v4(&inner_v4(), &data(length)),
            )
        })
        .into();
    let mut unchecked = udp_datagram(addresses, &data(33));
    unchecked[6..8].fill(0);
    cases.extend([
        ("UDP without checksum".to_owned(), inner_v4().packet(&unchecked)),
        (
            "UDP cut off".to_owned(),
            inner_v4().packet(&udp_datagram(addresses, &data(33))[..7]),
        ),
        ("nothing at all".to_owned(), inner_v4().packet(&[])),
        (
            "TCP".to_owned(),
            with(PROTOCOL_TCP).packet(&tcp_segment(addresses, &data(77))),
        ),
        (
            "TCP cut off".to_owned(),
            with(PROTOCOL_TCP).packet(&tcp_segment(addresses, &[])[..13]),
        ),
        (
            "ICMP".to_owned(),
            with(PROTOCOL_ICMP).packet(&echo_request(addresses, &data(56))),
        ),
        ("ESP".to_owned(), with(PROTOCOL_ESP).packet(&data(64))),
        ("SCTP".to_owned(), with(PROTOCOL_SCTP).packet(&data(64))),
        ("an unknown protocol".to_owned(), with(253).packet(&data(9))),
    ]);
    for length in [1, 2, 7, 40] {
        let packet = [datagram_v4(&inner_v4(), &data(20)), vec![0xbd; length]].concat();
        cases.push((format!("{length} bytes behind the packet's end"), packet));
    }
    cases
}

fn headers_v4() -> Vec<Named> {
    let inner = inner_v4();
    let mut cases = Vec::new();
    for tos in [0x02, 0x08, 0x10, 0x1c, 0xb8, 0xe1, 0xff] {
        cases.push((format!("TOS {tos:#04x}"), Ipv4 { tos, ..inner.clone() }));
    }
    for ttl in [255, 128, 2, 1, 0] {
        cases.push((format!("TTL {ttl}"), Ipv4 { ttl, ..inner.clone() }));
    }
    for identification in [0, 0xffff] {
        let header = Ipv4 {
            identification,
            ..inner.clone()
        };
        cases.push((format!("identification {identification:#06x}"), header));
    }
    cases.extend([
        ("first fragment".to_owned(), inner.clone().fragment(0, true)),
        ("fragment in the middle".to_owned(), inner.clone().fragment(100, true)),
        ("last fragment".to_owned(), inner.clone().fragment(185, false)),
        (
            "a fragment not to be fragmented".to_owned(),
            Ipv4 {
                dont_fragment: true,
                ..inner.clone().fragment(0, true)
            },
        ),
        (
            "not to be fragmented".to_owned(),
            Ipv4 {
                dont_fragment: true,
                ..inner.clone()
            },
        ),
        (
            "the reserved flag".to_owned(),
            Ipv4 {
                reserved_flag: true,
                ..inner.clone()
            },
        ),
        (
            "a wrong header checksum".to_owned(),
            Ipv4 {
                checksum: Some(0x1234),
                ..inner
            },
        ),
    ]);
    // Every checksum that a lower TTL can carry around, and both zeros (RFC 1624 section 3).
    for checksum in [0xfeff, 0xfffe, 0xff00, 0x00ff] {
        cases.push((format!("header checksum {checksum:#06x}"), with_checksum(checksum)));
    }
    cases
        .into_iter()
        .map(|(name, header)| (name, datagram_v4(&header, &data(24))))
        .collect()
}

/// A header whose right checksum is this one, by its identification.
fn with_checksum(checksum: u16) -> Ipv4 {
    // What is left of the sum is for the identification to make up. The header is as long as the datagram's.
    let header = Ipv4 {
        identification: 0,
        ..inner_v4()
    };
    let packet = datagram_v4(&header, &data(24));
    let others = !u16::from_be_bytes([packet[10], packet[11]]);
    let difference = u32::from(!checksum) + u32::from(!others);
    Ipv4 {
        identification: ((difference & 0xffff) + (difference >> 16)) as u16,
        ..header
    }
}

/// RFC 791 section 3.1, RFC 2113.
fn options_v4() -> Vec<Named> {
    let addresses = [SERVER_V4.octets(), [192, 0, 2, 99]].concat();
    [
        ("no operation", vec![1; 4]),
        ("end of list", vec![0; 4]),
        ("record route", [&[7, 7, 4][..], &[0; 5]].concat()),
        ("a full record of routes", [&[7, 7, 8][..], &[9; 5]].concat()),
        ("loose source route", [&[0x83, 11, 4][..], &addresses, &[0]].concat()),
        ("strict source route", [&[0x89, 11, 4][..], &addresses, &[0]].concat()),
        (
            "a used-up source route",
            [&[0x83, 11, 12][..], &addresses, &[0]].concat(),
        ),
        // Without room for one more, they count that; with room they would never be the same twice.
        ("timestamp", vec![0x44, 12, 13, 0, 0, 0, 0, 1, 0, 0, 0, 2]),
        ("timestamp with address", vec![0x44, 12, 13, 1, 10, 0, 0, 1, 0, 0, 0, 2]),
        (
            "a timestamp that has overflown",
            vec![0x44, 12, 13, 0xf0, 0, 0, 0, 1, 0, 0, 0, 2],
        ),
        ("router alert", vec![0x94, 4, 0, 0]),
        ("stream identifier", vec![0x88, 4, 0x12, 0x34]),
        ("security", vec![0x82, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("an unknown option", vec![0x9e, 4, 1, 2]),
        ("an option beyond the header", vec![0x9e, 40, 1, 2]),
        ("an option without room", vec![7, 1, 4, 0]),
        ("40 bytes", vec![1; 40]),
    ]
    .map(|(name, options)| {
        let header = Ipv4 { options, ..inner_v4() };
        (format!("option: {name}"), datagram_v4(&header, &data(24)))
    })
    .into()
}

fn sources_v4() -> Vec<Named> {
    let sources = [
        [127, 0, 0, 1],
        [127, 9, 9, 9],
        [0, 0, 0, 0],
        [0, 1, 2, 3],
        [10, 1, 2, 3],
        [169, 254, 1, 1],
        [224, 0, 0, 1],
        [239, 1, 2, 3],
        [240, 0, 0, 1],
        [255, 255, 255, 255],
        // The router's own, its networks' broadcast and network addresses, a neighbour's, and the receiver's.
        ROUTER_V4.octets(),
        GATEWAY_V4.octets(),
        [192, 0, 2, 255],
        [192, 0, 2, 0],
        [192, 0, 2, 99],
        SERVER_V4.octets(),
    ];
    let case = |source: [u8; 4]| {
        let source = Ipv4Addr::from(source);
        let header = Ipv4 { source, ..inner_v4() };
        (format!("from {source}"), datagram_v4(&header, &data(24)))
    };
    sources.map(case).into()
}

fn destinations_v4() -> Vec<Named> {
    let destinations = [
        [127, 0, 0, 1],
        [0, 0, 0, 0],
        [0, 1, 2, 3],
        [169, 254, 1, 1],
        [224, 0, 0, 1],
        [224, 0, 0, 251],
        [239, 1, 2, 3],
        [240, 0, 0, 1],
        [255, 255, 255, 255],
        ROUTER_V4.octets(),
        GATEWAY_V4.octets(),
        [192, 0, 2, 255],
        [192, 0, 2, 0],
        [203, 0, 113, 255],
        NOWHERE_V4.octets(),
    ];
    let case = |destination: [u8; 4]| {
        let destination = Ipv4Addr::from(destination);
        let header = Ipv4 {
            destination,
            ..inner_v4()
        };
        (format!("to {destination}"), datagram_v4(&header, &data(24)))
    };
    destinations.map(case).into()
}

fn contents_v6() -> Vec<Named> {
    let addresses = Addresses::V6(CLIENT_V6, SERVER_V6);
    let with = |next_header| Ipv6 {
        next_header,
        ..inner_v6()
    };
    let mut cases: Vec<Named> = [0, 1, 2, 3, 17, 100, 1001, 1380]
        .map(|length| {
            (
                format!("UDP of {length} bytes"),
                datagram_v6(&inner_v6(), &data(length)),
            )
        })
        .into();
    let mut unchecked = udp_datagram(addresses, &data(33));
    unchecked[6..8].fill(0);
    cases.extend([
        ("UDP without checksum".to_owned(), inner_v6().packet(&unchecked)),
        ("nothing at all".to_owned(), inner_v6().packet(&[])),
        ("no next header".to_owned(), with(NO_NEXT_HEADER).packet(&[])),
        (
            "TCP".to_owned(),
            with(PROTOCOL_TCP).packet(&tcp_segment(addresses, &data(77))),
        ),
        (
            "ICMPv6".to_owned(),
            with(PROTOCOL_ICMPV6).packet(&echo_request(addresses, &data(56))),
        ),
        ("ESP".to_owned(), with(PROTOCOL_ESP).packet(&data(64))),
        ("SCTP".to_owned(), with(PROTOCOL_SCTP).packet(&data(64))),
        ("an unknown protocol".to_owned(), with(253).packet(&data(9))),
    ]);
    for length in [1, 2, 7, 40] {
        let packet = [datagram_v6(&inner_v6(), &data(20)), vec![0xbd; length]].concat();
        cases.push((format!("{length} bytes behind the packet's end"), packet));
    }
    named_v6(cases)
}

fn headers_v6() -> Vec<Named> {
    let inner = inner_v6();
    let mut cases = Vec::new();
    for traffic_class in [0x02, 0xb8, 0xe1, 0xff] {
        let header = Ipv6 {
            traffic_class,
            ..inner.clone()
        };
        cases.push((format!("traffic class {traffic_class:#04x}"), header));
    }
    for hop_limit in [255, 2, 1, 0] {
        let header = Ipv6 {
            hop_limit,
            ..inner.clone()
        };
        cases.push((format!("hop limit {hop_limit}"), header));
    }
    for flow_label in [1, 0x12345, 0xf_ffff] {
        let header = Ipv6 {
            flow_label,
            ..inner.clone()
        };
        cases.push((format!("flow label {flow_label:#07x}"), header));
    }
    let packets = cases
        .into_iter()
        .map(|(name, header)| (name, datagram_v6(&header, &data(24))))
        .collect();
    named_v6(packets)
}

fn extensions_v6() -> Vec<Named> {
    let hop = |options: &[u8]| Extension::options(Extension::HOP_BY_HOP, options, 8);
    let type_0 = [&[2, 0, 1, 0, 0, 0, 0][..], &SERVER_V6.octets()].concat();
    let cases = [
        ("hop-by-hop padding", vec![Extension::hop_by_hop()]),
        ("router alert", vec![hop(&[5, 2, 0, 0])]),
        // The two upper bits of an unknown option's type say what to do (RFC 8200 section 4.2).
        ("an unknown hop-by-hop option to skip", vec![hop(&[0x1e, 2, 0, 0])]),
        ("an unknown hop-by-hop option to drop", vec![hop(&[0x5e, 2, 0, 0])]),
        ("an unknown hop-by-hop option to report", vec![hop(&[0x9e, 2, 0, 0])]),
        (
            "an unknown hop-by-hop option to report if unicast",
            vec![hop(&[0xde, 2, 0, 0])],
        ),
        ("a jumbo payload that is none", vec![hop(&[0xc2, 4, 0, 0, 0, 24])]),
        ("a hop-by-hop option beyond the header", vec![hop(&[0x1e, 200, 0, 0])]),
        (
            "a hop-by-hop header beyond the packet",
            vec![Extension::new(Extension::HOP_BY_HOP, vec![200, 1, 4, 0, 0, 0, 0])],
        ),
        ("destination options", vec![Extension::destination_options()]),
        (
            "hop-by-hop and destination options",
            vec![Extension::hop_by_hop(), Extension::destination_options()],
        ),
        ("segment routing", vec![Extension::routing()]),
        ("routing of type 0", vec![Extension::new(Extension::ROUTING, type_0)]),
        ("first fragment", vec![Extension::fragment(0, true, 77)]),
        ("last fragment", vec![Extension::fragment(100, false, 77)]),
        ("atomic fragment", vec![Extension::fragment(0, false, 77)]),
        ("authentication", vec![Extension::authentication()]),
        ("mobility", vec![Extension::mobility()]),
        (
            "an unknown header",
            vec![Extension::new(Extension::EXPERIMENT, vec![0; 7])],
        ),
        (
            "a hop-by-hop header that is not the first",
            vec![Extension::destination_options(), Extension::hop_by_hop()],
        ),
    ]
    .map(|(name, extensions)| {
        let header = Ipv6 {
            extensions,
            ..inner_v6()
        };
        (name.to_owned(), datagram_v6(&header, &data(24)))
    });
    named_v6(cases.into())
}

fn sources_v6() -> Vec<Named> {
    let sources = [
        "::",
        "::1",
        "::ffff:198.18.5.7",
        "::198.18.5.7",
        "64:ff9b::c612:507",
        "fe80::1",
        "fec0::1",
        "fd00::1",
        "ff02::1",
        "ff0e::1",
        "2001:db8:2::99",
    ]
    .map(|text| text.parse().expect("an IPv6 address"));
    let case = |source: Ipv6Addr| {
        let header = Ipv6 { source, ..inner_v6() };
        (format!("from {source}"), datagram_v6(&header, &data(24)))
    };
    let own = [ROUTER_V6, GATEWAY_V6, SERVER_V6];
    sources.into_iter().chain(own).map(case).collect()
}

fn destinations_v6() -> Vec<Named> {
    let destinations = [
        "::",
        "::1",
        "::ffff:192.0.2.80",
        "::192.0.2.80",
        "fe80::99",
        "ff01::1",
        "ff02::1",
        "ff02::fb",
        "ff05::2",
        "ff0e::1",
        // The network's own, which is every router's (RFC 4291 section 2.6.1).
        "2001:db8:2::",
    ]
    .map(|text| text.parse().expect("an IPv6 address"));
    let case = |destination: Ipv6Addr| {
        let header = Ipv6 {
            destination,
            ..inner_v6()
        };
        (format!("to {destination}"), datagram_v6(&header, &data(24)))
    };
    let others = [ROUTER_V6, GATEWAY_V6, NOWHERE_V6];
    destinations.into_iter().chain(others).map(case).collect()
}

fn named_v6(cases: Vec<Named>) -> Vec<Named> {
    cases
        .into_iter()
        .map(|(name, packet)| (format!("IPv6: {name}"), packet))
        .collect()
}
