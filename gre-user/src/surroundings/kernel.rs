//! The surroundings in the kernel's maps.

use std::path::Path;

use anyhow::{Context, Result};
use aya::maps::xdp::XdpMapError;
use aya::maps::{DevMapHash, HashMap, MapData, MapError};
use aya::{Ebpf, Pod};
use gre_common::link::Mac;
use gre_common::maps::{DEVICES, INTERFACES, TARGETS};
use gre_common::target::Target;

use super::Surroundings;
use crate::state::Generation;
use crate::tables::{map, open};

impl Surroundings {
    /// Fills the empty maps of a loaded object.
    ///
    /// # Errors
    ///
    /// If the object lacks a map, or one is too small.
    pub fn write(&self, ebpf: &mut Ebpf) -> Result<()> {
        let mut interfaces: HashMap<_, u32, Mac> = HashMap::try_from(map(ebpf, INTERFACES)?)?;
        for (index, mac) in &self.macs {
            interfaces
                .insert(index, Mac::from_bytes(*mac), 0)
                .with_context(|| cannot_write(INTERFACES))?;
        }
        let mut devices = DevMapHash::try_from(map(ebpf, DEVICES)?)?;
        for &index in &self.devices {
            insert(&mut devices, index)?;
        }
        let mut targets: HashMap<_, u32, Target> = HashMap::try_from(map(ebpf, TARGETS)?)?;
        for (id, target) in &self.targets {
            targets.insert(id, target, 0).with_context(|| cannot_write(TARGETS))?;
        }
        Ok(())
    }

    /// Brings the maps of a generation that is in force to these. Each element changes as a whole.
    ///
    /// # Errors
    ///
    /// If a map cannot be opened, read or written, or has another layout than this version's.
    pub fn update(&self, generation: &Generation) -> Result<()> {
        let macs = self.macs.iter().map(|(index, mac)| (*index, Mac::from_bytes(*mac)));
        update(&generation.map(INTERFACES), macs)?;
        update(
            &generation.map(TARGETS),
            self.targets.iter().map(|(id, target)| (*id, *target)),
        )?;

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
            gone(devices.remove(index)).with_context(|| cannot_write(DEVICES))?;
        }
        Ok(())
    }

    /// Whether the maps of a generation hold exactly these.
    ///
    /// # Errors
    ///
    /// If a map cannot be opened or read, or has another layout than this version's.
    pub fn is_in(&self, generation: &Generation) -> Result<bool> {
        let interfaces: HashMap<_, u32, Mac> = open(&generation.map(INTERFACES))?;
        let targets: HashMap<_, u32, Target> = open(&generation.map(TARGETS))?;
        let devices: DevMapHash<MapData> = open(&generation.map(DEVICES))?;
        let mut present: Vec<u32> = devices
            .keys()
            .collect::<Result<_, _>>()
            .with_context(|| cannot_read(&generation.map(DEVICES)))?;
        present.sort_unstable();
        let macs = self.macs.iter().map(|(index, mac)| (*index, Mac::from_bytes(*mac)));
        Ok(holds(&interfaces, macs)?
            && holds(&targets, self.targets.iter().map(|(id, target)| (*id, *target)))?
            && present.iter().eq(&self.devices))
    }
}

/// Whether a map holds exactly these.
fn holds<V: Pod + PartialEq>(
    map: &HashMap<MapData, u32, V>,
    wanted: impl ExactSizeIterator<Item = (u32, V)>,
) -> Result<bool> {
    if map.keys().count() != wanted.len() {
        return Ok(false);
    }
    for (key, value) in wanted {
        match map.get(&key, 0) {
            Ok(present) if present == value => {}
            Ok(_) | Err(MapError::KeyNotFound) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

/// Brings a pinned hash map to these.
fn update<V: Pod + PartialEq>(path: &Path, wanted: impl Iterator<Item = (u32, V)>) -> Result<()> {
    let mut map: HashMap<_, u32, V> = open(path)?;
    let mut present: std::collections::HashMap<u32, V> = map
        .iter()
        .collect::<Result<_, _>>()
        .with_context(|| cannot_read(path))?;
    for (key, value) in wanted {
        if present.remove(&key).as_ref() != Some(&value) {
            map.insert(key, value, 0)
                .with_context(|| format!("{}: cannot be written", path.display()))?;
        }
    }
    for key in present.into_keys() {
        gone(map.remove(&key)).with_context(|| format!("{}: cannot be written", path.display()))?;
    }
    Ok(())
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
        result => result.with_context(|| cannot_write(DEVICES)),
    }
}

fn cannot_write(map: &str) -> String {
    format!("map {map}: cannot be filled")
}

fn cannot_read(path: &Path) -> String {
    format!("{}: cannot be read", path.display())
}
