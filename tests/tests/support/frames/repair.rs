//! Makes lengths and checksums of a GRE packet right again, as far as its headers can still be found.

use gre_tests::frame::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, Extension, PROTOCOL_GRE, TPID_8021AD, TPID_8021Q, internet_checksum,
};
use proptest::prelude::*;

/// What to make right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Repair {
    /// The outer length, so that this many bytes of padding remain behind the packet.
    length: Option<usize>,
    header_checksum: bool,
    gre_checksum: bool,
}

/// The outer IPv4 header's checksum alone.
pub(super) const HEADER_CHECKSUM: Repair = Repair {
    length: None,
    header_checksum: true,
    gre_checksum: false,
};

pub(super) fn repair() -> impl Strategy<Value = Repair> {
    let length = prop_oneof![1 => Just(None), 2 => Just(Some(0)), 1 => (0..50_usize).prop_map(Some)];
    let often = || proptest::bool::weighted(0.8);
    (length, often(), often()).prop_map(|(length, header_checksum, gre_checksum)| Repair {
        length,
        header_checksum,
        gre_checksum,
    })
}

impl Repair {
    pub(super) fn make(self, frame: &mut [u8]) {
        // What is not there cannot be made right.
        let _repaired = self.try_make(frame);
    }

    fn try_make(self, frame: &mut [u8]) -> Option<()> {
        let (ip, ether_type) = behind_tags(frame)?;
        let end = match (self.length, frame.len().checked_sub(ip)) {
            (Some(padding), Some(length)) => Some(length.saturating_sub(padding)),
            _ => None,
        };
        let packet = frame.get_mut(ip..)?;
        let gre = match ether_type {
            ETHERTYPE_IPV4 => repair_v4(packet, end, self.header_checksum)?,
            ETHERTYPE_IPV6 => repair_v6(packet, end)?,
            _ => return None,
        };
        if self.gre_checksum {
            repair_gre(packet.get_mut(gre)?)?;
        }
        Some(())
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn put(bytes: &mut [u8], at: usize, value: u16) -> Option<()> {
    bytes.get_mut(at..at + 2)?.copy_from_slice(&value.to_be_bytes());
    Some(())
}

fn behind_tags(frame: &[u8]) -> Option<(usize, u16)> {
    let mut at = 12;
    for _ in 0..2 {
        if [TPID_8021Q, TPID_8021AD].contains(&word(frame, at)?) {
            at += 4;
        }
    }
    Some((at + 2, word(frame, at)?))
}

/// Gives where GRE lies.
fn repair_v4(packet: &mut [u8], length: Option<usize>, header_checksum: bool) -> Option<std::ops::Range<usize>> {
    if let Some(length) = length {
        put(packet, 2, u16::try_from(length).ok()?)?;
    }
    let header_len = usize::from(packet.first()? & 0xf) * 4;
    if header_checksum {
        put(packet, 10, 0)?;
        let checksum = internet_checksum(packet.get(..header_len)?);
        put(packet, 10, checksum)?;
    }
    Some(header_len..usize::from(word(packet, 2)?))
}

/// Gives where GRE lies.
fn repair_v6(packet: &mut [u8], length: Option<usize>) -> Option<std::ops::Range<usize>> {
    if let Some(length) = length {
        put(packet, 4, u16::try_from(length.checked_sub(40)?).ok()?)?;
    }
    let (mut next, mut at) = (*packet.get(6)?, 40);
    while [Extension::HOP_BY_HOP, Extension::DESTINATION_OPTIONS].contains(&next) {
        next = *packet.get(at)?;
        at += 8 + 8 * usize::from(*packet.get(at + 1)?);
    }
    (next == PROTOCOL_GRE).then_some(at..40 + usize::from(word(packet, 4)?))
}

fn repair_gre(gre: &mut [u8]) -> Option<()> {
    const CHECKSUM_PRESENT: u8 = 0x80;
    if gre.first()? & CHECKSUM_PRESENT != 0 {
        put(gre, 4, 0)?;
        let checksum = internet_checksum(gre);
        put(gre, 4, checksum)?;
    }
    Some(())
}
