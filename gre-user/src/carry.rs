//! Counters and sequence state from one generation to the next.
//!
//! The new program goes on with the maps of the old one where it can: nothing is lost, for nothing is copied. Else each
//! tunnel's state is copied by its name before the new program runs; what the old one counts after that, for as long as the
//! replacement takes, is lost.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use aya::maps::{Array, MapData, MapInfo, MapType, PerCpuArray, PerCpuHashMap};
use aya::{Ebpf, Pod};
use gre_common::counters::Counters;
use gre_common::maps::{ARRIVALS, COUNTERS, MAX_REDIRECTS, REDIRECTS, SEQUENCES};
use gre_common::sequence::SequenceState;

use crate::about;
use crate::counters::{NO_TUNNEL, on_one_cpu, read_sum};
use crate::redirects;
use crate::running::Running;
use crate::state::Generation;
use crate::tables::{Ids, Tables, map, open};

/// How a new generation comes to its counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carry {
    /// It has none to go on with, and starts at zero.
    Fresh,
    /// It shares the running generation's maps.
    Shared,
    /// It gets copies of the running generation's.
    Copied,
}

/// What a map must look like to be used for another one.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Layout {
    kind: MapType,
    key_size: u32,
    value_size: u32,
    entries: u32,
    flags: u32,
}

impl Layout {
    fn of<V>(kind: MapType, entries: u32) -> Self {
        Self {
            kind,
            key_size: size_of::<u32>() as u32,
            value_size: size_of::<V>() as u32,
            entries,
            flags: 0,
        }
    }

    fn of_pin(path: &Path) -> Result<Self> {
        let context = || format!("{}: cannot be looked at", path.display());
        let info = MapInfo::from_pin(path).with_context(context)?;
        Ok(Self {
            kind: info.map_type().with_context(context)?,
            key_size: info.key_size(),
            value_size: info.value_size(),
            entries: info.max_entries(),
            flags: info.map_flags(),
        })
    }

    fn differs_in_entries_only(self, other: Self) -> bool {
        Self {
            entries: other.entries,
            ..self
        } == other
    }
}

impl Carry {
    /// What can be done with a running generation's counters.
    ///
    /// # Errors
    ///
    /// If its maps cannot be looked at.
    pub(crate) fn choose(running: &Generation, ids: &Ids, max_tunnels: u32) -> Result<Self> {
        let counters = Layout::of_pin(&running.map(COUNTERS))?;
        let sequences = Layout::of_pin(&running.map(SEQUENCES))?;
        let by_tunnel = max_tunnels.saturating_add(1);
        let wanted_counters = Layout::of::<Counters>(MapType::PerCpuArray, by_tunnel);
        let wanted_sequences = Layout::of::<SequenceState>(MapType::Array, by_tunnel);
        let wanted_redirects = Layout::of::<u64>(MapType::PerCpuHash, MAX_REDIRECTS);
        // In this order: a version that counts other things may not have all maps.
        let readable = counters.differs_in_entries_only(wanted_counters)
            && sequences.differs_in_entries_only(wanted_sequences)
            && about::counts_alike(running)?
            && Layout::of_pin(&running.map(REDIRECTS))? == wanted_redirects;
        Ok(if !readable {
            Self::Fresh
        } else if counters == wanted_counters && sequences == wanted_sequences && !ids.takes_over() {
            Self::Shared
        } else {
            Self::Copied
        })
    }

    /// Makes the counters of a loaded object ready, before it runs.
    ///
    /// # Errors
    ///
    /// If a map cannot be read or written.
    pub(crate) fn prepare(self, ebpf: &mut Ebpf, ids: &Ids, tables: &Tables, running: Option<&Running>) -> Result<()> {
        match (self, running) {
            (Self::Shared, _) => clear(ebpf, ids.added()),
            (Self::Copied, Some(running)) => copy(ebpf, tables, running),
            (Self::Copied | Self::Fresh, _) => Ok(()),
        }
    }
}

/// What earlier tunnels with these ids have left.
fn clear(ebpf: &mut Ebpf, ids: &[u32]) -> Result<()> {
    let mut counters: PerCpuArray<_, Counters> = PerCpuArray::try_from(map(ebpf, COUNTERS)?)?;
    for &id in ids {
        counters
            .set(id, on_one_cpu(Counters::ZERO, Counters::ZERO)?, 0)
            .with_context(|| cannot_write(COUNTERS))?;
    }
    clear_array::<SequenceState>(ebpf, SEQUENCES, ids)?;
    clear_array::<u64>(ebpf, ARRIVALS, ids)
}

fn clear_array<V: Pod + Default>(ebpf: &mut Ebpf, name: &str, ids: &[u32]) -> Result<()> {
    let mut array: Array<_, V> = Array::try_from(map(ebpf, name)?)?;
    for &id in ids {
        array.set(id, V::default(), 0).with_context(|| cannot_write(name))?;
    }
    Ok(())
}

fn copy(ebpf: &mut Ebpf, tables: &Tables, running: &Running) -> Result<()> {
    let new_ids: BTreeMap<_, _> = tables.names.iter().map(|(id, name)| (name, *id)).collect();
    let tunnels: Vec<_> = running
        .tables
        .names
        .iter()
        .filter_map(|(old, name)| new_ids.get(name).map(|new| (*old, *new)))
        .collect();

    let path = running.generation.map(COUNTERS);
    let old: PerCpuArray<MapData, Counters> = open(&path)?;
    let mut new: PerCpuArray<_, Counters> = PerCpuArray::try_from(map(ebpf, COUNTERS)?)?;
    for &(from, to) in tunnels.iter().chain(&[(NO_TUNNEL, NO_TUNNEL)]) {
        let sum = read_sum(&old, from).with_context(|| format!("{}: cannot be read", path.display()))?;
        new.set(to, on_one_cpu(sum, Counters::ZERO)?, 0)
            .with_context(|| cannot_write(COUNTERS))?;
    }

    copy_array::<SequenceState>(ebpf, SEQUENCES, &tunnels, running)?;
    copy_array::<u64>(ebpf, ARRIVALS, &tunnels, running)?;

    let mut new: PerCpuHashMap<_, u32, u64> = PerCpuHashMap::try_from(map(ebpf, REDIRECTS)?)?;
    for (interface, failed) in redirects::read(&running.generation)? {
        new.insert(interface, on_one_cpu(failed, 0)?, 0)
            .with_context(|| cannot_write(REDIRECTS))?;
    }
    Ok(())
}

/// Copies elements, each from one index to another.
fn copy_array<V: Pod>(ebpf: &mut Ebpf, name: &str, indices: &[(u32, u32)], running: &Running) -> Result<()> {
    let path = running.generation.map(name);
    let old: Array<MapData, V> = open(&path)?;
    let mut new: Array<_, V> = Array::try_from(map(ebpf, name)?)?;
    for (from, to) in indices {
        let value = old
            .get(from, 0)
            .with_context(|| format!("{}: cannot be read", path.display()))?;
        new.set(*to, value, 0).with_context(|| cannot_write(name))?;
    }
    Ok(())
}

fn cannot_write(map: &str) -> String {
    format!("map {map}: cannot be written")
}
