//! The tables in the kernel's maps.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::iter;
use std::path::Path;

use anyhow::{Context, Error, Result, bail};
use aya::maps::{Array, Map, MapData, MapError};
use aya::{Ebpf, Pod};
use gre_common::endpoints::{Endpoints, EndpointsPrefix};
use gre_common::keepalive::Quota;
use gre_common::maps::{
    COMPARED4, COMPARED6, CORES, FORMER, KEEPALIVES, LOCALS4, LOCALS6, NAMES, NEXT_HOPS, PREFIXES4, PREFIXES6,
    TUNNEL_SLOTS4, TUNNEL_SLOTS6, TUNNELS4, TUNNELS6, TunnelName,
};
use gre_common::slots::{Key, Slot};
use gre_common::target::NextHop;
use gre_common::tunnel::Tunnel;

use super::{Address, Entries, Onward, Tables, protect};
use crate::bpf::batch;
use crate::slots;
use crate::state::Generation;

/// The names of one family's maps.
pub(crate) struct Names {
    pub(crate) tunnels: &'static str,
    pub(crate) prefixes: &'static str,
    /// Of the tunnels that packets are compared with, where they are few.
    pub(crate) compared: &'static str,
    /// Of those that have slots, where they are many.
    pub(crate) slots: &'static str,
    pub(super) locals: &'static str,
}

pub(crate) static V4: Names = Names {
    tunnels: TUNNELS4,
    prefixes: PREFIXES4,
    compared: COMPARED4,
    slots: TUNNEL_SLOTS4,
    locals: LOCALS4,
};
pub(crate) static V6: Names = Names {
    tunnels: TUNNELS6,
    prefixes: PREFIXES6,
    compared: COMPARED6,
    slots: TUNNEL_SLOTS6,
    locals: LOCALS6,
};

impl Tables {
    /// Reads a generation's maps.
    ///
    /// # Errors
    ///
    /// If a map cannot be opened or read, or has another layout than this version's.
    pub fn read(generation: &Generation) -> Result<Self> {
        let mut tables = Self {
            names: read_names(generation)?,
            former: names_in(&generation.map(FORMER))?,
            v4: Entries::read(generation, &V4)?,
            v6: Entries::read(generation, &V6)?,
            onward: read_onward(generation)?,
            cores: read_cores(generation)?,
            protected: protect::read_protected(generation)?,
            allowed: protect::read_allowed(generation)?,
            bypass: protect::read_bypass(generation)?,
            keepalives: BTreeMap::new(),
        };
        let answering = tables.values().filter(|tunnel| tunnel.policy.answers());
        tables.keepalives = read_keepalives(generation, answering.map(|tunnel| tunnel.id).collect())?;
        Ok(tables)
    }

    /// Fills the empty maps of a loaded object, all but those that it shares with another one.
    ///
    /// # Errors
    ///
    /// If the object lacks a map, or one is too small.
    pub fn write(&self, ebpf: &mut Ebpf, shared: &[&str]) -> Result<()> {
        let mut maps = Maps { ebpf, shared };
        maps.fill(NAMES, padded_names(&self.names))?;
        maps.fill(FORMER, padded_names(&self.former))?;
        self.v4.write(&mut maps, &V4)?;
        self.v6.write(&mut maps, &V6)?;
        let onward = self.onward.iter().map(|(id, next_hop)| (*id, next_hop.to_record()));
        maps.fill(NEXT_HOPS, onward)?;
        let slots = (0..slots(self.cores.len())).zip(self.cores.iter().copied().chain(iter::repeat(NO_CORE)));
        maps.fill(CORES, slots)?;
        let quotas = self.keepalives.iter().map(|(id, rate)| {
            let rate = (*rate).into();
            (*id, Quota { due: 0, rate })
        });
        maps.fill(KEEPALIVES, quotas)?;
        protect::write(self, ebpf)
    }

