//! IPv4.

use std::net::Ipv4Addr;

use gre_tests::frame::{
    Addresses, Ipv4, PROTOCOL_ESP, PROTOCOL_ICMP, PROTOCOL_TCP, echo_request, tcp_segment, udp_datagram,
};

use super::{Named, PROTOCOL_SCTP, data};
use crate::bench::{NOWHERE_V4, datagram_v4, inner_v4};
use crate::net::{CLIENT_V4, GATEWAY_V4, ROUTER_V4, SERVER_V4};

pub(super) fn cases() -> Vec<Named> {
    [contents(), headers(), options(), sources(), destinations()].concat()
}

fn contents() -> Vec<Named> {
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

fn headers() -> Vec<Named> {
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
fn options() -> Vec<Named> {
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

fn sources() -> Vec<Named> {
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

fn destinations() -> Vec<Named> {
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
