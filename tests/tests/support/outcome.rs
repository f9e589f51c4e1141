//! What became of a packet, in a form that the host's decision, the loaded program and the table can be compared in.

use std::collections::BTreeMap;
use std::fmt;

use gre_common::{Action, Reason, Verdict};
use gre_tests::fixtures::Expect;

use super::carry_out::{carry_out, lowered, turn_round};
use super::reference::Reference;

/// What became of a packet.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The frame as it went on; none if it was dropped.
    pub(crate) passed: Option<Vec<u8>>,
    /// Whether it went on by going back where it came from.
    pub(crate) returned: bool,
    /// By how much each counter went up, those that did.
    pub(crate) counted: Counted,
}

/// Counters by the id of their tunnel, 0 for none.
pub(crate) type Counted = BTreeMap<(u32, Counter), u64>;

/// One of a tunnel's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Counter {
    Packets,
    Bytes,
    OuterBytes,
    MssClamped,
    /// The reason's name, and what becomes of the packet.
    Reason(&'static str, &'static str),
}

impl Counter {
    pub(crate) fn of(reason: Reason) -> Self {
        Self::Reason(reason.name(), reason.action().as_str())
    }
}

/// The reasons of rows 2 to 9, and lockdown: the packet has no tunnel, or none yet.
const WITHOUT_TUNNEL: [&str; 8] = [
    "outer_fragment",
    "outer_malformed",
    "outer_extension",
    "gre_truncated",
    "gre_version",
    "gre_reserved",
    "unknown_tunnel",
    "lockdown",
];

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            returned,
            counted,
        } = self;
        let back = if *returned { " back" } else { "" };
        write!(f, "{}{back}, counted {counted:?}", shown(passed.as_deref()))
    }
}

impl Outcome {
    /// What a verdict on `frame` leads to.
    pub(crate) fn of(verdict: &Verdict, frame: &[u8]) -> Self {
        Self::of_split(verdict, frame, frame.len())
    }

    /// The same of a frame with `first` bytes in the first buffer.
    pub(crate) fn of_split(verdict: &Verdict, frame: &[u8], first: usize) -> Self {
        let whole = || Some(frame.to_vec());
        match verdict {
            Verdict::NotOurs => Self {
                passed: whole(),
                returned: false,
                counted: Counted::new(),
            },
            Verdict::Refuse { tunnel, reason } => Self {
                passed: if reason.action() == Action::Pass { whole() } else { None },
                returned: false,
                counted: Counted::from([((*tunnel, Counter::of(*reason)), 1)]),
            },
            Verdict::Deliver(delivery) => {
                let id = delivery.tunnel;
                let mut counted = Counted::from([
                    ((id, Counter::Packets), 1),
                    ((id, Counter::Bytes), delivery.inner_bytes() as u64),
                    ((id, Counter::OuterBytes), u64::from(delivery.outer_bytes)),
                ]);
                if delivery.restart {
                    counted.insert((id, Counter::of(Reason::SequenceRestart)), 1);
                }
                if lowered(delivery, frame, first).is_some() {
                    counted.insert((id, Counter::MssClamped), 1);
                }
                if delivery.passage.is_monitored() {
                    counted.insert((id, Counter::of(Reason::InnerDestinationMonitored)), 1);
                }
                if delivery.passage.is_probe() {
                    counted.insert((id, Counter::of(Reason::Probe)), 1);
                }
                Self {
                    passed: Some(carry_out(delivery, frame, first)),
                    returned: false,
                    counted,
                }
            }
            Verdict::Reply(delivery) => Self {
                passed: Some(turn_round(delivery, frame)),
                returned: true,
                counted: Counted::from([((delivery.tunnel, Counter::of(Reason::Keepalive)), 1)]),
            },
        }
    }

    /// Whether this is what the table expects of `frame`.
    ///
    /// # Errors
    /// What is different.
    pub(crate) fn is(&self, expect: &Expect, frame: &[u8], reference: &Reference) -> Result<(), String> {
        let (passed, counted) = match expect {
            Expect::Pass { reason: None } => (Some(frame), Counted::new()),
            Expect::Pass { reason: Some(reason) } => (Some(frame), self.one(reason, Action::Pass)),
            Expect::Drop { reason } => (None, self.one(reason, Action::Drop)),
            Expect::Deliver {
                tunnel,
                frame,
                inner_bytes,
                outer_bytes,
                also,
                is_clamped,
            } => {
                let id = reference.id(tunnel);
                let mut counted = Counted::from([
                    ((id, Counter::Packets), 1),
                    ((id, Counter::Bytes), *inner_bytes),
                    ((id, Counter::OuterBytes), *outer_bytes),
                ]);
                if let Some(reason) = also {
                    counted.insert((id, Counter::Reason(reason, Action::Pass.as_str())), 1);
                }
                if *is_clamped {
                    counted.insert((id, Counter::MssClamped), 1);
                }
                (Some(frame.as_slice()), counted)
            }
        };
        if self.passed.as_deref() != passed || self.returned {
            let (wanted, got) = (shown(passed), shown(self.passed.as_deref()));
            return Err(format!("wanted {wanted}\ngot    {got}"));
        }
        if self.counted != counted {
            return Err(format!("wanted {counted:?} counted, got {:?}", self.counted));
        }
        Ok(())
    }

    /// `reason` counted once. The table does not say for which tunnel, so this takes what was counted for; but whether it is
    /// any tunnel's is known.
    fn one(&self, reason: &'static str, action: Action) -> Counted {
        let is_tunnels = !WITHOUT_TUNNEL.contains(&reason);
        let id = match self.counted.first_key_value() {
            Some(((id, _), _)) if is_tunnels => *id.max(&1),
            _ => u32::from(is_tunnels),
        };
        Counted::from([((id, Counter::Reason(reason, action.as_str())), 1)])
    }
}

fn shown(passed: Option<&[u8]>) -> String {
    passed.map_or("dropped".to_owned(), |frame| format!("passed as {}", hex(frame)))
}

/// A frame as it is written down in reports.
pub(crate) fn hex(frame: &[u8]) -> String {
    frame.iter().map(|byte| format!("{byte:02x}")).collect()
}
