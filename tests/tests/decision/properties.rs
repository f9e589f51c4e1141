//! What must hold of any bytes.

use gre_common::{Delivery, Reason, Verdict, decide};
use gre_tests::fixtures::{self, Step};
use gre_user::config::Config;
use proptest::prelude::*;

use crate::delivery::check_delivery;
use crate::rfc::{self, Numbers};
use crate::support::bytes::Bytes;
use crate::support::frames::{CONFIGS, Case, cases};
use crate::support::outcome::Outcome;
use crate::support::reference::Reference;

pub(crate) fn config() -> ProptestConfig {
    ProptestConfig {
        // A failure is told with its seed; no file is left in the tree.
        failure_persistence: None,
        ..ProptestConfig::with_cases(10_000)
    }
}

thread_local! {
    /// One for each of [`CONFIGS`].
    static REFERENCES: Vec<Reference> = CONFIGS
        .iter()
        .map(|text| Reference::new(text).expect("the table's configurations are valid"))
        .collect();
    /// The same, for the second decision.
    static PARSED: Vec<Config> = CONFIGS
        .iter()
        .map(|text| Config::from_str(text, "table").expect("the table's configurations are valid"))
        .collect();
}

/// No frame has its last header behind that.
const LONGEST_HEADERS: usize = 250;

/// The reasons of rows 13 to 16, and of protection.
const AFTER_NUMBERS: [Reason; 7] = [
    Reason::Sequence,
    Reason::InnerProtocol,
    Reason::InnerMalformed,
    Reason::Ecn,
    Reason::Keepalive,
    Reason::KeepaliveRate,
    Reason::Loop,
];

fn verdict(case: &Case, first: usize) -> Verdict {
    on(case, |reference| decide(&Bytes::split(&case.frame, first), reference))
}

/// What is decided on the case's tables, as they are before its frame comes.
fn on(case: &Case, decide: impl FnOnce(&Reference) -> Verdict) -> Verdict {
    REFERENCES.with(|references| {
        let reference = &references[case.config];
        reference.receive_after(case.cursor, case.silent);
        decide(reference)
    })
}

proptest! {
    #![proptest_config(config())]

    /// By [`Bytes`] reading outside is impossible, and summing outside panics.
    #[test]
    fn arbitrary_bytes_are_nobodys(frame in proptest::collection::vec(any::<u8>(), 0..200), config in 0..CONFIGS.len()) {
        let first = frame.len();
        let case = Case { config, frame, first, cursor: 0, silent: false };
        // That chance hits upon a local address is not to be expected.
        prop_assert_eq!(verdict(&case, first), Verdict::NotOurs);
    }

    /// What comes out, and what is counted for whom.
    #[test]
    fn the_decision_is_that_of_the_rfcs_read_again(case in cases()) {
        let ours = Outcome::of(&verdict(&case, case.frame.len()), &case.frame);
        let numbers = Numbers::of(case.cursor, case.silent);
        let theirs = PARSED.with(|configs| rfc::judge(&configs[case.config], numbers, &case.frame));
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn deliveries_change_nothing_but_what_they_say(case in cases()) {
        if let Verdict::Deliver(delivery) = verdict(&case, case.first) {
            check_delivery(&delivery, &case.frame, case.first.min(case.frame.len()))?;
        }
    }

    #[test]
    fn a_frame_in_one_buffer_is_never_left_alone_for_want_of_headers(case in cases()) {
        if let Verdict::Refuse { reason, .. } = verdict(&case, case.frame.len()) {
            prop_assert!(reason != Reason::Headroom && reason != Reason::Internal, "{reason:?}");
        }
    }

    /// Only a number that was judged moves the tunnel's state: nothing that is refused by rows 1 to 12 does, nor another
    /// tunnel's packet.
    #[test]
    fn what_is_refused_before_its_number_moves_nothing(case in cases()) {
        REFERENCES.with(|references| {
            let reference = &references[case.config];
            reference.receive_after(case.cursor, case.silent);
            let before = reference.states();
            let judged = match decide(&Bytes::whole(&case.frame), reference) {
                Verdict::Deliver(Delivery { tunnel, .. }) | Verdict::Reply(Delivery { tunnel, .. }) => tunnel,
                Verdict::Refuse { tunnel, reason } if AFTER_NUMBERS.contains(&reason) => tunnel,
                Verdict::NotOurs | Verdict::Refuse { .. } => 0,
            };
            for ((id, before), after) in (1..).zip(before).zip(reference.states()) {
                prop_assert!(id == judged || before == after, "tunnel {id}: {before:?}, then {after:?}");
            }
            Ok(())
        })?;
    }

    /// What lies beyond the first buffer can only make the decision wait, or hide that it is called for.
    #[test]
    fn a_split_frame_has_the_same_verdict_or_is_left_alone(case in cases()) {
        let whole = verdict(&case, case.frame.len());
        let split = verdict(&case, case.first);
        prop_assert!(is_right_if_split(split, whole), "whole: {whole:?}, split: {split:?}");
    }
}

/// Whether a frame of which not all is seen is decided on as the whole one is, or left alone. A tunnel's packet that is not seen to be
/// one is subject to lockdown; what lockdown has nothing against, as neighbour discovery, never is.
fn is_right_if_split(split: Verdict, whole: Verdict) -> bool {
    let is_locked_out = matches!(
        split,
        Verdict::Refuse {
            reason: Reason::Lockdown | Reason::LockdownMonitored,
            ..
        }
    );
    let is_left_alone = matches!(
        split,
        Verdict::NotOurs
            | Verdict::Refuse {
                reason: Reason::Headroom,
                ..
            }
    );
    split == whole || is_left_alone || is_locked_out && whole != Verdict::NotOurs
}

/// The same of every fixture's frames, wherever their first buffer ends.
#[test]
fn a_fixture_split_anywhere_has_the_same_verdict_or_is_left_alone() {
    for fixture in fixtures::all() {
        let reference = Reference::new(fixture.config).expect("the table's configurations are valid");
        for Step { frame, .. } in &fixture.steps {
            let decide_on = |bytes: &Bytes<'_>| {
                reference.receive_after(0, false);
                decide(bytes, &reference)
            };
            let whole = decide_on(&Bytes::whole(frame));
            for first in 0..frame.len().min(LONGEST_HEADERS) {
                let split = decide_on(&Bytes::split(frame, first));
                assert!(
                    is_right_if_split(split, whole),
                    "{}, {first} bytes in the first buffer: {split:?}, whole: {whole:?}",
                    fixture.name
                );
            }
        }
    }
}
