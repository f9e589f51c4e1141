//! The two receivers of the same frames, compared.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use gre_common::link::Link;
use gre_common::{Delivery, Reason, Verdict, decide};

use crate::ends::{OPTIONAL_CHECKSUM, config};
use crate::ordered::{self, Kind, Ordered, SOON, towards};
use crate::outer;
use crate::pair::{Pair, Received, is_shown};
use crate::support::bytes::Bytes;
use crate::support::carry_out::carry_out;
use crate::support::frames::Case;
use crate::support::outcome::{Outcome, hex};
use crate::support::reference::Reference;

/// What both have done: received the inner packet, or nothing.
pub(crate) const DELIVERED: &str = "delivered";
pub(crate) const DROPPED: &str = "dropped";
/// How often what took so long that the program may have seen a silence is tried.
const TRIES: usize = 3;

/// Where the kernel and our program do not do the same, each for a reason that the README names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Difference {
    /// Bits 4 and 5 of Reserved0 must be refused (RFC 2784 section 2.3); the kernel ignores them.
    Reserved,
    /// `checksum = "optional"` takes packets with and without (RFC 2784 section 2.3); the kernel's device one kind only.
    ChecksumPolicy,
    /// Bits 6 to 12 of Reserved0 must be ignored (RFC 2784 section 2.3); the kernel takes bits 9 to 12 for a part of the version,
    /// which it then does not know (gre_rcv()).
    Ignored,
    /// An inner packet to the outer source must be dropped (RFC 2784 section 3.1); the kernel's device takes it like any other.
    Loop,
    /// A GRE packet of less than 12 bytes, as short MPLS, is none to the kernel (gre_rcv()).
    Short,
    /// A header checksum of zero, which the kernel's update writes as its equal 0xffff.
    ZeroChecksum,
    /// An inner Ethernet frame is delivered as it is (RFC 6040 is of IP in IP); the kernel looks into it, drops what is no whole
    /// IP header there, and combines the ECN fields.
    InsideEthernet,
    /// A packet that cannot be an inner packet is dropped before it reaches the kernel's stack. The kernel's device receives it,
    /// and then the stack drops it (ip_rcv_core(), ip6_rcv_core()).
    InnerMalformed,
    /// The outer header's options or extension headers are refused by the kernel's IP layer before GRE is looked at
    /// ([`outer::is_refused`]); they are none of our program's business.
    OuterHeader,
    /// GRE behind more extension headers than our program walks is none to it: it passes as it came, uncounted, and the kernel's
    /// device receives it.
    LongChain,
    /// A sender that numbers anew has restarted: its packets are accepted after some, or after a silence. The kernel's device drops them
    /// until their numbers have caught up.
    Restart,
    /// After number 4,294,967,295 comes 0 (RFC 2890 section 2.2). The kernel's device, which holds 0 for no number yet, then takes any.
    AfterTheLast,
}

/// What comparing has found, where it is no error.
pub(crate) struct Judged {
    verdict: Verdict,
    /// Where both have not done the same.
    pub(crate) difference: Option<Difference>,
    /// Whether a device of the kernel's has received the packet.
    is_kernels: bool,
}

impl Judged {
    /// Whether both receivers have taken note of the packet's number, or both have not, so that they expect the same one afterwards.
    fn leaves_both_alike(&self, frame: &[u8]) -> bool {
        let is_refused_before = || {
            let packet = Link::parse(&Bytes::whole(frame)).and_then(|link| frame.get(link.len()..));
            packet.is_none_or(|packet| refused_before(packet).is_some())
        };
        self.difference.is_none()
            && match self.verdict {
                Verdict::Deliver(_) => true,
                Verdict::Refuse { reason, .. } => match reason {
                    Reason::ChecksumPolicy | Reason::ChecksumBad | Reason::Sequence => true,
                    Reason::Ecn => !is_refused_before(),
                    reason => passes(reason) && self.is_kernels,
                },
                Verdict::Reply(_) | Verdict::NotOurs => false,
            }
    }
}

/// The two receivers, and what is expected of ours.
pub(crate) struct Both {
    pair: Pair,
    reference: Reference,
    agreed: BTreeMap<&'static str, u32>,
    differences: BTreeMap<Difference, u32>,
}

impl fmt::Display for Both {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}; differences: {:?}", self.agreed, self.differences)
    }
}

