//! Counters and sequence state from one generation to the next.
//!
//! The new program goes on with the maps of the old one where it can: nothing is lost, for nothing is copied. Where maps by tunnel
//! get another size, or a tunnel takes over the counters of one that goes, the new ones start at zero, and what the old ones have
//! counted in the end is carried over by each tunnel's name, once the old program runs no more: nothing is lost either.

use std::collections::{BTreeMap, HashMap};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::{MapData, MapError};
use gre_common::Reason;
use gre_common::counters::Counters;
use gre_common::maps::{
    ARRIVALS, BUCKETS, CARRIED, COUNTERS, EGRESS_CLAMPED, MAX_EGRESS, MAX_REDIRECTS, READER, REDIRECTS, SAMPLES,
    SEQUENCES,
};
use gre_common::sample::RING_BYTES;
use gre_common::sequence::SequenceState;

use crate::about;
use crate::bpf::{batch, wait_for_programs};
use crate::counters::{NO_TUNNEL, read_counters, values_per_element};
use crate::layout::{self, Match};
use crate::running::Running;
use crate::state::Generation;
use crate::tables::{Ids, Tables, data, map, open, read_all, unusable};

/// Maps that say something of each tunnel.
pub(crate) const BY_TUNNEL: [&str; 4] = [COUNTERS, CARRIED, SEQUENCES, ARRIVALS];
/// Other maps that go on in the next generation, and their entries: whoever reads them notices nothing of a reload.
const OTHERS: [(&str, u32); 5] = [
    (REDIRECTS, MAX_REDIRECTS),
    (SAMPLES, RING_BYTES),
    (READER, 1),
    (BUCKETS, Reason::COUNT as u32),
    (EGRESS_CLAMPED, MAX_EGRESS),
];

/// How often the old maps are read until they stand still, and how long to wait in between: a core may still have packets in its
/// queue that the old program has put there.
const SETTLING: (u32, Duration) = (20, Duration::from_millis(2));

/// How a new generation comes to its counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carry {
    /// It has none to go on with, and starts at zero.
    Fresh,
    /// It shares the running generation's maps.
    Shared,
    /// It shares those that are not by tunnel, and gets what the others have counted.
    Moved,
}

impl Carry {
    /// What can be done with a running generation's counters.
    ///
    /// # Errors
    ///
    /// If its maps cannot be looked at.
    pub(crate) fn choose(running: &Generation, ids: &Ids, max_tunnels: u32) -> Result<Self> {
        let by_tunnel = BY_TUNNEL.map(|name| (name, max_tunnels.saturating_add(1)));
        let mut moved = ids.takes_over();
        for (name, entries) in by_tunnel.into_iter().chain(OTHERS) {
            match layout::compare(&running.map(name), name, entries)? {
                Match::Whole => {}
                Match::OtherEntries if BY_TUNNEL.contains(&name) => moved = true,
                Match::OtherEntries | Match::No => return Ok(Self::Fresh),
            }
        }
        Ok(match about::counts_alike(running)? {
            false => Self::Fresh,
            true if moved => Self::Moved,
            true => Self::Shared,
        })
    }

