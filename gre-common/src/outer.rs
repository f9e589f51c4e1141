//! The outer IP header, up to where GRE begins.

use network_types::ip::{IpProto, Ipv4Hdr, Ipv6Hdr};

use crate::{
    Packet, Reason, checksum,
    ecn::Codepoint,
    endian::Be32,
    endpoints::{Ipv4, Ipv6},
    link::Link,
};

/// A packet known to be GRE by its outer IP header.
pub(crate) struct Outer<A> {
    pub(crate) source: A,
    pub(crate) destination: A,
    /// Where the payload is, or why there is no getting at it. The reason counts only if the destination is ours.
    pub(crate) payload: Result<Payload, Reason>,
}

/// Where GRE lies in the frame, by the outer IP header's own lengths.
#[derive(Clone, Copy)]
pub(crate) struct Payload {
    /// Offset of the GRE header in the frame.
    pub(crate) gre: usize,
    /// Offset of the first byte after the outer IP packet.
    pub(crate) end: usize,
    /// Bytes of the frame after that.
    pub(crate) padding: usize,
    /// Bytes of the outer IP packet, its header included.
    pub(crate) outer_bytes: u32,
    /// The outer ECN field.
    pub(crate) ecn: Codepoint,
}

/// Reads the outer IPv4 header (RFC 791). `None`: not IPv4, or not GRE.
#[inline(always)]
pub(crate) fn v4<P: Packet>(packet: &P, link: Link) -> Option<Outer<Ipv4>> {
    let ip: Ipv4Hdr = packet.load(link.len())?;
    if ip.proto != IpProto::Gre as u8 || ip.version() != 4 {
        return None;
    }
    Some(Outer {
        source: [Be32::from_bytes(ip.src_addr)],
        destination: [Be32::from_bytes(ip.dst_addr)],
        payload: v4_payload(packet, link.len(), &ip),
    })
}

#[inline(always)]
fn v4_payload<P: Packet>(packet: &P, start: usize, ip: &Ipv4Hdr) -> Result<Payload, Reason> {
    const MORE_FRAGMENTS: u16 = 0x2000;
    const OFFSET: u16 = 0x1fff;

    if u16::from_be_bytes(ip.frags) & (MORE_FRAGMENTS | OFFSET) != 0 {
        return Err(Reason::OuterFragment);
    }
    let header_len = usize::from(ip.vihl & 0xf) * 4;
    let total_len = usize::from(u16::from_be_bytes(ip.tot_len));
    let end = start + total_len;
    let padding = packet.len().checked_sub(end).ok_or(Reason::OuterMalformed)?;
    if header_len < Ipv4Hdr::LEN || total_len < header_len {
        return Err(Reason::OuterMalformed);
    }
    let options = v4_options(packet, start, header_len)?;
    if !checksum::is_valid(checksum::fold(checksum::sum_ipv4(ip) + options)) {
        return Err(Reason::OuterMalformed);
    }
    Ok(Payload {
        gre: start + header_len,
        end,
        padding,
        outer_bytes: total_len as u32,
        ecn: Codepoint::of(ip.tos),
    })
}

/// The sum of the header's options, at most ten words.
#[inline(always)]
fn v4_options<P: Packet>(packet: &P, start: usize, header_len: usize) -> Result<u64, Reason> {
    let mut sum = 0;
    let mut offset = Ipv4Hdr::LEN;
    while offset < header_len {
        let word: [u8; 4] = packet.load(start + offset).ok_or(Reason::Headroom)?;
        sum += u64::from(u32::from_ne_bytes(word));
        offset += 4;
    }
    Ok(sum)
}

/// The first bytes that all IPv6 extension headers but ESP share.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ExtensionHdr {
    /// Protocol number of what follows.
    pub next: u8,
    /// Length, in the unit of its kind: 8 bytes beyond the first 8 for most.
    pub len: u8,
}

/// What lies between the IPv6 header and GRE.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Chain {
    /// GRE comes next, at this offset of the frame.
    Gre(usize),
    /// A fragment header.
    Fragment,
    /// Headers that this program does not see through, and GRE behind them.
    Hidden,
}