impl Both {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            pair: Pair::new()?,
            reference: Reference::new(&config())?,
            agreed: BTreeMap::new(),
            differences: BTreeMap::new(),
        })
    }

    /// How often both did this.
    pub(crate) fn agreed(&self, what: &str) -> u32 {
        self.agreed.get(what).copied().unwrap_or(0)
    }

    /// Sends the case's frame. If it is one of a tunnel that keeps order, both expect the case's number before, and afterwards the same
    /// one.
    pub(crate) fn compare(&mut self, case: &Case) -> Result<()> {
        let Some(frame) = self.pair.addressed(&case.frame) else {
            *self.agreed.entry("not sendable").or_default() += 1;
            return Ok(());
        };
        let expected = case.cursor as u32;
        let Some((tunnel, kind)) = self.ordered(&frame) else {
            return self.judge(&frame).map(drop);
        };
        self.before_silence(|both| {
            both.expect(tunnel, kind, expected)?;
            let judged = both.judge(&frame)?;
            if judged.leaves_both_alike(&frame) {
                // Late if the frame has moved what is expected, or else not.
                both.judge(&tunnel.frame(kind, Some(expected)))?;
            }
            Ok(())
        })
    }

    /// The tunnel that keeps order whose packet this is.
    fn ordered(&self, frame: &[u8]) -> Option<(Ordered, Kind)> {
        let tunnel = tunnel(&decide(&Bytes::whole(frame), &self.reference))?;
        Some((Ordered::of(tunnel)?, ordered::kind(frame)?))
    }

    /// Tries again what took so long that the program may have taken silence for a sender's restart, which the reference, whose clock
    /// stands still, does not.
    pub(crate) fn before_silence<T>(&mut self, mut attempt: impl FnMut(&mut Self) -> Result<T>) -> Result<T> {
        let mut tries = 0;
        loop {
            let started = Instant::now();
            let result = attempt(self);
            tries += 1;
            if result.is_ok() || started.elapsed() < SOON || tries == TRIES {
                return result;
            }
        }
    }

    /// Lets both expect this number next.
    pub(crate) fn expect(&mut self, tunnel: Ordered, kind: Kind, number: u32) -> Result<()> {
        const BEGUN: u64 = 1 << 32;
        let steps = towards(number);
        let last = steps.len() - 1;
        for (step, number) in steps.into_iter().enumerate() {
            let received = self.pair.receive(&tunnel.frame(kind, Some(number)))?;
            // Those before may be late.
            let is_accepted = received.ours.len() == 1 && received.kernels.len() == 1;
            ensure!(
                step < last || is_accepted,
                "{tunnel:?}: number {number} is not accepted, to begin with: {received:?}"
            );
        }
        self.reference.receive_after(BEGUN | u64::from(number), false);
        Ok(())
    }

    /// Sends a frame to both, and compares.
    pub(crate) fn judge(&mut self, frame: &[u8]) -> Result<Judged> {
        let before = self.reference.states();
        let verdict = decide(&Bytes::whole(frame), &self.reference);
        let comparison = Comparison {
            frame,
            verdict: &verdict,
            received: self.pair.receive(frame)?,
            expects_zero: tunnel(&verdict).is_some_and(|id| before[id as usize - 1].cursor as u32 == 0),
        };
        let difference = comparison.difference()?;
        match difference {
            Some(difference) => *self.differences.entry(difference).or_default() += 1,
            None => *self.agreed.entry(what(&verdict)).or_default() += 1,
        }
        let is_kernels = !comparison.received.kernels.is_empty();
        Ok(Judged {
            verdict,
            difference,
            is_kernels,
        })
    }
}

/// One frame, and what became of it.
struct Comparison<'a> {
    frame: &'a [u8],
    verdict: &'a Verdict,
    received: Received,
    /// Whether the frame's tunnel expected the number 0.
    expects_zero: bool,
}

impl Comparison<'_> {
    /// Where the kernel has done something else than our program, which must have done what its decision says.
    ///
    /// # Errors
    ///
    /// If that is nothing that is known to be so.
    fn difference(&self) -> Result<Option<Difference>> {
        let Self {
            frame,
            verdict,
            received,
            ..
        } = self;
        let passed = Outcome::of(verdict, frame).passed.filter(|frame| is_shown(frame));
        ensure!(
            received.ours == passed.into_iter().collect::<Vec<_>>(),
            "the program did not do what its decision says\n{self}"
        );
        Ok(match verdict {
            Verdict::Deliver(delivery) => {
                let out = carry_out(delivery, frame, frame.len());
                let inner = match delivery.ether_type {
                    Some(_) => &out[delivery.link.len()..],
                    None => &out[..],
                };
                if received.kernels == [inner] {
                    return Ok(None);
                }
                let kernels = received.kernels.first().map(Vec::as_slice);
                match difference_in_delivery(frame, delivery, inner, kernels) {
                    Some(difference) if received.kernels.len() < 2 => Some(difference),
                    _ => bail!("ours delivers, the kernel does not, or something else\n{self}"),
                }
            }
            Verdict::Reply(_) => bail!("answered, though no tunnel here answers keepalives\n{self}"),
            // The kernel gets it as it came: what it does with it is what it does without our program.
            Verdict::Refuse { reason, .. } if passes(*reason) => None,
            Verdict::NotOurs | Verdict::Refuse { .. } if received.kernels.is_empty() => None,
            Verdict::NotOurs if outer::is_behind_many(frame) => Some(Difference::LongChain),
            Verdict::NotOurs => bail!("not ours, but the kernel delivers\n{self}"),
            Verdict::Refuse { reason, .. } => Some(match reason {
                Reason::GreReserved => Difference::Reserved,
                Reason::InnerMalformed => Difference::InnerMalformed,
                Reason::ChecksumPolicy => Difference::ChecksumPolicy,
                Reason::Loop => Difference::Loop,
                Reason::Sequence if self.expects_zero => Difference::AfterTheLast,
                _ => bail!("ours drops, the kernel delivers\n{self}"),
            }),
        })
    }
}

