//! Rows 14 to 16, and what protection asks of the inner packet.

use std::net::IpAddr;

use gre_user::config::{Config, Guard, InnerType, Keepalive, Mss, Probes, Tunnel};

use super::headers::{Gre, Outer, ether_type, gre_header};
use super::{GRE, Refusal, begins_alike, drop_because, number, pass_because};

/// Rows 14 to 16: the inner packet as it goes on.
pub(super) fn inspect(id: u32, tunnel: &Tunnel, gre: &Gre<'_>, outer_ecn: u8) -> Result<Vec<u8>, Refusal> {
    let kind = match gre.protocol {
        0x0800 => InnerType::Ipv4,
        0x86dd => InnerType::Ipv6,
        0x6558 => InnerType::Ethernet,
        0x8847 | 0x8848 => InnerType::Mpls,
        _ => return pass_because(id, "inner_protocol"),
    };
    if !tunnel.inner.contains(kind) {
        return pass_because(id, "inner_protocol");
    }
    let payload = gre.payload;
    let is_well_formed = match kind {
        InnerType::Ipv4 => {
            payload.len() >= 20 && {
                let (header, total) = (usize::from(payload[0] % 16) * 4, number(&payload[2..4]) as usize);
                payload[0] / 16 == 4 && (20..=total).contains(&header) && total <= payload.len()
            }
        }
        InnerType::Ipv6 => {
            payload.len() >= 40 && payload[0] / 16 == 6 && 40 + number(&payload[4..6]) as usize <= payload.len()
        }
        InnerType::Ethernet => payload.len() >= 14,
        InnerType::Mpls => payload.len() >= 4,
    };
    if !is_well_formed {
        return drop_because(id, "inner_malformed");
    }
    let mut inner = payload.to_vec();
    // The ECN field's place in the second byte.
    let shift = match kind {
        InnerType::Ipv4 => 0,
        InnerType::Ipv6 => 4,
        InnerType::Ethernet | InnerType::Mpls => return Ok(inner),
    };
    let field = inner[1] >> shift & 3;
    let combined = ECN[usize::from(field)][usize::from(outer_ecn)];
    let Some(combined) = combined else {
        return drop_because(id, "ecn");
    };
    let old = number(&inner[..2]);
    inner[1] = inner[1] & !(3 << shift) | combined << shift;
    if kind == InnerType::Ipv4 && combined != field {
        // What the words' sum has gained the checksum loses, so that a wrong one stays wrong (RFC 1624 section 4).
        let gained = number(&inner[..2]) as i64 - old as i64;
        let check = (number(&inner[10..12]) as i64 - gained).rem_euclid(0xffff);
        inner[10..12].copy_from_slice(&(check as u16).to_be_bytes());
    }
    Ok(inner)
}

/// RFC 6040 figure 4: a row for each inner field (Not-ECT, ECT(1), ECT(0), CE by their numbers), a column for each outer one.
const ECN: [[Option<u8>; 4]; 4] = [
    [Some(0), Some(0), Some(0), None],
    [Some(1), Some(1), Some(1), Some(3)],
    [Some(2), Some(1), Some(2), Some(3)],
    [Some(3), Some(3), Some(3), Some(3)],
];

/// What is addressed to the outer source would go round in a loop (RFC 2784 section 3.1), unless it is a keepalive.
pub(super) fn returning(id: u32, tunnel: &Tunnel, outer: &Outer<'_>, gre: &Gre<'_>) -> Result<(), Refusal> {
    if gre.protocol == 0x6558 || destination(gre.protocol, gre.payload) != Some(outer.source) {
        return Ok(());
    }
    match is_keepalive(outer, gre) {
        Some(true) if tunnel.keepalive == Keepalive::Ignore => pass_because(id, "keepalive"),
        // Whose it is to answer nobody has told.
        Some(true) => pass_because(id, "other_host"),
        _ => drop_because(id, "loop"),
    }
}

/// Whether it is a GRE packet from our end with nothing in it, of a type that routers use. None: it is cut short.
fn is_keepalive(outer: &Outer<'_>, gre: &Gre<'_>) -> Option<bool> {
    let packet = gre.payload;
    let (source, content, types): (IpAddr, _, &[u16]) = match gre.protocol {
        // With options or as a fragment it is none.
        0x0800 => {
            let is_plain = packet[0] == 0x45 && packet[9] == GRE && number(&packet[6..8]) & 0x3fff == 0;
            let whole = packet.get(20..number(&packet[2..4]) as usize)?;
            let source = <[u8; 4]>::try_from(&packet[12..16]).ok()?.into();
            (source, is_plain.then_some(whole)?, &[0, 4])
        }
        _ => {
            let whole = packet.get(40..40 + number(&packet[4..6]) as usize)?;
            let source = <[u8; 16]>::try_from(&packet[8..24]).ok()?.into();
            (source, (packet[6] == GRE).then_some(whole)?, &[0, 4, 0x86dd])
        }
    };
    let inside = gre_header(content).ok()?;
    Some(source == outer.destination && inside.payload.is_empty() && types.contains(&inside.protocol))
}

