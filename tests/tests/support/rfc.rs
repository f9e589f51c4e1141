//! A second, slow decision: the packet table and its RFCs read once more, by other means than the program's. Bytes are taken off a
//! slice from the front, headers are walked by recursion, checksums are remainders (a one's complement sum is one modulo 65,535),
//! and prefixes are compared bit by bit. It shares no code with `gre-common`, so that a mistake there is not made here too.

use std::net::IpAddr;

use gre_user::config::{Checksum, Config, Deliver, InnerType, Sequence, Tunnel, Unknown};

use super::outcome::{Counted, Counter, Outcome};

/// What a tunnel's earlier packets have left (RFC 2890 section 2.2).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    /// The number that is expected next, if there has been any.
    pub(crate) expected: Option<u32>,
    /// How many late ones have come since one was accepted.
    pub(crate) late: u64,
    /// Whether none was accepted for a second.
    pub(crate) silent: bool,
}

impl Numbers {
    /// As a generated case has them: the number expected in bits 0 to 31, bit 32 whether there is one, late ones from bit 40 on.
    pub(crate) fn of(cursor: u64, silent: bool) -> Self {
        Self {
            expected: (cursor >> 32 & 1 == 1).then_some(cursor as u32),
            late: cursor >> 40 & 0x7f,
            silent,
        }
    }
}

/// So many late numbers in a row are a restarted sender (row 13).
const LATE_MEANS_RESTART: u64 = 16;
const GRE: u8 = 47;

/// What becomes of a frame that no interface is addressed by: a tunnel that forwards takes none.
pub(crate) fn judge(config: &Config, numbers: Numbers, frame: &[u8]) -> Outcome {
    match Walk::new(config, numbers, frame).packet() {
        Ok((passed, counted)) => Outcome {
            passed: Some(passed),
            counted,
        },
        Err(Refusal::NotOurs) => Outcome {
            passed: Some(frame.to_vec()),
            counted: Counted::new(),
        },
        Err(Refusal::Because(tunnel, reason, passes)) => Outcome {
            passed: passes.then(|| frame.to_vec()),
            counted: Counted::from([(
                (tunnel, Counter::Reason(reason, if passes { "pass" } else { "drop" })),
                1,
            )]),
        },
    }
}

/// Why a packet is not delivered.
enum Refusal {
    /// Row 1.
    NotOurs,
    /// The tunnel, 0 for none, the reason, and whether the packet is passed all the same.
    Because(u32, &'static str, bool),
}

/// Delivered: the frame that goes on, and what is counted.
type Delivered = Result<(Vec<u8>, Counted), Refusal>;

fn drop_because<T>(tunnel: u32, reason: &'static str) -> Result<T, Refusal> {
    Err(Refusal::Because(tunnel, reason, false))
}

fn pass_because<T>(tunnel: u32, reason: &'static str) -> Result<T, Refusal> {
    Err(Refusal::Because(tunnel, reason, true))
}

/// Takes `count` bytes off the front, if there are so many.
fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (front, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(front)
}

/// A number in network byte order, of any length.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The words' sum, the last one filled up with a zero (RFC 1071 section 1).
fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(2);
    words.map(|word| number(word) << (8 * (2 - word.len()))).sum()
}

/// Whether the words with their checksum among them sum up to the one's complement's negative zero.
fn is_intact(bytes: &[u8]) -> bool {
    let sum = sum(bytes);
    sum > 0 && sum.is_multiple_of(0xffff)
}

/// What lies in front of GRE.
struct Outer<'a> {
    source: IpAddr,
    destination: IpAddr,
    /// The ECN field.
    ecn: u8,
    /// From the GRE header to the end of the IP packet, or why that cannot be told.
    gre: Result<&'a [u8], (&'static str, bool)>,
    /// Bytes of the IP packet.
    length: usize,
}

/// The optional fields of a GRE header (RFC 2890 section 2).
struct Gre<'a> {
    has_checksum: bool,
    key: Option<u32>,
    sequence: Option<u32>,
    protocol: u16,
    payload: &'a [u8],
}

struct Walk<'a> {
    config: &'a Config,
    numbers: Numbers,
    frame: &'a [u8],
}

impl<'a> Walk<'a> {
    fn new(config: &'a Config, numbers: Numbers, frame: &'a [u8]) -> Self {
        Self { config, numbers, frame }
    }

