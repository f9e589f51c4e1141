//! What differs between two contents of one map, and how it is written into the pinned one.

use std::collections::HashMap as StdHashMap;
use std::hash::Hash;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use aya::Pod;
use aya::maps::{HashMap, MapData, MapError};

use crate::state::Generation;
use crate::tables::open;

/// What must be written into one map.
#[derive(Debug)]
pub(super) struct Elements<K, V> {
    pub(super) put: Vec<(K, V)>,
    pub(super) gone: Vec<K>,
}

impl<K, V> Elements<K, V> {
    pub(super) fn len(&self) -> usize {
        self.put.len() + self.gone.len()
    }
}

impl<K: Copy + Eq + Hash, V: Clone + PartialEq> Elements<K, V> {
    pub(super) fn between(old: &StdHashMap<K, V>, new: &StdHashMap<K, V>) -> Self {
        Self {
            put: missing(new, |key| old.get(key)),
            gone: gone(old.keys(), |key| new.contains_key(key)),
        }
    }
}

/// The elements that the old map lacks, or has otherwise.
pub(super) fn missing<'a, K: Copy + 'a, V: Clone + PartialEq + 'a>(
    new: impl IntoIterator<Item = (&'a K, &'a V)>,
    old: impl Fn(&K) -> Option<&'a V>,
) -> Vec<(K, V)> {
    let missing = new.into_iter().filter(|(key, value)| old(key) != Some(value));
    missing.map(|(key, value)| (*key, value.clone())).collect()
}

/// The keys that the new map lacks.
pub(super) fn gone<'a, K: Copy + 'a>(old: impl Iterator<Item = &'a K>, new: impl Fn(&K) -> bool) -> Vec<K> {
    old.copied().filter(|key| !new(key)).collect()
}

/// A pinned hash map.
pub(super) struct Pinned<K, V> {
    path: PathBuf,
    map: HashMap<MapData, K, V>,
}

impl<K: Pod, V: Pod> Pinned<K, V> {
    pub(super) fn open(generation: &Generation, name: &str) -> Result<Self> {
        let path = generation.map(name);
        let map = open(&path)?;
        Ok(Self { path, map })
    }

    pub(super) fn carry_out(mut self, change: &Elements<K, V>) -> Result<()> {
        let Elements { put, gone } = change;
        put.iter().try_for_each(|(key, value)| self.put(*key, *value))?;
        gone.iter().try_for_each(|key| self.remove(*key))
    }

    pub(super) fn put(&mut self, key: K, value: V) -> Result<()> {
        self.map.insert(key, value, 0).with_context(|| cannot_write(&self.path))
    }

    pub(super) fn remove(&mut self, key: K) -> Result<()> {
        removed(self.map.remove(&key)).with_context(|| cannot_write(&self.path))
    }
}

/// What is not there needs no removing.
pub(super) fn removed(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

pub(super) fn cannot_write(path: &Path) -> String {
    format!("{}: cannot be written", path.display())
}
