//! What the kernel's routing tables are asked about a packet, and which packets are left to the kernel without asking.

use std::net::{Ipv4Addr, Ipv6Addr};

use gre_common::Reason;
use gre_common::endian::{Be16, Be32};
use gre_common::forward::{self, Hop, Lookup};
use gre_tests::frame::{
    Addresses, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Extension, Ipv4, Ipv6, Link, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP,
    TPID_8021Q, internet_checksum, tcp_segment, udp_datagram,
};
use proptest::prelude::*;

use crate::support::bytes::Bytes;

const INGRESS: u32 = 0x0102_0304;

/// A question with what an earlier answer may have left in it.
fn used() -> Lookup {
    let word = Be32::new(0xdead_beef);
    Lookup {
        family: 0xee,
        protocol: 0xee,
        source_port: Be16::new(0xeeee),
        destination_port: Be16::new(0xeeee),
        length: 0xeeee,
        interface: 0xeeee_eeee,
        flow_info: word,
        source: [word; 4],
        destination: [word; 4],
        vlan: 0xeeee_eeee,
        macs: [0xeeee; 6],
    }
}

/// Asks about the IP packet of a frame under a tag, with bytes behind it.
fn ask(ethertype: u16, packet: &[u8]) -> Result<(Hop, [u8; 64]), Reason> {
    let link = Link::default().tagged(TPID_8021Q, 100);
    let mut frame = link.frame(ethertype, packet);
    frame.extend_from_slice(&[0x77; 9]);
    let mut lookup = used();
    let hop = forward::ask(
        &Bytes::whole(&frame),
        Be16::new(ethertype),
        link.header_len(),
        INGRESS,
        &mut lookup,
    )?;
    Ok((hop, bytes(lookup)))
}

fn bytes(lookup: Lookup) -> [u8; 64] {
    // SAFETY: laid out as in C, of integers whose sizes add up to the whole, so that no byte is padding.
    unsafe { std::mem::transmute(lookup) }
}

/// `struct bpf_fib_lookup` of linux/bpf.h as a question: what is to be there, by offset.
struct Question {
    family: u8,
    protocol: u8,
    ports: (u16, u16),
    length: u16,
    flow_info: [u8; 4],
    source: [u8; 16],
    destination: [u8; 16],
}

impl Question {
    fn bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[0] = self.family;
        bytes[1] = self.protocol;
        bytes[2..4].copy_from_slice(&self.ports.0.to_be_bytes());
        bytes[4..6].copy_from_slice(&self.ports.1.to_be_bytes());
        // Length and interface are numbers of the host's.
        bytes[6..8].copy_from_slice(&self.length.to_ne_bytes());
        bytes[8..12].copy_from_slice(&INGRESS.to_ne_bytes());
        bytes[12..16].copy_from_slice(&self.flow_info);
        bytes[16..32].copy_from_slice(&self.source);
        bytes[32..48].copy_from_slice(&self.destination);
        bytes
    }
}

/// An IPv4 address and the twelve bytes behind it.
fn padded(address: Ipv4Addr) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&address.octets());
    bytes
}

const SOURCE: Ipv4Addr = Ipv4Addr::new(198, 18, 5, 7);
const DESTINATION: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);
const SOURCE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 5, 1, 2, 3, 4, 7);
const DESTINATION6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 5, 6, 7, 8, 0x80);

fn header() -> Ipv4 {
    Ipv4 {
        source: SOURCE,
        destination: DESTINATION,
        tos: 0xb9,
        ttl: 17,
        ..Ipv4::default()
    }
}

fn header6() -> Ipv6 {
    Ipv6 {
        source: SOURCE6,
        destination: DESTINATION6,
        traffic_class: 0xb9,
        flow_label: 0xabcde,
        hop_limit: 17,
        ..Ipv6::default()
    }
}

fn udp4() -> Vec<u8> {
    udp_datagram(Addresses::V4(SOURCE, DESTINATION), b"hello")
}

fn udp6() -> Vec<u8> {
    udp_datagram(Addresses::V6(SOURCE6, DESTINATION6), b"hello")
}

