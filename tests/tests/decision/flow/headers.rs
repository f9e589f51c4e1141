//! Fragments, and what stands between an IP header and the ports.

use std::net::{Ipv4Addr, Ipv6Addr};

use gre_tests::frame::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Extension, Ipv4, PROTOCOL_ESP, PROTOCOL_TCP, PROTOCOL_UDP};

use super::{Flow, hash, other_ports};

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
