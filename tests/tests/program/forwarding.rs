//! Packets that tunnels forward, by the loaded program among a router's interfaces, routes and neighbours: the XDP action, every
//! byte and every counter.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, ensure};
use gre_common::hand_over::HandOver;
use gre_common::link::VlanTags;
use gre_common::sequence::SequenceState;
use gre_common::tunnel::Deliver;
use gre_common::{Reason, plain};
use gre_tests::frame::{
    Addresses, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_MPLS, ETHERTYPE_TEB, Extension, Gre,
    GreChecksum, Ipv4, Ipv6, Link, Outer, PROTOCOL_TCP, Packet, tcp_segment, udp_datagram,
};
use gre_tests::lab::Lab;

use crate::kernel::{XDP_REDIRECT, XDP_TX, load_or_return};
use crate::router::{NEXT_HOP, Router, To, UPSTREAM, Wanted};
use crate::support::outcome::{Counted, Counter};
use crate::support::split::{links, outers};

const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 5, 7);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x1805, 0, 0, 0, 0, 7);

/// Destinations by where they lead: see the routes of [`crate::router`].
const LAN: u8 = 2;
const SILENT: u8 = 3;
const SMALL: u8 = 4;
const DEAF: u8 = 5;
const BACK: u8 = 6;
const DENIED: [u8; 3] = [7, 8, 9];

/// One tunnel over IPv4, one over IPv6.
const ROUTE: &str = r#"
[[tunnel]]
name = "over4"
local = "198.51.100.20"
remote = "203.0.113.10"
deliver = "route"

[[tunnel]]
name = "over6"
local = "2001:db8:51::20"
remote = "2001:db8:113::10"
deliver = "route"
"#;

const INTERFACE: &str = r#"
[[tunnel]]
name = "over4"
local = "198.51.100.20"
remote = "203.0.113.10"
inner = ["ipv4", "ipv6", "ethernet", "mpls"]
deliver = { interface = "lan0" }

[[tunnel]]
name = "over6"
local = "2001:db8:51::20"
remote = "2001:db8:113::10"
inner = ["ipv4", "ipv6", "ethernet", "mpls"]
deliver = { interface = "lan0" }
"#;

macro_rules! router_or_return {
    ($config:expr, $to:expr) => {{
        load_or_return!();
        let lab = Lab::new()?;
        Router::new(&lab, $config, $to)?
    }};
}

fn v4(network: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, network, 80)
}

fn v6(network: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, network.into(), 0, 0, 0, 0, 0x80)
}

/// An IPv4 header to one of the router's networks.
fn header(network: u8, ttl: u8) -> Ipv4 {
    Ipv4 {
        source: CLIENT,
        destination: v4(network),
        ttl,
        tos: 0x18,
        ..Ipv4::default()
    }
}

fn header6(network: u8, hop_limit: u8) -> Ipv6 {
    Ipv6 {
        source: CLIENT6,
        destination: v6(network),
        hop_limit,
        traffic_class: 0x18,
        flow_label: 0xabcde,
        ..Ipv6::default()
    }
}

fn udp4() -> Vec<u8> {
    udp_datagram(Addresses::V4(CLIENT, v4(LAN)), b"clean traffic")
}

fn udp6() -> Vec<u8> {
    udp_datagram(Addresses::V6(CLIENT6, v6(LAN)), b"clean traffic")
}

/// An inner packet as it arrives and as it leaves after one hop.
#[derive(Clone, Debug)]
struct Inner {
    ethertype: u16,
    arrives: Vec<u8>,
    leaves: Vec<u8>,
}

impl Inner {
    fn v4(header: &Ipv4, payload: &[u8]) -> Self {
        let next = Ipv4 {
            ttl: header.ttl.wrapping_sub(1),
            ..header.clone()
        };
        Self {
            ethertype: ETHERTYPE_IPV4,
            arrives: header.packet(payload),
            leaves: next.packet(payload),
        }
    }

    fn v6(header: &Ipv6, payload: &[u8]) -> Self {
        let next = Ipv6 {
            hop_limit: header.hop_limit.wrapping_sub(1),
            ..header.clone()
        };
        Self {
            ethertype: ETHERTYPE_IPV6,
            arrives: header.packet(payload),
            leaves: next.packet(payload),
        }
    }

    /// To one of the router's networks, with this TTL.
    fn both(network: u8, ttl: u8) -> [Self; 2] {
        [
            Self::v4(&header(network, ttl), &udp4()),
            Self::v6(&header6(network, ttl), &udp6()),
        ]
    }
}

