//! Every fixture, by the decision on the host.

use anyhow::{Context, Result, anyhow};
use gre_common::decide;
use gre_tests::fixtures::{Fixture, all};

use crate::support::bytes::Bytes;
use crate::support::outcome::{Outcome, hex};
use crate::support::reference::Reference;

#[test]
fn every_fixture_comes_out_as_expected() {
    let fixtures = all();
    let failures: Vec<_> = fixtures.iter().filter_map(|fixture| judge(fixture).err()).collect();
    let reports: Vec<_> = failures.iter().map(|failure| format!("{failure:#}")).collect();
    assert!(
        reports.is_empty(),
        "{} of {} fixtures:\n{}",
        reports.len(),
        fixtures.len(),
        reports.join("\n")
    );
}

fn judge(fixture: &Fixture) -> Result<()> {
    let reference = Reference::new(fixture.config)?;
    for (number, step) in fixture.steps.iter().enumerate() {
        reference.advance(step.advance);
        let outcome = Outcome::of(&decide(&Bytes::whole(&step.frame), &reference), &step.frame);
        outcome
            .is(&step.expect, &step.frame, &reference)
            .map_err(|difference| anyhow!(difference))
            .with_context(|| format!("{} step {number}: {}", fixture.name, hex(&step.frame)))?;
    }
    Ok(())
}