impl fmt::Display for Comparison<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Received { ours, kernels } = &self.received;
        let shown = |frames: &[Vec<u8>]| frames.iter().map(|frame| hex(frame)).collect::<Vec<_>>();
        write!(
            f,
            "verdict {:?}\nours {:?}\nkernel {:?}\nas a step of a fixture, if the kernel is right:\n{}",
            self.verdict,
            shown(ours),
            shown(kernels),
            fixture_step(self.frame, kernels.first().map(Vec::as_slice)),
        )
    }
}

/// What both have done, where they have done the same.
fn what(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::NotOurs => "not ours",
        Verdict::Deliver(_) | Verdict::Reply(_) => DELIVERED,
        Verdict::Refuse { reason, .. } if passes(*reason) => "passed",
        Verdict::Refuse { .. } => DROPPED,
    }
}

/// The tunnel whose packet it is.
fn tunnel(verdict: &Verdict) -> Option<u32> {
    match verdict {
        Verdict::Deliver(delivery) | Verdict::Reply(delivery) => Some(delivery.tunnel),
        Verdict::Refuse { tunnel, .. } => (*tunnel > 0).then_some(*tunnel),
        Verdict::NotOurs => None,
    }
}

/// What to write into `tests/src/fixtures` so that the frame is remembered.
fn fixture_step(frame: &[u8], kernels: Option<&[u8]>) -> String {
    let literal = |bytes: &[u8]| {
        let escaped: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
        format!("b\"{escaped}\".to_vec()")
    };
    let expect = match kernels {
        Some(inner) => format!("/* delivers this behind the link header */ {}", literal(inner)),
        None => "Expect::drop(/* reason */)".to_owned(),
    };
    format!("Step::now({}, {expect})", literal(frame))
}

fn passes(reason: Reason) -> bool {
    reason.action() == gre_common::Action::Pass
}

/// Why the kernel may deliver something else than `inner`, or nothing.
fn difference_in_delivery(
    frame: &[u8],
    delivery: &Delivery,
    inner: &[u8],
    kernels: Option<&[u8]>,
) -> Option<Difference> {
    let packet = &frame[delivery.link.len()..delivery.end];
    let Some(kernels) = kernels else {
        if let Some(difference) = refused_before(packet) {
            return Some(difference);
        }
        if delivery.tunnel == OPTIONAL_CHECKSUM && packet.get(outer::length(packet)?)? & 0x80 != 0 {
            return Some(Difference::ChecksumPolicy);
        }
        if delivery.restart {
            return Some(Difference::Restart);
        }
        return delivery.ether_type.is_none().then_some(Difference::InsideEthernet);
    };
    if delivery.ether_type.is_none() {
        let ip = 14;
        let same =
            inner.get(..ip) == kernels.get(..ip) && without_ecn(inner.get(ip..)?) == without_ecn(kernels.get(ip..)?);
        return same.then_some(Difference::InsideEthernet);
    }
    if without_ecn(inner) != without_ecn(kernels) {
        return None;
    }
    let is_equal =
        ecn(inner)? == ecn(kernels)? && inner.get(10..12) == Some(&[0; 2]) && kernels.get(10..12) == Some(&[0xff; 2]);
    is_equal.then_some(Difference::ZeroChecksum)
}

/// Why the kernel may refuse an outer packet that our program does not, before it looks for a tunnel.
fn refused_before(packet: &[u8]) -> Option<Difference> {
    const IGNORED_TAKEN_FOR_VERSION: u8 = 0b0111_1000;
    const LEAST: usize = 12;
    if outer::is_refused(packet) {
        return Some(Difference::OuterHeader);
    }
    let gre = packet.get(outer::length(packet)?..)?;
    if gre.get(1)? & IGNORED_TAKEN_FOR_VERSION != 0 {
        return Some(Difference::Ignored);
    }
    (gre.len() < LEAST).then_some(Difference::Short)
}

/// The ECN field of an IP header.
fn ecn(packet: &[u8]) -> Option<u8> {
    match packet.first()? >> 4 {
        4 => Some(packet.get(1)? & 3),
        6 => Some(packet.get(1)? >> 4 & 3),
        _ => None,
    }
}

/// A packet with what follows from the ECN field, itself and IPv4's header checksum, set to zero.
fn without_ecn(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    match packet.first().map(|first| first >> 4) {
        Some(4) if packet.len() >= 20 => {
            packet[1] &= !3;
            packet[10..12].fill(0);
        }
        Some(6) if packet.len() >= 2 => packet[1] &= !0x30,
        _ => {}
    }
    packet
}