/// GRE around a payload, whose tunnel is the first over IPv4 and the second over IPv6.
fn packet(link: &Link, outer: &Outer, protocol: u16, payload: Vec<u8>) -> (u32, Packet) {
    let mut outer = outer.clone();
    outer.set_traffic_class(0);
    let tunnel = match outer {
        Outer::V4(_) => 1,
        Outer::V6(_) => 2,
    };
    let packet = Packet {
        link: link.clone(),
        outer,
        gre: Gre {
            protocol,
            ..Gre::default()
        },
        payload,
        padding: Vec::new(),
    };
    (tunnel, packet)
}

/// The payload under every outer header and tag.
fn everywhere(ethertype: u16, payload: &[u8]) -> Vec<(u32, Packet)> {
    let outers = outers();
    let outers = outers.iter().flat_map(|outer| links().map(move |link| (link, outer)));
    outers
        .map(|(link, outer)| packet(&link, outer, ethertype, payload.to_vec()))
        .collect()
}

/// The payload in the plainest packet.
fn plain(ethertype: u16, payload: &[u8]) -> Packet {
    let [first, ..] = outers();
    packet(&Link::default(), &first, ethertype, payload.to_vec()).1
}

impl Router {
    fn to_lan(&self, ethertype: u16, payload: &[u8]) -> Wanted {
        Wanted::sent(XDP_REDIRECT, NEXT_HOP, self.lan.mac, ethertype, payload)
    }

    fn back(&self, ethertype: u16, payload: &[u8]) -> Wanted {
        Wanted::sent(XDP_TX, UPSTREAM, self.wan.mac, ethertype, payload)
    }

    /// Checks that the kernel gets each of these whole and decapsulated, under every outer header and tag.
    fn leaves_to_kernel(&mut self, inner: &Inner, reason: Reason) -> Result<()> {
        for (tunnel, packet) in everywhere(inner.ethertype, &inner.arrives) {
            // Not even what is behind the inner packet is cut off.
            for trailing in [0, 3] {
                let mut packet = self.addressed(packet.clone());
                packet.payload.resize(packet.payload.len() + trailing, 0x77);
                let wanted = Wanted::kernels(&packet, reason);
                self.check(tunnel, &packet, &wanted).with_context(|| reason.name())?;
            }
        }
        Ok(())
    }

    fn drops(&mut self, inner: &Inner, reason: Reason) -> Result<()> {
        for (tunnel, packet) in everywhere(inner.ethertype, &inner.arrives) {
            let packet = self.addressed(packet);
            self.check(tunnel, &packet, &Wanted::dropped(reason))?;
        }
        Ok(())
    }

    /// Checks that these are sent on as they are to leave.
    fn sends(&mut self, inner: &Inner) -> Result<()> {
        let wanted = self.to_lan(inner.ethertype, &inner.leaves);
        let packet = self.addressed(plain(inner.ethertype, &inner.arrives));
        self.check(1, &packet, &wanted)
    }
}

/// Packets that a router forwards without looking closer.
fn forwardable() -> Vec<Inner> {
    let mut inners = Vec::new();
    for ttl in [2, 64, 255] {
        inners.extend(Inner::both(LAN, ttl));
    }
    let tcp = Ipv4 {
        protocol: PROTOCOL_TCP,
        identification: 0,
        dont_fragment: true,
        ..header(LAN, 7)
    };
    inners.push(Inner::v4(
        &tcp,
        &tcp_segment(Addresses::V4(CLIENT, v4(LAN)), &[9; 1301]),
    ));
    inners.push(Inner::v4(&header(LAN, 7), &[]));
    inners.push(Inner::v4(&header(LAN, 7).fragment(0, true), &udp4()));
    inners.push(Inner::v4(&header(LAN, 7).fragment(33, false), &udp4()));
    for extension in [
        Extension::destination_options(),
        Extension::fragment(0, true, 9),
        Extension::routing(),
    ] {
        let header = Ipv6 {
            extensions: vec![extension],
            ..header6(LAN, 7)
        };
        inners.push(Inner::v6(&header, &udp6()));
    }
    inners.push(Inner::v6(&header6(LAN, 7), &[]));
    inners
}