#[test]
fn the_whole_question_about_ipv4() {
    let wanted = |protocol, ports, payload: &[u8]| Question {
        family: 2, // AF_INET
        protocol,
        ports,
        length: 20 + payload.len() as u16,
        flow_info: [0xb9, 0, 0, 0], // The TOS byte is the first.
        source: padded(SOURCE),
        destination: padded(DESTINATION),
    };
    let tcp = tcp_segment(Addresses::V4(SOURCE, DESTINATION), &[7; 100]);
    for (protocol, payload, ports) in [
        (PROTOCOL_UDP, udp4(), (40_000, 443)),
        (PROTOCOL_TCP, tcp, (40_000, 443)),
        (PROTOCOL_ICMP, vec![8, 0, 1, 2, 3, 4, 5, 6], (0, 0)),
        (PROTOCOL_UDP, vec![1, 2, 3], (0, 0)),
        (PROTOCOL_UDP, Vec::new(), (0, 0)),
    ] {
        let packet = Ipv4 { protocol, ..header() }.packet(&payload);
        let (hop, bytes) = ask(ETHERTYPE_IPV4, &packet).unwrap();
        assert_eq!(bytes, wanted(protocol, ports, &payload).bytes());
        assert_eq!((hop.limit, usize::from(hop.length)), (17, packet.len()));
    }
    // A fragment's first bytes are no ports, and the first one's are not asked for, so that all go one way.
    for (offset, more) in [(0, true), (1, true), (1, false)] {
        let (_, bytes) = ask(ETHERTYPE_IPV4, &header().fragment(offset, more).packet(&udp4())).unwrap();
        assert_eq!(bytes, wanted(PROTOCOL_UDP, (0, 0), &udp4()).bytes());
    }
}

#[test]
fn the_whole_question_about_ipv6() {
    let wanted = |protocol, ports, length| Question {
        family: 10, // AF_INET6
        protocol,
        ports,
        length,
        flow_info: [0x0b, 0x9a, 0xbc, 0xde], // Without the version.
        source: SOURCE6.octets(),
        destination: DESTINATION6.octets(),
    };
    let udp = udp6();
    for (extensions, protocol, ports) in [
        (vec![], PROTOCOL_UDP, (40_000, 443)),
        (vec![Extension::destination_options()], PROTOCOL_UDP, (40_000, 443)),
        (
            vec![Extension::routing(), Extension::authentication()],
            PROTOCOL_UDP,
            (40_000, 443),
        ),
        (vec![Extension::fragment(0, true, 1)], PROTOCOL_UDP, (0, 0)),
        (vec![Extension::fragment(7, false, 1)], PROTOCOL_UDP, (0, 0)),
    ] {
        let packet = Ipv6 {
            extensions,
            ..header6()
        }
        .packet(&udp);
        let (hop, bytes) = ask(ETHERTYPE_IPV6, &packet).unwrap();
        assert_eq!(bytes, wanted(protocol, ports, packet.len() as u16).bytes());
        assert_eq!((hop.limit, usize::from(hop.length)), (17, packet.len()));
    }
}

/// The longest packet that fits into GRE over IPv6.
#[test]
fn lengths_are_whole() {
    let packet = header6().packet(&vec![0; 65_535 - 4 - 40]);
    let (hop, bytes) = ask(ETHERTYPE_IPV6, &packet).unwrap();
    assert_eq!((hop.length, &bytes[6..8]), (65_531, &65_531_u16.to_ne_bytes()[..]));
    let packet = header().packet(&vec![0; 65_535 - 4 - 20]);
    let (hop, bytes) = ask(ETHERTYPE_IPV4, &packet).unwrap();
    assert_eq!((hop.length, &bytes[6..8]), (65_531, &65_531_u16.to_ne_bytes()[..]));
}

fn refused(ethertype: u16, packet: &[u8]) -> Option<Reason> {
    ask(ethertype, packet).err()
}

#[test]
fn ipv4_that_the_kernel_must_look_at() {
    let of = |header: Ipv4| refused(ETHERTYPE_IPV4, &header.packet(&udp4()));
    assert_eq!(of(header()), None);
    for options in [vec![1], vec![1; 40]] {
        assert_eq!(of(Ipv4 { options, ..header() }), Some(Reason::RouteOther));
    }
    for first in 0..=u8::MAX {
        let is_odd = first == 0 || first == 127 || first >= 224;
        let address = Ipv4Addr::new(first, 1, 2, 3);
        let (source, destination) = (
            Ipv4 {
                source: address,
                ..header()
            },
            Ipv4 {
                destination: address,
                ..header()
            },
        );
        assert_eq!(of(source), is_odd.then_some(Reason::RouteOther), "from {address}");
        assert_eq!(of(destination), is_odd.then_some(Reason::RouteLocal), "to {address}");
    }
    // The kernel drops it, as it would have without us.
    let right = header().packet(&[]);
    let right = u16::from_be_bytes([right[10], right[11]]);
    for bit in 0..16 {
        let checksum = Some(right ^ 1 << bit);
        assert_eq!(of(Ipv4 { checksum, ..header() }), Some(Reason::RouteOther));
    }
    for version in [0, 5, 6] {
        assert_eq!(of(Ipv4 { version, ..header() }), Some(Reason::RouteOther));
    }
    // A TTL that ends here is no reason not to ask: a packet for this host is local whatever its TTL.
    for ttl in [0, 1] {
        assert_eq!(of(Ipv4 { ttl, ..header() }), None);
    }
}