    /// The running generation's maps that go on in the new one. All of them have the layout that it asks for.
    pub(crate) fn shared(self) -> Vec<&'static str> {
        let others = OTHERS.map(|(name, _)| name);
        match self {
            Self::Fresh => Vec::new(),
            Self::Shared => BY_TUNNEL.into_iter().chain(others).collect(),
            Self::Moved => others.to_vec(),
        }
    }

    /// Makes the state of a loaded object ready, before it runs.
    ///
    /// # Errors
    ///
    /// If a map cannot be read or written.
    pub(crate) fn prepare(self, ebpf: &mut Ebpf, ids: &Ids, tables: &Tables, running: Option<&Running>) -> Result<()> {
        match (self, running) {
            (Self::Shared, Some(running)) => clear(&running.generation, ids.added()),
            (Self::Moved, Some(running)) => copy_sequences(ebpf, tables, running),
            _ => Ok(()),
        }
    }

    /// Carries over what the old program has counted, when it runs no more. May be called again when it might have gone on.
    ///
    /// # Errors
    ///
    /// If a map cannot be read or written.
    pub(crate) fn settle(self, ebpf: &mut Ebpf, tables: &Tables, running: Option<&Running>) -> Result<()> {
        let (Self::Moved, Some(running)) = (self, running) else {
            return Ok(());
        };
        wait_for_programs().context("the kernel does not tell when the old program has ended")?;
        let ids = moved(tables, running);
        let mut before = None;
        let (times, pause) = SETTLING;
        for _ in 0..times {
            let old = read_counters(&running.generation, running.tables.all_names().keys().copied())?;
            let stands_still = before.as_ref() == Some(&old);
            before = Some(old);
            if stands_still {
                break;
            }
            thread::sleep(pause);
        }
        let old = before.unwrap_or_default();
        let carried = ids.iter().chain(&[(NO_TUNNEL, NO_TUNNEL)]).filter_map(|(from, to)| {
            let counters = *old.get(from)?;
            (counters != Counters::ZERO).then_some((*to, counters))
        });
        write(ebpf, CARRIED, carried)
    }
}

/// The old and the new id of each tunnel that has both, former ones too, in the order of the old.
fn moved(tables: &Tables, running: &Running) -> Vec<(u32, u32)> {
    let new: HashMap<_, _> = tables.all_names().into_iter().map(|(id, name)| (name, id)).collect();
    let old = running.tables.all_names();
    old.into_iter()
        .filter_map(|(id, name)| Some((id, *new.get(name)?)))
        .collect()
}

/// Clears what earlier tunnels with these ids have left in a generation's maps.
///
/// # Errors
///
/// If a map cannot be opened or written.
pub(crate) fn clear(generation: &Generation, ids: &[u32]) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let pinned = |name| {
        let path = generation.map(name);
        MapData::from_pin(&path).map_err(|error| unusable(&path, error))
    };
    let cpus = values_per_element()?;
    let counters = pinned(COUNTERS)?;
    for ids in ids.chunks(1024) {
        let zeros = vec![Counters::ZERO; ids.len() * cpus];
        batch::write_per_cpu(&counters, ids, &zeros, cpus).with_context(|| cannot_write(COUNTERS))?;
    }
    let carried: BTreeMap<u32, Counters> = read_all(&generation.map(CARRIED))?.into_iter().collect();
    let mut map_of_carried: aya::maps::HashMap<MapData, u32, Counters> = open(&generation.map(CARRIED))?;
    for id in ids.iter().filter(|id| carried.contains_key(id)) {
        match map_of_carried.remove(id) {
            Ok(()) | Err(MapError::KeyNotFound) => {}
            Err(error) => return Err(error).with_context(|| cannot_write(CARRIED)),
        }
    }
    let sequences = ids.iter().map(|id| (*id, SequenceState::default()));
    batch::write(&pinned(SEQUENCES)?, sequences).with_context(|| cannot_write(SEQUENCES))?;
    let arrivals = ids.iter().map(|id| (*id, 0u64));
    batch::write(&pinned(ARRIVALS)?, arrivals).with_context(|| cannot_write(ARRIVALS))
}

/// What packets of an ordered tunnel are judged by. What only tells of loss begins anew instead: until the new program runs, numbers
/// come that it would miss.
fn copy_sequences(ebpf: &mut Ebpf, tables: &Tables, running: &Running) -> Result<()> {
    let old: HashMap<u32, SequenceState> = read_all(&running.generation.map(SEQUENCES))?.into_iter().collect();
    let states = moved(tables, running)
        .into_iter()
        .filter_map(|(from, to)| Some((to, *old.get(&from)?)));
    write(ebpf, SEQUENCES, states)
}

fn write<K: aya::Pod, V: aya::Pod>(ebpf: &mut Ebpf, name: &str, elements: impl Iterator<Item = (K, V)>) -> Result<()> {
    batch::write(data(map(ebpf, name)?)?, elements).with_context(|| cannot_write(name))
}

fn cannot_write(map: &str) -> String {
    format!("map {map}: cannot be written")
}