#[test]
fn routed_packets_leave_in_new_frames() -> Result<()> {
    let mut router = router_or_return!(ROUTE, &[]);
    for inner in forwardable() {
        let wanted = router.to_lan(inner.ethertype, &inner.leaves);
        for (tunnel, packet) in everywhere(inner.ethertype, &inner.arrives) {
            for (trailing, padding) in [(0, 0), (1, 0), (46, 0), (0, 1), (0, 46), (7, 300)] {
                let mut packet = router.addressed(packet.clone());
                packet.payload.resize(packet.payload.len() + trailing, 0x77);
                packet.padding = vec![0xee; padding];
                router.check(tunnel, &packet, &wanted)?;
            }
        }
    }
    Ok(())
}

/// GRE's optional fields are no part of what leaves.
#[test]
fn every_gre_header_is_taken_off() -> Result<()> {
    let config = ROUTE.replace("\ndeliver", "\nkey = 4200\ndeliver");
    let mut router = router_or_return!(&(ROUTE.to_owned() + &config.replace("over", "keyed")), &[]);
    for inner in Inner::both(LAN, 64) {
        let wanted = router.to_lan(inner.ethertype, &inner.leaves);
        for flags in 0..8 {
            for (tunnel, mut packet) in everywhere(inner.ethertype, &inner.arrives) {
                packet.gre.checksum = if flags & 4 == 0 {
                    GreChecksum::Absent
                } else {
                    GreChecksum::Right
                };
                packet.gre.key = (flags & 2 != 0).then_some(4200);
                packet.gre.sequence = (flags & 1 != 0).then_some(77);
                let packet = router.addressed(packet);
                let tunnel = if flags & 2 == 0 { tunnel } else { tunnel + 2 };
                router.check(tunnel, &packet, &wanted)?;
            }
        }
    }
    Ok(())
}

/// RFC 6040 first, then one hop less: the checksum covers both.
#[test]
fn congestion_is_told_on_the_next_link() -> Result<()> {
    let mut router = router_or_return!(ROUTE, &[]);
    for network in [LAN, SILENT] {
        let inners = |ecn: u8| {
            let (v4, v6) = (header(network, 64), header6(network, 64));
            [
                Inner::v4(&Ipv4 { tos: 0xb8 | ecn, ..v4 }, &udp4()),
                Inner::v6(
                    &Ipv6 {
                        traffic_class: 0xb8 | ecn,
                        ..v6
                    },
                    &udp6(),
                ),
            ]
        };
        for (outside, inside, combined) in [
            (0b11, 0b10, 0b11),
            (0b11, 0b01, 0b11),
            (0b01, 0b10, 0b01),
            (0b10, 0b01, 0b01),
        ] {
            for (sent, received) in inners(inside).into_iter().zip(inners(combined)) {
                for (tunnel, mut packet) in everywhere(sent.ethertype, &sent.arrives) {
                    packet.outer.set_traffic_class(outside);
                    let packet = router.addressed(packet);
                    let wanted = if network == LAN {
                        router.to_lan(sent.ethertype, &received.leaves)
                    } else {
                        let packet = Packet {
                            payload: received.arrives.clone(),
                            ..packet.clone()
                        };
                        Wanted::kernels(&packet, Reason::RouteNoNeighbour)
                    };
                    router.check(tunnel, &packet, &wanted)?;
                }
            }
        }
        for inner in inners(0) {
            let mut packet = router.addressed(plain(inner.ethertype, &inner.arrives));
            packet.outer.set_traffic_class(0b11);
            router.check(1, &packet, &Wanted::dropped(Reason::Ecn))?;
        }
    }
    Ok(())
}

#[test]
fn the_way_back_is_taken_at_once() -> Result<()> {
    let mut router = router_or_return!(ROUTE, &[]);
    for inner in Inner::both(BACK, 64) {
        let wanted = router.back(inner.ethertype, &inner.leaves);
        for (tunnel, packet) in everywhere(inner.ethertype, &inner.arrives) {
            let mut packet = router.addressed(packet);
            packet.payload.extend_from_slice(&[0x77; 5]);
            packet.padding = vec![0xee; 4];
            router.check(tunnel, &packet, &wanted)?;
        }
    }
    Ok(())
}

