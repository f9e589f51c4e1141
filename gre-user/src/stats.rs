//! Counters as `stats` shows them: the shape of its JSON.

mod rates;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use gre_common::Reason;
use gre_common::arrivals::Arrivals;
use gre_common::counters::Counters;
use gre_common::sizes::BOUNDS;
use serde::Serialize;

use crate::snapshot::Snapshot;
use crate::state::Root;

pub use self::rates::{Rates, TunnelRates};

/// All counters at one time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    /// Where the program is attached.
    pub interfaces: Vec<InterfaceStats>,
    /// The tunnels in the order of their names.
    pub tunnels: Vec<TunnelStats>,
    /// Packets by reason, of all tunnels and of what no tunnel matched.
    pub reasons: Reasons,
    /// Interfaces that did not take all frames that were redirected to them, in the order of their indices; left out in JSON
    /// if there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub redirects: Vec<RedirectStats>,
}

/// An interface in the statistics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InterfaceStats {
    /// Its name.
    pub name: String,
    /// Where the program runs: "native", "generic", "offload", or "gone".
    pub mode: String,
    /// TCP SYNs whose MSS was lowered on the way out.
    #[serde(skip_serializing_if = "is_zero")]
    pub mss_clamped: u64,
}

/// A tunnel's counters.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TunnelStats {
    /// The tunnel's name.
    pub name: String,
    /// Inner packets delivered.
    pub packets: u64,
    /// Their bytes from the inner header on.
    pub bytes: u64,
    /// Their bytes from the outer IP header on.
    pub outer_bytes: u64,
    /// Seconds since the last of them, as coarse as the kernel's tick; none if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen_seconds: Option<f64>,
    /// Packets by reason.
    pub reasons: Reasons,
    /// Delivered packets that are fragments.
    #[serde(skip_serializing_if = "is_zero")]
    pub fragments: u64,
    /// TCP SYNs whose MSS was lowered.
    #[serde(skip_serializing_if = "is_zero")]
    pub mss_clamped: u64,
    /// The delivered packets by their length; none if there was none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sizes: Vec<Size>,
    /// What sequence numbers tell of the way from the sender; none if it does not set them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<Numbers>,
}

/// How many packets are of a class of length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Size {
    /// Bytes of the longest of the class; none for the last, which has no longest.
    pub up_to: Option<u16>,
    /// How many there were.
    pub packets: u64,
}

/// What sequence numbers tell.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Numbers {
    /// Packets that had a number.
    pub numbered: u64,
    /// Numbers that had not come when a newer one came.
    pub missing: u64,
    /// Those that came later.
    pub reordered: u64,
    /// Packets whose number had come before.
    pub duplicates: u64,
    /// Packets whose number is too old to tell.
    pub old: u64,
    /// Restarts of the sender.
    pub restarts: u64,
    /// How many packets were lost: what is missing less what came later.
    pub lost: u64,
    /// Their share of all that were sent, from 0 to 1.
    pub loss: f64,
}

impl Numbers {
    fn of(arrivals: &Arrivals) -> Option<Self> {
        let Arrivals {
            numbered,
            missing,
            reordered,
            duplicates,
            old,
            restarts,
        } = *arrivals;
        let lost = arrivals.lost();
        let sent = numbered.saturating_sub(duplicates) + lost;
        (numbered != 0).then(|| Self {
            numbered,
            missing,
            reordered,
            duplicates,
            old,
            restarts,
            lost,
            loss: lost as f64 / sent.max(1) as f64,
        })
    }
}

/// What became of the frames that were redirected to an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RedirectStats {
    /// The interface's name; of one that is not here any more, its index: "#7".
    pub interface: String,
    /// How many frames it did not take.
    pub failed: u64,
}

/// Packets by the name of their reason; zero counts are left out.
pub type Reasons = BTreeMap<&'static str, u64>;

impl Stats {
    /// Reads the counters of what is loaded.
    ///
    /// # Errors
    ///
    /// If nothing is loaded, or it cannot be read.
    pub fn read(root: &Root) -> Result<Self> {
        Ok(Self::of(&Snapshot::take(root)?))
    }

    /// The packets by reason of what no tunnel matched.
    pub fn without_tunnel(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.reasons.iter().filter_map(|(&reason, all)| {
            let in_tunnels: u64 = self
                .tunnels
                .iter()
                .filter_map(|tunnel| tunnel.reasons.get(reason))
                .sum();
            let packets = all.saturating_sub(in_tunnels);
            (packets != 0).then_some((reason, packets))
        })
    }

    /// What a snapshot has to say.
    pub fn of(snapshot: &Snapshot) -> Self {
        let interfaces = snapshot
            .interfaces
            .iter()
            .map(|view| InterfaceStats {
                name: view.name.clone(),
                mode: view.mode(),
                mss_clamped: snapshot.egress_clamped(view),
            })
            .collect();
        let mut total = reasons(&snapshot.reading.no_tunnel);
        let mut tunnels = Vec::with_capacity(snapshot.names.len());
        for (name, counters) in snapshot.tunnels() {
            let tunnel = tunnel(name, counters, snapshot.since(counters.last_seen));
            for (reason, packets) in &tunnel.reasons {
                *total.entry(reason).or_default() += packets;
            }
            tunnels.push(tunnel);
        }
        tunnels.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            interfaces,
            tunnels,
            reasons: total,
            redirects: snapshot.redirects.clone(),
        }
    }
}

