//! Frames into the router, one at a time, and all that comes out of it for each.

use std::cell::Cell;
use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use gre_tests::frame::{
    Addresses, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Gre, Ipv4, Ipv6, Link, Mac, Outer, PROTOCOL_GRE,
    PROTOCOL_ICMP, PROTOCOL_ICMPV6, Packet, TPID_8021Q, Tag, echo_request, udp_datagram,
};
use gre_tests::lab::{Captured, Wire};
use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

use crate::net::{CENTRE_V4, CENTRE_V6, CLIENT_V4, CLIENT_V6, Net, ROUTER_V4, ROUTER_V6, SERVER_V4, SERVER_V6, gre_v6};

/// IP protocol number of IGMP.
const PROTOCOL_IGMP: u8 = 2;
/// Shortest Ethernet frame, without its check sequence.
const SHORTEST: usize = 60;

/// How an inner packet comes to the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// By the tunnel over IPv4.
    V4,
    /// By the tunnel over IPv6, with key and checksum.
    V6,
    /// By the tunnel over IPv4, in a frame with this 802.1Q tag.
    Tagged(u16),
    /// By the tunnel over IPv4, in a frame filled up to the shortest that Ethernet has.
    Padded,
}

/// The wires on both sides of the router.
pub(crate) struct Bench<'a> {
    pub(crate) net: &'a Net,
    /// The centre's end of the wire that GRE comes by.
    pub(crate) centre: Wire,
    /// The server's end of its wire.
    pub(crate) server: Wire,
    markers: Cell<u32>,
    _one_core: OneCore,
}

/// Keeps the calling thread on one core while this lives: what it sends stays in order. (Without NAPI, which a veth does not run
/// in generic mode, frames queue up at the core that sent them.)
struct OneCore {
    before: CpuSet,
}

impl OneCore {
    fn new() -> Result<Self> {
        let this_thread = Pid::from_raw(0);
        let before = sched_getaffinity(this_thread).context("the cores of this thread")?;
        let mut one = CpuSet::new();
        one.set(sched_getcpu().context("the core of this thread")?)?;
        sched_setaffinity(this_thread, &one).context("stay on one core")?;
        Ok(Self { before })
    }
}

impl Drop for OneCore {
    fn drop(&mut self) {
        if let Err(error) = sched_setaffinity(Pid::from_raw(0), &self.before) {
            eprintln!("leave the one core: {error}");
        }
    }
}

/// What has come out of the router for a frame, the kernel's own housekeeping left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) server: Vec<Vec<u8>>,
    pub(crate) centre: Vec<Vec<u8>>,
}

impl<'a> Bench<'a> {
    pub(crate) fn open(net: &'a Net) -> Result<Self> {
        net.fix_neighbours()?;
        Ok(Self {
            net,
            centre: Wire::open(&net.centre, "wan")?,
            server: Wire::open(&net.server, "eth0")?,
            markers: Cell::new(0),
            _one_core: OneCore::new()?,
        })
    }

    /// The frame that brings an inner packet to the router.
    pub(crate) fn frame(&self, way: Way, protocol: u16, inner: &[u8]) -> Vec<u8> {
        frame(self.net, way, protocol, inner)
    }

    /// The same, layer by layer.
    pub(crate) fn packet(&self, way: Way, protocol: u16, inner: &[u8]) -> Packet {
        packet(self.net, way, protocol, inner)
    }

    /// Sends a frame to the router, and returns all that comes out for it.
    pub(crate) fn pass(&self, frame: &[u8]) -> Result<Seen> {
        self.centre.send(frame)?;
        let mut seen = self.settle()?;
        // GRO at the server may hold a frame until the markers behind it have gone by, but not until the next ones.
        let more = self.settle()?;
        seen.server.extend(more.server);
        seen.centre.extend(more.centre);
        Ok(seen)
    }

    /// Sends a marker by each way that a packet can take through the router, and returns all that comes before them.
    pub(crate) fn settle(&self) -> Result<Seen> {
        self.markers.set(self.markers.get() + 1);
        let text = |what: &str| format!("marker {}: {what}", self.markers.get()).into_bytes();
        let datagram = |text: &[u8]| {
            let header = Ipv4 {
                source: CLIENT_V4,
                destination: SERVER_V4,
                ..Ipv4::default()
            };
            header.packet(&udp_datagram(Addresses::V4(CLIENT_V4, SERVER_V4), text))
        };
        let (kernel, program, answer) = (text("by the kernel"), text("by the program"), text("to be answered"));
        self.centre
            .send(&link(self.net).frame(ETHERTYPE_IPV4, &datagram(&kernel)))?;
        self.centre
            .send(&self.frame(Way::V4, ETHERTYPE_IPV4, &datagram(&program)))?;
        let request = Ipv4 {
            source: CENTRE_V4,
            destination: ROUTER_V4,
            protocol: PROTOCOL_ICMP,
            ..Ipv4::default()
        };
        let request = request.packet(&echo_request(Addresses::V4(CENTRE_V4, ROUTER_V4), &answer));
        self.centre.send(&link(self.net).frame(ETHERTYPE_IPV4, &request))?;

        let mut waiting = vec![kernel.as_slice(), program.as_slice()];
        let server = self.server.until("both markers", |frame| {
            waiting.retain(|marker| !incoming(frame, marker));
            waiting.is_empty()
        })?;
        let centre = self
            .centre
            .until("the answered marker", |frame| incoming(frame, &answer))?;
        let others = |frames: Vec<Captured>| {
            let frames = frames.into_iter().filter(|frame| {
                let marker = [&kernel, &program, &answer]
                    .iter()
                    .any(|marker| frame.bytes.ends_with(marker));
                !frame.outgoing && !marker && !is_housekeeping(&frame.bytes)
            });
            frames.map(|frame| frame.bytes).collect()
        };
        Ok(Seen {
            server: others(server),
            centre: others(centre),
        })
    }
}