/// Whatever the routing tables answer, the kernel gets what it must act on, and nothing is dropped but where the operator says so.
#[test]
fn every_answer_of_the_routing_tables() -> Result<()> {
    let mut router = router_or_return!(ROUTE, &[]);
    for ttl in [2, 64] {
        for inner in Inner::both(SILENT, ttl) {
            router.leaves_to_kernel(&inner, Reason::RouteNoNeighbour)?;
        }
        for inner in Inner::both(DEAF, ttl) {
            router.leaves_to_kernel(&inner, Reason::RouteOther)?;
        }
    }
    for ttl in [0, 1] {
        // Whether it would otherwise be sent, or the next hop is silent, or the packet too big.
        for network in [LAN, BACK, SILENT] {
            for inner in Inner::both(network, ttl) {
                router.leaves_to_kernel(&inner, Reason::RouteTtl)?;
            }
        }
        let big = [
            Inner::v4(&header(SMALL, ttl), &[0; 1481]),
            Inner::v6(&header6(SMALL, ttl), &[0; 1461]),
        ];
        for inner in big {
            router.leaves_to_kernel(&inner, Reason::RouteTtl)?;
        }
    }
    for ttl in [1, 64] {
        for inner in DENIED.into_iter().flat_map(|network| Inner::both(network, ttl)) {
            router.drops(&inner, Reason::RouteDenied)?;
        }
        for address in [
            "198.51.100.20",
            "10.0.0.1",
            "10.0.0.255",
            "224.0.0.5",
            "255.255.255.255",
            "127.0.0.1",
            "0.0.0.0",
            "9.9.9.9",
        ] {
            let destination = address.parse()?;
            let inner = Inner::v4(
                &Ipv4 {
                    destination,
                    ..header(LAN, ttl)
                },
                &udp4(),
            );
            router.leaves_to_kernel(&inner, Reason::RouteLocal).context(address)?;
        }
        // The last but two are the subnet's anycast address, a link-local one, and one that no route leads to.
        for address in [
            "2001:db8:51::20",
            "2001:db8:a0::1",
            "ff0e::1",
            "ff02::5",
            "::1",
            "2001:db8:a0::",
            "fe80::9",
            "2001:db9::1",
        ] {
            let destination = address.parse()?;
            let inner = Inner::v6(
                &Ipv6 {
                    destination,
                    ..header6(LAN, ttl)
                },
                &udp6(),
            );
            router.leaves_to_kernel(&inner, Reason::RouteLocal).context(address)?;
        }
    }
    Ok(())
}

/// The MTU of the way out is what the inner packet is held against, by its own length.
#[test]
fn too_big_is_longer_than_the_mtu() -> Result<()> {
    let mut router = router_or_return!(ROUTE, &[]);
    for (fits, length) in [(true, 1499), (true, 1500), (false, 1501), (false, 2900)] {
        let inners = [
            Inner::v4(&header(SMALL, 64), &vec![1; length - 20]),
            Inner::v6(&header6(SMALL, 64), &vec![1; length - 40]),
        ];
        for inner in inners {
            if !fits {
                router.leaves_to_kernel(&inner, Reason::RouteTooBig)?;
                continue;
            }
            let mut packet = router.addressed(plain(inner.ethertype, &inner.arrives));
            packet.payload.extend_from_slice(&[0x77; 50]);
            let run = router.run(&packet.frame(), packet.frame().len())?;
            ensure!(run.action == XDP_REDIRECT, "{length} bytes: XDP action {}", run.action);
            ensure!(run.frame[14..] == inner.leaves, "{length} bytes: not the packet");
        }
    }
    Ok(())
}

#[test]
fn what_only_the_kernel_may_forward_is_left_to_it() -> Result<()> {
    let mut router = router_or_return!(ROUTE, &[]);
    let options = Ipv4 {
        options: vec![1; 4],
        ..header(LAN, 64)
    };
    let right = header(LAN, 64).packet(&udp4());
    let checksum = Some(u16::from_be_bytes([right[10], right[11]]) ^ 0x0100);
    let damaged = Ipv4 {
        checksum,
        ..header(LAN, 64)
    };
    let mut left = vec![Inner::v4(&options, &udp4()), Inner::v4(&damaged, &udp4())];
    for source in [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
    ] {
        let source = source.parse()?;
        left.push(Inner::v4(
            &Ipv4 {
                source,
                ..header(LAN, 64)
            },
            &udp4(),
        ));
    }
    let hop_by_hop = Ipv6 {
        extensions: vec![Extension::hop_by_hop()],
        ..header6(LAN, 64)
    };
    left.push(Inner::v6(&hop_by_hop, &udp6()));
    for source in ["::", "::1", "ff02::1"] {
        let source = source.parse()?;
        left.push(Inner::v6(
            &Ipv6 {
                source,
                ..header6(LAN, 64)
            },
            &udp6(),
        ));
    }
    for inner in left {
        router.leaves_to_kernel(&inner, Reason::RouteOther)?;
    }
    // Link-local sources the look-up refuses, as what is not to be forwarded.
    let source = "fe80::7".parse()?;
    let inner = Inner::v6(
        &Ipv6 {
            source,
            ..header6(LAN, 64)
        },
        &udp6(),
    );
    router.leaves_to_kernel(&inner, Reason::RouteLocal)
}

