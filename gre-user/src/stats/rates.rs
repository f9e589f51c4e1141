//! Rates: the difference between two readings by the time between them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::{Reasons, Stats, TunnelStats};

/// What was counted between two readings, a second.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rates {
    /// Seconds between the readings.
    pub seconds: f64,
    /// The tunnels in the order of their names.
    pub tunnels: Vec<TunnelRates>,
    /// Packets a second by reason, of all tunnels and of what no tunnel matched.
    pub reasons: BTreeMap<&'static str, f64>,
}

/// A tunnel's rates.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TunnelRates {
    /// The tunnel's name.
    pub name: String,
    /// Inner packets delivered a second.
    pub packets: f64,
    /// Their bytes a second from the inner header on.
    pub bytes: f64,
    /// Their bytes a second from the outer IP header on.
    pub outer_bytes: f64,
    /// Packets a second by reason.
    pub reasons: BTreeMap<&'static str, f64>,
}

impl Rates {
    /// The rates from `before` to `after`, which was taken `elapsed` later. What is less than before started anew: it is
    /// counted from zero.
    pub fn between(before: &Stats, after: &Stats, elapsed: Duration) -> Self {
        let seconds = elapsed.as_secs_f64().max(f64::EPSILON);
        let rate = |before: u64, after: u64| after.checked_sub(before).unwrap_or(after) as f64 / seconds;
        let by_reason = |before: Option<&Reasons>, after: &Reasons| {
            after
                .iter()
                .map(|(&reason, &packets)| {
                    (
                        reason,
                        rate(
                            before.and_then(|before| before.get(reason)).copied().unwrap_or(0),
                            packets,
                        ),
                    )
                })
                .filter(|(_, rate)| *rate > 0.0)
                .collect()
        };
        let earlier: BTreeMap<_, _> = before.tunnels.iter().map(|tunnel| (&tunnel.name, tunnel)).collect();
        let tunnel = |after: &TunnelStats| {
            let before = earlier.get(&after.name).copied();
            TunnelRates {
                name: after.name.clone(),
                packets: rate(before.map_or(0, |before| before.packets), after.packets),
                bytes: rate(before.map_or(0, |before| before.bytes), after.bytes),
                outer_bytes: rate(before.map_or(0, |before| before.outer_bytes), after.outer_bytes),
                reasons: by_reason(before.map(|before| &before.reasons), &after.reasons),
            }
        };
        Self {
            seconds: (seconds * 1000.0).round() / 1000.0,
            tunnels: after.tunnels.iter().map(tunnel).collect(),
            reasons: by_reason(Some(&before.reasons), &after.reasons),
        }
    }
}

#[cfg(test)]
mod tests {
    use gre_common::Reason;
    use gre_common::counters::Counters;

    use super::super::tests::{counters, stats};
    use super::*;

    #[test]
    fn rates_are_differences_by_time() {
        let at = |packets, late| {
            let tunnel = counters(packets, 1, &[(Reason::Sequence, late)]);
            stats(Counters::ZERO, &[(1, "a", tunnel)], Duration::ZERO)
        };
        let rates = Rates::between(&at(10, 4), &at(30, 4), Duration::from_secs(2));
        let tunnel = &rates.tunnels[0];
        assert_eq!(
            (rates.seconds, tunnel.packets, tunnel.bytes, tunnel.outer_bytes),
            (2.0, 10.0, 1000.0, 1240.0)
        );
        assert!(
            tunnel.reasons.is_empty() && rates.reasons.is_empty(),
            "what has not changed is left out"
        );

        // A tunnel that was not there, and counters that began again.
        let nothing = stats(Counters::ZERO, &[], Duration::ZERO);
        let rates = Rates::between(&nothing, &at(30, 4), Duration::from_secs(1));
        assert_eq!((rates.tunnels[0].packets, rates.reasons["sequence"]), (30.0, 4.0));
        let rates = Rates::between(&at(100, 9), &at(30, 4), Duration::from_secs(1));
        assert_eq!((rates.tunnels[0].packets, rates.reasons["sequence"]), (30.0, 4.0));
    }
}
