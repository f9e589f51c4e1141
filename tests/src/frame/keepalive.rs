//! GRE keepalives as routers send them.

use super::{Addresses, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Gre, Ipv4, Ipv6, Link, Outer, PROTOCOL_GRE, Packet};

/// A keepalive with this inner GRE header, through a tunnel from the first of the addresses to the second. Its payload is the
/// answer: IP and GRE the other way.
pub fn keepalive(ends: Addresses, gre: &Gre) -> Packet {
    let answer = gre.packet(&[]);
    let (outer, protocol, payload) = match ends {
        Addresses::V4(source, destination) => {
            let header = Ipv4 {
                source,
                destination,
                protocol: PROTOCOL_GRE,
                ttl: 255,
                ..Ipv4::default()
            };
            let back = Ipv4 {
                source: destination,
                destination: source,
                ..header.clone()
            };
            (Outer::V4(header), ETHERTYPE_IPV4, back.packet(&answer))
        }
        Addresses::V6(source, destination) => {
            let header = Ipv6 {
                source,
                destination,
                next_header: PROTOCOL_GRE,
                hop_limit: 255,
                ..Ipv6::default()
            };
            let back = Ipv6 {
                source: destination,
                destination: source,
                ..header.clone()
            };
            (Outer::V6(header), ETHERTYPE_IPV6, back.packet(&answer))
        }
    };
    Packet {
        link: Link::default(),
        outer,
        gre: Gre {
            protocol,
            ..Gre::default()
        },
        payload,
        padding: Vec::new(),
    }
}
