//! What is quick for packets of the usual forms decides nothing else than the general way.

use gre_common::link::Mac;
use gre_common::plain::Plain;
use gre_common::sequence::SequenceState;
use gre_common::{Packet, Verdict, decide};
use gre_tests::frame::Link;
use proptest::prelude::*;

use crate::properties::config;
use crate::support::bytes::Bytes;
use crate::support::frames::{CONFIGS, Case, cases};
use crate::support::reference::Reference;

thread_local! {
    /// One for each of the configurations, whose packets come in on the interface that they are addressed to.
    static REFERENCES: Vec<Reference> = CONFIGS
        .iter()
        .map(|text| Reference::on(Some(Mac::from_bytes(Link::DESTINATION)), text))
        .collect::<Result<_, _>>()
        .expect("the table's configurations are valid");
}

/// A packet without [a look at its beginning](Packet::beginning): the decision takes the general way.
struct Piecemeal<'a>(Bytes<'a>);

impl Packet for Piecemeal<'_> {
    fn load<T: Plain>(&self, offset: usize) -> Option<T> {
        self.0.load(offset)
    }

    fn beginning<T: Plain>(&self) -> Option<&T> {
        None
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn sum(&self, offset: usize, len: usize) -> Option<u16> {
        self.0.sum(offset, len)
    }
}

/// What is decided on a packet, and what is noted of its number.
type Decided = (Verdict, Vec<SequenceState>, Vec<(u32, u32)>);

/// Decides on the tables as they are before the case's frame comes.
fn on(case: &Case, packet: &impl Packet) -> Decided {
    REFERENCES.with(|references| {
        let reference = &references[case.config];
        reference.receive_after(case.cursor, case.silent);
        let verdict = decide(packet, reference);
        (verdict, reference.states(), reference.arrived.borrow().clone())
    })
}

proptest! {
    #![proptest_config(config())]

    /// Of each frame is also tried what a changed bit makes of it, in its headers.
    #[test]
    fn the_usual_way_is_the_general_one(case in cases(), bit in 0..60_usize * 8) {
        let mut changed = case.frame.clone();
        if let Some(byte) = changed.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
        }
        for frame in [&case.frame, &changed] {
            for first in [case.first, frame.len()] {
                let packet = || Bytes::split(frame, first);
                prop_assert_eq!(on(&case, &packet()), on(&case, &Piecemeal(packet())), "{:02x?}", frame);
            }
        }
    }
}
