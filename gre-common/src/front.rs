//! The first look at a frame. Most frames on most hosts are not GRE, and must pay next to nothing: each kind of link header has one
//! check of the frame's length, and offsets that are constants.

use network_types::{
    eth::EthHdr,
    ip::{IpProto, Ipv4Hdr},
};

use crate::{
    Packet,
    endian::Be16,
    extension::Extension,
    link::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, Link, VlanTag, VlanTags, is_tag},
};

/// A link header, and whether GRE may come after it.
#[derive(Clone, Copy)]
pub(crate) struct Front {
    pub(crate) link: Link,
    pub(crate) may_be_gre: bool,
}

const GRE: u8 = IpProto::Gre as u8;

/// Where either IP header tells what follows it. Nothing that is shorter than an IPv4 header can be GRE.
type Ip = [u8; Ipv4Hdr::LEN];

/// A frame's beginning with so many VLAN tags.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Beginning<const TAGS: usize> {
    ethernet: EthHdr,
    tags: [VlanTag; TAGS],
    ip: Ip,
}

impl Front {
    /// Reads it. `None`: the frame is too short for GRE, and for anything else that concerns this program.
    #[inline(always)]
    pub(crate) fn read<P: Packet>(packet: &P) -> Option<Self> {
        let Beginning { ethernet, ip, .. } = packet.load::<Beginning<0>>(0)?;
        let outermost = Be16::from_bytes(ethernet.ether_type.to_ne_bytes());
        if !is_tag(outermost) {
            return Some(Self::of(VlanTags::None, outermost, &ip));
        }
        let Beginning { tags: [first], ip, .. } = packet.load::<Beginning<1>>(0)?;
        if !is_tag(first.ether_type) {
            return Some(Self::of(VlanTags::One, first.ether_type, &ip));
        }
        let Beginning {
            tags: [_, second], ip, ..
        } = packet.load::<Beginning<2>>(0)?;
        Some(Self::of(VlanTags::Two, second.ether_type, &ip))
    }

    #[inline(always)]
    fn of(tags: VlanTags, ether_type: Be16, ip: &Ip) -> Self {
        /// Of Protocol (RFC 791), and of Next Header (RFC 8200).
        const AT_V4: usize = 9;
        const AT_V6: usize = 6;
        let may_be_gre = match ether_type {
            ETHER_TYPE_IPV4 => ip[AT_V4] == GRE,
            ETHER_TYPE_IPV6 => may_lead_to_gre(ip[AT_V6]),
            _ => false,
        };
        let link = Link { tags, ether_type };
        Self { link, may_be_gre }
    }
}

/// Whether this next header of IPv6 is GRE, or one that GRE may come after.
#[inline(always)]
fn may_lead_to_gre(next: u8) -> bool {
    const HOP_BY_HOP: u8 = IpProto::HopOpt as u8;
    const ROUTING: u8 = IpProto::Ipv6Route as u8;
    // Between these two there is none, and there TCP and UDP are.
    if next < ROUTING {
        return next == HOP_BY_HOP;
    }
    next == GRE || Extension::of(next).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_leads_to_gre_by_extension_headers_alone() {
        for next in 0..=u8::MAX {
            let may_lead = next == GRE || Extension::of(next).is_some();
            assert_eq!(may_lead_to_gre(next), may_lead, "next header {next}");
        }
    }
}
