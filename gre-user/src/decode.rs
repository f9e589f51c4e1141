//! What a frame is, layer by layer, for people and JSON: the outer packet, GRE, and what that carries. It says what it can of
//! frames that are damaged or cut short.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};
use gre_common::endian::{Be16, Be32};
use gre_common::gre::{CHECKSUM, KEY, ROUTING, SEQUENCE, VERSION};
use gre_common::link::{
    ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, ETHER_TYPE_MPLS_MULTICAST, ETHER_TYPE_MPLS_UNICAST, ETHER_TYPE_TEB,
};
use gre_common::plain::load;
use serde::Serialize;

/// IP protocol 47.
const PROTOCOL_GRE: u8 = 47;

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decoded {
    /// Its VLAN ids, the outermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vlans: Vec<u16>,
    /// Its IP packet, if it has one whose header can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outer: Option<Ip>,
    /// The GRE header in that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gre: Option<Gre>,
    /// The IP packet in that, or in the Ethernet frame in that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inner: Option<Ip>,
}

/// An IP packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ip {
    /// Its source.
    pub source: IpAddr,
    /// Its destination.
    pub destination: IpAddr,
    /// The number of what it carries, after extension headers.
    pub protocol: u8,
    /// Whether it is a fragment.
    pub fragment: bool,
    /// Bytes of the whole packet, as its header says.
    pub length: u32,
    /// The source port of TCP and UDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    /// Their destination port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<u16>,
    /// TCP's flags, as tcpdump writes them: "S", "S.", "F.", "R", "P.", ".".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_flags: Option<String>,
}

/// A GRE header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gre {
    /// Its version.
    pub version: u8,
    /// The protocol type of what it carries.
    pub protocol: u16,
    /// Whether it has a checksum.
    pub checksum: bool,
    /// Its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<u32>,
    /// Its sequence number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u32>,
    /// Whether the routing bit of RFC 1701 is set.
    pub routing: bool,
}

impl Decoded {
    /// Decodes a frame, given from its destination MAC address on, or its first bytes.
    pub fn of(frame: &[u8]) -> Self {
        let mut decoded = Self {
            vlans: Vec::new(),
            outer: None,
            gre: None,
            inner: None,
        };
        let Ok(sliced) = LaxSlicedPacket::from_ethernet(frame) else {
            return decoded;
        };
        decoded.vlans = sliced.vlan_ids().into_iter().map(|id| id.value()).collect();
        decoded.outer = Ip::of(&sliced);
        let Some(payload) = sliced.ip_payload() else {
            return decoded;
        };
        if payload.ip_number.0 != PROTOCOL_GRE || payload.fragmented {
            return decoded;
        }
        if let Some((gre, carried)) = Gre::split(payload.payload) {
            decoded.inner = gre.inner(carried);
            decoded.gre = Some(gre);
        }
        decoded
    }
}

impl Ip {
    fn of(sliced: &LaxSlicedPacket<'_>) -> Option<Self> {
        let net = sliced.net.as_ref()?;
        let payload = net.ip_payload_ref()?;
        let (source, destination, length) = match net {
            LaxNetSlice::Ipv4(ip) => {
                let header = ip.header();
                let (source, destination) = (header.source_addr().into(), header.destination_addr().into());
                (source, destination, header.total_len().into())
            }
            LaxNetSlice::Ipv6(ip) => {
                let header = ip.header();
                let (source, destination) = (header.source_addr().into(), header.destination_addr().into());
                let length = u32::from(header.payload_length()) + header.slice().len() as u32;
                (source, destination, length)
            }
            LaxNetSlice::Arp(_) => return None,
        };
        let (ports, tcp_flags) = match &sliced.transport {
            Some(TransportSlice::Tcp(tcp)) => (Some((tcp.source_port(), tcp.destination_port())), Some(flags(tcp))),
            Some(TransportSlice::Udp(udp)) => (Some((udp.source_port(), udp.destination_port())), None),
            _ => (None, None),
        };
        Some(Self {
            source,
            destination,
            protocol: payload.ip_number.0,
            fragment: payload.fragmented,
            length,
            source_port: ports.map(|(source, _)| source),
            destination_port: ports.map(|(_, destination)| destination),
            tcp_flags,
        })
    }
}

/// TCP's flags as tcpdump writes them.
fn flags(tcp: &etherparse::TcpSlice<'_>) -> String {
    let flags = [
        (tcp.syn(), 'S'),
        (tcp.fin(), 'F'),
        (tcp.rst(), 'R'),
        (tcp.psh(), 'P'),
        (tcp.urg(), 'U'),
        (tcp.ece(), 'E'),
        (tcp.cwr(), 'W'),
        (tcp.ack(), '.'),
    ];
    flags
        .into_iter()
        .filter(|(set, _)| *set)
        .map(|(_, flag)| flag)
        .collect()
}

impl Gre {
    /// The header and what follows; none if it is cut short.
    fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let flags = load::<Be16>(bytes, 0)?.get();
        let protocol = load::<Be16>(bytes, 2)?.get();
        let mut offset = 4;
        if flags & (CHECKSUM | ROUTING) != 0 {
            offset += 4;
        }
        let mut field = |flag| {
            if flags & flag == 0 {
                return Some(None);
            }
            let value = load::<Be32>(bytes, offset)?.get();
            offset += 4;
            Some(Some(value))
        };
        let (key, sequence) = (field(KEY)?, field(SEQUENCE)?);
        let gre = Self {
            version: (flags & VERSION) as u8,
            protocol,
            checksum: flags & CHECKSUM != 0,
            key,
            sequence,
            routing: flags & ROUTING != 0,
        };
        Some((gre, bytes.get(offset..)?))
    }

    /// The IP packet that it carries, if it carries one.
    fn inner(&self, carried: &[u8]) -> Option<Ip> {
        // What other versions and RFC 1701 lay out after the header is unknown or obsolete.
        if self.version != 0 || self.routing {
            return None;
        }
        let sliced = match Be16::new(self.protocol) {
            ETHER_TYPE_IPV4 | ETHER_TYPE_IPV6 => LaxSlicedPacket::from_ip(carried).ok()?,
            ETHER_TYPE_TEB => LaxSlicedPacket::from_ethernet(carried).ok()?,
            _ => return None,
        };
        Ip::of(&sliced)
    }
}