#[test]
fn ipv6_that_the_kernel_must_look_at() {
    let of = |header: Ipv6| refused(ETHERTYPE_IPV6, &header.packet(&udp6()));
    assert_eq!(of(header6()), None);
    let hop_by_hop = vec![Extension::hop_by_hop()];
    assert_eq!(
        of(Ipv6 {
            extensions: hop_by_hop,
            ..header6()
        }),
        Some(Reason::RouteOther)
    );
    let first = vec![Extension::destination_options(), Extension::hop_by_hop()];
    assert_eq!(
        of(Ipv6 {
            extensions: first,
            ..header6()
        }),
        None,
        "not where it belongs, not looked at"
    );
    for (source, is_odd) in [
        ("::", true),
        ("::1", true),
        ("::198.18.5.7", true),
        ("ff02::1", true),
        ("ff0e::1", true),
        ("ffff::", true),
        // Left to the look-up, which refuses them.
        ("fe80::1", false),
        ("fe00::1", false),
        ("fd00::1", false),
        ("0:0:1::", false),
        ("1::", false),
        ("::1:0:0", false),
        ("::ffff:198.18.5.7", false),
    ] {
        let source = source.parse().unwrap();
        assert_eq!(
            of(Ipv6 { source, ..header6() }),
            is_odd.then_some(Reason::RouteOther),
            "from {source}"
        );
        assert_eq!(
            of(Ipv6 {
                destination: source,
                ..header6()
            }),
            None,
            "to {source}"
        );
    }
}

#[test]
fn headers_that_are_cut_off_are_the_kernels() {
    let asked = |ethertype, packet: &[u8], first| {
        let bytes = Bytes::split(packet, first);
        forward::ask(&bytes, Be16::new(ethertype), 0, INGRESS, &mut used()).err()
    };
    let (v4, v6) = (header().packet(&udp4()), header6().packet(&udp6()));
    for first in 0..=v4.len() {
        assert_eq!(
            asked(ETHERTYPE_IPV4, &v4, first),
            (first < 20).then_some(Reason::RouteOther),
            "{first}"
        );
    }
    for first in 0..=v6.len() {
        assert_eq!(
            asked(ETHERTYPE_IPV6, &v6, first),
            (first < 40).then_some(Reason::RouteOther),
            "{first}"
        );
    }
}

proptest! {
    #![proptest_config(super::properties::config())]

    /// The checksum for one hop less is what a sender with that TTL would have computed.
    #[test]
    fn the_checksum_is_that_of_the_new_ttl(
        (tos, identification, ttl, protocol) in (any::<u8>(), any::<u16>(), 1..=u8::MAX, any::<u8>()),
        (source, destination) in (0x0100_0000..0x7f00_0000_u32, 0x8000_0000..0xe000_0000_u32),
        payload in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let (source, destination) = (Ipv4Addr::from_bits(source), Ipv4Addr::from_bits(destination));
        let header = Ipv4 { tos, identification, ttl, protocol, source, destination, ..Ipv4::default() };
        let (hop, _) = ask(ETHERTYPE_IPV4, &header.packet(&payload)).expect("a good packet");
        let next = Ipv4 { ttl: ttl - 1, ..header }.packet(&payload);
        prop_assert_eq!(&hop.check, &next[10..12]);
        prop_assert_eq!(hop.limit, ttl);
    }

    /// Zero has two forms in one's complement. Whichever the sender wrote, the next router finds a right one.
    #[test]
    fn either_form_of_zero_becomes_a_right_checksum(ttl in 1..=u8::MAX, protocol: u8) {
        let mut header = Ipv4 { ttl, protocol, ..header() };
        // The identification makes the checksum zero.
        header.identification = 0;
        let packet = header.packet(&[]);
        header.identification = u16::from_be_bytes([packet[10], packet[11]]);
        for checksum in [0, 0xffff] {
            header.checksum = Some(checksum);
            let mut packet = header.packet(&[]);
            prop_assert_eq!(internet_checksum(&packet[..20]), 0);
            let (hop, _) = ask(ETHERTYPE_IPV4, &packet).expect("a good packet");
            packet[8] -= 1;
            packet[10..12].copy_from_slice(&hop.check);
            prop_assert_eq!(internet_checksum(&packet[..20]), 0);
        }
    }

    #[test]
    fn arbitrary_bytes_are_asked_about_or_left(bytes in proptest::collection::vec(any::<u8>(), 0..120), v6: bool) {
        let ethertype = if v6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 };
        let refused = forward::ask(&Bytes::whole(&bytes), Be16::new(ethertype), 0, INGRESS, &mut used()).err();
        prop_assert!(matches!(refused, None | Some(Reason::RouteOther | Reason::RouteLocal)), "{refused:?}");
    }
}
