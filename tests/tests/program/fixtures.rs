//! Every fixture, by the loaded program.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use gre_common::decide;
use gre_common::sequence::SequenceState;
use gre_tests::fixtures::{Fixture, Step, all};
use gre_user::settings::LogLevel;

use crate::kernel::{Kernel, SHORTEST, among_many, load_or_return};
use crate::support::bytes::Bytes;
use crate::support::outcome::{Outcome, hex};
use crate::support::reference::Reference;
use gre_tests::skip::say;

/// Delay that no expectation depends on: no step waits for more than 700 ms if not for a second.
const TOLERATED: Duration = Duration::from_millis(200);
/// How often a fixture is tried whose steps were held up, on a machine that has other things to do.
const TRIES: usize = 5;

#[test]
fn every_fixture_comes_out_as_expected() -> Result<()> {
    load_or_return!();
    let fixtures: Vec<_> = all().into_iter().filter(|fixture| !waits(fixture)).collect();
    judge_all(&fixtures, LogLevel::Off, str::to_owned)
}

/// The same where tunnels and protected prefixes are too many for each packet to be compared with them.
#[test]
fn every_fixture_comes_out_as_expected_among_many() -> Result<()> {
    load_or_return!();
    let fixtures: Vec<_> = all().into_iter().filter(|fixture| !waits(fixture)).collect();
    judge_all(&fixtures, LogLevel::Off, among_many)
}

#[test]
fn fixtures_that_wait_come_out_as_expected() -> Result<()> {
    load_or_return!();
    let fixtures: Vec<_> = all().into_iter().filter(waits).collect();
    ensure!(!fixtures.is_empty(), "no fixture waits");
    let judge = |fixture| judge_undisturbed(fixture, &mut Kernel::load(fixture.config)?);
    let failures: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = fixtures
            .iter()
            .map(|fixture| scope.spawn(move || judge(fixture)))
            .collect();
        threads
            .into_iter()
            .filter_map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                    .err()
            })
            .collect()
    });
    report(&fixtures, &failures)
}

/// With all logging on the program is another one for the verifier, and must be the same for packets.
#[test]
fn logging_changes_no_outcome() -> Result<()> {
    load_or_return!();
    let of_rows = |fixture: &Fixture| fixture.name.starts_with("row_");
    let fixtures: Vec<_> = all().into_iter().filter(of_rows).collect();
    ensure!(!fixtures.is_empty(), "no fixture is named after a row");
    judge_all(&fixtures, LogLevel::Trace, str::to_owned)
}

/// Runs fixtures that do not wait, with one load for each configuration, which is changed by `beside`.
fn judge_all(fixtures: &[Fixture], level: LogLevel, beside: impl Fn(&str) -> String) -> Result<()> {
    let mut by_config: BTreeMap<&str, Vec<&Fixture>> = BTreeMap::new();
    for fixture in fixtures {
        by_config.entry(fixture.config).or_default().push(fixture);
    }
    let mut failures = Vec::new();
    for (config, fixtures) in by_config {
        let mut kernel = Kernel::load_logging(&beside(config), level)?;
        for fixture in fixtures {
            failures.extend(judge_undisturbed(fixture, &mut kernel).err());
        }
        kernel.check_unused()?;
    }
    report(fixtures, &failures)
}

fn waits(fixture: &Fixture) -> bool {
    fixture.steps.iter().any(|step| !step.advance.is_zero())
}

/// Says what was run, and fails if anything has.
fn report(fixtures: &[Fixture], failures: &[anyhow::Error]) -> Result<()> {
    let frames: usize = fixtures.iter().map(|fixture| fixture.steps.len()).sum();
    let left_out = |fixture: &Fixture| fixture.steps.iter().filter(|step| !can_run(step)).count();
    let too_short: Vec<_> = fixtures
        .iter()
        .filter(|fixture| left_out(fixture) > 0)
        .map(|fixture| format!("{} of {}", left_out(fixture), fixture.name))
        .collect();
    let but = match too_short.as_slice() {
        [] => String::new(),
        some => format!(
            "; not run, for the kernel test-runs no frame of less than {SHORTEST} bytes: {}",
            some.join(", ")
        ),
    };
    say(&format!(
        "{} fixtures of {frames} frames run by the kernel{but}",
        fixtures.len()
    ));
    let reports: Vec<_> = failures.iter().map(|failure| format!("{failure:#}")).collect();
    ensure!(
        reports.is_empty(),
        "{} fixtures failed:\n{}",
        reports.len(),
        reports.join("\n")
    );
    Ok(())
}

fn can_run(step: &Step) -> bool {
    step.frame.len() >= SHORTEST
}

/// Runs a fixture, again if it failed while the machine held its steps up for so long that they may mean something else.
fn judge_undisturbed(fixture: &Fixture, kernel: &mut Kernel) -> Result<()> {
    let mut tries = 1;
    loop {
        let mut held_up = Duration::ZERO;
        let result = judge(fixture, kernel, &mut held_up);
        if result.is_ok() || held_up < TOLERATED || tries == TRIES {
            return result;
        }
        tries += 1;
        say(&format!("{}: held up for {held_up:?}, runs again", fixture.name));
    }
}

/// Runs a fixture. `held_up` becomes the longest time that a step came later than it should.
fn judge(fixture: &Fixture, kernel: &mut Kernel, held_up: &mut Duration) -> Result<()> {
    kernel.set_sequences(SequenceState::default())?;
    let reference = Reference::new(fixture.config)?;
    let mut last = Instant::now();
    for (number, step) in fixture.steps.iter().enumerate() {
        reference.advance(step.advance);
        thread::sleep(step.advance);
        if !can_run(step) {
            continue;
        }
        let context = || format!("{} step {number}: {}", fixture.name, hex(&step.frame));
        let outcome = kernel.run(&step.frame).with_context(context)?;
        *held_up = last.elapsed().saturating_sub(step.advance).max(*held_up);
        last = Instant::now();

        outcome
            .is(&step.expect, &step.frame, &reference)
            .map_err(|difference| anyhow!(difference))
            .with_context(context)?;
        let on_host = Outcome::of(&decide(&Bytes::whole(&step.frame), &reference), &step.frame);
        ensure!(
            outcome == on_host,
            "{}:\non the host   {on_host:?}\nin the kernel {outcome:?}",
            context()
        );
    }
    Ok(())
}