/// Extension headers before GRE that are seen through (row 4: hop-by-hop and destination options).
const TRANSPARENT: u32 = 2;
/// How far the chain is walked to learn whether GRE is at its end.
const WALKED: u32 = 4;

/// Reads the outer IPv6 header (RFC 8200) and its extension headers. `None`: not IPv6, or not GRE.
#[inline(always)]
pub(crate) fn v6<P: Packet>(packet: &P, link: Link) -> Option<Outer<Ipv6>> {
    let start = link.len();
    let ip: Ipv6Hdr = packet.load(start)?;
    let payload_start = start + Ipv6Hdr::LEN;
    let chain = if ip.next_hdr == IpProto::Gre as u8 {
        Chain::Gre(payload_start)
    } else {
        walk(packet, ip.next_hdr, payload_start)?
    };
    if ip.version() != 6 {
        return None;
    }
    Some(Outer {
        source: words(ip.src_addr),
        destination: words(ip.dst_addr),
        payload: v6_payload(packet, payload_start, &ip, chain),
    })
}

#[inline(always)]
fn v6_payload<P: Packet>(packet: &P, start: usize, ip: &Ipv6Hdr, chain: Chain) -> Result<Payload, Reason> {
    if chain == Chain::Fragment {
        return Err(Reason::OuterFragment);
    }
    let payload_len = usize::from(u16::from_be_bytes(ip.payload_len));
    let end = start + payload_len;
    let padding = packet.len().checked_sub(end).ok_or(Reason::OuterMalformed)?;
    let Chain::Gre(gre) = chain else {
        return Err(Reason::OuterExtension);
    };
    let traffic_class = ip.vcf[0] << 4 | ip.vcf[1] >> 4;
    Ok(Payload {
        gre,
        end,
        padding,
        outer_bytes: (Ipv6Hdr::LEN + payload_len) as u32,
        ecn: Codepoint::of(traffic_class),
    })
}

/// Walks the extension headers from the one called `next` at `offset`. `None`: there is no GRE behind them, or no telling.
#[inline(always)]
fn walk<P: Packet>(packet: &P, mut next: u8, mut offset: usize) -> Option<Chain> {
    let mut transparent = true;
    let mut walked = 0;
    while walked < WALKED {
        let unit = match Extension::of(next)? {
            Extension::Options => 8,
            Extension::Fragment => {
                let fragment: ExtensionHdr = packet.load(offset)?;
                let of_gre = fragment.next == IpProto::Gre as u8 || fragment.next == IpProto::Ipv6Opts as u8;
                return of_gre.then_some(Chain::Fragment);
            }
            Extension::Opaque => {
                transparent = false;
                8
            }
            Extension::Authentication => {
                transparent = false;
                4
            }
        };
        let header: ExtensionHdr = packet.load(offset)?;
        // Authentication counts 4-byte words beyond the first two (RFC 4302 section 2.2), the others 8-byte units beyond
        // the first.
        offset += 8 + usize::from(header.len) * unit;
        next = header.next;
        walked += 1;
        if next == IpProto::Gre as u8 {
            return Some(if transparent && walked <= TRANSPARENT {
                Chain::Gre(offset)
            } else {
                Chain::Hidden
            });
        }
    }
    None
}

/// Kinds of IPv6 extension header.
enum Extension {
    Options,
    Fragment,
    Opaque,
    Authentication,
}

impl Extension {
    /// The kind of extension header; `None` for an upper-layer protocol, and for ESP, behind which nothing can be read.
    #[inline(always)]
    fn of(next: u8) -> Option<Self> {
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

/// An IPv6 address as four words.
#[inline(always)]
pub(crate) fn words(address: [u8; 16]) -> Ipv6 {
    let [a, b, c, d] = [0, 4, 8, 12].map(|i| [address[i], address[i + 1], address[i + 2], address[i + 3]]);
    [a, b, c, d].map(Be32::from_bytes)
}
