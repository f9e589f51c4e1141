//! The same frames to the kernel's GRE receiver and to our program, on the same kernel: what is delivered must be the same
//! byte for byte, and what is dropped must be dropped by both, but for the [`Difference`](crate::both::Difference)s that the README lists.

use std::cell::RefCell;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use gre_tests::skip::say;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestCaseError, TestError, TestRunner};

use crate::both::{Both, DELIVERED, DROPPED};
use crate::ends;
use crate::ordered::{Kind, ORDERED, Ordered};
use crate::support::frames::cases;

/// Frames where the environment names no other number.
const FRAMES: u32 = 100_000;
/// The variable that does.
const FRAMES_VARIABLE: &str = "GRE_TESTS_FRAMES";
/// For so many frames there is one row of numbered packets.
const FRAMES_A_ROW: u32 = 200;
/// Packets in a row: enough for a sender's restart.
const ROW: usize = 40;

#[test]
fn the_kernel_and_our_program_agree() -> Result<()> {
    let frames = frames()?;
    let both = run(frames, cases(), |both, case| both.compare(case))?;
    let delivered = both.agreed(DELIVERED);
    // Else the frames show little.
    ensure!(
        delivered * 50 > frames,
        "only {delivered} of {frames} frames were delivered"
    );
    Ok(())
}

/// Tunnels that keep order, packet after packet.
#[test]
fn the_kernel_and_our_program_keep_the_same_order() -> Result<()> {
    let rows = frames()?.div_ceil(FRAMES_A_ROW);
    let both = run(rows, row(), |both, row| row.send(both))?;
    for verdict in [DELIVERED, DROPPED] {
        ensure!(both.agreed(verdict) > rows, "few {verdict} in {rows} rows: {both}");
    }
    Ok(())
}

fn frames() -> Result<u32> {
    match std::env::var(FRAMES_VARIABLE) {
        Ok(number) => number.parse().with_context(|| format!("{FRAMES_VARIABLE}={number}")),
        Err(_) => Ok(FRAMES),
    }
}

/// Compares what both make of `count` cases, whose seed is told.
fn run<T: fmt::Debug>(
    count: u32,
    cases: impl Strategy<Value = T>,
    compare: impl Fn(&mut Both, &T) -> Result<()>,
) -> Result<Both> {
    let started = Instant::now();
    let mut config = Config {
        failure_persistence: None,
        // Chance of the strong kind takes longer than all the rest.
        rng_algorithm: RngAlgorithm::XorShift,
        ..Config::with_cases(count)
    };
    let seed = match config.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => RandomState::new().build_hasher().finish(),
    };
    config.rng_seed = RngSeed::Fixed(seed);

    let both = RefCell::new(Both::new()?);
    TestRunner::new(config)
        .run(&cases, |case| {
            let compared = compare(&mut both.borrow_mut(), &case);
            compared.map_err(|error| TestCaseError::fail(format!("{error:#}")))
        })
        .map_err(|error| match error {
            // The reason is that of the least case that fails.
            TestError::Fail(reason, _) => anyhow!("PROPTEST_RNG_SEED={seed}: {reason}\nunder{}", ends::config()),
            TestError::Abort(reason) => anyhow!("PROPTEST_RNG_SEED={seed}: {reason}"),
        })?;
    let both = both.into_inner();
    say(&format!(
        "{count} cases in {} s, PROPTEST_RNG_SEED={seed}: {both}",
        started.elapsed().as_secs()
    ));
    Ok(both)
}

/// Packets of one tunnel, one after the other.
#[derive(Debug)]
struct Row {
    tunnel: Ordered,
    kind: Kind,
    /// What both expect at first.
    expected: u32,
    /// Their numbers.
    numbers: Vec<Option<u32>>,
}

/// Numbers around the one that is expected at first, or before it, as of a sender that has restarted; some at either end of what counts as
/// newer, or anywhere; a few packets have none.
fn row() -> impl Strategy<Value = Row> {
    let expected = prop_oneof![
        select(vec![0, 1, 2, 5000, 1 << 31, (1 << 31) + 1, u32::MAX]),
        any::<u32>()
    ];
    let kind = select(vec![Kind::Packets, Kind::Packets, Kind::Frames]);
    let numbers = prop_oneof![2 => numbers(-20..20), 1 => numbers(-40..1)];
    (select(ORDERED.to_vec()), kind, expected, numbers).prop_map(|(tunnel, kind, expected, numbers)| Row {
        tunnel,
        kind,
        expected,
        numbers: numbers
            .into_iter()
            .map(|number| number.map(|number| expected.wrapping_add(number)))
            .collect(),
    })
}

/// Relative to what is expected at first, most of them within `near`.
fn numbers(near: Range<i32>) -> impl Strategy<Value = Vec<Option<u32>>> {
    let number = prop_oneof![
        40 => near.prop_map(|by| Some(by as u32)),
        4 => (-2..3_i32).prop_map(|by| Some((1_u32 << 31).wrapping_add_signed(by))),
        1 => any::<u32>().prop_map(Some),
        2 => Just(None),
    ];
    vec(number, 1..ROW)
}

impl Row {
    /// Sends it, as far as both do the same: from then on they expect different numbers.
    fn send(&self, both: &mut Both) -> Result<()> {
        both.before_silence(|both| {
            both.expect(self.tunnel, self.kind, self.expected)?;
            for number in &self.numbers {
                let judged = both.judge(&self.tunnel.frame(self.kind, *number));
                if judged
                    .with_context(|| format!("{number:?} of {self:?}"))?
                    .difference
                    .is_some()
                {
                    break;
                }
            }
            Ok(())
        })
    }
}
