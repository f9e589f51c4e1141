//! Good packets, and what must become of them wherever the first buffer ends (row 17).

use std::net::{Ipv4Addr, Ipv6Addr};

use gre_common::{Delivery, Reason, Verdict};
use gre_tests::frame::{
    Addresses, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_MPLS, ETHERTYPE_TEB, Extension, Gre, GreChecksum, Ipv4, Ipv6,
    Link, Outer, PROTOCOL_GRE, Packet, TPID_8021AD, TPID_8021Q, udp_datagram,
};

const LOCAL_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 20);
const REMOTE_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
const LOCAL_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 0x20);
const REMOTE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x10);
const KEY: u32 = 4200;

/// A tunnel for every packet made here.
pub(crate) const CONFIG: &str = r#"
[[tunnel]]
name = "plain4"
local = "198.51.100.20"
remote = "203.0.113.10"
inner = ["ipv4", "ipv6", "ethernet", "mpls"]

[[tunnel]]
name = "keyed4"
local = "198.51.100.20"
remote = "203.0.113.10"
key = 4200
inner = ["ipv4", "ipv6", "ethernet", "mpls"]

[[tunnel]]
name = "plain6"
local = "2001:db8:51::20"
remote = "2001:db8:113::10"
inner = ["ipv4", "ipv6", "ethernet", "mpls"]

[[tunnel]]
name = "keyed6"
local = "2001:db8:51::20"
remote = "2001:db8:113::10"
key = 4200
inner = ["ipv4", "ipv6", "ethernet", "mpls"]
"#;

/// A packet that is delivered if its headers lie in the first buffer.
pub(crate) struct Splittable {
    /// The whole frame.
    pub(crate) frame: Vec<u8>,
    /// With fewer bytes in the first buffer there is no telling that it is GRE, or whose.
    known: usize,
    /// With as many or more it can be delivered: all headers are there.
    complete: usize,
}

impl Splittable {
    fn new(packet: &Packet) -> Self {
        let known = match &packet.outer {
            Outer::V4(_) => packet.ip_offset() + 20,
            Outer::V6(header) => match header.extensions.last() {
                None => packet.ip_offset() + 40,
                // The last extension header's first byte names GRE, its second says how far to go for it.
                Some(last) => packet.gre_offset() - last.len() + 2,
            },
        };
        let inner_header = match packet.gre.protocol {
            ETHERTYPE_IPV4 => 20,
            ETHERTYPE_IPV6 => 40,
            ETHERTYPE_TEB => 14,
            _ => 4,
        };
        Self {
            frame: packet.frame(),
            known,
            complete: packet.payload_offset() + inner_header,
        }
    }

    /// Whether `verdict` is right with `first` bytes in the first buffer, where `whole` is the verdict with all there.
    ///
    /// # Errors
    /// What would have been right.
    pub(crate) fn judge(&self, first: usize, whole: &Delivery, verdict: &Verdict) -> Result<(), String> {
        let (right, wanted) = if first < self.known {
            (*verdict == Verdict::NotOurs, "not known as ours")
        } else if first < self.complete {
            let reason = Reason::Headroom;
            let right = matches!(verdict, Verdict::Refuse { tunnel, reason: got } if *got == reason && [0, whole.tunnel].contains(tunnel));
            (right, "left alone for want of headers")
        } else {
            (*verdict == Verdict::Deliver(*whole), "delivered as if whole")
        };
        if right {
            Ok(())
        } else {
            Err(format!("wanted {wanted}, got {verdict:?}"))
        }
    }
}

/// Both outer families under no, one and two tags, IPv4 options and IPv6 extension headers, every set of GRE's optional
/// fields, every kind of payload; all with ECN to carry over and padding to cut.
pub(crate) fn packets() -> Vec<Splittable> {
    let mut packets = Vec::new();
    for link in links() {
        for outer in outers() {
            for flags in 0..8 {
                for (protocol, payload) in payloads() {
                    packets.push(Splittable::new(&Packet {
                        link: link.clone(),
                        outer: outer.clone(),
                        gre: gre(flags, protocol),
                        payload,
                        padding: vec![0xee; 7],
                    }));
                }
            }
        }
    }
    packets
}

/// No, one and two tags.
pub(crate) fn links() -> [Link; 3] {
    [
        Link::default(),
        Link::default().tagged(TPID_8021Q, 0x2064),
        Link::default().tagged(TPID_8021AD, 7).tagged(TPID_8021Q, 0x2064),
    ]
}

/// Outer headers that are marked with congestion, without and with options or extension headers.
pub(crate) fn outers() -> [Outer; 4] {
    let v4 = Ipv4 {
        source: REMOTE_V4,
        destination: LOCAL_V4,
        protocol: PROTOCOL_GRE,
        tos: 0b11,
        ..Ipv4::default()
    };
    let v6 = Ipv6 {
        source: REMOTE_V6,
        destination: LOCAL_V6,
        next_header: PROTOCOL_GRE,
        traffic_class: 0b11,
        ..Ipv6::default()
    };
    let with_options = Ipv4 {
        options: vec![1; 7],
        ..v4.clone()
    };
    let with_extensions = Ipv6 {
        extensions: vec![Extension::hop_by_hop(), Extension::tunnel_encapsulation_limit()],
        ..v6.clone()
    };
    [
        Outer::V4(v4),
        Outer::V4(with_options),
        Outer::V6(v6),
        Outer::V6(with_extensions),
    ]
}

fn gre(flags: u8, protocol: u16) -> Gre {
    Gre {
        checksum: if flags & 4 == 0 {
            GreChecksum::Absent
        } else {
            GreChecksum::Right
        },
        key: (flags & 2 != 0).then_some(KEY),
        sequence: (flags & 1 != 0).then_some(77),
        protocol,
        ..Gre::default()
    }
}

fn payloads() -> [(u16, Vec<u8>); 4] {
    let v4 = Ipv4 {
        tos: 0b10,
        ..Ipv4::default()
    };
    let v6 = Ipv6 {
        traffic_class: 0b01,
        ..Ipv6::default()
    };
    let v4_packet = v4.packet(&udp_datagram(Addresses::V4(v4.source, v4.destination), b"payload"));
    let v6_packet = v6.packet(&udp_datagram(Addresses::V6(v6.source, v6.destination), b"payload"));
    [
        (ETHERTYPE_TEB, Link::default().frame(ETHERTYPE_IPV4, &v4_packet)),
        (
            ETHERTYPE_MPLS,
            [vec![0x00, 0x01, 0x01, 0x40], v4_packet.clone()].concat(),
        ),
        (ETHERTYPE_IPV4, v4_packet),
        (ETHERTYPE_IPV6, v6_packet),
    ]
}