/// Forwarding is asked for on the interface that packets come in on, for each family by itself.
#[test]
fn without_forwarding_all_goes_to_the_kernel() -> Result<()> {
    let mut router = router_or_return!(ROUTE, &[]);
    let [v4, v6] = Inner::both(LAN, 64);
    for (family, off, on) in [("ipv4", &v4, &v6), ("ipv6", &v6, &v4)] {
        let setting = format!("net.{family}.conf.wan0.forwarding");
        router.namespace.sysctl(&setting, "0")?;
        router.leaves_to_kernel(off, Reason::RouteOther)?;
        router.sends(on)?;
        router.namespace.sysctl(&setting, "1")?;
        router.sends(off)?;
    }
    Ok(())
}

/// Rules see of a packet what they would see of one that the kernel forwards: each of these leads it into a blackhole.
#[test]
fn policy_rules_see_the_inner_packet() -> Result<()> {
    let mut router = router_or_return!(ROUTE, &[]);
    let inners = Inner::both(LAN, 64);
    for (inner, family, source, destination) in [
        (&inners[0], "-4", IpAddr::V4(CLIENT), IpAddr::V4(v4(LAN))),
        (&inners[1], "-6", CLIENT6.into(), v6(LAN).into()),
    ] {
        router
            .namespace
            .ip(&format!("{family} route add blackhole default table 100"))?;
        for (matching, other) in [
            (format!("from {source}"), format!("from {destination}")),
            (format!("to {destination}"), format!("to {source}")),
            ("iif wan0".to_owned(), "iif lan0".to_owned()),
            ("ipproto udp".to_owned(), "ipproto tcp".to_owned()),
            ("sport 40000".to_owned(), "sport 16540".to_owned()),
            ("dport 443".to_owned(), "dport 47873".to_owned()),
            ("tos 0x18".to_owned(), "tos 0x10".to_owned()),
        ] {
            let rule = |command: &str, what: &str| format!("{family} rule {command} {what} priority 10 lookup 100");
            router.namespace.ip(&rule("add", &other))?;
            router.sends(inner).with_context(|| other.clone())?;
            router.namespace.ip(&rule("del", &other))?;
            router.namespace.ip(&rule("add", &matching))?;
            router
                .drops(inner, Reason::RouteDenied)
                .with_context(|| matching.clone())?;
            router.namespace.ip(&rule("del", &matching))?;
        }
    }
    Ok(())
}

/// A gateway of the other family, by RFC 5549, is as good as any.
#[test]
fn ipv4_by_way_of_an_ipv6_gateway() -> Result<()> {
    let mut router = router_or_return!(ROUTE, &[]);
    router
        .namespace
        .ip("route replace 192.0.2.0/24 via inet6 2001:db8:a0::2 dev lan0")?;
    router.sends(&Inner::v4(&header(LAN, 64), &udp4()))
}

#[test]
fn to_an_interface_packets_leave_as_they_are() -> Result<()> {
    let mut router = router_or_return!(INTERFACE, &[To::Lan, To::Lan]);
    let mut inners = forwardable();
    // No route is looked up, no hop is counted, and nothing is looked at closely.
    for ttl in [0, 1] {
        inners.extend(Inner::both(LAN, ttl));
    }
    inners.extend(DENIED.into_iter().flat_map(|network| Inner::both(network, 64)));
    let options = Ipv4 {
        options: vec![1; 4],
        ..header(LAN, 64)
    };
    inners.push(Inner::v4(&options, &udp4()));
    let martian = Ipv4 {
        source: Ipv4Addr::LOCALHOST,
        ..header(LAN, 64)
    };
    inners.push(Inner::v4(&martian, &udp4()));
    for inner in inners {
        let wanted = router.to_lan(inner.ethertype, &inner.arrives);
        for (tunnel, packet) in everywhere(inner.ethertype, &inner.arrives) {
            for (trailing, padding) in [(0, 0), (5, 0), (0, 46), (7, 300)] {
                let mut packet = router.addressed(packet.clone());
                packet.payload.resize(packet.payload.len() + trailing, 0x77);
                packet.padding = vec![0xee; padding];
                router.check(tunnel, &packet, &wanted)?;
            }
        }
    }
    Ok(())
}

