//! The same frames to the kernel's GRE receiver and to our program, on the same kernel: what is delivered must be the same
//! byte for byte, and what is dropped must be dropped by both, but for the [`Difference`]s that the README lists.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};
use gre_common::{Delivery, Reason, Verdict, decide};
use gre_tests::skip::say;
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestCaseError, TestError, TestRunner};

use crate::outer;
use crate::pair::{CONFIG, OPTIONAL_CHECKSUM, Pair, is_shown};
use crate::support::bytes::Bytes;
use crate::support::carry_out::carry_out;
use crate::support::frames::cases;
use crate::support::outcome::{Outcome, hex};
use crate::support::reference::Reference;

/// Frames where the environment names no other number.
const FRAMES: u32 = 100_000;
/// The variable that does.
const FRAMES_VARIABLE: &str = "GRE_TESTS_FRAMES";

#[test]
fn the_kernel_and_our_program_agree() -> Result<()> {
    let started = Instant::now();
    let frames = match std::env::var(FRAMES_VARIABLE) {
        Ok(number) => number.parse().with_context(|| format!("{FRAMES_VARIABLE}={number}"))?,
        Err(_) => FRAMES,
    };
    let mut config = Config {
        failure_persistence: None,
        // Chance of the strong kind takes longer than all the rest.
        rng_algorithm: RngAlgorithm::XorShift,
        ..Config::with_cases(frames)
    };
    let seed = match config.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => RandomState::new().build_hasher().finish(),
    };
    config.rng_seed = RngSeed::Fixed(seed);

    let both = RefCell::new(Both::new()?);
    TestRunner::new(config)
        .run(&cases(), |case| {
            let compared = both.borrow_mut().compare(&case.frame);
            compared.map_err(|error| TestCaseError::fail(format!("{error:#}")))
        })
        .map_err(|error| match error {
            // The reason is that of the least frame that fails.
            TestError::Fail(reason, _) => anyhow!("PROPTEST_RNG_SEED={seed}: {reason}\nunder{CONFIG}"),
            TestError::Abort(reason) => anyhow!("PROPTEST_RNG_SEED={seed}: {reason}"),
        })?;

    let both = both.into_inner();
    say(&format!(
        "{frames} frames in {} s, PROPTEST_RNG_SEED={seed}: {:?}; differences: {:?}",
        started.elapsed().as_secs(),
        both.agreed,
        both.differences
    ));
    let delivered = both.agreed.get("delivered").copied().unwrap_or(0);
    // Else the frames show little.
    ensure!(
        delivered * 50 > frames,
        "only {delivered} of {frames} frames were delivered"
    );
    Ok(())
}

/// Where the kernel and our program do not do the same, each for a reason that the README names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
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
    /// Outer ECT(1) over inner ECT(0) becomes ECT(1) (RFC 6040 section 4.2); old kernels leave ECT(0).
    Ect1,
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
}

/// The two receivers, and what is expected of ours.
struct Both {
    pair: Pair,
    reference: Reference,
    agreed: BTreeMap<&'static str, u32>,
    differences: BTreeMap<Difference, u32>,
}

impl Both {
    fn new() -> Result<Self> {
        Ok(Self {
            pair: Pair::new()?,
            reference: Reference::new(CONFIG)?,
            agreed: BTreeMap::new(),
            differences: BTreeMap::new(),
        })
    }

    fn compare(&mut self, frame: &[u8]) -> Result<()> {
        let Some(frame) = self.pair.addressed(frame) else {
            *self.agreed.entry("not sendable").or_default() += 1;
            return Ok(());
        };
        let received = self.pair.receive(&frame)?;
        let verdict = decide(&Bytes::whole(&frame), &self.reference);
        let passed = Outcome::of(&verdict, &frame).passed.filter(|frame| is_shown(frame));
        let report = || {
            format!(
                "verdict {verdict:?}\nours {:?}\nkernel {:?}\nas a step of a fixture, if the kernel is right:\n{}",
                received.ours.iter().map(|frame| hex(frame)).collect::<Vec<_>>(),
                received.kernels.iter().map(|packet| hex(packet)).collect::<Vec<_>>(),
                fixture_step(&frame, received.kernels.first().map(Vec::as_slice)),
            )
        };
        ensure!(
            received.ours == passed.into_iter().collect::<Vec<_>>(),
            "the program did not do what its decision says\n{}",
            report()
        );
        let agreed = match &verdict {
            Verdict::Deliver(delivery) => {
                let out = carry_out(delivery, &frame, frame.len());
                let inner = match delivery.ether_type {
                    Some(_) => &out[delivery.link.len()..],
                    None => &out[..],
                };
                if received.kernels == [inner] {
                    "delivered"
                } else {
                    let kernels = received.kernels.first().map(Vec::as_slice);
                    match difference_in_delivery(&frame, delivery, inner, kernels) {
                        Some(difference) if received.kernels.len() < 2 => return self.differ(difference),
                        _ => bail!("ours delivers, the kernel does not, or something else\n{}", report()),
                    }
                }
            }
            Verdict::Reply(_) => bail!("answered, though no tunnel here answers keepalives\n{}", report()),
            // The kernel gets it as it came: what it does with it is what it does without our program.
            Verdict::Refuse { reason, .. } if passes(*reason) => "passed",
            Verdict::NotOurs if received.kernels.is_empty() => "not ours",
            Verdict::NotOurs if outer::is_behind_many(&frame) => return self.differ(Difference::LongChain),
            Verdict::NotOurs => bail!("not ours, but the kernel delivers\n{}", report()),
            Verdict::Refuse { .. } if received.kernels.is_empty() => "dropped",
            Verdict::Refuse { reason, .. } => match reason {
                Reason::GreReserved => return self.differ(Difference::Reserved),
                Reason::InnerMalformed => return self.differ(Difference::InnerMalformed),
                Reason::ChecksumPolicy => return self.differ(Difference::ChecksumPolicy),
                Reason::Loop => return self.differ(Difference::Loop),
                _ => bail!("ours drops, the kernel delivers\n{}", report()),
            },
        };
        *self.agreed.entry(agreed).or_default() += 1;
        Ok(())
    }

    fn differ(&mut self, difference: Difference) -> Result<()> {
        *self.differences.entry(difference).or_default() += 1;
        Ok(())
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
    const IGNORED_TAKEN_FOR_VERSION: u8 = 0b0111_1000;
    const LEAST: usize = 12;
    let packet = &frame[delivery.link.len()..delivery.end];
    let Some(kernels) = kernels else {
        if outer::is_refused(packet) {
            return Some(Difference::OuterHeader);
        }
        let gre = &packet[outer::length(packet)?..];
        if gre.get(1)? & IGNORED_TAKEN_FOR_VERSION != 0 {
            return Some(Difference::Ignored);
        }
        if gre.len() < LEAST {
            return Some(Difference::Short);
        }
        if delivery.tunnel == OPTIONAL_CHECKSUM && gre[0] & 0x80 != 0 {
            return Some(Difference::ChecksumPolicy);
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
    const ECT_0: u8 = 0b10;
    const ECT_1: u8 = 0b01;
    match (ecn(packet)?, ecn(inner)?, ecn(kernels)?) {
        (ECT_1, ECT_1, ECT_0) => Some(Difference::Ect1),
        (_, ours, theirs)
            if ours == theirs && inner.get(10..12) == Some(&[0; 2]) && kernels.get(10..12) == Some(&[0xff; 2]) =>
        {
            Some(Difference::ZeroChecksum)
        }
        _ => None,
    }
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
