//! What the pinned maps look like. A pin is compared with it before it is used for another program: the kernel and aya take a map
//! of any layout, and would read and write beyond its values.

use std::path::Path;

use anyhow::{Context, Result};
use aya::maps::{MapInfo, MapType};
use gre_common::Reason;
use gre_common::counters::Counters;
use gre_common::endpoints::{Endpoints, EndpointsPrefix, Ipv4, Ipv6};
use gre_common::few::MOST;
use gre_common::keepalive::Quota;
use gre_common::link::Mac;
use gre_common::maps::{
    ALLOWED4, ALLOWED6, ARRIVALS, BUCKETS, BYPASS4, BYPASS6, CARRIED, COMPARED4, COMPARED6, CORES, COUNTERS, DEVICES,
    EGRESS, EGRESS_CLAMPED, FORMER, FORWARD, INTERFACE_SLOT_COUNT, INTERFACE_SLOTS, INTERFACES, KEEPALIVES, LOCALS4,
    LOCALS6, MAX_EGRESS, MAX_REDIRECTS, NAMES, NEXT_HOPS, PREFIXES4, PREFIXES6, PROTECTED4, PROTECTED6, READER,
    REDIRECTS, SAMPLES, SEQUENCES, TARGET_SLOTS, TARGETS, TUNNEL_SLOTS4, TUNNEL_SLOTS6, TUNNELS4, TUNNELS6, TunnelName,
};
use gre_common::mss::Clamp;
use gre_common::protect::TunnelAddress;
use gre_common::sample::{Bucket, RING_BYTES};
use gre_common::sequence::SequenceState;
use gre_common::slots::Slot;
use gre_common::target::{NextHop, Target};
use gre_common::tunnel::Tunnel;

/// `BPF_F_NO_PREALLOC` of linux/bpf.h.
const NO_PREALLOC: u32 = 1;
/// `BPF_F_RDONLY_PROG`, which the kernel sets for device maps (`dev_map_init_map()`).
const RDONLY_PROG: u32 = 1 << 7;

/// Entries of [`DEVICES`] and [`INTERFACES`], which `gre_ebpf` sets.
const MOST_DEVICES: u32 = 16_384;
const MOST_INTERFACES: u32 = 1024;

/// A pinned map but for the number of its entries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Shape {
    /// Its name, which is its pin's, too.
    pub(crate) name: &'static str,
    kind: MapType,
    key_size: u32,
    value_size: u32,
    flags: u32,
    /// Its entries, where they do not depend on the configuration.
    pub(crate) entries: u32,
}

const fn shape<K, V>(name: &'static str, kind: MapType, flags: u32) -> Shape {
    Shape {
        name,
        kind,
        key_size: size_of::<K>() as u32,
        value_size: size_of::<V>() as u32,
        flags,
        entries: 1,
    }
}

impl Shape {
    const fn with_entries(self, entries: u32) -> Self {
        Self { entries, ..self }
    }

    /// Bytes of the kernel's memory for a map of this shape, before it holds anything, as the kernel's `map_mem_usage()` has them
    /// but for what does not depend on the entries.
    pub(crate) fn bytes(&self, entries: u32, cpus: u32) -> u64 {
        let (entries, cpus) = (u64::from(entries), u64::from(cpus));
        let value = u64::from(self.value_size).next_multiple_of(8);
        let buckets = entries.next_power_of_two();
        match self.kind {
            MapType::Hash if self.flags & NO_PREALLOC != 0 => 16 * buckets,
            MapType::Hash => 16 * buckets + entries * self.element_bytes(),
            MapType::LruPerCpuHash => 16 * buckets + entries * (64 + value * cpus),
            MapType::DevMapHash => 8 * buckets,
            MapType::PerCpuArray => entries * (8 + value * cpus),
            MapType::RingBuf => entries,
            // Each element of a trie is allocated when it comes.
            MapType::LpmTrie => 0,
            _ => entries * value,
        }
    }

    /// Bytes of an element of a hash or longest-prefix map: what the kernel has before it, key and value.
    pub(crate) fn element_bytes(&self) -> u64 {
        let bytes = 48 + u64::from(self.key_size).next_multiple_of(8) + u64::from(self.value_size).next_multiple_of(8);
        // Elements that are not allocated beforehand are as long as the allocator's next size.
        if self.flags & NO_PREALLOC != 0 && bytes <= 192 {
            bytes.next_multiple_of(64)
        } else {
            bytes
        }
    }
}