fn tunnel(name: &str, counters: &Counters, since: Option<Duration>) -> TunnelStats {
    TunnelStats {
        name: name.to_owned(),
        packets: counters.packets,
        bytes: counters.bytes,
        outer_bytes: counters.outer_bytes,
        last_seen_seconds: since.map(|since| since.as_millis() as f64 / 1000.0),
        reasons: reasons(counters),
        fragments: counters.fragments,
        mss_clamped: counters.mss_clamped,
        sizes: sizes(counters),
        sequence: Numbers::of(&counters.arrivals),
    }
}

fn sizes(counters: &Counters) -> Vec<Size> {
    if counters.packets == 0 {
        return Vec::new();
    }
    let bounds = BOUNDS.into_iter().map(Some).chain([None]);
    let size = |(up_to, packets)| Size { up_to, packets };
    bounds.zip(counters.sizes).map(size).collect()
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Reasons that share a name (one for each action) are one here.
fn reasons(counters: &Counters) -> Reasons {
    let mut reasons = Reasons::new();
    for (reason, &packets) in Reason::ALL
        .iter()
        .zip(&counters.reasons)
        .filter(|(_, packets)| **packets != 0)
    {
        *reasons.entry(reason.name()).or_default() += packets;
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Reading;
    use crate::interfaces::InterfaceView;

    pub(super) fn counters(packets: u64, last_seen: u64, reasons: &[(Reason, u64)]) -> Counters {
        let mut counters = Counters {
            packets,
            bytes: 100 * packets,
            outer_bytes: 124 * packets,
            last_seen,
            ..Counters::ZERO
        };
        for (reason, packets) in reasons {
            counters.reasons[*reason as usize] = *packets;
        }
        counters
    }

    pub(super) fn stats(no_tunnel: Counters, tunnels: &[(u32, &str, Counters)], now: Duration) -> Stats {
        let names = tunnels.iter().map(|(id, name, _)| (*id, (*name).to_owned())).collect();
        let tunnels = tunnels.iter().map(|(id, _, counters)| (*id, *counters)).collect();
        let interface = InterfaceView {
            name: "eth0".to_owned(),
            program_id: 7,
            link_id: 1,
            here: None,
            egress: None,
        };
        Stats::of(&Snapshot {
            interfaces: vec![interface],
            names,
            reading: Reading {
                no_tunnel,
                tunnels,
                redirects: BTreeMap::new(),
                egress_clamped: BTreeMap::new(),
            },
            redirects: Vec::new(),
            now,
        })
    }

    #[test]
    fn json_has_the_contracts_shape() {
        let no_tunnel = counters(
            0,
            0,
            &[
                (Reason::UnknownPassed, 1),
                (Reason::UnknownDropped, 2),
                (Reason::GreReserved, 4),
            ],
        );
        let mut b = counters(3, 1_000_000_000, &[(Reason::ChecksumBad, 5)]);
        b.sizes[0] = 3;
        b.fragments = 1;
        b.mss_clamped = 2;
        b.arrivals = Arrivals {
            numbered: 4,
            missing: 3,
            reordered: 1,
            duplicates: 1,
            ..Arrivals::ZERO
        };
        let a = counters(0, 0, &[(Reason::ChecksumBad, 6), (Reason::Ecn, 1)]);
        let stats = stats(no_tunnel, &[(1, "b", b), (2, "a", a)], Duration::from_millis(1234));
        assert_eq!(
            serde_json::to_value(&stats).unwrap(),
            serde_json::json!({
                "interfaces": [{"name": "eth0", "mode": "gone"}],
                "tunnels": [
                    {"name": "a", "packets": 0, "bytes": 0, "outer_bytes": 0, "reasons": {"checksum_bad": 6, "ecn": 1}},
                    {"name": "b", "packets": 3, "bytes": 300, "outer_bytes": 372, "last_seen_seconds": 0.234,
                     "reasons": {"checksum_bad": 5}, "fragments": 1, "mss_clamped": 2,
                     "sizes": [
                         {"up_to": 128, "packets": 3}, {"up_to": 256, "packets": 0}, {"up_to": 512, "packets": 0},
                         {"up_to": 1024, "packets": 0}, {"up_to": 1280, "packets": 0}, {"up_to": 1476, "packets": 0},
                         {"up_to": 1500, "packets": 0}, {"up_to": null, "packets": 0}
                     ],
                     "sequence": {"numbered": 4, "missing": 3, "reordered": 1, "duplicates": 1, "old": 0, "restarts": 0,
                                  "lost": 2, "loss": 0.4}}
                ],
                "reasons": {"unknown_tunnel": 3, "gre_reserved": 4, "checksum_bad": 11, "ecn": 1}
            })
        );
    }

    #[test]
    fn a_stamp_ahead_of_the_clock_is_now() {
        let stats = stats(
            Counters::ZERO,
            &[(1, "a", counters(1, 2_000_000_000, &[]))],
            Duration::from_secs(1),
        );
        assert_eq!(stats.tunnels[0].last_seen_seconds, Some(0.0));
    }
}
