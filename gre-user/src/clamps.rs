//! `clamp_mss`: what the program on the way out of an interface is told, and that it still fits when the interface's MTU changes.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::{HashMap, MapData, MapError};
use gre_common::maps::EGRESS;
use gre_common::mss::Clamp;

use crate::config::ClampMss;
use crate::host::Interface;
use crate::state::Generation;
use crate::tables::{Tables, map, open};

/// Bytes of a TCP header and of the IP headers before it, without options.
const TCP_HEADER: u32 = 20;
const IPV4_HEADER: u32 = 20;
const IPV6_HEADER: u32 = 40;

/// The kernel's least MSS (`TCP_MIN_MSS` of `net/tcp.h`).
const LEAST: u32 = 88;

/// The content of the map: equal values are equal behaviour.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clamps(BTreeMap<u32, Clamp>);

impl Clamps {
    /// What is to be done on these interfaces, with these tunnels.
    pub fn of<'a>(tables: &Tables, interfaces: impl Iterator<Item = (&'a Interface, ClampMss)>) -> Self {
        let overhead = tables.overhead();
        let clamp = |(interface, configured): (&Interface, ClampMss)| {
            let clamp = match configured {
                ClampMss::Off => return None,
                ClampMss::Auto => automatic(interface.mtu, overhead),
                ClampMss::Bytes(bytes) => Clamp {
                    configured: bytes.into(),
                    v4: bytes,
                    v6: bytes,
                },
            };
            Some((interface.index, clamp))
        };
        Self(interfaces.filter_map(clamp).collect())
    }

    /// Reads what a generation does.
    ///
    /// # Errors
    ///
    /// If the map cannot be opened or read, or has another layout than this version's.
    pub fn read(generation: &Generation) -> Result<Self> {
        let path = generation.map(EGRESS);
        let clamps: HashMap<MapData, u32, Clamp> = open(&path)?;
        let clamps: Result<_, MapError> = clamps.iter().collect();
        Ok(Self(
            clamps.with_context(|| format!("{}: cannot be read", path.display()))?,
        ))
    }

    /// Fills the empty map of a loaded object.
    ///
    /// # Errors
    ///
    /// If the object lacks it, or it is too small.
    pub(crate) fn write(&self, ebpf: &mut Ebpf) -> Result<()> {
        let mut clamps: HashMap<_, u32, Clamp> = HashMap::try_from(map(ebpf, EGRESS)?)?;
        for (index, clamp) in &self.0 {
            clamps
                .insert(index, clamp, 0)
                .with_context(|| format!("map {EGRESS}: cannot be filled"))?;
        }
        Ok(())
    }

    /// Brings the map of a generation that is in force to what the interfaces' MTUs are now.
    ///
    /// # Errors
    ///
    /// If it cannot be opened, read or written.
    pub fn follow<'a>(
        generation: &Generation,
        tables: &Tables,
        interfaces: impl Iterator<Item = &'a Interface>,
    ) -> Result<()> {
        let now = Self::read(generation)?;
        if now.is_empty() {
            return Ok(());
        }
        let overhead = tables.overhead();
        let path = generation.map(EGRESS);
        for interface in interfaces {
            let Some(clamp) = now.get(interface.index) else {
                continue;
            };
            let wanted = automatic(interface.mtu, overhead);
            if configured(clamp) == ClampMss::Auto && clamp != wanted {
                let mut clamps: HashMap<MapData, u32, Clamp> = open(&path)?;
                clamps
                    .insert(interface.index, wanted, 0)
                    .with_context(|| format!("{}: cannot be written", path.display()))?;
            }
        }
        Ok(())
    }

    /// Has the program of a generation that is in force know an interface that is back, and forget those that are not `here`.
    ///
    /// # Errors
    ///
    /// If its map cannot be opened, read or written.
    pub fn restore(
        generation: &Generation,
        tables: &Tables,
        interface: &Interface,
        configured: ClampMss,
        here: &[Interface],
    ) -> Result<()> {
        let path = generation.map(EGRESS);
        let mut clamps: HashMap<MapData, u32, Clamp> = open(&path)?;
        let cannot_write = || format!("{}: cannot be written", path.display());
        for index in Self::read(generation)?.0.into_keys() {
            if here.iter().all(|interface| interface.index != index) {
                clamps.remove(&index).with_context(cannot_write)?;
            }
        }
        for (index, clamp) in Self::of(tables, [(interface, configured)].into_iter()).0 {
            clamps.insert(index, clamp, 0).with_context(cannot_write)?;
        }
        Ok(())
    }

    /// What is done on an interface's way out.
    pub fn get(&self, index: u32) -> Option<Clamp> {
        self.0.get(&index).copied()
    }

    /// Whether nothing is done anywhere.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The configuration's word for it.
pub fn configured(clamp: Clamp) -> ClampMss {
    match u16::try_from(clamp.configured) {
        Ok(0) | Err(_) => ClampMss::Auto,
        Ok(bytes) => ClampMss::Bytes(bytes),
    }
}

/// What fits into an interface's packets with so many bytes of tunnel headers around it.
fn automatic(mtu: u32, overhead: u32) -> Clamp {
    let mss = |ip: u32| {
        let fits = mtu.saturating_sub(overhead + ip + TCP_HEADER).max(LEAST);
        u16::try_from(fits).unwrap_or(u16::MAX)
    };
    Clamp {
        configured: 0,
        v4: mss(IPV4_HEADER),
        v6: mss(IPV6_HEADER),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn automatic_is_the_mtu_less_all_headers() {
        for (mtu, overhead, v4, v6) in [
            // Plain GRE over IPv4, over IPv6, and over IPv4 with all fields, on Ethernet.
            (1500, 24, 1436, 1416),
            (1500, 44, 1416, 1396),
            (1500, 36, 1424, 1404),
            (9000, 24, 8936, 8916),
            (1500, 0, 1460, 1440),
            // Nothing is so small that TCP could not go on, or larger than the option has room for.
            (68, 24, 88, 88),
            (0, 24, 88, 88),
            (u32::MAX, 24, u16::MAX, u16::MAX),
        ] {
            let clamp = automatic(mtu, overhead);
            assert_eq!((clamp.v4, clamp.v6), (v4, v6), "{mtu} less {overhead}");
            assert_eq!(configured(clamp), ClampMss::Auto);
        }
    }

    #[test]
    fn bytes_are_as_configured() {
        let clamp = Clamp {
            configured: 1400,
            v4: 1400,
            v6: 1400,
        };
        assert_eq!(configured(clamp), ClampMss::Bytes(1400));
    }
}