/// Bypass, inner destinations and probes, in this order. Gives whether a destination is only noted.
pub(super) fn protect(config: &Config, id: u32, tunnel: &Tunnel, gre: &Gre<'_>) -> Result<bool, Refusal> {
    let Some(destination) = destination(gre.protocol, gre.payload) else {
        return Ok(false);
    };
    let mut bypass = tunnel.bypass.iter();
    if bypass.any(|prefix| begins_alike(destination, prefix.addr(), prefix.prefix_len())) {
        return pass_because(id, "bypass");
    }
    let mut prefixes = config.protect.prefixes.iter();
    let is_protected = prefixes.any(|prefix| begins_alike(destination, prefix.addr(), prefix.prefix_len()));
    if is_protected {
        return Ok(false);
    }
    match config.protect.inner_destinations {
        Guard::Enforce => drop_because(id, "inner_destination"),
        // What would be forwarded is for nobody here, as above.
        _ if tunnel.probes == Probes::Route && is_echo_reply(gre.protocol, gre.payload) => {
            pass_because(id, "other_host")
        }
        guard => Ok(guard == Guard::Monitor),
    }
}

/// A whole message of type 0 (RFC 792) or 129 (RFC 4443 section 4.2), right in an IP packet that is no fragment.
fn is_echo_reply(protocol: u16, packet: &[u8]) -> bool {
    let message = match protocol {
        0x0800 if packet[9] == 1 && number(&packet[6..8]) & 0x3fff == 0 => {
            packet.get(usize::from(packet[0] % 16) * 4..number(&packet[2..4]) as usize)
        }
        0x86dd if packet[6] == 58 => packet.get(40..40 + number(&packet[4..6]) as usize),
        _ => None,
    };
    let reply = if protocol == 0x0800 { 0 } else { 129 };
    message.is_some_and(|message| message.len() >= 8 && message[0] == reply)
}

/// Where an IP packet wants to go, also one within an Ethernet frame.
fn destination(protocol: u16, packet: &[u8]) -> Option<IpAddr> {
    match protocol {
        0x0800 => Some(IpAddr::from(<[u8; 4]>::try_from(packet.get(..20)?.get(16..)?).ok()?)),
        0x86dd => Some(IpAddr::from(<[u8; 16]>::try_from(packet.get(..40)?.get(24..)?).ok()?)),
        0x6558 => {
            let mut rest = packet.get(12..)?;
            match ether_type(&mut rest, 2)? {
                // No frame in a frame.
                0x6558 => None,
                protocol => destination(protocol, rest),
            }
        }
        _ => None,
    }
}

/// Lowers the MSS that a SYN announces (RFC 9293 section 3.7.1), and says whether that was called for. Options that are not right
/// are left alone, and so is whatever they are options of.
pub(super) fn lower_mss(tunnel: &Tunnel, protocol: u16, packet: &mut [u8]) -> bool {
    let Mss::Bytes(limit) = tunnel.mss else { return false };
    let Some((segment, options)) = syn(protocol, packet) else {
        return false;
    };
    let Some(value) = mss_value(&packet[segment + 20..segment + options], segment + 20) else {
        return false;
    };
    let (old, check) = (number(&packet[value..value + 2]), segment + 16);
    if old <= u64::from(limit) {
        return false;
    }
    packet[value..value + 2].copy_from_slice(&limit.to_be_bytes());
    // An odd place counts by its bytes, the first of which is the low one of its word.
    let weight = if (value - segment).is_multiple_of(2) { 1 } else { 256 };
    let lost = (old - u64::from(limit)) * weight;
    let sum = (number(&packet[check..check + 2]) + lost) % 0xffff;
    packet[check..check + 2].copy_from_slice(&(sum as u16).to_be_bytes());
    true
}

/// Where the segment of a SYN begins in its packet, and the length of its header.
fn syn(protocol: u16, packet: &[u8]) -> Option<(usize, usize)> {
    const TCP: u8 = 6;
    let (segment, end) = match protocol {
        0x0800 if packet[9] == TCP && number(&packet[6..8]) & 0x3fff == 0 => {
            (usize::from(packet[0] % 16) * 4, number(&packet[2..4]) as usize)
        }
        0x86dd if packet[6] == TCP => (40, 40 + number(&packet[4..6]) as usize),
        _ => return None,
    };
    let header = packet.get(segment..end)?;
    let length = usize::from(header.get(12)? / 16) * 4;
    (header.get(13)? & 2 != 0 && (20..=header.len()).contains(&length)).then_some((segment, length))
}

/// Where the value of the first MSS option lies, by recursion over the options that begin at `place`.
fn mss_value(options: &[u8], place: usize) -> Option<usize> {
    match *options {
        [2, 4, _, _, ..] => Some(place + 2),
        [] | [0 | 2, ..] => None,
        [1, ref rest @ ..] => mss_value(rest, place + 1),
        [_, length, ..] if length >= 2 => {
            let length = usize::from(length);
            mss_value(options.get(length..)?, place + length)
        }
        _ => None,
    }
}