/// All maps that userspace needs, and so are pinned.
pub(crate) const SHAPES: [Shape; 37] = [
    shape::<Endpoints<Ipv4>, Tunnel>(TUNNELS4, MapType::Hash, 0),
    shape::<Endpoints<Ipv6>, Tunnel>(TUNNELS6, MapType::Hash, 0),
    shape::<EndpointsPrefix<Ipv4>, Tunnel>(PREFIXES4, MapType::LpmTrie, NO_PREALLOC),
    shape::<EndpointsPrefix<Ipv6>, Tunnel>(PREFIXES6, MapType::LpmTrie, NO_PREALLOC),
    shape::<u32, Tunnel>(COMPARED4, MapType::Array, 0).with_entries(MOST as u32),
    shape::<u32, Tunnel>(COMPARED6, MapType::Array, 0).with_entries(MOST as u32),
    shape::<u32, Slot<Endpoints<Ipv4>, Tunnel>>(TUNNEL_SLOTS4, MapType::Array, 0),
    shape::<u32, Slot<Endpoints<Ipv6>, Tunnel>>(TUNNEL_SLOTS6, MapType::Array, 0),
    shape::<Ipv4, u32>(LOCALS4, MapType::Hash, NO_PREALLOC),
    shape::<Ipv6, u32>(LOCALS6, MapType::Hash, NO_PREALLOC),
    shape::<u32, TunnelName>(NAMES, MapType::Hash, NO_PREALLOC),
    shape::<u32, TunnelName>(FORMER, MapType::Hash, NO_PREALLOC),
    shape::<u32, Counters>(COUNTERS, MapType::PerCpuArray, 0),
    shape::<u32, Counters>(CARRIED, MapType::Hash, NO_PREALLOC),
    shape::<u32, SequenceState>(SEQUENCES, MapType::Array, 0),
    shape::<u32, u64>(ARRIVALS, MapType::Array, 0),
    shape::<u32, Target>(TARGETS, MapType::Hash, 0),
    shape::<u32, Slot<u32, Target>>(TARGET_SLOTS, MapType::Array, 0),
    shape::<u32, NextHop>(NEXT_HOPS, MapType::Hash, 0),
    shape::<u32, [u32; 2]>(DEVICES, MapType::DevMapHash, RDONLY_PROG).with_entries(MOST_DEVICES),
    shape::<u32, Mac>(INTERFACES, MapType::Hash, 0).with_entries(MOST_INTERFACES),
    shape::<u32, Slot<u32, Mac>>(INTERFACE_SLOTS, MapType::Array, 0).with_entries(INTERFACE_SLOT_COUNT),
    shape::<u32, u32>(CORES, MapType::Array, 0),
    shape::<u32, u32>(FORWARD, MapType::ProgramArray, 0),
    shape::<u32, u64>(REDIRECTS, MapType::LruPerCpuHash, 0).with_entries(MAX_REDIRECTS),
    shape::<(), ()>(SAMPLES, MapType::RingBuf, 0).with_entries(RING_BYTES),
    shape::<u32, u64>(READER, MapType::Array, 0),
    shape::<u32, Bucket>(BUCKETS, MapType::PerCpuArray, 0).with_entries(Reason::COUNT as u32),
    shape::<(u32, Ipv4), u32>(PROTECTED4, MapType::LpmTrie, NO_PREALLOC),
    shape::<(u32, Ipv6), u32>(PROTECTED6, MapType::LpmTrie, NO_PREALLOC),
    shape::<(u32, Ipv4), u32>(ALLOWED4, MapType::LpmTrie, NO_PREALLOC),
    shape::<(u32, Ipv6), u32>(ALLOWED6, MapType::LpmTrie, NO_PREALLOC),
    shape::<(u32, TunnelAddress<Ipv4>), u32>(BYPASS4, MapType::LpmTrie, NO_PREALLOC),
    shape::<(u32, TunnelAddress<Ipv6>), u32>(BYPASS6, MapType::LpmTrie, NO_PREALLOC),
    shape::<u32, Quota>(KEEPALIVES, MapType::Array, 0),
    shape::<u32, Clamp>(EGRESS, MapType::Hash, 0).with_entries(MAX_EGRESS),
    shape::<u32, u64>(EGRESS_CLAMPED, MapType::LruPerCpuHash, 0).with_entries(MAX_EGRESS),
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
        entries: wanted.entries,
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
            entries: _,
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
