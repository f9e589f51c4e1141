//! The datapath's counters, each the sum over all CPUs.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use anyhow::{Context, Result};
use aya::Pod;
use aya::maps::{MapData, MapError, PerCpuArray, PerCpuValues};
use aya::util::nr_cpus;
use gre_common::counters::Counters;
use gre_common::maps::COUNTERS;

use crate::redirects;
use crate::state::Generation;
use crate::tables::open;

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
}

impl Reading {
    /// Reads the counters of these tunnels.
    ///
    /// # Errors
    ///
    /// If they cannot be read, or are another version's.
    pub fn take(generation: &Generation, ids: impl Iterator<Item = u32>) -> Result<Self> {
        let path = generation.map(COUNTERS);
        let counters: PerCpuArray<MapData, Counters> = open(&path)?;
        let context = || format!("{}: cannot be read", path.display());
        let no_tunnel = read_sum(&counters, NO_TUNNEL).with_context(context)?;
        let tunnels = ids
            .map(|id| Ok((id, read_sum(&counters, id)?)))
            .collect::<Result<_, MapError>>()
            .with_context(context)?;
        Ok(Self {
            no_tunnel,
            tunnels,
            redirects: redirects::read(generation)?,
        })
    }
}

/// One tunnel's counters, summed.
///
/// # Errors
///
/// If the map has no such index, or cannot be read.
pub(crate) fn read_sum(counters: &PerCpuArray<impl Borrow<MapData>, Counters>, id: u32) -> Result<Counters, MapError> {
    let mut sum = Counters::ZERO;
    for counters in counters.get(&id, 0)?.iter() {
        sum.add(counters);
    }
    Ok(sum)
}

/// Values for all CPUs whose sum is `sum`: all but one are `zero`.
///
/// # Errors
///
/// If the number of CPUs is not known.
pub(crate) fn on_one_cpu<T: Pod>(sum: T, zero: T) -> Result<PerCpuValues<T>> {
    let cpus = nr_cpus().map_err(|(path, error)| anyhow::Error::new(error).context(path))?;
    let mut values = vec![zero; cpus];
    if let Some(first) = values.first_mut() {
        *first = sum;
    }
    PerCpuValues::try_from(values).context("one value for each CPU")
}
