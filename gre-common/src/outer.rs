//! The outer IP header, up to where GRE begins.

use network_types::ip::{IpProto, Ipv4Hdr, Ipv6Hdr};

use crate::{
    Packet, Reason, checksum,
    ecn::Codepoint,
    endian::Be32,
    endpoints::{Ipv4, Ipv6},
    extension::{Extension, ExtensionHdr},
    link::Link,
};

/// A packet known to be GRE by its outer IP header.
pub(crate) struct Outer<A> {
    pub(crate) source: A,
    pub(crate) destination: A,
    /// Where the payload is, if there is no trouble.
    ///
    /// Not a `Result` of it: what a `Result` leaves unset ends in registers that the verifier finds unset.
    pub(crate) payload: Payload,
    /// Why there is no getting at the payload. It counts only if the destination is ours.
    pub(crate) trouble: Option<Reason>,
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
    let start = link.len();
    let header_len = usize::from(ip.vihl & 0xf) * 4;
    let total_len = usize::from(u16::from_be_bytes(ip.tot_len));
    let end = start + total_len;
    let frame_len = packet.len();
    let lengths_fit = header_len >= Ipv4Hdr::LEN && total_len >= header_len && end <= frame_len;
    let trouble = if is_fragment(&ip) {
        Some(Reason::OuterFragment)
    } else if !lengths_fit || !is_intact(packet, start, header_len, &ip) {
        Some(Reason::OuterMalformed)
    } else {
        None
    };
    Some(Outer {
        source: [Be32::from_bytes(ip.src_addr)],
        destination: [Be32::from_bytes(ip.dst_addr)],
        payload: Payload {
            gre: start + header_len,
            end,
            padding: frame_len.wrapping_sub(end),
            outer_bytes: total_len as u32,
            ecn: Codepoint::of(ip.tos),
        },
        trouble,
    })
}

#[inline(always)]
fn is_fragment(ip: &Ipv4Hdr) -> bool {
    const MORE_FRAGMENTS: u16 = 0x2000;
    const OFFSET: u16 = 0x1fff;
    u16::from_be_bytes(ip.frags) & (MORE_FRAGMENTS | OFFSET) != 0
}

/// Whether the header's checksum is right. A sum that cannot be read is not.
#[inline(always)]
fn is_intact<P: Packet>(packet: &P, start: usize, header_len: usize, ip: &Ipv4Hdr) -> bool {
    let sum = match header_len {
        Ipv4Hdr::LEN => Some(checksum::fold(checksum::sum_ipv4(ip))),
        _ => packet.sum(start, header_len),
    };
    sum.is_some_and(checksum::is_valid)
}

/// What lies between the IPv6 header and GRE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// There is no GRE, or no telling.
    NotGre,
    /// GRE comes next, at this offset of the frame.
    Gre(usize),
    /// A fragment header.
    Fragment,
    /// Headers that this program does not see through, and GRE behind them.
    Hidden,
}

impl Chain {
    /// No offset is larger: two extension headers of 2,048 bytes behind the longest link header.
    const OFFSET: u32 = 0x1fff;

    /// As one word, for a kernel function to return: 0 to 2, or 4 and an offset in the bits from 3 on.
    #[inline(always)]
    pub const fn pack(self) -> u32 {
        match self {
            Self::NotGre => 0,
            Self::Fragment => 1,
            Self::Hidden => 2,
            Self::Gre(offset) => 4 | (offset as u32 & Self::OFFSET) << 3,
        }
    }

    /// The reverse of [`Self::pack`].
    #[inline(always)]
    pub const fn unpack(word: u32) -> Self {
        match word & 7 {
            0 => Self::NotGre,
            1 => Self::Fragment,
            2 => Self::Hidden,
            _ => Self::Gre((word >> 3 & Self::OFFSET) as usize),
        }
    }
}

/// Extension headers before GRE that are seen through (row 4: hop-by-hop and destination options).
const TRANSPARENT: u32 = 2;
/// How far the chain is walked to learn whether GRE is at its end.
const WALKED: u32 = 4;

const GRE: u8 = IpProto::Gre as u8;
const TCP: u8 = IpProto::Tcp as u8;
const UDP: u8 = IpProto::Udp as u8;

/// Reads the outer IPv6 header (RFC 8200) and its extension headers. `None`: not IPv6, or not GRE.
#[inline(always)]
pub(crate) fn v6<P: Packet>(packet: &P, link: Link) -> Option<Outer<Ipv6>> {
    let start = link.len();
    let ip: Ipv6Hdr = packet.load(start)?;
    let payload_start = start + Ipv6Hdr::LEN;
    let chain = match ip.next_hdr {
        GRE => Chain::Gre(payload_start),
        // Most packets, which need not pay for more questions, and no packet without extension headers for a call.
        TCP | UDP => return None,
        next if Extension::of(next).is_none() => return None,
        next => packet.walk(next, payload_start),
    };
    if chain == Chain::NotGre || ip.version() != 6 {
        return None;
    }
    let payload_len = usize::from(u16::from_be_bytes(ip.payload_len));
    let end = payload_start + payload_len;
    let frame_len = packet.len();
    let (gre, trouble) = match chain {
        Chain::Fragment => (payload_start, Some(Reason::OuterFragment)),
        _ if end > frame_len => (payload_start, Some(Reason::OuterMalformed)),
        Chain::Gre(gre) => (gre, None),
        Chain::Hidden | Chain::NotGre => (payload_start, Some(Reason::OuterExtension)),
    };
    let traffic_class = ip.vcf[0] << 4 | ip.vcf[1] >> 4;
    Some(Outer {
        source: words(ip.src_addr),
        destination: words(ip.dst_addr),
        payload: Payload {
            gre,
            end,
            padding: frame_len.wrapping_sub(end),
            outer_bytes: (Ipv6Hdr::LEN + payload_len) as u32,
            ecn: Codepoint::of(traffic_class),
        },
        trouble,
    })
}

/// Walks the IPv6 extension headers from the one called `next` at `offset`.
#[inline(always)]
pub fn walk<P: Packet + ?Sized>(packet: &P, next: u8, offset: usize) -> Chain {
    walk_to_gre(packet, next, offset).unwrap_or(Chain::NotGre)
}

#[inline(always)]
fn walk_to_gre<P: Packet + ?Sized>(packet: &P, mut next: u8, mut offset: usize) -> Option<Chain> {
    let mut transparent = true;
    let mut walked = 0;
    while walked < WALKED {
        let unit = match Extension::of(next)? {
            Extension::Options => 8,
            Extension::Fragment => {
                let fragment: ExtensionHdr = packet.load_far(offset)?;
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
        let header: ExtensionHdr = packet.load_far(offset)?;
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

/// An IPv6 address as four words.
#[inline(always)]
pub(crate) fn words(address: [u8; 16]) -> Ipv6 {
    let mut words = Ipv6::default();
    for (word, bytes) in words.iter_mut().zip(address.as_chunks().0) {
        *word = Be32::from_bytes(*bytes);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_survives_packing() {
        for chain in [
            Chain::NotGre,
            Chain::Fragment,
            Chain::Hidden,
            Chain::Gre(54),
            Chain::Gre(22 + 40 + 2 * 2048),
        ] {
            assert_eq!(Chain::unpack(chain.pack()), chain);
        }
    }
}
