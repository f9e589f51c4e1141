//! The prefixes of `[protect]` and of tunnels' `bypass` in the kernel's maps.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use aya::maps::lpm_trie::Key;
use aya::maps::{LpmTrie, MapData};
use aya::{Ebpf, Pod};
use gre_common::endpoints::{Ipv4, Ipv6};
use gre_common::maps::{ALLOWED4, ALLOWED6, BYPASS4, BYPASS6, LISTED, PROTECTED4, PROTECTED6};
use gre_common::protect::TunnelAddress;
use ipnet::IpNet;

use super::kernel::{cannot_fill, cannot_read};
use super::{Address, Tables, map, open, v4, v6};
use crate::config::Protect;
use crate::settings::Guards;
use crate::state::Generation;

impl Tables {
    /// `[protect]` as a file would have it, with these guards.
    pub fn protect(&self, guards: Guards) -> Protect {
        let Guards {
            inner_destinations,
            lockdown,
        } = guards;
        Protect {
            prefixes: self.protected.iter().copied().collect(),
            inner_destinations: inner_destinations.into(),
            lockdown: lockdown.into(),
            allow: self.allowed.iter().copied().collect(),
        }
    }
}

/// Reads what is protected.
pub(super) fn read_protected(generation: &Generation) -> Result<BTreeSet<IpNet>> {
    let mut prefixes = BTreeSet::new();
    read_list::<Ipv4>(generation, PROTECTED4, &mut prefixes)?;
    read_list::<Ipv6>(generation, PROTECTED6, &mut prefixes)?;
    Ok(prefixes)
}

/// Reads the sources that may reach it without a tunnel.
pub(super) fn read_allowed(generation: &Generation) -> Result<BTreeSet<IpNet>> {
    let mut prefixes = BTreeSet::new();
    read_list::<Ipv4>(generation, ALLOWED4, &mut prefixes)?;
    read_list::<Ipv6>(generation, ALLOWED6, &mut prefixes)?;
    Ok(prefixes)
}

/// Reads the inner destinations that stay encapsulated, by the ids of their tunnels.
pub(super) fn read_bypass(generation: &Generation) -> Result<BTreeMap<u32, BTreeSet<IpNet>>> {
    let mut prefixes = BTreeMap::new();
    read_by_tunnel::<Ipv4>(generation, BYPASS4, &mut prefixes)?;
    read_by_tunnel::<Ipv6>(generation, BYPASS6, &mut prefixes)?;
    Ok(prefixes)
}

/// Fills the empty maps of a loaded object.
pub(super) fn write(tables: &Tables, ebpf: &mut Ebpf) -> Result<()> {
    write_list(ebpf, PROTECTED4, tables.protected.iter().filter_map(ipv4))?;
    write_list(ebpf, PROTECTED6, tables.protected.iter().filter_map(ipv6))?;
    write_list(ebpf, ALLOWED4, tables.allowed.iter().filter_map(ipv4))?;
    write_list(ebpf, ALLOWED6, tables.allowed.iter().filter_map(ipv6))?;
    write_list(ebpf, BYPASS4, by_tunnel(tables, ipv4))?;
    write_list(ebpf, BYPASS6, by_tunnel(tables, ipv6))
}

fn ipv4(net: &IpNet) -> Option<Key<Ipv4>> {
    match net {
        IpNet::V4(net) => Some(Key::new(net.prefix_len().into(), v4(net.network()))),
        IpNet::V6(_) => None,
    }
}

fn ipv6(net: &IpNet) -> Option<Key<Ipv6>> {
    match net {
        IpNet::V4(_) => None,
        IpNet::V6(net) => Some(Key::new(net.prefix_len().into(), v6(net.network()))),
    }
}

/// The tunnel's id is the first word of an entry, all of whose bits count.
const TUNNEL_BITS: u32 = u32::BITS;

fn by_tunnel<A: Address>(
    tables: &Tables,
    key: impl Fn(&IpNet) -> Option<Key<A>>,
) -> impl Iterator<Item = Key<TunnelAddress<A>>>
where
    TunnelAddress<A>: Pod,
{
    let all = tables.bypass.iter();
    let all = all.flat_map(|(tunnel, nets)| nets.iter().map(|net| (*tunnel, net)));
    all.filter_map(move |(tunnel, net)| {
        let key = key(net)?;
        let data = TunnelAddress {
            tunnel,
            address: key.data(),
        };
        Some(Key::new(TUNNEL_BITS + key.prefix_len(), data))
    })
}

fn write_list<D: Pod>(ebpf: &mut Ebpf, name: &str, keys: impl Iterator<Item = Key<D>>) -> Result<()> {
    let mut list: LpmTrie<_, D, u32> = LpmTrie::try_from(map(ebpf, name)?)?;
    for key in keys {
        list.insert(&key, LISTED, 0).with_context(|| cannot_fill(name))?;
    }
    Ok(())
}

fn read_list<A: Address>(generation: &Generation, name: &str, prefixes: &mut BTreeSet<IpNet>) -> Result<()> {
    let path = generation.map(name);
    let list: LpmTrie<MapData, A, u32> = open(&path)?;
    for entry in list.iter() {
        let (key, _) = entry.with_context(|| cannot_read(&path))?;
        let net = net(key.data(), key.prefix_len());
        prefixes.insert(net.with_context(|| format!("{}: holds what is no prefix; load anew", path.display()))?);
    }
    Ok(())
}

fn read_by_tunnel<A: Address>(
    generation: &Generation,
    name: &str,
    prefixes: &mut BTreeMap<u32, BTreeSet<IpNet>>,
) -> Result<()>
where
    TunnelAddress<A>: Pod,
{
    let path = generation.map(name);
    let list: LpmTrie<MapData, TunnelAddress<A>, u32> = open(&path)?;
    for entry in list.iter() {
        let (key, _) = entry.with_context(|| cannot_read(&path))?;
        let TunnelAddress { tunnel, address } = key.data();
        let net = key
            .prefix_len()
            .checked_sub(TUNNEL_BITS)
            .and_then(|bits| net(address, bits))
            .with_context(|| format!("{}: holds what is no prefix; load anew", path.display()))?;
        prefixes.entry(tunnel).or_default().insert(net);
    }
    Ok(())
}

fn net<A: Address>(address: A, bits: u32) -> Option<IpNet> {
    IpNet::new(address.to_ip(), u8::try_from(bits).ok()?).ok()
}
