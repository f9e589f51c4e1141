//! The kernel's memory that the maps take: what they will, by the kernel's own sums, and what they do.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Context, Result};
use aya::maps::MapData;
use gre_common::few;
use gre_common::maps::{NAMES, PREFIXES6};
use ipnet::IpNet;

use crate::config::{Config, Deliver, Keepalive};
use crate::datapath::Sizes;
use crate::layout::{SHAPES, Shape};
use crate::state::Generation;
use crate::tables::unusable;

/// What a configuration asks of the maps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand {
    sizes: Sizes,
    tunnels: u64,
    prefixes: u64,
}

impl Demand {
    pub(crate) fn of(config: &Config) -> Self {
        let tunnels = &config.tunnels;
        let remotes = || tunnels.iter().flat_map(|tunnel| &tunnel.remotes);
        let is_exact = |remote: &IpNet| remote.prefix_len() == remote.max_prefix_len();
        let exact = |v4| remotes().filter(move |remote| is_exact(remote) && remote.addr().is_ipv4() == v4);
        let sizes = Sizes {
            max_tunnels: config.max_tunnels,
            to_interface: tunnels
                .iter()
                .any(|tunnel| matches!(tunnel.deliver, Deliver::Interface { .. })),
            answers: tunnels.iter().any(|tunnel| tunnel.keepalive == Keepalive::Reply),
            many4: exact(true).count() > few::MOST,
            many6: exact(false).count() > few::MOST,
            cores: 0,
            cpus: 1,
        };
        Self {
            sizes,
            tunnels: tunnels.len() as u64,
            prefixes: remotes().filter(|remote| !is_exact(remote)).count() as u64,
        }
    }

    /// How much more each tunnel of `max_tunnels` takes.
    pub(crate) fn bytes_per_tunnel(self, cpus: u32) -> u64 {
        let demand = |max_tunnels| Self {
            sizes: Sizes {
                max_tunnels,
                ..self.sizes
            },
            tunnels: 0,
            prefixes: 0,
        };
        // Between powers of two, so that the number of buckets grows as well.
        (demand(1 << 20).bytes(cpus) - demand(1 << 19).bytes(cpus)) >> 19
    }

    /// Bytes of all pinned maps, on a host with so many possible CPUs.
    pub(crate) fn bytes(self, cpus: u32) -> u64 {
        let sized: Vec<_> = self.sizes.entries().collect();
        let shape = |shape: &Shape| {
            let entries = sized.iter().find(|(name, _)| *name == shape.name);
            shape.bytes(entries.map_or(shape.entries, |(_, entries)| *entries), cpus)
        };
        // Of the maps that grow with what they hold, these hold something.
        let grown = |name: &str, elements: u64| {
            let shape = SHAPES.iter().find(|shape| shape.name == name);
            elements * shape.map_or(0, Shape::element_bytes)
        };
        SHAPES.iter().map(shape).sum::<u64>() + grown(NAMES, self.tunnels) + grown(PREFIXES6, self.prefixes)
    }
}

/// Bytes that the pinned maps of a generation take, as the kernel says.
///
/// # Errors
///
/// If a map cannot be opened, or the kernel does not say.
pub(crate) fn of(generation: &Generation) -> Result<u64> {
    SHAPES.iter().map(|shape| of_map(generation, shape.name)).sum()
}

fn of_map(generation: &Generation, name: &str) -> Result<u64> {
    let path = generation.map(name);
    let map = MapData::from_pin(&path).map_err(|error| unusable(&path, error))?;
    let file = format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd());
    let text = fs::read_to_string(&file).with_context(|| file.clone())?;
    memlock(&text).with_context(|| format!("{file}: has no memlock"))
}

/// What `bpf_map_show_fdinfo()` of the kernel says about memory.
fn memlock(fdinfo: &str) -> Option<u64> {
    let line = fdinfo.lines().find_map(|line| line.strip_prefix("memlock:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_follows_the_cpus() {
        let demand = |lines: &str| {
            let text = format!("[[tunnel]]\nname = 'a'\nlocal = '198.51.100.20'\nremote = '203.0.113.10'\n{lines}");
            Demand::of(&Config::from_str(&text, "test").unwrap())
        };
        let plain = demand("");
        let (two, four) = (plain.bytes_per_tunnel(2), plain.bytes_per_tunnel(4));
        assert_eq!(four - two, 2 * size_of::<gre_common::counters::Counters>() as u64);
        assert!(demand("deliver = { interface = 'eth1' }").bytes_per_tunnel(2) > two);
        let answering = demand("keepalive = 'reply'");
        let quota = size_of::<gre_common::keepalive::Quota>() as u64;
        assert_eq!(answering.bytes_per_tunnel(2) - two, quota);
        assert_eq!(answering.bytes(2) - plain.bytes(2), quota * 1024);
    }

    #[test]
    fn memlock_is_read_as_the_kernel_writes_it() {
        assert_eq!(
            memlock("pos:\t0\nmap_flags:\t0x0\nmemlock:\t76001072\nfrozen:\t0\n"),
            Some(76_001_072)
        );
        assert_eq!(memlock("pos:\t0\n"), None);
    }
}
