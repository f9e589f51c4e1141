//! The packets that nearly all of most tunnels' are: no VLAN tag, IPv4 without options that is no fragment, GRE without any field,
//! IPv4 without options inside, delivered as it is, on the same core. One check of the frame's length and offsets that are constants
//! tell; all that [`decide`](crate::decide()) asks is asked in the form that it then has. Whatever differs, or has anything wrong,
//! is left to the general way, which decides on it from the beginning.

use network_types::{eth::EthHdr, ip::Ipv4Hdr};

use crate::{
    Delivery, Packet, checksum,
    endian::{Be16, Be32},
    endpoints::Ipv4,
    gre::GreHdr,
    inner::Remark,
    link::{ETHER_TYPE_IPV4, Link, Mac, VlanTags},
    protect::{Inner, Passage},
    tunnel::{Cores, Deliver, Tunnel},
};

/// Such a frame's headers.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct Headers {
    first_macs: u64,
    last_macs: u32,
    ether_type: Be16,
    outer: [Be32; 5],
    gre: Be32,
    inner: [Be32; 5],
}

impl Headers {
    /// Both MAC addresses, in the order and byte order that they lie in.
    #[inline(always)]
    pub const fn macs(&self) -> (u64, u32) {
        (self.first_macs, self.last_macs)
    }

    /// Whom the frame is addressed to.
    #[inline(always)]
    pub(crate) fn addressee(&self) -> Mac {
        let [a, b, c, d, e, f, ..] = self.first_macs.to_ne_bytes();
        Mac::from_bytes([a, b, c, d, e, f])
    }
}

/// Where the parts begin.
const OUTER: usize = EthHdr::LEN;
const GRE: usize = OUTER + Ipv4Hdr::LEN;
const INNER: usize = GRE + size_of::<GreHdr>();

/// How such a packet is decapsulated; see [`Delivery`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usual {
    /// The tunnel it belongs to.
    pub tunnel: u32,
    /// Bytes of the outer IP packet.
    pub outer_bytes: u32,
    /// Bytes after that, padding to be cut off.
    pub padding: u32,
    /// Where the payload goes.
    pub deliver: Deliver,
}

impl Usual {
    /// The link header.
    pub const LINK: Link = Link {
        tags: VlanTags::None,
        ether_type: ETHER_TYPE_IPV4,
    };
    /// How far the frame's start moves.
    pub const STRIPPED: usize = INNER - OUTER;

    /// Bytes of the payload.
    #[inline(always)]
    pub const fn inner_bytes(&self) -> u32 {
        self.outer_bytes.wrapping_sub(Self::STRIPPED as u32)
    }

    /// The same in full.
    pub const fn delivery(&self) -> Delivery {
        Delivery {
            tunnel: self.tunnel,
            link: Self::LINK,
            ether_type: Some(ETHER_TYPE_IPV4),
            inner: INNER,
            end: OUTER + self.outer_bytes as usize,
            padding: self.padding as usize,
            remark: Remark::None,
            outer_bytes: self.outer_bytes,
            restart: false,
            fragment: 0,
            passage: Passage::PLAIN,
            deliver: self.deliver,
            cores: Cores::NONE,
            mss: 0,
        }
    }
}

/// A packet of the usual form, of which the tunnel is to be found and asked yet.
pub(crate) struct Candidate {
    source: Be32,
    destination: Be32,
    outer_bytes: u32,
    padding: u32,
}

impl Candidate {
    /// Checks all headers of an untagged frame of IPv4 whose protocol is GRE.
    #[inline(always)]
    pub(crate) fn read<P: Packet>(packet: &P, headers: &Headers) -> Option<Self> {
        let Headers { outer, gre, inner, .. } = *headers;
        let [first, second, _, source, destination] = outer;
        let [inner_first, inner_second, _, _, inner_destination] = inner;
        let is_usual = first.has(LENGTH_AND_CHANGING_ECN, [FOUR_FIVE, 0, 0, 0])
            && second.has(FRAGMENT, [0; 4])
            && gre == PLAIN
            && inner_first.has(LENGTH, [FOUR_FIVE, 0, 0, 0])
            && inner_second.has(FRAGMENT, [0; 4])
            && inner_destination != source;
        if !is_usual {
            return None;
        }
        let (outer_bytes, inner_bytes) = (total_length(first), total_length(inner_first));
        let sum = outer.iter().map(|word| checksum::sum_word(*word)).sum();
        let is_whole = inner_bytes >= Ipv4Hdr::LEN as u32 && outer_bytes >= inner_bytes + Usual::STRIPPED as u32;
        if !is_whole || !checksum::is_valid_unfolded(sum) {
            return None;
        }
        let padding = packet.len().checked_sub(OUTER + outer_bytes as usize)?;
        Some(Self {
            source,
            destination,
            outer_bytes,
            padding: padding as u32,
        })
    }

    /// What its tunnel is found by, which has no key: the outer destination, and the source.
    #[inline(always)]
    pub(crate) fn ends(&self) -> (Ipv4, Ipv4) {
        ([self.destination], [self.source])
    }

    /// What the rules of protection ask.
    #[inline(always)]
    pub(crate) fn inner(&self, tunnel: Tunnel) -> Inner {
        Inner {
            tunnel: tunnel.id,
            protocol: ETHER_TYPE_IPV4,
            start: INNER,
            end: OUTER + self.outer_bytes as usize,
            bypasses: false,
            probes: false,
        }
    }

    /// How it is decapsulated, by a tunnel that takes it as it is and delivers it so.
    #[inline(always)]
    pub(crate) fn by(&self, tunnel: Tunnel, deliver: Deliver) -> Usual {
        Usual {
            tunnel: tunnel.id,
            outer_bytes: self.outer_bytes,
            padding: self.padding,
            deliver,
        }
    }
}

/// IPv4, and a header without options.
const FOUR_FIVE: u8 = 4 << 4 | 5;
const LENGTH: [u8; 4] = [0xff, 0, 0, 0];
/// With that, whether the outer ECN field is ECT(1) or CE: nothing else changes the inner one (RFC 6040 section 4.2).
const LENGTH_AND_CHANGING_ECN: [u8; 4] = [0xff, 1, 0, 0];
/// MF and the fragment offset.
const FRAGMENT: [u8; 4] = [0, 0, 0x3f, 0xff];
/// GRE without flags, of version 0, with IPv4 inside.
const PLAIN: Be32 = Be32::from_bytes([0, 0, 0x08, 0]);

/// Of the word that an IPv4 header begins with.
#[inline(always)]
fn total_length(first: Be32) -> u32 {
    first.get() & 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_lie_where_they_are_read() {
        assert_eq!(core::mem::offset_of!(Headers, outer), OUTER);
        assert_eq!(core::mem::offset_of!(Headers, gre), GRE);
        assert_eq!(core::mem::offset_of!(Headers, inner), INNER);
        assert_eq!(size_of::<Headers>(), INNER + Ipv4Hdr::LEN);
    }
}