/// An inner frame leaves as it is, whatever is in it. An MPLS packet has no length of its own.
#[test]
fn to_an_interface_frames_and_labels_leave_too() -> Result<()> {
    let mut router = router_or_return!(INTERFACE, &[To::Lan, To::Lan]);
    let inner_link = Link {
        destination: [0x02, 0, 0, 0, 0xcc, 1],
        source: [0x02, 0, 0, 0, 0xcc, 2],
        tags: Vec::new(),
    };
    let [v4, v6] = Inner::both(LAN, 64);
    let frames = [
        inner_link.frame(ETHERTYPE_IPV4, &v4.arrives),
        inner_link.clone().tagged(0x8100, 9).frame(ETHERTYPE_IPV6, &v6.arrives),
        inner_link.frame(ETHERTYPE_ARP, &[7; 46]),
        inner_link.frame(ETHERTYPE_ARP, &[]),
    ];
    for frame in frames {
        for (tunnel, packet) in everywhere(ETHERTYPE_TEB, &frame) {
            let mut packet = router.addressed(packet);
            packet.padding = vec![0xee; 46];
            let wanted = Wanted {
                frame: frame.clone(),
                ..router.to_lan(ETHERTYPE_TEB, &[])
            };
            router.check(tunnel, &packet, &wanted)?;
        }
    }
    for payload in [
        vec![0, 1, 1, 64],
        [&[0, 1, 1, 64][..], &v4.arrives, &[0x77; 9]].concat(),
    ] {
        let wanted = router.to_lan(ETHERTYPE_MPLS, &payload);
        for (tunnel, packet) in everywhere(ETHERTYPE_MPLS, &payload) {
            let mut packet = router.addressed(packet);
            packet.padding = vec![0xee; 46];
            router.check(tunnel, &packet, &wanted)?;
        }
    }
    Ok(())
}

/// What a payload of each kind that is not sent on leaves to the kernel.
fn kinds() -> Vec<Inner> {
    let [v4, v6] = Inner::both(LAN, 64);
    let mpls = [&[0, 1, 1, 64][..], &v4.arrives].concat();
    let mpls = Inner {
        ethertype: ETHERTYPE_MPLS,
        leaves: mpls.clone(),
        arrives: mpls,
    };
    vec![v4, v6, mpls]
}

#[test]
fn to_an_interface_that_cannot_be_reached_now() -> Result<()> {
    for (to, reason) in [
        ([To::Nobody, To::Nobody], Reason::RouteNoNeighbour),
        ([To::Nowhere, To::Nowhere], Reason::RouteNoNeighbour),
        ([To::Deaf, To::Deaf], Reason::RouteOther),
    ] {
        let mut router = router_or_return!(INTERFACE, &to);
        for inner in kinds() {
            router.leaves_to_kernel(&inner, reason)?;
        }
        let frame = Link::default().frame(ETHERTYPE_IPV4, &kinds()[0].arrives);
        for (tunnel, packet) in everywhere(ETHERTYPE_TEB, &frame) {
            let packet = router.addressed(packet);
            let mut wanted = Wanted {
                frame: frame.clone(),
                reason: Some(reason),
                ..Wanted::kernels(&packet, reason)
            };
            // Such a frame needs no next hop.
            if let [To::Nobody, _] = to {
                wanted = Wanted {
                    frame: frame.clone(),
                    ..router.to_lan(ETHERTYPE_TEB, &[])
                };
            }
            router.check(tunnel, &packet, &wanted)?;
        }
    }
    Ok(())
}

#[test]
fn to_the_interface_that_it_came_from() -> Result<()> {
    let mut router = router_or_return!(INTERFACE, &[To::Back, To::Back]);
    for inner in kinds() {
        let wanted = router.back(inner.ethertype, &inner.arrives);
        for (tunnel, packet) in everywhere(inner.ethertype, &inner.arrives) {
            let packet = router.addressed(packet);
            router.check(tunnel, &packet, &wanted)?;
        }
    }
    let frame = Link::default().frame(ETHERTYPE_IPV4, &kinds()[0].arrives);
    let packet = router.addressed(plain(ETHERTYPE_TEB, &frame));
    let wanted = Wanted {
        frame,
        ..router.back(ETHERTYPE_TEB, &[])
    };
    router.check(1, &packet, &wanted)
}

