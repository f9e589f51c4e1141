//! What it costs that somebody watches what is refused: a flood of bad packets with a reader of samples and without.

use anyhow::{Context, Result, ensure};
use gre_common::Reason;
use gre_tests::fixtures::{self, Expect};
use gre_tests::skip::say;

use crate::kernel::{Kernel, load_or_return};

const FLOOD: u32 = 200_000;
const ROUNDS: usize = 5;

#[test]
fn a_flood_costs_hardly_more_while_somebody_watches() -> Result<()> {
    load_or_return!();
    let bad = |expect: &Expect| matches!(expect, Expect::Drop { reason } if *reason == Reason::ChecksumBad.name());
    let (config, frame) = fixtures::all()
        .into_iter()
        .find_map(|fixture| {
            let step = fixture.steps.into_iter().find(|step| bad(&step.expect))?;
            Some((fixture.config, step.frame))
        })
        .context("a fixture with a wrong checksum")?;
    let mut kernel = Kernel::load(config)?;
    let mut costs = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (watched, costs) in [false, true].into_iter().zip(&mut costs) {
            kernel.watch(watched)?;
            let (before, judged) = (
                kernel.counted(Reason::ChecksumBad)?,
                kernel.judged(Reason::ChecksumBad)?,
            );
            costs.push(kernel.flood(&frame, FLOOD)?);
            let counted = kernel.counted(Reason::ChecksumBad)? - before;
            ensure!(counted == u64::from(FLOOD), "{counted} of {FLOOD} packets counted");
            // Each is taken for a sample, or swallowed; without a reader none is even judged.
            let swallowed = kernel.judged(Reason::ChecksumBad)? - judged;
            let wanted = if watched {
                // On a slow machine the flood takes so long that more are taken than a burst.
                u64::from(FLOOD) / 2..=u64::from(FLOOD)
            } else {
                0..=0
            };
            ensure!(wanted.contains(&swallowed), "watched: {watched}; {swallowed} swallowed");
        }
    }
    let [closed, open] = costs.map(|mut costs| {
        costs.sort_unstable();
        costs[ROUNDS / 2]
    });
    say(&format!(
        "a packet with a wrong checksum costs {closed} ns while nobody watches, {open} ns while somebody does ({:.2} times)",
        f64::from(open) / f64::from(closed)
    ));
    Ok(())
}
