//! The inner header: is it what the GRE protocol type says, does it fit, and what must change in it.

use core::mem::offset_of;

use network_types::{
    eth::EthHdr,
    ip::{IpProto, Ipv4Hdr, Ipv6Hdr},
};

use crate::{
    Packet, Reason, checksum,
    ecn::{self, Codepoint},
    endian::{Be16, Be32},
    endpoints::Address,
    outer::{Payload, words},
    plain::Plain,
    tunnel::InnerTypes,
};

/// The change of an inner IP header that carries the outer ECN field's news on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remark {
    /// Nothing changes.
    None,
    /// IPv4: the new TOS byte (offset 1) and header checksum (offset 10).
    V4 {
        /// TOS.
        tos: u8,
        /// Header checksum, as it lies in the packet.
        check: [u8; 2],
    },
    /// IPv6: the new second byte: low half of the traffic class, high bits of the flow label.
    V6 {
        /// Byte at offset 1.
        second: u8,
    },
}

/// An MPLS label stack entry (RFC 3032 section 2.1).
type MplsEntry = [u8; 4];

/// Checks the header of type `kind` that begins at `start` of the payload `at`, which came from `source`. A packet that is
/// addressed there is [`Reason::Loop`].
#[inline(always)]
pub(crate) fn inspect<P: Packet, A: Address>(
    packet: &P,
    kind: InnerTypes,
    start: usize,
    at: &Payload,
    source: &A,
) -> Result<Remark, Reason> {
    let room = at.end - start;
    match kind {
        InnerTypes::IPV4 => {
            let ip = v4(packet, start, room)?;
            if source.is_v4(&[Be32::from_bytes(ip.dst_addr)]) {
                return Err(Reason::Loop);
            }
            remark_v4(&ip, at.ecn)
        }
        InnerTypes::IPV6 => {
            let ip = v6(packet, start, room)?;
            if source.is_v6(&words(ip.dst_addr)) {
                return Err(Reason::Loop);
            }
            remark_v6(&ip, at.ecn)
        }
        InnerTypes::ETHERNET => whole::<P, EthHdr>(packet, start, room),
        _ => whole::<P, MplsEntry>(packet, start, room),
    }
}

/// Not 0 if the IP packet at `start`, which was inspected, is a fragment. IPv6 says so in a header of its own, which is looked
/// for where it usually is: first.
#[inline(always)]
pub(crate) fn fragment<P: Packet>(packet: &P, kind: InnerTypes, start: usize) -> u16 {
    match kind {
        InnerTypes::IPV4 => {
            let word: Option<Be16> = packet.load(start + offset_of!(Ipv4Hdr, frags));
            word.map_or(0, |word| word.get() & MORE_FRAGMENTS_OR_OFFSET)
        }
        InnerTypes::IPV6 => {
            let next: Option<u8> = packet.load(start + offset_of!(Ipv6Hdr, next_hdr));
            u16::from(next == Some(IpProto::Ipv6Frag as u8))
        }
        _ => 0,
    }
}

/// The flag MF and the fragment offset.
const MORE_FRAGMENTS_OR_OFFSET: u16 = 0x3fff;

/// That there is a whole header, and in the first buffer: no driver lets a frame begin outside it.
#[inline(always)]
fn whole<P: Packet, H: Plain>(packet: &P, start: usize, room: usize) -> Result<Remark, Reason> {
    if room < size_of::<H>() {
        return Err(Reason::InnerMalformed);
    }
    packet.load::<H>(start).map(|_| Remark::None).ok_or(Reason::Headroom)
}

#[inline(always)]
fn v4<P: Packet>(packet: &P, start: usize, room: usize) -> Result<Ipv4Hdr, Reason> {
    if room < Ipv4Hdr::LEN {
        return Err(Reason::InnerMalformed);
    }
    let ip: Ipv4Hdr = packet.load(start).ok_or(Reason::Headroom)?;
    let header_len = usize::from(ip.vihl & 0xf) * 4;
    let total_len = usize::from(u16::from_be_bytes(ip.tot_len));
    if ip.version() != 4 || header_len < Ipv4Hdr::LEN || total_len < header_len || total_len > room {
        return Err(Reason::InnerMalformed);
    }
    Ok(ip)
}

/// What becomes of an IPv4 header that was marked like this outside.
#[inline(always)]
pub(crate) fn remark_v4(ip: &Ipv4Hdr, outer: Codepoint) -> Result<Remark, Reason> {
    let inner = Codepoint::of(ip.tos);
    let combined = ecn::combine(outer, inner).ok_or(Reason::Ecn)?;
    if combined == inner {
        return Ok(Remark::None);
    }
    let tos = combined.put(ip.tos);
    Ok(Remark::V4 {
        tos,
        check: checksum::update(ip.check, [ip.vihl, ip.tos], [ip.vihl, tos]),
    })
}

#[inline(always)]
fn v6<P: Packet>(packet: &P, start: usize, room: usize) -> Result<Ipv6Hdr, Reason> {
    if room < Ipv6Hdr::LEN {
        return Err(Reason::InnerMalformed);
    }
    let ip: Ipv6Hdr = packet.load(start).ok_or(Reason::Headroom)?;
    let payload_len = usize::from(u16::from_be_bytes(ip.payload_len));
    if ip.version() != 6 || Ipv6Hdr::LEN + payload_len > room {
        return Err(Reason::InnerMalformed);
    }
    Ok(ip)
}

/// The same of an IPv6 header.
#[inline(always)]
pub(crate) fn remark_v6(ip: &Ipv6Hdr, outer: Codepoint) -> Result<Remark, Reason> {
    let second = ip.vcf[1];
    let inner = Codepoint::of(second >> 4);
    let combined = ecn::combine(outer, inner).ok_or(Reason::Ecn)?;
    if combined == inner {
        return Ok(Remark::None);
    }
    Ok(Remark::V6 {
        second: combined.put(second >> 4) << 4 | second & 0xf,
    })
}