/// Trap 23: what promiscuous mode and flooding bring in is not forwarded, nor changed.
#[test]
fn frames_for_others_are_not_forwarded() -> Result<()> {
    for (config, to) in [(ROUTE, &[][..]), (INTERFACE, &[To::Lan, To::Lan])] {
        let mut router = router_or_return!(config, to);
        let own = router.wan.mac;
        let mut near = own;
        near[5] ^= 1;
        for inner in Inner::both(LAN, 64) {
            for (tunnel, mut packet) in everywhere(inner.ethertype, &inner.arrives) {
                for mac in [
                    near,
                    router.lan.mac,
                    [0xff; 6],
                    [1, 0, 0x5e, 0, 0, 1],
                    [0x33, 0x33, 0, 0, 0, 1],
                ] {
                    packet.link.destination = mac;
                    router.check(tunnel, &packet, &Wanted::passed(&packet, Reason::OtherHost))?;
                }
            }
            router.sends(&if config == ROUTE {
                inner
            } else {
                Inner {
                    leaves: inner.arrives.clone(),
                    ..inner
                }
            })?;
        }
    }
    Ok(())
}

/// Every delivery in one program, each tunnel its own.
#[test]
fn tunnels_deliver_side_by_side() -> Result<()> {
    let tunnel = |key: u32, lines: &str| {
        let name = format!("name = \"key{key}\"\nkey = {key}\n{lines}");
        format!("[[tunnel]]\nlocal = \"198.51.100.20\"\nremote = \"203.0.113.10\"\n{name}\n")
    };
    let interface = "deliver = { interface = \"lan0\" }";
    let config = [
        tunnel(1, ""),
        tunnel(2, "deliver = \"route\""),
        tunnel(3, interface),
        tunnel(4, "spread = \"0\""),
        tunnel(5, "deliver = \"route\"\nspread = \"0\""),
        tunnel(6, &format!("{interface}\nspread = \"0\"")),
    ];
    let mut router = router_or_return!(&config.concat(), &[To::Nowhere, To::Nowhere, To::Lan]);
    for inner in Inner::both(LAN, 64) {
        let mut packet = router.addressed(plain(inner.ethertype, &inner.arrives));
        let to_stack = Wanted {
            reason: None,
            ..Wanted::kernels(&packet, Reason::RouteOther)
        };
        let routed = router.to_lan(inner.ethertype, &inner.leaves);
        let sent = router.to_lan(inner.ethertype, &inner.arrives);
        for (key, wanted) in [(1, to_stack), (2, routed), (3, sent)] {
            packet.gre.key = Some(key);
            router.check(key, &packet, &wanted)?;
        }
        for key in [4, 5, 6] {
            packet.gre.key = Some(key);
            let run = router.run(&packet.frame(), packet.frame().len())?;
            let hand_over: HandOver = plain::load(&run.frame, 0).context("what is handed over")?;
            ensure!(run.action == XDP_REDIRECT && run.counted.is_empty() && hand_over.tunnel == key);
        }
    }
    Ok(())
}

