//! The decision on a packet: no panic, no byte read outside, a verdict that keeps its promises, and the one that the RFCs lead to when
//! they are read again by other means.
#![no_main]

#[path = "../../tests/support/mod.rs"]
#[expect(dead_code, reason = "tests use the rest")]
mod support;

#[path = "../../tests/decision/delivery.rs"]
mod delivery;

#[path = "../../tests/rfc/mod.rs"]
mod rfc;

use gre_common::{Reason, Verdict, decide};
use gre_user::config::Config;
use libfuzzer_sys::fuzz_target;

use delivery::check_delivery;
use rfc::Numbers;
use support::bytes::Bytes;
use support::frames::CONFIGS;
use support::outcome::Outcome;
use support::reference::Reference;

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

/// What stands before the frame: the configuration, the first buffer's length, and whether a tunnel was silent.
const PREFIX: usize = 3;

fuzz_target!(|data: &[u8]| {
    let Some((&[config, first, silent], frame)) = data.split_first_chunk::<PREFIX>() else {
        return;
    };
    REFERENCES.with(|references| {
        let reference = &references[usize::from(config) % references.len()];
        let decided = |first| {
            reference.receive_after(0, silent & 1 == 1);
            decide(&Bytes::split(frame, first), reference)
        };
        let whole = decided(frame.len());
        match &whole {
            Verdict::Deliver(delivery) => {
                check_delivery(delivery, frame, frame.len()).expect("a delivery's promises");
            }
            Verdict::Reply(_) => unreachable!("no fixture's tunnel answers"),
            Verdict::Refuse { reason, .. } => assert!(![Reason::Headroom, Reason::Internal].contains(reason)),
            Verdict::NotOurs => {}
        }
        let theirs = PARSED.with(|configs| {
            let config = &configs[usize::from(config) % configs.len()];
            rfc::judge(config, Numbers::of(0, silent & 1 == 1), frame)
        });
        assert_eq!(Outcome::of(&whole, frame), theirs, "{whole:?}");
        let split = decided(usize::from(first));
        let left_alone = matches!(
            split,
            Verdict::NotOurs
                | Verdict::Refuse {
                    reason: Reason::Headroom,
                    ..
                }
        );
        assert!(split == whole || left_alone, "whole: {whole:?}, split: {split:?}");
    });
});
