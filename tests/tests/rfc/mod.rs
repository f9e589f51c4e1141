//! A second, slow decision: the packet table and its RFCs read once more, by other means than the program's. Bytes are taken off a
//! slice from the front, headers are walked by recursion, checksums are remainders (a one's complement sum is one modulo 65,535),
//! and prefixes are compared bit by bit. It shares no code with `gre-common`, so that a mistake there is not made here too.

use std::net::IpAddr;

use gre_user::config::{Checksum, Config, Deliver, Sequence, Tunnel, Unknown};

use self::headers::{Gre, Outer, ether_type, gre_header, outer_v4, outer_v6};
use crate::support::outcome::{Counted, Counter, Outcome};

mod headers;
mod inner;
mod lockdown;

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
    let judged = Walk::new(config, numbers, frame).packet();
    match judged.map_err(|refusal| lockdown::judge(config, frame, refusal)) {
        Ok((passed, counted)) => Outcome {
            passed: Some(passed),
            returned: false,
            counted,
        },
        Err(Refusal::NotOurs) => Outcome {
            passed: Some(frame.to_vec()),
            returned: false,
            counted: Counted::new(),
        },
        Err(Refusal::Because(tunnel, reason, passes)) => Outcome {
            passed: passes.then(|| frame.to_vec()),
            returned: false,
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
        let mut inner = inner::inspect(id, tunnel, &gre, outer.ecn)?;
        inner::returning(id, tunnel, &outer, &gre)?;
        let noted = inner::protect(self.config, id, tunnel, &gre)?;
        let lowered = inner::lower_mss(tunnel, gre.protocol, &mut inner);

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
        if noted {
            counted.insert((id, Counter::Reason("inner_destination", "pass")), 1);
        }
        if lowered {
            counted.insert((id, Counter::MssClamped), 1);
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
