//! All that is counted, at one time.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use gre_common::counters::Counters;

use crate::clock::monotonic;
use crate::counters::Reading;
use crate::host::{self, Interface};
use crate::interfaces::{InterfaceView, attached};
use crate::running::read_current;
use crate::state::Root;
use crate::stats::RedirectStats;
use crate::tables::read_names;

/// What is attached, and what it has counted.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Where the program is attached.
    pub interfaces: Vec<InterfaceView>,
    /// The tunnels' names by their ids.
    pub names: BTreeMap<u32, String>,
    /// The counters.
    pub reading: Reading,
    /// Interfaces that did not take all frames that were redirected to them, in the order of their indices.
    pub redirects: Vec<RedirectStats>,
    /// When this was taken, by the clock that the program stamps packets with.
    pub now: Duration,
}

impl Snapshot {
    /// Reads what is loaded.
    ///
    /// # Errors
    ///
    /// If nothing is loaded, or it cannot be read.
    pub fn take(root: &Root) -> Result<Self> {
        let (names, reading) = read_current(root, |generation| {
            let names = read_names(generation)?;
            let reading = Reading::take(generation, names.keys().copied())?;
            Ok((names, reading))
        })?;
        Ok(Self {
            interfaces: attached(root)?,
            redirects: redirects(&reading.redirects, &host::interfaces()?),
            names,
            reading,
            now: monotonic()?,
        })
    }

    /// Each tunnel's name and counters, in the order of their ids.
    pub fn tunnels(&self) -> impl Iterator<Item = (&str, &Counters)> {
        self.names
            .iter()
            .filter_map(|(id, name)| Some((name.as_str(), self.reading.tunnels.get(id)?)))
    }

    /// How many TCP SYNs had their MSS lowered on the way out of an interface.
    pub fn egress_clamped(&self, view: &InterfaceView) -> u64 {
        let index = view.here.as_ref().map(|(interface, _)| interface.index);
        index
            .and_then(|index| self.reading.egress_clamped.get(&index))
            .copied()
            .unwrap_or(0)
    }

    /// How long ago the program stamped a packet so; none if it never did.
    pub fn since(&self, stamp: u64) -> Option<Duration> {
        (stamp != 0).then(|| self.now.saturating_sub(Duration::from_nanos(stamp)))
    }
}

fn redirects(failed: &BTreeMap<u32, u64>, here: &[Interface]) -> Vec<RedirectStats> {
    let name = |index| {
        let interface = here.iter().find(|interface| interface.index == index);
        interface.map_or_else(|| format!("#{index}"), |interface| interface.name.clone())
    };
    let stats = |(&index, &failed)| RedirectStats {
        interface: name(index),
        failed,
    };
    failed.iter().map(stats).collect()
}
