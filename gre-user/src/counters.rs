//! The datapath's counters, each the sum over all CPUs.

use std::collections::BTreeMap;
use std::iter;

use anyhow::{Context, Error, Result};
use aya::maps::{MapData, MapError, PerCpuHashMap, PerCpuValues};
use aya::util::nr_cpus;
use gre_common::counters::Counters;
use gre_common::maps::{CARRIED, COUNTERS, EGRESS_CLAMPED, REDIRECTS};

use crate::bpf::batch;
use crate::state::Generation;
use crate::tables::{open, read_all, unusable};

/// The index of what no tunnel matched.
pub const NO_TUNNEL: u32 = 0;

/// All counters at one time. The CPUs go on counting while they are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What no tunnel matched.
    pub no_tunnel: Counters,
    /// Each tunnel's, by its id.
    pub tunnels: BTreeMap<u32, Counters>,
    /// Frames that interfaces did not take, by the interface's index.
    pub redirects: BTreeMap<u32, u64>,
    /// TCP SYNs whose MSS was lowered on the way out, by the interface's index.
    pub egress_clamped: BTreeMap<u32, u64>,
}

impl Reading {
    /// Reads the counters of these tunnels, whose ids rise.
    ///
    /// # Errors
    ///
    /// If they cannot be read, or are another version's.
    pub fn take(generation: &Generation, ids: impl Iterator<Item = u32>) -> Result<Self> {
        let mut tunnels = read_counters(generation, ids)?;
        Ok(Self {
            no_tunnel: tunnels.remove(&NO_TUNNEL).unwrap_or(Counters::ZERO),
            tunnels,
            redirects: read_by_interface(generation, REDIRECTS)?,
            egress_clamped: read_by_interface(generation, EGRESS_CLAMPED)?,
        })
    }
}

/// The counters of [`NO_TUNNEL`] and of these tunnels, whose ids rise: what was carried over from earlier maps, and what was counted
/// since.
///
/// # Errors
///
/// If a map has no such index, or cannot be read.
pub(crate) fn read_counters(
    generation: &Generation,
    ids: impl Iterator<Item = u32>,
) -> Result<BTreeMap<u32, Counters>> {
    let path = generation.map(COUNTERS);
    let counters = MapData::from_pin(&path).map_err(|error| unusable(&path, error))?;
    let mut all = BTreeMap::new();
    let ids = iter::once(NO_TUNNEL).chain(ids);
    batch::read_per_cpu(&counters, ids, values_per_element()?, |id, of_cpus| {
        let mut sum = Counters::ZERO;
        for counters in of_cpus {
            sum.add(counters);
        }
        all.insert(id, sum);
    })
    .map_err(|error| unusable(&path, error))?;
    for (id, carried) in read_all(&generation.map(CARRIED))? {
        if let Some(counters) = all.get_mut(&id) {
            counters.add(&carried);
        }
    }
    Ok(all)
}

/// Numbers by an interface's index, each summed over all CPUs.
///
/// # Errors
///
/// If they cannot be read, or are another version's.
pub(crate) fn read_by_interface(generation: &Generation, name: &str) -> Result<BTreeMap<u32, u64>> {
    let path = generation.map(name);
    let counts: PerCpuHashMap<MapData, u32, u64> = open(&path)?;
    let sum =
        |entry: Result<(u32, PerCpuValues<u64>), MapError>| entry.map(|(index, counts)| (index, counts.iter().sum()));
    let sums: Result<_, _> = counts.iter().map(sum).collect();
    sums.with_context(|| format!("{}: cannot be read", path.display()))
}

/// How many values the element of a per-CPU map has: one for each CPU that this kernel can ever have online, whatever their numbers.
///
/// # Errors
///
/// If the kernel does not tell.
pub(crate) fn values_per_element() -> Result<usize> {
    nr_cpus()
        .map_err(|(path, error)| Error::new(error).context(path))
        .context("the number of CPUs cannot be read")
}
