//! The tables in the kernel's maps.

use std::collections::{BTreeMap, HashMap as StdHashMap};
use std::iter;
use std::path::Path;

use anyhow::{Context, Result};
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, LpmTrie, Map, MapData, MapError};
use aya::{Ebpf, Pod};
use gre_common::endpoints::{Endpoints, EndpointsPrefix};
use gre_common::maps::{
    CORES, LOCALS4, LOCALS6, NAMES, NEXT_HOPS, PREFIXES4, PREFIXES6, TUNNELS4, TUNNELS6, TunnelName,
};
use gre_common::target::NextHop;
use gre_common::tunnel::Tunnel;

use super::{Address, Entries, Onward, Tables, protect};
use crate::state::Generation;

/// The names of one family's maps.
struct Names {
    tunnels: &'static str,
    prefixes: &'static str,
    locals: &'static str,
}

const V4: Names = Names {
    tunnels: TUNNELS4,
    prefixes: PREFIXES4,
    locals: LOCALS4,
};
const V6: Names = Names {
    tunnels: TUNNELS6,
    prefixes: PREFIXES6,
    locals: LOCALS6,
};

impl Tables {
    /// Reads a generation's maps.
    ///
    /// # Errors
    ///
    /// If a map cannot be opened or read, or has another layout than this version's.
    pub fn read(generation: &Generation) -> Result<Self> {
        Ok(Self {
            names: read_names(generation)?,
            v4: Entries::read(generation, &V4)?,
            v6: Entries::read(generation, &V6)?,
            onward: read_onward(generation)?,
            cores: read_cores(generation)?,
            protected: protect::read_protected(generation)?,
            bypass: protect::read_bypass(generation)?,
        })
    }

    /// Fills the empty maps of a loaded object.
    ///
    /// # Errors
    ///
    /// If the object lacks a map, or one is too small.
    pub fn write(&self, ebpf: &mut Ebpf) -> Result<()> {
        let mut names: HashMap<_, u32, TunnelName> = HashMap::try_from(map(ebpf, NAMES)?)?;
        for (id, name) in &self.names {
            names.insert(id, padded(name), 0).with_context(|| cannot_write(NAMES))?;
        }
        self.v4.write(ebpf, &V4)?;
        self.v6.write(ebpf, &V6)?;

        let mut onward: HashMap<_, u32, NextHop> = HashMap::try_from(map(ebpf, NEXT_HOPS)?)?;
        for (id, next_hop) in &self.onward {
            onward
                .insert(id, next_hop.to_record(), 0)
                .with_context(|| cannot_write(NEXT_HOPS))?;
        }
        let mut cores: Array<_, u32> = Array::try_from(map(ebpf, CORES)?)?;
        for (slot, core) in (0..cores.len()).zip(self.cores.iter().chain(iter::repeat(&NO_CORE))) {
            cores.set(slot, core, 0).with_context(|| cannot_write(CORES))?;
        }
        protect::write(self, ebpf)
    }
}

/// What [`CORES`] holds where there is no core: an array's elements all exist, and it has one at least.
const NO_CORE: u32 = u32::MAX;

/// Reads the names alone.
///
/// # Errors
///
/// As [`Tables::read`].
pub fn read_names(generation: &Generation) -> Result<BTreeMap<u32, String>> {
    let path = generation.map(NAMES);
    let names: HashMap<_, u32, TunnelName> = open(&path)?;
    let name = |entry: Result<(u32, TunnelName), MapError>| {
        let (id, name) = entry.with_context(|| cannot_read(&path))?;
        Ok((
            id,
            text(&name).with_context(|| format!("{}: the name of tunnel {id} is no text", path.display()))?,
        ))
    };
    names.iter().map(name).collect()
}

fn read_onward(generation: &Generation) -> Result<BTreeMap<u32, Onward>> {
    let path = generation.map(NEXT_HOPS);
    let records: HashMap<_, u32, NextHop> = open(&path)?;
    let onward = |entry: Result<(u32, NextHop), MapError>| {
        let (id, record) = entry.with_context(|| cannot_read(&path))?;
        let onward = Onward::from_record(&record)
            .with_context(|| format!("{}: tunnel {id} has no valid next hop", path.display()))?;
        Ok((id, onward))
    };
    records.iter().map(onward).collect()
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

impl<A: Address> Entries<A>
where
    Endpoints<A>: Pod,
{
    fn read(generation: &Generation, names: &Names) -> Result<Self> {
        let path = generation.map(names.prefixes);
        let prefixes: LpmTrie<_, _, _> = open(&path)?;
        let prefix = |entry: Result<(Key<_>, _), MapError>| {
            let (key, tunnel) = entry.with_context(|| cannot_read(&path))?;
            Ok((
                EndpointsPrefix {
                    prefix_len: key.prefix_len(),
                    endpoints: key.data(),
                },
                tunnel,
            ))
        };
        Ok(Self {
            exact: read_hash(&generation.map(names.tunnels))?,
            prefixes: prefixes.iter().map(prefix).collect::<Result<_>>()?,
            locals: read_hash(&generation.map(names.locals))?,
        })
    }

    fn write(&self, ebpf: &mut Ebpf, names: &Names) -> Result<()> {
        let mut tunnels: HashMap<_, Endpoints<A>, Tunnel> = HashMap::try_from(map(ebpf, names.tunnels)?)?;
        for (endpoints, tunnel) in &self.exact {
            tunnels
                .insert(endpoints, tunnel, 0)
                .with_context(|| cannot_write(names.tunnels))?;
        }
        let mut prefixes: LpmTrie<_, Endpoints<A>, Tunnel> = LpmTrie::try_from(map(ebpf, names.prefixes)?)?;
        for (prefix, tunnel) in &self.prefixes {
            let key = Key::new(prefix.prefix_len, prefix.endpoints);
            prefixes
                .insert(&key, tunnel, 0)
                .with_context(|| cannot_write(names.prefixes))?;
        }
        let mut locals: HashMap<_, A, u32> = HashMap::try_from(map(ebpf, names.locals)?)?;
        for (local, count) in &self.locals {
            locals
                .insert(local, count, 0)
                .with_context(|| cannot_write(names.locals))?;
        }
        Ok(())
    }
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
        .map_err(|error| {
            let what = match error {
                MapError::SyscallError(_) | MapError::IoError(_) => "cannot be opened",
                _ => "is laid out by another version of gre-decap; use that one",
            };
            anyhow::Error::new(error).context(format!("{}: {what}", path.display()))
        })
}

fn read_hash<K: Pod + Eq + std::hash::Hash, V: Pod>(path: &Path) -> Result<StdHashMap<K, V>> {
    let map: HashMap<_, K, V> = open(path)?;
    map.iter().collect::<Result<_, _>>().with_context(|| cannot_read(path))
}

/// A map of a loaded object.
pub(crate) fn map<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Map> {
    ebpf.map_mut(name)
        .with_context(|| format!("the eBPF program has no map {name}; build it with `cargo xtask build`"))
}

pub(super) fn cannot_read(path: &Path) -> String {
    format!("{}: cannot be read", path.display())
}

pub(super) fn cannot_write(map: &str) -> String {
    format!("map {map}: cannot be filled")
}

/// A name as the map holds it. The configuration keeps names shorter than the room for them.
fn padded(name: &str) -> TunnelName {
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
