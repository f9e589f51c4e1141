//! What the live view shows: rates with their recent past, in an order and through a filter.

use std::collections::{BTreeMap, VecDeque};

use crate::reasons::ReasonName;
use crate::stats::{Rates, Stats, TunnelRates};

/// How many rates of the past are shown.
pub(super) const PAST: usize = 20;

/// All that is on the screen.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Where the program is attached.
    pub(super) interfaces: String,
    /// Tunnels in the order of their names.
    tunnels: Vec<Row>,
    /// Packets a second by reason.
    pub(super) reasons: Vec<(&'static str, f64)>,
    /// How busy each CPU is.
    pub(super) cpus: Vec<(u32, f64)>,
    pub(super) sort: Sort,
    /// Only tunnels whose names contain this are shown.
    pub(super) filter: String,
    /// Whether keys go into the filter.
    pub(super) typing: bool,
    /// Whether the screen stands still.
    pub(super) paused: bool,
    /// Whether the keys are explained.
    pub(super) help: bool,
    /// How many tunnels are scrolled past.
    pub(super) skipped: usize,
    /// Whether to end.
    pub(super) quit: bool,
}

/// What tunnels are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Most packets first.
    #[default]
    Packets,
    /// Most bits first.
    Bits,
    /// Most dropped first.
    Drops,
    /// By name.
    Name,
}

impl Sort {
    /// The one after this.
    pub(super) fn next(self) -> Self {
        match self {
            Self::Packets => Self::Bits,
            Self::Bits => Self::Drops,
            Self::Drops => Self::Name,
            Self::Name => Self::Packets,
        }
    }

    /// What it is called on the screen.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Packets => "packets",
            Self::Bits => "bits",
            Self::Drops => "drops",
            Self::Name => "name",
        }
    }
}

/// A tunnel's rates, a second.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) packets: f64,
    pub(super) bits: f64,
    pub(super) drops: f64,
    /// Packets a second of the past, the newest last.
    pub(super) past: VecDeque<f64>,
}

impl Model {
    /// Takes in new rates, and how busy the CPUs are.
    pub fn update(&mut self, stats: &Stats, rates: &Rates, cpus: Vec<(u32, f64)>) {
        let interfaces = stats
            .interfaces
            .iter()
            .map(|interface| format!("{} ({})", interface.name, interface.mode));
        self.interfaces = interfaces.collect::<Vec<_>>().join(", ");
        let mut pasts: BTreeMap<_, _> = self.tunnels.drain(..).map(|row| (row.name, row.past)).collect();
        self.tunnels = rates
            .tunnels
            .iter()
            .map(|tunnel| Row::of(tunnel, pasts.remove(&tunnel.name).unwrap_or_default()))
            .collect();
        self.reasons = rates.reasons.iter().map(|(reason, rate)| (*reason, *rate)).collect();
        self.reasons.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        self.cpus = cpus;
        self.skipped = self.skipped.min(self.tunnels.len().saturating_sub(1));
    }

    /// Whether the screen stands still.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether to end.
    pub fn is_over(&self) -> bool {
        self.quit
    }

    /// The tunnels that pass the filter, in the order that was chosen.
    pub(super) fn shown(&self) -> Vec<&Row> {
        let mut rows: Vec<_> = self
            .tunnels
            .iter()
            .filter(|row| row.name.contains(&self.filter))
            .collect();
        match self.sort {
            Sort::Packets => rows.sort_by(|a, b| b.packets.total_cmp(&a.packets)),
            Sort::Bits => rows.sort_by(|a, b| b.bits.total_cmp(&a.bits)),
            Sort::Drops => rows.sort_by(|a, b| b.drops.total_cmp(&a.drops)),
            Sort::Name => {}
        }
        rows
    }

    /// Packets and bits of all tunnels together.
    pub(super) fn total(&self) -> (f64, f64) {
        let packets = self.tunnels.iter().map(|row| row.packets).sum();
        (packets, self.tunnels.iter().map(|row| row.bits).sum())
    }
}

impl Row {
    fn of(tunnel: &TunnelRates, mut past: VecDeque<f64>) -> Self {
        past.push_back(tunnel.packets);
        while past.len() > PAST {
            past.pop_front();
        }
        let dropped = tunnel.reasons.iter().filter(|(reason, _)| drops(reason));
        Self {
            name: tunnel.name.clone(),
            packets: tunnel.packets,
            bits: tunnel.bytes * 8.0,
            drops: dropped.map(|(_, rate)| rate).sum(),
            past,
        }
    }
}

/// Whether packets of this reason go nowhere.
fn drops(reason: &str) -> bool {
    let is_drop = |reason: gre_common::Reason| reason.action() == gre_common::Action::Drop;
    ReasonName::parse(reason).is_ok_and(|name| name.variants().all(is_drop))
}