    /// The names of those maps whose content is the same as in `other`, and that two programs may share. Those that packets are matched
    /// in are not among them: a new program is tried with other content than the running one needs.
    pub(crate) fn same_maps(&self, other: &Self) -> Vec<&'static str> {
        let same = [
            (NAMES, self.names == other.names),
            (FORMER, self.former == other.former),
            (NEXT_HOPS, self.onward == other.onward),
            (CORES, self.cores == other.cores),
            (LOCALS4, self.v4.locals == other.v4.locals),
            (LOCALS6, self.v6.locals == other.v6.locals),
        ];
        same.into_iter()
            .filter_map(|(name, same)| same.then_some(name))
            .collect()
    }
}

/// The maps of a loaded object, of which it shares some, filled already, with another one.
struct Maps<'a> {
    ebpf: &'a mut Ebpf,
    shared: &'a [&'a str],
}

impl Maps<'_> {
    fn fill<K: Pod, V: Pod>(&mut self, name: &str, elements: impl Iterator<Item = (K, V)>) -> Result<()> {
        if self.shared.contains(&name) {
            return Ok(());
        }
        batch::write(data(map(self.ebpf, name)?)?, elements).with_context(|| cannot_fill(name))
    }
}

fn padded_names(names: &BTreeMap<u32, String>) -> impl Iterator<Item = (u32, TunnelName)> {
    names.iter().map(|(id, name)| (*id, padded(name)))
}

/// How many elements [`CORES`] has for so many cores.
pub(crate) fn slots(cores: usize) -> u32 {
    (cores as u32).max(1)
}

/// What [`CORES`] holds where there is no core: an array's elements all exist, and it has one at least.
const NO_CORE: u32 = u32::MAX;

/// Reads the names alone.
///
/// # Errors
///
/// As [`Tables::read`].
pub fn read_names(generation: &Generation) -> Result<BTreeMap<u32, String>> {
    names_in(&generation.map(NAMES))
}

fn names_in(path: &Path) -> Result<BTreeMap<u32, String>> {
    let name = |(id, name): (u32, TunnelName)| {
        let name = text(&name).with_context(|| format!("{}: the name of tunnel {id} is no text", path.display()))?;
        Ok((id, name))
    };
    read_all(path)?.into_iter().map(name).collect()
}

fn read_onward(generation: &Generation) -> Result<BTreeMap<u32, Onward>> {
    let path = generation.map(NEXT_HOPS);
    let onward = |(id, record): (u32, NextHop)| {
        let onward = Onward::from_record(&record)
            .with_context(|| format!("{}: tunnel {id} has no valid next hop", path.display()))?;
        Ok((id, onward))
    };
    read_all(&path)?.into_iter().map(onward).collect()
}

fn read_cores(generation: &Generation) -> Result<Vec<u32>> {
    let path = generation.map(CORES);
    let cores: Array<_, u32> = open(&path)?;
    let cores: Vec<_> = cores
        .iter()
        .collect::<Result<_, _>>()
        .with_context(|| cannot_read(&path))?;
    Ok(cores.into_iter().take_while(|&core| core != NO_CORE).collect())
}

/// The rates of these tunnels. If there are none, an older version may have loaded them, which had no such map.
fn read_keepalives(generation: &Generation, ids: BTreeSet<u32>) -> Result<BTreeMap<u32, u32>> {
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let path = generation.map(KEEPALIVES);
    let quotas: Array<_, Quota> = open(&path)?;
    let rate = |id| {
        let Quota { rate, .. } = quotas.get(&id, 0).with_context(|| cannot_read(&path))?;
        let rate = rate.try_into();
        Ok((
            id,
            rate.with_context(|| format!("{}: tunnel {id} has no valid rate", path.display()))?,
        ))
    };
    ids.into_iter().map(rate).collect()
}

