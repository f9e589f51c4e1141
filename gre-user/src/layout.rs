//! What the pinned maps look like. A pin is compared with it before it is used for another program: the kernel and aya take a map
//! of any layout, and would read and write beyond its values.

use std::path::Path;

use anyhow::{Context, Result};
use aya::maps::{MapInfo, MapType};
use gre_common::counters::Counters;
use gre_common::endpoints::{Endpoints, EndpointsPrefix, Ipv4, Ipv6};
use gre_common::link::Mac;
use gre_common::maps::{
    ARRIVALS, BUCKETS, BYPASS4, BYPASS6, CARRIED, CORES, COUNTERS, DEVICES, FORMER, FORWARD, INTERFACES, LOCALS4,
    LOCALS6, NAMES, NEXT_HOPS, PREFIXES4, PREFIXES6, PROTECTED4, PROTECTED6, READER, REDIRECTS, SAMPLES, SEQUENCES,
    TARGETS, TUNNELS4, TUNNELS6, TunnelName,
};
use gre_common::protect::TunnelAddress;
use gre_common::sample::Bucket;
use gre_common::sequence::SequenceState;
use gre_common::target::{NextHop, Target};
use gre_common::tunnel::Tunnel;

/// `BPF_F_NO_PREALLOC` of linux/bpf.h.
const NO_PREALLOC: u32 = 1;
/// `BPF_F_RDONLY_PROG`, which the kernel sets for device maps (`dev_map_init_map()`).
const RDONLY_PROG: u32 = 1 << 7;

/// A pinned map but for the number of its entries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Shape {
    /// Its name, which is its pin's, too.
    pub(crate) name: &'static str,
    kind: MapType,
    key_size: u32,
    value_size: u32,
    flags: u32,
}

const fn shape<K, V>(name: &'static str, kind: MapType, flags: u32) -> Shape {
    Shape {
        name,
        kind,
        key_size: size_of::<K>() as u32,
        value_size: size_of::<V>() as u32,
        flags,
    }
}

/// All maps that userspace needs, and so are pinned.
pub(crate) const SHAPES: [Shape; 26] = [
    shape::<Endpoints<Ipv4>, Tunnel>(TUNNELS4, MapType::Hash, 0),
    shape::<Endpoints<Ipv6>, Tunnel>(TUNNELS6, MapType::Hash, 0),
    shape::<EndpointsPrefix<Ipv4>, Tunnel>(PREFIXES4, MapType::LpmTrie, NO_PREALLOC),
    shape::<EndpointsPrefix<Ipv6>, Tunnel>(PREFIXES6, MapType::LpmTrie, NO_PREALLOC),
    shape::<Ipv4, u32>(LOCALS4, MapType::Hash, NO_PREALLOC),
    shape::<Ipv6, u32>(LOCALS6, MapType::Hash, NO_PREALLOC),
    shape::<u32, TunnelName>(NAMES, MapType::Hash, NO_PREALLOC),
    shape::<u32, TunnelName>(FORMER, MapType::Hash, NO_PREALLOC),
    shape::<u32, Counters>(COUNTERS, MapType::PerCpuArray, 0),
    shape::<u32, Counters>(CARRIED, MapType::Hash, NO_PREALLOC),
    shape::<u32, SequenceState>(SEQUENCES, MapType::Array, 0),
    shape::<u32, u64>(ARRIVALS, MapType::Array, 0),
    shape::<u32, Target>(TARGETS, MapType::Hash, 0),
    shape::<u32, NextHop>(NEXT_HOPS, MapType::Hash, 0),
    shape::<u32, [u32; 2]>(DEVICES, MapType::DevMapHash, RDONLY_PROG),
    shape::<u32, Mac>(INTERFACES, MapType::Hash, 0),
    shape::<u32, u32>(CORES, MapType::Array, 0),
    shape::<u32, u32>(FORWARD, MapType::ProgramArray, 0),
    shape::<u32, u64>(REDIRECTS, MapType::PerCpuHash, 0),
    shape::<(), ()>(SAMPLES, MapType::RingBuf, 0),
    shape::<u32, u64>(READER, MapType::Array, 0),
    shape::<u32, Bucket>(BUCKETS, MapType::PerCpuArray, 0),
    shape::<(u32, Ipv4), u32>(PROTECTED4, MapType::LpmTrie, NO_PREALLOC),
    shape::<(u32, Ipv6), u32>(PROTECTED6, MapType::LpmTrie, NO_PREALLOC),
    shape::<(u32, TunnelAddress<Ipv4>), u32>(BYPASS4, MapType::LpmTrie, NO_PREALLOC),
    shape::<(u32, TunnelAddress<Ipv6>), u32>(BYPASS6, MapType::LpmTrie, NO_PREALLOC),
];

/// How far a pinned map is the one that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    /// In all.
    Whole,
    /// In all but the number of its entries.
    OtherEntries,
    /// It is another map.
    No,
}

/// Compares a pin with the map of this name and so many entries.
///
/// # Errors
///
/// If it cannot be looked at.
pub(crate) fn compare(path: &Path, name: &str, entries: u32) -> Result<Match> {
    let info = MapInfo::from_pin(path).with_context(|| format!("{}: cannot be looked at", path.display()))?;
    let Some(wanted) = SHAPES.iter().find(|shape| shape.name == name) else {
        return Ok(Match::No);
    };
    let there = Shape {
        name: wanted.name,
        // A type that this version has never heard of is no reason not to go on.
        kind: info.map_type().unwrap_or(MapType::Unspecified),
        key_size: info.key_size(),
        value_size: info.value_size(),
        flags: info.map_flags(),
    };
    Ok(match (there == *wanted, info.max_entries() == entries) {
        (true, true) => Match::Whole,
        (true, false) => Match::OtherEntries,
        (false, _) => Match::No,
    })
}

/// A number for all shapes together: another version of gre-decap with other maps has another one.
pub(crate) const FINGERPRINT: u64 = fingerprint();

/// FNV-1a.
const fn fingerprint() -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let mut index = 0;
    while index < SHAPES.len() {
        let Shape {
            name,
            kind,
            key_size,
            value_size,
            flags,
        } = SHAPES[index];
        let name = name.as_bytes();
        let mut at = 0;
        while at < name.len() {
            hash = step(hash, name[at] as u32);
            at += 1;
        }
        hash = step(step(step(step(hash, kind as u32), key_size), value_size), flags);
        index += 1;
    }
    hash
}

const fn step(hash: u64, word: u32) -> u64 {
    (hash ^ word as u64).wrapping_mul(0x100_0000_01b3)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_map_is_listed_twice() {
        let names: HashSet<_> = SHAPES.iter().map(|shape| shape.name).collect();
        assert_eq!(names.len(), SHAPES.len());
    }
}