/// Wherever the first buffer ends behind the headers.
#[test]
fn packets_in_several_buffers() -> Result<()> {
    const INNER_HEADER: usize = 40;
    let mut routing = router_or_return!(ROUTE, &[]);
    if !routing.kernel.can_split()? {
        let missing = "a kernel that test-runs frames with a first buffer of a given size (Linux 6.18)";
        gre_tests::skip::skip(module_path!(), missing);
        return Ok(());
    }
    let mut delivering = router_or_return!(INTERFACE, &[To::Lan, To::Lan]);
    for length in [100, 1400, 4097, 9001, 60_000] {
        let payload: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
        for inner in [
            Inner::v4(&header(LAN, 64), &payload),
            Inner::v6(&header6(LAN, 64), &payload),
        ] {
            for (tunnel, packet) in everywhere(inner.ethertype, &inner.arrives) {
                for (trailing, padding) in [(0, 0), (5, 46), (3000, 0), (0, 4000)] {
                    let mut packet = packet.clone();
                    packet.payload.resize(packet.payload.len() + trailing, 0x77);
                    packet.padding = vec![0xee; padding];
                    let headers = packet.payload_offset() + INNER_HEADER;
                    for first in [headers, headers + 1, 600, 3000] {
                        let first = first.clamp(headers, packet.frame().len());
                        let routed = routing.addressed(packet.clone());
                        let wanted = routing.to_lan(inner.ethertype, &inner.leaves);
                        routing.check_split(tunnel, &routed, first, &wanted)?;
                        let delivered = delivering.addressed(packet.clone());
                        let wanted = delivering.to_lan(inner.ethertype, &inner.arrives);
                        delivering.check_split(tunnel, &delivered, first, &wanted)?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// What was known before the packet was handed over is counted after it.
#[test]
fn a_restarted_sender_is_counted_where_its_packet_is() -> Result<()> {
    let config = ROUTE.replace("\ndeliver", "\nsequence = \"ordered\"\ndeliver");
    let mut router = router_or_return!(&config, &[]);
    for inner in Inner::both(LAN, 64) {
        for (tunnel, mut packet) in everywhere(inner.ethertype, &inner.arrives) {
            packet.gre.sequence = Some(5);
            let packet = router.addressed(packet);
            // Long ago a packet was accepted whose number was higher.
            let cursor = 1 << 32 | 1000;
            router.kernel.set_sequences(SequenceState { cursor, accepted_at: 0 })?;
            let run = router.run(&packet.frame(), packet.frame().len())?;
            let counted = Counted::from([
                ((tunnel, Counter::Packets), 1),
                ((tunnel, Counter::Bytes), inner.arrives.len() as u64),
                ((tunnel, Counter::OuterBytes), packet.ip_packet().len() as u64),
                ((tunnel, Counter::of(Reason::SequenceRestart)), 1),
            ]);
            ensure!(
                (run.action, &run.counted) == (XDP_REDIRECT, &counted),
                "{}: {:?}",
                run.action,
                run.counted
            );
        }
    }
    Ok(())
}

/// On the way to another core the frame is as it will be, but for what must be known there, in front; it is counted there.
#[test]
fn spread_packets_are_handed_over() -> Result<()> {
    for (line, deliver) in [
        ("", Deliver::Stack),
        ("deliver = \"route\"", Deliver::Route),
        ("deliver = { interface = \"lan0\" }", Deliver::Interface),
    ] {
        let config = INTERFACE.replace(
            "deliver = { interface = \"lan0\" }",
            &format!("{line}\nspread = \"0\"\nsequence = \"ordered\""),
        );
        let all = ["ipv4", "ipv6", "ethernet", "mpls"]
            .map(|kind| format!("\"{kind}\""))
            .join(", ");
        let config = if deliver == Deliver::Route {
            config.replace(&all, "\"ipv4\", \"ipv6\"")
        } else {
            config
        };
        let mut router = router_or_return!(&config, &[]);
        let mut inners = kinds();
        let frame = Link::default().frame(ETHERTYPE_IPV4, &inners[0].arrives);
        inners.push(Inner {
            ethertype: ETHERTYPE_TEB,
            leaves: frame.clone(),
            arrives: frame,
        });
        if deliver == Deliver::Route {
            inners.truncate(2);
        }
        for inner in inners {
            for (tunnel, packet) in everywhere(inner.ethertype, &inner.arrives) {
                for restart in [false, true] {
                    let mut packet = router.addressed(packet.clone());
                    packet.gre.sequence = Some(5);
                    packet.payload.extend_from_slice(&[0x77; 3]);
                    packet.padding = vec![0xee; 46];
                    let cursor = 1 << 32 | if restart { 1000 } else { 5 };
                    router.kernel.set_sequences(SequenceState { cursor, accepted_at: 0 })?;
                    let run = router.run(&packet.frame(), packet.frame().len())?;
                    ensure!(run.action == XDP_REDIRECT, "XDP action {}", run.action);
                    ensure!(run.counted.is_empty(), "counted too early: {:?}", run.counted);

                    let hand_over: HandOver = plain::load(&run.frame, 0).context("what is handed over")?;
                    let is_ethernet = inner.ethertype == ETHERTYPE_TEB;
                    let tags = [VlanTags::None, VlanTags::One, VlanTags::Two][packet.link.tags.len()];
                    let overhead = packet.ip_packet().len() - packet.payload.len();
                    let known = (
                        hand_over.tunnel,
                        hand_over.overhead() as usize,
                        hand_over.deliver(),
                        hand_over.tags(),
                        hand_over.is_ethernet(),
                        hand_over.restart(),
                    );
                    ensure!(
                        known == (tunnel, overhead, deliver, tags, is_ethernet, restart),
                        "{known:?}"
                    );
                    let frame = if is_ethernet {
                        packet.payload.clone()
                    } else {
                        packet.link.frame(inner.ethertype, &packet.payload)
                    };
                    ensure!(run.frame[8..] == frame, "not the decapsulated frame");
                }
            }
        }
    }
    Ok(())
}
