//! Ethernet frames as test input: right by default, and as broken as a test wants.
//!
//! Independent of the product: headers are laid out here from the RFCs, checksums come from a plain RFC 1071
//! sum of our own. Every length, checksum, version and flag can be overridden, since most of what a careful
//! receiver must do is about packets that no library would agree to build. All values are in host byte order;
//! the builders write network byte order.

mod checksum;
mod gre;
mod ipv4;
mod ipv6;
mod keepalive;
mod link;
mod tcp;
mod transport;

pub use checksum::internet_checksum;
pub use gre::{Gre, GreChecksum};
pub use ipv4::Ipv4;
pub use ipv6::{Extension, Ipv6};
pub use keepalive::keepalive;
pub use link::{Link, Mac, TPID_8021AD, TPID_8021Q, Tag};
pub use tcp::Tcp;
pub use transport::{Addresses, echo_reply, echo_request, tcp_segment, udp_datagram};

/// EtherType, and GRE protocol type, of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// GRE protocol type of transparent Ethernet bridging: a whole inner frame.
pub const ETHERTYPE_TEB: u16 = 0x6558;
/// EtherType, and GRE protocol type, of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// EtherType, and GRE protocol type, of MPLS (unicast, RFC 5332).
pub const ETHERTYPE_MPLS: u16 = 0x8847;
/// EtherType, and GRE protocol type, of MPLS with an upstream-assigned label ("multicast", RFC 5332).
pub const ETHERTYPE_MPLS_MULTICAST: u16 = 0x8848;

/// IP protocol number of ICMP.
pub const PROTOCOL_ICMP: u8 = 1;
/// IP protocol number of IPv4 in IP.
pub const PROTOCOL_IPIP: u8 = 4;
/// IP protocol number of TCP.
pub const PROTOCOL_TCP: u8 = 6;
/// IP protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;
/// IP protocol number of IPv6 in IP (6in4).
pub const PROTOCOL_IPV6: u8 = 41;
/// IP protocol number of GRE.
pub const PROTOCOL_GRE: u8 = 47;
/// IP protocol number of ESP.
pub const PROTOCOL_ESP: u8 = 50;
/// IP protocol number of ICMPv6.
pub const PROTOCOL_ICMPV6: u8 = 58;

/// The outer IP header of a [`Packet`].
#[derive(Clone, Debug)]
pub enum Outer {
    /// GRE over IPv4.
    V4(Ipv4),
    /// GRE over IPv6 (RFC 7676).
    V6(Ipv6),
}

impl Outer {
    /// The EtherType that announces this header.
    pub fn ethertype(&self) -> u16 {
        match self {
            Self::V4(_) => ETHERTYPE_IPV4,
            Self::V6(_) => ETHERTYPE_IPV6,
        }
    }

    /// Sets the whole TOS or traffic class byte: DSCP in the upper six bits, ECN in the lower two.
    pub fn set_traffic_class(&mut self, value: u8) {
        match self {
            Self::V4(header) => header.tos = value,
            Self::V6(header) => header.traffic_class = value,
        }
    }

    /// Overrides the length field: `total` bytes from the first byte of the IP header on. For IPv6 the field
    /// then holds 40 less.
    ///
    /// # Panics
    /// If `total` is less than 40 for IPv6, whose field cannot say that.
    pub fn set_total_length(&mut self, total: u16) {
        match self {
            Self::V4(header) => header.total_length = Some(total),
            Self::V6(header) => {
                header.payload_length = Some(
                    total
                        .checked_sub(40)
                        .expect("an IPv6 packet is never shorter than its header"),
                );
            }
        }
    }

    /// The header followed by `payload`.
    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        match self {
            Self::V4(header) => header.packet(payload),
            Self::V6(header) => header.packet(payload),
        }
    }

    /// Bytes from the start of the IP header to what it carries: options and extension headers included.
    pub fn header_len(&self) -> usize {
        match self {
            Self::V4(header) => header.header_len(),
            Self::V6(header) => header.header_len(),
        }
    }
}

/// A GRE packet in its Ethernet frame, layer by layer.
#[derive(Clone, Debug)]
pub struct Packet {
    /// MAC addresses and VLAN tags.
    pub link: Link,
    /// The outer IP header; its protocol (next header) is the caller's to set.
    pub outer: Outer,
    /// The GRE header.
    pub gre: Gre,
    /// What GRE carries.
    pub payload: Vec<u8>,
    /// Bytes after the end of the outer IP packet, such as Ethernet padding.
    pub padding: Vec<u8>,
}

impl Packet {
    /// The whole frame.
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = self.link.frame(self.outer.ethertype(), &self.ip_packet());
        frame.extend_from_slice(&self.padding);
        frame
    }

    /// The frame's first `length` bytes, as if the rest had been lost.
    ///
    /// # Panics
    /// If the frame is shorter than that.
    pub fn frame_cut_to(&self, length: usize) -> Vec<u8> {
        self.frame()[..length].to_vec()
    }

    /// The outer IP packet, without link header and padding.
    pub fn ip_packet(&self) -> Vec<u8> {
        self.outer.packet(&self.gre.packet(&self.payload))
    }

    /// Offset in the frame of the outer IP header.
    pub fn ip_offset(&self) -> usize {
        self.link.header_len()
    }

    /// Offset in the frame of the GRE header.
    pub fn gre_offset(&self) -> usize {
        self.ip_offset() + self.outer.header_len()
    }

    /// Offset in the frame of what GRE carries.
    pub fn payload_offset(&self) -> usize {
        self.gre_offset() + self.gre.header_len()
    }
}