/// The frame that brings an inner packet from the centre to the router.
pub(crate) fn frame(net: &Net, way: Way, protocol: u16, inner: &[u8]) -> Vec<u8> {
    packet(net, way, protocol, inner).frame()
}

/// The same, layer by layer.
fn packet(net: &Net, way: Way, protocol: u16, inner: &[u8]) -> Packet {
    let tags = match way {
        Way::Tagged(tci) => vec![Tag { tpid: TPID_8021Q, tci }],
        _ => Vec::new(),
    };
    let (outer, gre) = if way == Way::V6 {
        (Outer::V6(outer_v6()), gre_v6())
    } else {
        (Outer::V4(outer_v4()), Gre::default())
    };
    let mut packet = Packet {
        link: Link { tags, ..link(net) },
        outer,
        gre: Gre { protocol, ..gre },
        payload: inner.to_vec(),
        padding: Vec::new(),
    };
    if way == Way::Padded {
        packet.padding = vec![0xee; SHORTEST.saturating_sub(packet.frame().len())];
    }
    packet
}

/// From the centre to the router.
fn link(net: &Net) -> Link {
    Link {
        destination: net.wan.1.mac,
        source: net.wan.0.mac,
        tags: Vec::new(),
    }
}

fn incoming(frame: &Captured, end: &[u8]) -> bool {
    !frame.outgoing && frame.bytes.ends_with(end)
}

/// ARP, neighbour discovery and multicast membership.
pub(crate) fn is_housekeeping(frame: &[u8]) -> bool {
    let byte = |at: usize| frame.get(at).copied().unwrap_or(0);
    match u16::from_be_bytes([byte(12), byte(13)]) {
        ETHERTYPE_ARP => true,
        ETHERTYPE_IPV4 => byte(23) == PROTOCOL_IGMP,
        // RFC 4861, types 133 to 136; RFC 3810, behind a hop-by-hop header of 8 bytes, type 143.
        ETHERTYPE_IPV6 => {
            byte(20) == PROTOCOL_ICMPV6 && (133..=136).contains(&byte(54))
                || byte(20) == 0 && byte(54) == PROTOCOL_ICMPV6 && byte(62) == 143
        }
        _ => false,
    }
}

pub(crate) fn outer_v4() -> Ipv4 {
    Ipv4 {
        source: CENTRE_V4,
        destination: ROUTER_V4,
        protocol: PROTOCOL_GRE,
        dont_fragment: true,
        ..Ipv4::default()
    }
}

pub(crate) fn outer_v6() -> Ipv6 {
    Ipv6 {
        source: CENTRE_V6,
        destination: ROUTER_V6,
        next_header: PROTOCOL_GRE,
        ..Ipv6::default()
    }
}

/// A header of a datagram from the client to the server.
pub(crate) fn inner_v4() -> Ipv4 {
    Ipv4 {
        source: CLIENT_V4,
        destination: SERVER_V4,
        ..Ipv4::default()
    }
}

/// A header of a datagram from the client to the server.
pub(crate) fn inner_v6() -> Ipv6 {
    Ipv6 {
        source: CLIENT_V6,
        destination: SERVER_V6,
        ..Ipv6::default()
    }
}

/// A datagram under a header, for the header's addresses.
pub(crate) fn datagram_v4(header: &Ipv4, data: &[u8]) -> Vec<u8> {
    header.packet(&udp_datagram(Addresses::V4(header.source, header.destination), data))
}

/// A datagram under a header, for the header's addresses.
pub(crate) fn datagram_v6(header: &Ipv6, data: &[u8]) -> Vec<u8> {
    header.packet(&udp_datagram(Addresses::V6(header.source, header.destination), data))
}

/// The Ethernet frame as a router passes it on: these addresses, TTL or hop limit one lower, the checksum with it, and the
/// bytes behind the packet cut off.
pub(crate) fn forwarded(packet: &[u8], to: Mac, from: Mac) -> Result<Vec<u8>> {
    let link = Link {
        destination: to,
        source: from,
        tags: Vec::new(),
    };
    let mut packet = packet.to_vec();
    let byte = |at: usize| packet.get(at).copied().context("a whole header");
    if byte(0)? >> 4 == 4 {
        packet.truncate(usize::from(u16::from_be_bytes([byte(2)?, byte(3)?])));
        packet[8] -= 1;
        // RFC 1624 for a field that falls by 0x0100; the carry goes around.
        let sum = u32::from(u16::from_be_bytes([packet[10], packet[11]])) + 0x0100;
        packet[10..12].copy_from_slice(&((sum + (sum >> 16)) as u16).to_be_bytes());
        Ok(link.frame(ETHERTYPE_IPV4, &packet))
    } else {
        packet.truncate(40 + usize::from(u16::from_be_bytes([byte(4)?, byte(5)?])));
        packet[7] -= 1;
        Ok(link.frame(ETHERTYPE_IPV6, &packet))
    }
}

/// Bytes in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The addresses of the networks that inner packets are made of, for those who want others.
pub(crate) const NOWHERE_V4: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);
pub(crate) const NOWHERE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xdead, 0, 0, 0, 0, 1);
