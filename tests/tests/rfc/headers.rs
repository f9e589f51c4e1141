//! Rows 1 to 8: what stands before the payload.

use std::net::IpAddr;

use super::{GRE, Refusal, drop_because, is_intact, number, pass_because, take};

/// What lies in front of GRE.
pub(super) struct Outer<'a> {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// The ECN field.
    pub(super) ecn: u8,
    /// From the GRE header to the end of the IP packet, or why that cannot be told.
    pub(super) gre: Result<&'a [u8], (&'static str, bool)>,
    /// Bytes of the IP packet.
    pub(super) length: usize,
}

/// The optional fields of a GRE header (RFC 2890 section 2).
pub(super) struct Gre<'a> {
    pub(super) has_checksum: bool,
    pub(super) key: Option<u32>,
    pub(super) sequence: Option<u32>,
    pub(super) protocol: u16,
    pub(super) payload: &'a [u8],
}

/// The EtherType behind up to `tags` VLAN tags (IEEE 802.1Q).
pub(super) fn ether_type(rest: &mut &[u8], tags: usize) -> Option<u16> {
    match number(take(rest, 2)?) as u16 {
        0x8100 | 0x88a8 if tags > 0 => {
            take(rest, 2)?;
            ether_type(rest, tags - 1)
        }
        other => Some(other),
    }
}

/// RFC 791. None: not GRE over IPv4.
pub(super) fn outer_v4(frame: &[u8]) -> Option<Outer<'_>> {
    let header = frame.get(..20)?;
    if header[0] >> 4 != 4 || header[9] != GRE {
        return None;
    }
    let (words, total) = (usize::from(header[0] & 15), number(&header[2..4]) as usize);
    let fragment = number(&header[6..8]) & 0x3fff;
    let lengths = || {
        let packet = frame.get(..total)?;
        let (options, gre) = packet.split_at_checked(4 * words)?;
        (words >= 5 && is_intact(options)).then_some(gre)
    };
    Some(Outer {
        source: IpAddr::from(<[u8; 4]>::try_from(&header[12..16]).ok()?),
        destination: IpAddr::from(<[u8; 4]>::try_from(&header[16..20]).ok()?),
        ecn: header[1] % 4,
        gre: if fragment != 0 {
            Err(("outer_fragment", true))
        } else {
            lengths().ok_or(("outer_malformed", false))
        },
        length: total,
    })
}

/// RFC 8200. None: not GRE over IPv6, as far as the chain of headers can be followed.
pub(super) fn outer_v6(frame: &[u8]) -> Option<Outer<'_>> {
    let (header, rest) = frame.split_at_checked(40)?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let chain = chain(header[6], rest, Vec::new())?;
    let length = number(&header[4..6]) as usize;
    let gre = match chain {
        Chain::Fragment => Err(("outer_fragment", true)),
        _ if length > rest.len() => Err(("outer_malformed", false)),
        Chain::Behind(kinds, _) if kinds.len() > 2 || kinds.iter().any(|kind| ![0, 60].contains(kind)) => {
            Err(("outer_extension", true))
        }
        Chain::Behind(_, skipped) => Ok(rest[..length].get(skipped..).unwrap_or(&[])),
    };
    Some(Outer {
        source: IpAddr::from(<[u8; 16]>::try_from(&header[8..24]).ok()?),
        destination: IpAddr::from(<[u8; 16]>::try_from(&header[24..40]).ok()?),
        ecn: (number(&header[..2]) >> 4 & 3) as u8,
        gre,
        length: 40 + length,
    })
}

/// What leads to GRE.
enum Chain {
    /// A fragment header: GRE, or options before it, is in the whole.
    Fragment,
    /// Headers of these kinds, and their bytes.
    Behind(Vec<u8>, usize),
}

/// Follows up to four extension headers, the next of which is of kind `next` and begins `rest`. None: no GRE.
fn chain(next: u8, rest: &[u8], mut kinds: Vec<u8>) -> Option<Chain> {
    const MOST: usize = 4;
    match next {
        GRE => Some(Chain::Behind(kinds, 0)),
        _ if kinds.len() == MOST => None,
        44 => {
            let [of, _] = rest.get(..2)? else { return None };
            [GRE, 60].contains(of).then_some(Chain::Fragment)
        }
        // Hop-by-hop and destination options, routing, mobility; authentication counts otherwise (RFC 4302 section 2.2).
        0 | 60 | 43 | 135 | 51 => {
            let [of, length] = rest.get(..2)? else { return None };
            let unit = if next == 51 { 4 } else { 8 };
            let length = 8 + unit * usize::from(*length);
            kinds.push(next);
            match chain(*of, rest.get(length..).unwrap_or(&[]), kinds)? {
                Chain::Fragment => Some(Chain::Fragment),
                Chain::Behind(kinds, behind) => Some(Chain::Behind(kinds, length + behind)),
            }
        }
        _ => None,
    }
}

/// Rows 5 to 8 (RFC 2784 section 2.1, RFC 2890 section 2).
pub(super) fn gre_header(whole: &[u8]) -> Result<Gre<'_>, Refusal> {
    const TRUNCATED: Refusal = Refusal::Because(0, "gre_truncated", false);
    let mut rest = whole;
    let bits = take(&mut rest, 2).ok_or(TRUNCATED)?;
    // As the RFCs count them, from the left.
    let bit = |place: usize| bits[place / 8] >> (7 - place % 8) & 1 == 1;
    let protocol = number(take(&mut rest, 2).ok_or(TRUNCATED)?) as u16;
    let mut field = |place| match bit(place) {
        true => take(&mut rest, 4)
            .map(|field| Some(number(field) as u32))
            .ok_or(TRUNCATED),
        false => Ok(None),
    };
    let (checksum, key, sequence) = (field(0)?, field(2)?, field(3)?);
    match bits[1] % 8 {
        0 => {}
        1 => return pass_because(0, "gre_version"),
        _ => return drop_because(0, "gre_version"),
    }
    if bit(1) || bit(4) || bit(5) {
        return drop_because(0, "gre_reserved");
    }
    Ok(Gre {
        has_checksum: checksum.is_some(),
        key,
        sequence,
        protocol,
        payload: rest,
    })
}
