//! Outer headers that the kernel's IP layer refuses before GRE is looked at, whatever is inside.

use gre_common::link::Link;

use crate::support::bytes::Bytes;

const GRE: u8 = 47;

/// Whether it refuses, or may refuse, an IP packet for its options or extension headers.
pub(crate) fn is_refused(packet: &[u8]) -> bool {
    match packet.first().map(|first| first >> 4) {
        Some(4) => has_real_option(packet),
        Some(6) => has_bad_extension(packet).unwrap_or(true),
        _ => true,
    }
}

/// No-operations and the end of the list ask for nothing; others may be refused, as source routes are (ip_options_compile()).
fn has_real_option(packet: &[u8]) -> bool {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    let length = usize::from(packet[0] & 0xf) * 4;
    let options = packet.get(20..length).unwrap_or(&[]);
    let mut asked = options.iter().take_while(|option| **option != END);
    asked.any(|option| *option != NO_OPERATION)
}

/// Hop-by-hop options come first or not at all (ip6_protocol_deliver_rcu()). None: the headers are not whole.
fn has_bad_extension(packet: &[u8]) -> Option<bool> {
    const HOP_BY_HOP: u8 = 0;
    const DESTINATION: u8 = 60;
    let mut next = *packet.get(6)?;
    let mut rest = packet.get(40..)?;
    let mut is_first = true;
    while next == HOP_BY_HOP || next == DESTINATION {
        let length = 8 * (usize::from(*rest.get(1)?) + 1);
        let options = rest.get(2..length)?;
        if (next == HOP_BY_HOP && !is_first) || has_bad_option(options).unwrap_or(true) {
            return Some(true);
        }
        next = rest[0];
        rest = &rest[length..];
        is_first = false;
    }
    Some(false)
}

/// As ip6_parse_tlv() has it: no more than 7 bytes of padding in a row, all zero; no more than 8 options; none that is not known
/// and says by its first two bits that it must be. None: an option is not whole.
fn has_bad_option(mut options: &[u8]) -> Option<bool> {
    const PAD_1: u8 = 0;
    const PAD_N: u8 = 1;
    const MOST_PADDING: usize = 7;
    const MOST_OPTIONS: usize = 8;
    const MAY_BE_SKIPPED: u8 = 0x3f;
    let (mut padding, mut count) = (0, 0);
    while let Some(&kind) = options.first() {
        let length = match kind {
            PAD_1 => 1,
            _ => 2 + usize::from(*options.get(1)?),
        };
        let option = options.get(..length)?;
        if [PAD_1, PAD_N].contains(&kind) {
            padding += length;
            if padding > MOST_PADDING || option.iter().skip(2).any(|byte| *byte != 0) {
                return Some(true);
            }
        } else {
            padding = 0;
            count += 1;
            // Router alert and its like are known, and have rules of their own.
            let is_harmless = kind <= MAY_BE_SKIPPED && ![0x05, 0x07, 0x31].contains(&kind);
            if !is_harmless || count > MOST_OPTIONS {
                return Some(true);
            }
        }
        options = &options[length..];
    }
    Some(false)
}

/// Whether a frame is IPv6 with more extension headers of either kind of options than the decision walks (`WALKED` in
/// gre_common::outer).
pub(crate) fn is_behind_many(frame: &[u8]) -> bool {
    const WALKED: usize = 4;
    let Some(link) = Link::parse(&Bytes::whole(frame)) else {
        return false;
    };
    let Some(packet) = frame
        .get(link.len()..)
        .filter(|packet| packet.first().map(|first| first >> 4) == Some(6))
    else {
        return false;
    };
    let (mut headers, mut at) = (0, 40);
    let mut next = packet.get(6);
    while let (Some(0 | 60), Some(length)) = (next, packet.get(at + 1)) {
        headers += 1;
        next = packet.get(at);
        at += 8 * (usize::from(*length) + 1);
    }
    headers > WALKED
}

/// Bytes of the outer headers, options and extension headers of either kind of options included.
pub(crate) fn length(packet: &[u8]) -> Option<usize> {
    if packet.first()? >> 4 == 4 {
        return Some(usize::from(packet[0] & 0xf) * 4);
    }
    let (mut next, mut length) = (*packet.get(6)?, 40);
    while next != GRE {
        let header = packet.get(length..)?;
        (next, length) = (*header.first()?, length + 8 * (usize::from(*header.get(1)?) + 1));
    }
    Some(length)
}
