//! `explain --pcap` decides as the program does: its tables, which are the kernel's, against the plain search.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use gre_common::{Reason, Verdict, decide};
use gre_tests::fixtures::{Fixture, all};
use gre_user::config::Config;
use gre_user::offline::{Judgement, Offline};
use gre_user::tables::{Ids, Tables};
use proptest::prelude::*;

use crate::support::bytes::Bytes;
use crate::support::frames::{CONFIGS, cases};
use crate::support::outcome::hex;
use crate::support::reference::Reference;

/// The cores of the host that the configurations are for.
const CORES: [u32; 2] = [0, 1];

fn offline(text: &str) -> Result<Offline> {
    let config = Config::from_str(text, "fixture")?;
    let names = config.tunnels.iter().map(|tunnel| tunnel.name.as_str());
    let ids = Ids::assign(names, &BTreeMap::new(), config.max_tunnels)?;
    Ok(Offline::new(&config, Tables::of(&config, &ids, &CORES)?))
}

#[test]
fn every_fixture_is_judged_as_by_the_program() {
    for fixture in all() {
        judge(&fixture).unwrap_or_else(|difference| panic!("{}: {difference:#}", fixture.name));
    }
}

fn judge(fixture: &Fixture) -> Result<()> {
    let (reference, offline) = (Reference::new(fixture.config)?, offline(fixture.config)?);
    // As the reference: late enough that no silence is too short.
    let mut now = Duration::from_secs(1 << 20);
    for step in &fixture.steps {
        now += step.advance;
        reference.advance(step.advance);
        let verdict = decide(&Bytes::whole(&step.frame), &reference);
        // A capture does not tell which frames are for the host that it was made on.
        if matches!(
            verdict,
            Verdict::Refuse {
                reason: Reason::OtherHost,
                ..
            }
        ) {
            continue;
        }
        let judgement = offline.judge(&step.frame, step.frame.len(), now);
        ensure!(
            judgement == Judgement::Decided(verdict),
            "{judgement:?} instead of {verdict:?}: {}",
            hex(&step.frame)
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    /// What was captured in part is judged as the whole, or not at all.
    #[test]
    fn part_of_a_frame_never_misleads(case in cases(), kept in 0..200_usize) {
        let text = CONFIGS[case.config];
        let (whole, part) = (offline(text).unwrap(), offline(text).unwrap());
        let length = case.frame.len();
        let now = Duration::from_secs(1);
        let judgement = part.judge(&case.frame[..kept.min(length)], length, now);
        if judgement != Judgement::Depends {
            prop_assert_eq!(judgement, whole.judge(&case.frame, length, now));
        }
    }
}