impl fmt::Display for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            source, destination, ..
        } = *self;
        match (self.source_port, self.destination_port) {
            (Some(from), Some(to)) => {
                let (source, destination) = (SocketAddr::new(source, from), SocketAddr::new(destination, to));
                write!(f, "{source} > {destination}")?;
            }
            _ => write!(f, "{source} > {destination}")?,
        }
        match etherparse::IpNumber(self.protocol).keyword_str() {
            Some(name) => write!(f, "  {name}")?,
            None => write!(f, "  protocol {}", self.protocol)?,
        }
        if let Some(flags) = &self.tcp_flags {
            write!(f, " [{flags}]")?;
        }
        if self.fragment {
            f.write_str(" fragment")?;
        }
        write!(f, "  {} bytes", self.length)
    }
}

impl fmt::Display for Gre {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GRE")?;
        if self.version != 0 {
            write!(f, " version {}", self.version)?;
        }
        if let Some(key) = self.key {
            write!(f, " key {key}")?;
        }
        if let Some(sequence) = self.sequence {
            write!(f, " sequence {sequence}")?;
        }
        if self.checksum {
            f.write_str(" checksum")?;
        }
        if self.routing {
            f.write_str(" routing")?;
        }
        match Be16::new(self.protocol) {
            ETHER_TYPE_IPV4 => f.write_str(" IPv4"),
            ETHER_TYPE_IPV6 => f.write_str(" IPv6"),
            ETHER_TYPE_TEB => f.write_str(" Ethernet"),
            ETHER_TYPE_MPLS_UNICAST | ETHER_TYPE_MPLS_MULTICAST => f.write_str(" MPLS"),
            _ => write!(f, " protocol type {:#06x}", self.protocol),
        }
    }
}

impl fmt::Display for Decoded {
    /// A line for each layer, indented; the first bytes alone have already been called what they are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for vlan in &self.vlans {
            writeln!(f, "    VLAN {vlan}")?;
        }
        match &self.outer {
            Some(outer) => writeln!(f, "    {outer}")?,
            None => writeln!(f, "    no IP header that can be read")?,
        }
        if let Some(gre) = &self.gre {
            writeln!(f, "    {gre}")?;
        }
        if let Some(inner) = &self.inner {
            writeln!(f, "    {inner}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Ethernet with a VLAN tag, IPv4, GRE with key and sequence number, IPv6, TCP.
    const FRAME: &[u8] = &[
        2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0, 0, 7, 8, 0, // Ethernet, VLAN 7
        0x45, 0, 0, 92, 0, 0, 0, 0, 64, 47, 0, 0, 203, 0, 113, 10, 198, 51, 100, 20, // IPv4
        0x30, 0, 0x86, 0xdd, 0, 0, 0x10, 0x68, 0, 0, 0, 9, // GRE
        0x60, 0, 0, 0, 0, 20, 6, 64, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, // IPv6 …
        0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, // … its destination
        0x1f, 0x90, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x12, 0, 0, 0, 0, 0, 0, // TCP
    ];

    #[test]
    fn every_layer_is_named() {
        let decoded = Decoded::of(FRAME);
        assert_eq!(
            decoded.to_string(),
            "    VLAN 7\n    203.0.113.10 > 198.51.100.20  GRE  92 bytes\n    GRE key 4200 sequence 9 IPv6\n    \
             [2001:db8::1]:8080 > [2001:db8::2]:80  TCP [S.]  60 bytes\n"
        );
        assert_eq!(
            serde_json::to_value(&decoded).unwrap(),
            serde_json::json!({
                "vlans": [7],
                "outer": {"source": "203.0.113.10", "destination": "198.51.100.20", "protocol": 47, "fragment": false,
                          "length": 92},
                "gre": {"version": 0, "protocol": 0x86dd, "checksum": false, "key": 4200, "sequence": 9, "routing": false},
                "inner": {"source": "2001:db8::1", "destination": "2001:db8::2", "protocol": 6, "fragment": false,
                          "length": 60, "source_port": 8080, "destination_port": 80, "tcp_flags": "S."}
            })
        );
    }

    #[test]
    fn what_is_cut_short_is_decoded_as_far_as_it_goes() {
        let decoded = Decoded::of(&FRAME[..18 + 20 + 4]);
        assert_eq!((decoded.outer.is_some(), decoded.gre), (true, None));
        let decoded = Decoded::of(&FRAME[..18 + 20 + 12 + 40]);
        assert_eq!(decoded.inner.map(|inner| inner.source_port), Some(None));
        assert_eq!(Decoded::of(&[]).to_string(), "    no IP header that can be read\n");
    }

    proptest! {
        #[test]
        fn any_bytes_are_bearable(mut frame in proptest::collection::vec(any::<u8>(), 0..200), whole: bool) {
            if whole {
                frame.splice(0..0, FRAME.iter().copied().take(40));
            }
            Decoded::of(&frame).to_string();
        }
    }
}
