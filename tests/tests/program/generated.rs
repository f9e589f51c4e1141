//! Generated frames: the host's decision and the loaded program's must be the same.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use anyhow::{Context, Result, anyhow, ensure};
use gre_common::sequence::SequenceState;
use gre_common::{Reason, Verdict, decide};
use nix::time::ClockId;
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestCaseError, TestRunner};

use crate::kernel::{Kernel, SHORTEST, TICK, load_or_return, now};
use crate::support::bytes::Bytes;
use crate::support::frames::{CONFIGS, Case, cases};
use crate::support::outcome::Outcome;
use crate::support::reference::Reference;
use gre_tests::skip::say;

const CASES: u32 = 100_000;
/// Of these, so many must at least be delivered, and meet each reason: else they show little.
const LEAST: usize = 10;

#[test]
fn host_and_kernel_agree() -> Result<()> {
    load_or_return!();
    let mut config = Config {
        // A failure is told with its seed; no file is left in the tree.
        failure_persistence: None,
        // Chance of the strong kind takes longer than all the rest.
        rng_algorithm: RngAlgorithm::XorShift,
        ..Config::with_cases(CASES)
    };
    let seed = match config.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => RandomState::new().build_hasher().finish(),
    };
    config.rng_seed = RngSeed::Fixed(seed);

    let both = RefCell::new(Both::load()?);
    let splits = both.borrow().splits;
    TestRunner::new(config)
        .run(&cases(), |case| {
            let compared = both.borrow_mut().compare(&case);
            compared.map_err(|error| TestCaseError::fail(format!("{error:#}")))
        })
        .map_err(|error| anyhow!("PROPTEST_RNG_SEED={seed}: {error}"))?;

    let verdicts = both.into_inner().verdicts;
    let split = if splits {
        ""
    } else {
        " (none split: that takes Linux 6.18)"
    };
    say(&format!(
        "{CASES} generated frames{split}, PROPTEST_RNG_SEED={seed}: {verdicts:?}"
    ));
    let reasons = Reason::ALL.iter().filter(|reason| {
        let possible = splits || **reason != Reason::Headroom;
        possible && **reason != Reason::Internal && !OF_SENDING.contains(reason)
    });
    let wanted = reasons.map(|reason| reason.name()).chain([NOT_OURS, DELIVERED]);
    for verdict in wanted {
        let met = verdicts.get(verdict).copied().unwrap_or(0);
        ensure!(
            met >= LEAST,
            "only {met} generated frames were met by {verdict}; seed {seed}"
        );
    }
    Ok(())
}

/// Reasons of packets that are forwarded or answered, of which the fixtures have none.
const OF_SENDING: [Reason; 10] = [
    Reason::Probe,
    Reason::RouteNoNeighbour,
    Reason::RouteTtl,
    Reason::RouteTooBig,
    Reason::RouteLocal,
    Reason::RouteOther,
    Reason::RouteDenied,
    Reason::SpreadFull,
    Reason::RedirectFailed,
    Reason::KeepaliveRate,
];

const NOT_OURS: &str = "not ours";
const DELIVERED: &str = "delivered";
const ANSWERED: &str = "answered";
const TOO_SHORT: &str = "too short to be test-run";

/// The program and the reference for each of [`CONFIGS`].
struct Both {
    kernels: Vec<Kernel>,
    references: Vec<Reference>,
    /// Whether the kernel lets frames be split.
    splits: bool,
    /// The longest first buffer that it makes.
    longest_first: usize,
    /// How often each verdict was met.
    verdicts: BTreeMap<&'static str, usize>,
}

impl Both {
    fn load() -> Result<Self> {
        let mut kernels = CONFIGS
            .iter()
            .map(|config| Kernel::load(config))
            .collect::<Result<Vec<_>>>()?;
        let first = kernels.first_mut().context("there are fixtures")?;
        let (splits, longest_first) = (first.can_split()?, first.longest_first()?);
        Ok(Self {
            kernels,
            references: CONFIGS
                .iter()
                .map(|config| Reference::new(config))
                .collect::<Result<_, _>>()?,
            splits,
            longest_first,
            verdicts: BTreeMap::new(),
        })
    }

    fn compare(&mut self, case: &Case) -> Result<()> {
        let frame = &case.frame;
        if frame.len() < SHORTEST {
            self.count(TOO_SHORT);
            return Ok(());
        }
        let first = if self.splits {
            case.first.min(frame.len())
        } else {
            frame.len()
        };
        let (kernel, reference) = (&mut self.kernels[case.config], &self.references[case.config]);

        let accepted_at = if case.silent { 0 } else { u64::MAX };
        let cursor = case.cursor;
        kernel.set_sequences(SequenceState {
            cursor,
            accepted_at,
            tick: 0,
        })?;
        reference.receive_after(case.cursor, case.silent);

        let before = now(ClockId::CLOCK_MONOTONIC)?;
        let in_kernel = if first < frame.len() {
            kernel.run_split(frame, first)?
        } else {
            kernel.run(frame)?
        };
        let after = now(ClockId::CLOCK_MONOTONIC)?;
        let unchanged = reference.states();
        let first = first.min(self.longest_first);
        let verdict = decide(&Bytes::split(frame, first), reference);
        let on_host = Outcome::of_split(&verdict, frame, first);
        ensure!(
            in_kernel == on_host,
            "on the host {verdict:?}: {on_host:?}\nin the kernel {in_kernel:?}"
        );

        for ((old, host), kernel) in unchanged.iter().zip(reference.states()).zip(kernel.sequences()?) {
            ensure!(
                host.cursor == kernel.cursor,
                "sequence numbers: on the host {host:?}, in the kernel {kernel:?}"
            );
            let was_accepted = host != *old
                && !matches!(
                    verdict,
                    Verdict::Refuse {
                        reason: Reason::Sequence,
                        ..
                    }
                );
            let right = if was_accepted {
                before.saturating_sub(2 * TICK)..=after
            } else {
                accepted_at..=accepted_at
            };
            ensure!(
                right.contains(&kernel.accepted_at),
                "accepted at {}, not in {right:?}",
                kernel.accepted_at
            );
        }
        self.count(match verdict {
            Verdict::NotOurs => NOT_OURS,
            Verdict::Refuse { reason, .. } => reason.name(),
            Verdict::Deliver(delivery) if delivery.restart => Reason::SequenceRestart.name(),
            Verdict::Deliver(_) => DELIVERED,
            Verdict::Reply(_) => ANSWERED,
        });
        Ok(())
    }

    fn count(&mut self, verdict: &'static str) {
        *self.verdicts.entry(verdict).or_default() += 1;
    }
}
