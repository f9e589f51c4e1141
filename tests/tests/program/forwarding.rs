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

use crate::kernel::{Kernel, XDP_REDIRECT, XDP_TX, load_or_return};
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

// Behind the macro that they use.
mod interface;
mod probes;
mod routed;
mod slots;
mod together;

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