    fn packet(&self) -> Delivered {
        let mut rest = self.frame;
        take(&mut rest, 12).ok_or(Refusal::NotOurs)?;
        let ether_type = ether_type(&mut rest, 2).ok_or(Refusal::NotOurs)?;
        let outer = match ether_type {
            0x0800 => outer_v4(rest),
            0x86dd => outer_v6(rest),
            _ => None,
        }
        .ok_or(Refusal::NotOurs)?;
        if !self
            .config
            .tunnels
            .iter()
            .any(|tunnel| tunnel.local == outer.destination)
        {
            return Err(Refusal::NotOurs);
        }
        let whole = outer
            .gre
            .map_err(|(reason, passes)| Refusal::Because(0, reason, passes))?;
        let gre = gre_header(whole)?;
        let Some((id, tunnel)) = self.tunnel(&outer, gre.key) else {
            return match self.config.unknown {
                Unknown::Pass => pass_because(0, "unknown_tunnel"),
                Unknown::Drop => drop_because(0, "unknown_tunnel"),
            };
        };
        if !tunnel.enabled {
            return pass_because(id, "tunnel_disabled");
        }
        if tunnel.deliver != Deliver::Stack {
            return pass_because(id, "other_host");
        }
        self.checksum(id, tunnel, &gre, whole)?;
        let restarted = self.order(id, tunnel, gre.sequence)?;
        let inner = inner(id, tunnel, &gre, outer.ecn)?;

        let headers = self.frame.len() - rest.len();
        let passed = match gre.protocol {
            0x6558 => inner.clone(),
            protocol => [&self.frame[..headers - 2], &protocol.to_be_bytes(), &inner].concat(),
        };
        let mut counted = Counted::from([
            ((id, Counter::Packets), 1),
            ((id, Counter::Bytes), inner.len() as u64),
            ((id, Counter::OuterBytes), outer.length as u64),
        ]);
        if restarted {
            counted.insert((id, Counter::Reason("sequence_restart", "pass")), 1);
        }
        Ok((passed, counted))
    }

    /// Row 9: of the tunnels between these ends and with this key, the one whose prefix shares most bits with the source.
    fn tunnel(&self, outer: &Outer<'_>, key: Option<u32>) -> Option<(u32, &'a Tunnel)> {
        let mut best: Option<(u8, u32, &Tunnel)> = None;
        for (id, tunnel) in (1..).zip(&self.config.tunnels) {
            if tunnel.local != outer.destination || tunnel.key != key {
                continue;
            }
            for prefix in &tunnel.remotes {
                let length = prefix.prefix_len();
                let is_longer = best.is_none_or(|(longest, _, _)| length >= longest);
                if is_longer && begins_alike(outer.source, prefix.addr(), length) {
                    best = Some((length, id, tunnel));
                }
            }
        }
        best.map(|(_, id, tunnel)| (id, tunnel))
    }

    /// Rows 11 and 12.
    fn checksum(&self, id: u32, tunnel: &Tunnel, gre: &Gre<'_>, whole: &[u8]) -> Result<(), Refusal> {
        let wanted = match tunnel.checksum {
            Checksum::Ignore => return Ok(()),
            Checksum::Optional => gre.has_checksum,
            Checksum::Required => true,
            Checksum::Forbidden => false,
        };
        if wanted != gre.has_checksum {
            drop_because(id, "checksum_policy")
        } else if gre.has_checksum && !is_intact(whole) {
            drop_because(id, "checksum_bad")
        } else {
            Ok(())
        }
    }

    /// Row 13. Gives whether the sender has restarted.
    fn order(&self, id: u32, tunnel: &Tunnel, number: Option<u32>) -> Result<bool, Refusal> {
        if tunnel.sequence == Sequence::Ignore {
            return Ok(false);
        }
        let Numbers { expected, late, silent } = self.numbers;
        match (number, expected) {
            (None, _) => drop_because(id, "sequence"),
            (Some(_), None) => Ok(false),
            (Some(number), Some(expected)) => {
                // Serial numbers (RFC 1982 section 3.2): not older is at most half the circle ahead.
                let ahead = (i64::from(number) - i64::from(expected)).rem_euclid(1 << 32);
                match ahead < 1 << 31 {
                    true => Ok(false),
                    false if silent || late + 1 >= LATE_MEANS_RESTART => Ok(true),
                    false => drop_because(id, "sequence"),
                }
            }
        }
    }
}

/// The EtherType behind up to `tags` VLAN tags (IEEE 802.1Q).
fn ether_type(rest: &mut &[u8], tags: usize) -> Option<u16> {
    match number(take(rest, 2)?) as u16 {
        0x8100 | 0x88a8 if tags > 0 => {
            take(rest, 2)?;
            ether_type(rest, tags - 1)
        }
        other => Some(other),
    }
}

/// RFC 791. None: not GRE over IPv4.
fn outer_v4(frame: &[u8]) -> Option<Outer<'_>> {
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
fn outer_v6(frame: &[u8]) -> Option<Outer<'_>> {
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
fn gre_header(whole: &[u8]) -> Result<Gre<'_>, Refusal> {
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

/// Rows 14 to 16: the inner packet as it goes on.
fn inner(id: u32, tunnel: &Tunnel, gre: &Gre<'_>, outer_ecn: u8) -> Result<Vec<u8>, Refusal> {
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

/// Whether the first bits of two addresses are the same.
fn begins_alike(one: IpAddr, other: IpAddr, length: u8) -> bool {
    let bits = |address: IpAddr| -> Vec<bool> {
        let octets = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let each = octets
            .iter()
            .flat_map(|octet| (0..8).rev().map(move |bit| octet >> bit & 1 == 1));
        each.collect()
    };
    let (one, other) = (bits(one), bits(other));
    one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .take(length.into())
            .all(|(one, other)| *one == other)
}
