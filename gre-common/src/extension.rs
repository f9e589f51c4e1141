//! IPv6 extension headers (RFC 8200 section 4).

use network_types::ip::IpProto;

/// The first bytes that all IPv6 extension headers but ESP share.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ExtensionHdr {
    /// Protocol number of what follows.
    pub next: u8,
    /// Length, in the unit of its kind: 8 bytes beyond the first 8 for most.
    pub len: u8,
}

/// Kinds of IPv6 extension header.
pub(crate) enum Extension {
    /// Hop-by-hop or destination options.
    Options,
    Fragment,
    /// Routing or mobility.
    Opaque,
    /// Authentication, whose length is in another unit.
    Authentication,
}

impl Extension {
    /// The kind of extension header; `None` for an upper-layer protocol, and for ESP, behind which nothing can be read.
    #[inline(always)]
    pub(crate) fn of(next: u8) -> Option<Self> {
        const HOP_BY_HOP: u8 = IpProto::HopOpt as u8;
        const DESTINATION: u8 = IpProto::Ipv6Opts as u8;
        const FRAGMENT: u8 = IpProto::Ipv6Frag as u8;
        const ROUTING: u8 = IpProto::Ipv6Route as u8;
        const MOBILITY: u8 = IpProto::MobilityHeader as u8;
        const AUTHENTICATION: u8 = IpProto::Ah as u8;

        match next {
            HOP_BY_HOP | DESTINATION => Some(Self::Options),
            FRAGMENT => Some(Self::Fragment),
            ROUTING | MOBILITY => Some(Self::Opaque),
            AUTHENTICATION => Some(Self::Authentication),
            _ => None,
        }
    }
}