impl<A: Address> Entries<A>
where
    Endpoints<A>: Pod + Key,
    EndpointsPrefix<A>: Pod,
    Slot<Endpoints<A>, Tunnel>: Pod,
{
    fn read(generation: &Generation, names: &Names) -> Result<Self> {
        Ok(Self {
            exact: read_all(&generation.map(names.tunnels))?.into_iter().collect(),
            prefixes: read_all(&generation.map(names.prefixes))?.into_iter().collect(),
            locals: read_all(&generation.map(names.locals))?.into_iter().collect(),
        })
    }

    fn write(&self, maps: &mut Maps<'_>, names: &Names) -> Result<()> {
        maps.fill(names.tunnels, copied(&self.exact))?;
        let compared = self.compared().unwrap_or_default();
        maps.fill(
            names.compared,
            (0_u32..).zip(compared.into_iter().map(|(_, tunnel)| tunnel)),
        )?;
        if !self.are_compared() {
            slots::fill(maps.ebpf, names.slots, copied(&self.exact))?;
        }
        maps.fill(names.prefixes, copied(&self.prefixes))?;
        maps.fill(names.locals, copied(&self.locals))
    }
}

fn copied<K: Copy, V: Copy>(map: &HashMap<K, V>) -> impl Iterator<Item = (K, V)> {
    map.iter().map(|(key, value)| (*key, *value))
}

/// Opens a pinned map as one of a certain kind, whose sizes aya compares with the kernel's.
///
/// # Errors
///
/// If it cannot be opened, or is of another kind or layout.
pub(crate) fn open<M: TryFrom<Map, Error = MapError>>(path: &Path) -> Result<M> {
    MapData::from_pin(path)
        .and_then(Map::from_map_data)
        .and_then(M::try_from)
        .map_err(|error| unusable(path, error))
}

/// Why a pinned map cannot be used, with its path.
pub(crate) fn unusable(path: &Path, error: MapError) -> Error {
    let what = match error {
        MapError::SyscallError(_) | MapError::IoError(_) => "cannot be opened",
        _ => "is laid out by another version of gre-decap; use that one",
    };
    Error::new(error).context(format!("{}: {what}", path.display()))
}

/// All elements of a pinned hash or longest-prefix map.
///
/// # Errors
///
/// If it cannot be opened or read, or is of another kind or layout.
pub(crate) fn read_all<K: Pod, V: Pod>(path: &Path) -> Result<Vec<(K, V)>> {
    let elements = MapData::from_pin(path).and_then(|map| batch::read_all(&map));
    elements.map_err(|error| unusable(path, error))
}

/// What aya knows of a map whatever its kind, of those kinds that are read and written many elements at a time.
///
/// # Errors
///
/// If it is of another kind.
pub(crate) fn data(map: &Map) -> Result<&MapData> {
    match map {
        Map::Array(data) | Map::HashMap(data) | Map::LpmTrie(data) | Map::PerCpuArray(data) => Ok(data),
        _ => bail!("the eBPF program has a map of another kind than gre-decap; build it with `cargo xtask build`"),
    }
}

/// A map of a loaded object.
pub(crate) fn map<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Map> {
    ebpf.map_mut(name)
        .with_context(|| format!("the eBPF program has no map {name}; build it with `cargo xtask build`"))
}

pub(super) fn cannot_read(path: &Path) -> String {
    format!("{}: cannot be read", path.display())
}

pub(crate) fn cannot_fill(map: &str) -> String {
    format!("map {map}: cannot be filled")
}

/// A name as the map holds it. The configuration keeps names shorter than the room for them.
pub(super) fn padded(name: &str) -> TunnelName {
    let mut padded: TunnelName = [0; _];
    for (to, from) in padded.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    padded
}

fn text(name: &TunnelName) -> Option<String> {
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    String::from_utf8(name[..end].to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive() {
        for name in ["a", "scrub-fra", &"ü".repeat(31), &"x".repeat(63)] {
            assert_eq!(text(&padded(name)).as_deref(), Some(name));
        }
        assert_eq!(text(&[b'x'; 64]).as_deref(), Some("x".repeat(64).as_str()));
        assert_eq!(text(&[0xff; 64]), None);
    }
}
