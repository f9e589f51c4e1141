//! The surroundings in the kernel's maps.

use std::path::Path;

use anyhow::{Context, Result};
use aya::maps::xdp::XdpMapError;
use aya::maps::{DevMapHash, HashMap, MapData, MapError};
use aya::{Ebpf, Pod};
use gre_common::link::Mac;
use gre_common::maps::{DEVICES, INTERFACE_SLOTS, INTERFACES, TARGET_SLOTS, TARGETS};
use gre_common::slots::Slot;
use gre_common::target::Target;

use super::Surroundings;
use crate::bpf::batch;
use crate::slots::{self, Unplaced};
use crate::state::Generation;
use crate::tables::{cannot_fill, data, map, open, read_all};

impl Surroundings {
    /// Fills the empty maps of a loaded object.
    ///
    /// # Errors
    ///
    /// If the object lacks a map, or one is too small.
    pub fn write(&self, ebpf: &mut Ebpf) -> Result<()> {
        fill(ebpf, INTERFACES, self.own_macs())?;
        slots::fill(ebpf, INTERFACE_SLOTS, self.own_macs())?;
        let mut devices = DevMapHash::try_from(map(ebpf, DEVICES)?)?;
        for &index in &self.devices {
            insert(&mut devices, index)?;
        }
        fill(ebpf, TARGETS, self.by_tunnel())?;
        slots::fill(ebpf, TARGET_SLOTS, self.by_tunnel())
    }

    fn own_macs(&self) -> impl ExactSizeIterator<Item = (u32, Mac)> {
        self.macs.iter().map(|(index, mac)| (*index, Mac::from_bytes(*mac)))
    }

    fn by_tunnel(&self) -> impl ExactSizeIterator<Item = (u32, Target)> {
        self.targets.iter().map(|(id, target)| (*id, *target))
    }

    /// Brings the maps of a generation that is in force to these. Each element changes as a whole.
    ///
    /// # Errors
    ///
    /// If a map cannot be opened, read or written, or has another layout than this version's.
    pub fn update(&self, generation: &Generation) -> Result<Unplaced> {
        let interfaces = update(generation, INTERFACES, INTERFACE_SLOTS, self.own_macs())?;
        let targets = update(generation, TARGETS, TARGET_SLOTS, self.by_tunnel())?;

        let path = generation.map(DEVICES);
        let mut devices: DevMapHash<MapData> = open(&path)?;
        let present: Vec<u32> = devices
            .keys()
            .collect::<Result<_, _>>()
            .with_context(|| cannot_read(&path))?;
        for &index in self.devices.iter().filter(|index| !present.contains(index)) {
            insert(&mut devices, index)?;
        }
        for index in present.into_iter().filter(|index| !self.devices.contains(index)) {
            gone(devices.remove(index)).with_context(|| cannot_fill(DEVICES))?;
        }
        Ok(interfaces.and(targets))
    }

    /// Whether the maps of a generation hold exactly these.
    ///
    /// # Errors
    ///
    /// If a map cannot be opened or read, or has another layout than this version's.
    pub fn is_in(&self, generation: &Generation) -> Result<bool> {
        let devices: DevMapHash<MapData> = open(&generation.map(DEVICES))?;
        let mut present: Vec<u32> = devices
            .keys()
            .collect::<Result<_, _>>()
            .with_context(|| cannot_read(&generation.map(DEVICES)))?;
        present.sort_unstable();
        Ok(holds(&generation.map(INTERFACES), self.own_macs())?
            && holds(&generation.map(TARGETS), self.by_tunnel())?
            && present.iter().eq(&self.devices))
    }
}

/// Whether a pinned hash map holds exactly these.
fn holds<V: Pod + PartialEq>(path: &Path, mut wanted: impl ExactSizeIterator<Item = (u32, V)>) -> Result<bool> {
    let present: std::collections::HashMap<u32, V> = read_all(path)?.into_iter().collect();
    Ok(present.len() == wanted.len() && wanted.all(|(key, value)| present.get(&key) == Some(&value)))
}

fn fill<V: Pod>(ebpf: &mut Ebpf, name: &str, elements: impl Iterator<Item = (u32, V)>) -> Result<()> {
    batch::write(data(map(ebpf, name)?)?, elements).with_context(|| cannot_fill(name))
}

/// Brings a hash map of a generation to these, and its slots.
fn update<V: Pod + PartialEq + 'static>(
    generation: &Generation,
    name: &str,
    slots: &str,
    wanted: impl Iterator<Item = (u32, V)>,
) -> Result<Unplaced>
where
    Slot<u32, V>: Pod,
{
    let path = generation.map(name);
    let mut map: HashMap<_, u32, V> = open(&path)?;
    let mut present: std::collections::HashMap<u32, V> = read_all(&path)?.into_iter().collect();
    let put: Vec<_> = wanted
        .filter(|(key, value)| present.remove(key).as_ref() != Some(value))
        .collect();
    let left: Vec<_> = present.into_keys().collect();
    slots::change(generation, slots, &put, &left, || {
        let put = put.iter().try_for_each(|(key, value)| map.insert(key, value, 0));
        put.and_then(|()| left.iter().try_for_each(|key| gone(map.remove(key))))
            .with_context(|| format!("{}: cannot be written", path.display()))
    })
}

/// An element that has gone by itself, as with its interface, was to go anyway.
fn gone(removed: Result<(), MapError>) -> Result<(), MapError> {
    match removed {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

/// Lets frames be redirected to an interface. One that has just gone takes no frames anyway.
fn insert<T: std::borrow::BorrowMut<MapData>>(devices: &mut DevMapHash<T>, index: u32) -> Result<()> {
    match devices.insert(index, index, None, 0) {
        Err(XdpMapError::MapError(MapError::SyscallError(error)))
            if matches!(error.io_error.raw_os_error(), Some(libc::EINVAL | libc::ENODEV)) =>
        {
            Ok(())
        }
        result => result.with_context(|| cannot_fill(DEVICES)),
    }
}

fn cannot_read(path: &Path) -> String {
    format!("{}: cannot be read", path.display())
}
