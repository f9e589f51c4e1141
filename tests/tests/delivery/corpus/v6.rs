//! IPv6.

use std::net::Ipv6Addr;

use gre_tests::frame::{
    Addresses, Extension, Ipv6, PROTOCOL_ESP, PROTOCOL_ICMPV6, PROTOCOL_TCP, echo_request, tcp_segment, udp_datagram,
};

use super::{Named, PROTOCOL_SCTP, data};
use crate::bench::{NOWHERE_V6, datagram_v6, inner_v6};
use crate::net::{CLIENT_V6, GATEWAY_V6, ROUTER_V6, SERVER_V6};

/// "No next header".
const NO_NEXT_HEADER: u8 = 59;

pub(super) fn cases() -> Vec<Named> {
    let cases = [contents(), headers(), extensions(), sources(), destinations()].concat();
    cases
        .into_iter()
        .map(|(name, packet)| (format!("IPv6: {name}"), packet))
        .collect()
}

fn contents() -> Vec<Named> {
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
    cases
}

fn headers() -> Vec<Named> {
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
    cases
        .into_iter()
        .map(|(name, header)| (name, datagram_v6(&header, &data(24))))
        .collect()
}

fn extensions() -> Vec<Named> {
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
    cases.into()
}

fn sources() -> Vec<Named> {
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

fn destinations() -> Vec<Named> {
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
