//! What a generation says about itself, in maps that only userspace reads: settings that are compiled into the program and
//! cannot be read from it, and what the counters mean.

use std::path::Path;

use anyhow::{Context, Result, bail};
use aya::maps::{Array, MapData, MapError};
use gre_common::Reason;
use gre_common::protect::Guard;
use gre_common::reason::Action;
use gre_common::siphash::Key;

use crate::bpf::batch;
use crate::datapath;
use crate::layout::FINGERPRINT;
use crate::settings::{Features, Guards, LogLevel, Settings};
use crate::state::Generation;
use crate::tables::{open, unusable};

/// Array of one [`Words`].
const SETTINGS: &str = "SETTINGS";
/// Array of [`Label`] by the index of a reason's counter.
const REASONS: &str = "REASONS";
/// Array of one `u64`: how often a change of the maps in place has begun or ended. Odd while one is under way, or where one
/// was killed.
const REVISION: &str = "REVISION";

/// Array of one `u64`: the [object](datapath::object_id) that the program is from.
const OBJECT: &str = "OBJECT";

/// What all that is pinned means. It changes when another version could misread this one's state: by itself with the layout of a map,
/// by hand with the meaning of what is in one.
const FORMAT: u64 = FINGERPRINT ^ 6;

/// Format, whether what no tunnel matches is dropped, log level, length of the cores' queues, the flow hash's key, the
/// guard of inner destinations, the features that are not pruned, and the guard of lockdown.
type Words = [u64; 9];

/// Settings that are compiled into the program.
pub(crate) struct CompiledIn {
    /// Whether what no tunnel matches is dropped.
    pub(crate) unknown_drop: bool,
    /// How much the program logs.
    pub(crate) log_level: LogLevel,
    /// How many packets the queue of a core holds.
    pub(crate) spread_queue: u32,
    /// The key of the flow hash.
    pub(crate) flow_key: Key,
    /// How strictly the rules of `[protect]` are kept.
    pub(crate) guards: Guards,
    /// What is not pruned.
    pub(crate) features: Features,
}

/// A reason's name and action, zero-padded.
type Label = [u8; 32];

/// Pins the settings and the reasons' names into a new generation.
///
/// # Errors
///
/// If the kernel has no room, or pinning fails.
pub(crate) fn pin(generation: &Generation, settings: &Settings) -> Result<()> {
    let mut words: Array<MapData, Words> = Array::create(1, 0).with_context(|| cannot_make(SETTINGS))?;
    let [key0, key1] = settings.flow_key;
    let values = [
        FORMAT,
        settings.unknown_drop.into(),
        (settings.log_level as u32).into(),
        settings.spread_queue.into(),
        key0,
        key1,
        settings.guards.inner_destinations as u64,
        settings.features.bits(),
        settings.guards.lockdown as u64,
    ];
    words.set(0, values, 0).with_context(|| cannot_make(SETTINGS))?;
    words
        .pin(generation.map(SETTINGS))
        .with_context(|| cannot_make(SETTINGS))?;

    let revision: Array<MapData, u64> = Array::create(1, 0).with_context(|| cannot_make(REVISION))?;
    revision
        .pin(generation.map(REVISION))
        .with_context(|| cannot_make(REVISION))?;

    let mut object: Array<MapData, u64> = Array::create(1, 0).with_context(|| cannot_make(OBJECT))?;
    object
        .set(0, datapath::object_id(), 0)
        .with_context(|| cannot_make(OBJECT))?;
    object
        .pin(generation.map(OBJECT))
        .with_context(|| cannot_make(OBJECT))?;

    let mut reasons: Array<MapData, Label> =
        Array::create(Reason::COUNT as u32, 0).with_context(|| cannot_make(REASONS))?;
    for (index, reason) in (0..).zip(Reason::ALL) {
        reasons
            .set(index, label(*reason), 0)
            .with_context(|| cannot_make(REASONS))?;
    }
    reasons
        .pin(generation.map(REASONS))
        .with_context(|| cannot_make(REASONS))
}

/// Whether a generation was pinned by this version, or one that lays its state out alike.
///
/// # Errors
///
/// If it does not tell.
pub(crate) fn is_alike(generation: &Generation) -> Result<bool> {
    let path = generation.map(SETTINGS);
    let map = MapData::from_pin(&path).map_err(|error| unusable(&path, error))?;
    match batch::read_all::<u32, Words>(&map) {
        Ok(elements) => Ok(matches!(elements.as_slice(), [(_, [FORMAT, ..])])),
        Err(MapError::SyscallError(error)) => Err(error).with_context(|| cannot_read(&path)),
        Err(_) => Ok(false),
    }
}

/// Reads the settings of a generation.
///
/// # Errors
///
/// If it was not pinned by this version or one that lays its state out alike.
pub(crate) fn read(generation: &Generation) -> Result<CompiledIn> {
    let path = generation.map(SETTINGS);
    let words: Array<MapData, Words> = open(&path)?;
    let [
        format,
        unknown_drop,
        log_level,
        spread_queue,
        key0,
        key1,
        inner_destinations,
        features,
        lockdown,
    ] = words.get(&0, 0).with_context(|| cannot_read(&path))?;
    let log_level = u32::try_from(log_level).ok().and_then(LogLevel::from_repr);
    match (log_level, u32::try_from(spread_queue)) {
        (Some(log_level), Ok(spread_queue)) if format == FORMAT => Ok(CompiledIn {
            unknown_drop: unknown_drop != 0,
            log_level,
            spread_queue,
            flow_key: [key0, key1],
            guards: Guards {
                inner_destinations: Guard::from_number(inner_destinations as u8),
                lockdown: Guard::from_number(lockdown as u8),
            },
            features: Features::from_bits(features),
        }),
        _ => bail!(
            "{}: is laid out by another version of gre-decap; use that one",
            path.display()
        ),
    }
}

/// Whether a generation's program is from this binary's object.
///
/// # Errors
///
/// If it cannot be read.
pub(crate) fn is_ours(generation: &Generation) -> Result<bool> {
    let path = generation.map(OBJECT);
    // Versions before this one said nothing of it.
    if !path.try_exists().with_context(|| cannot_read(&path))? {
        return Ok(false);
    }
    let object: Array<MapData, u64> = open(&path)?;
    let object = object.get(&0, 0).with_context(|| cannot_read(&path))?;
    Ok(object == datapath::object_id())
}

/// How often a change of a generation's maps in place has begun or ended.
///
/// # Errors
///
/// If it cannot be read.
pub(crate) fn revision(generation: &Generation) -> Result<u64> {
    let path = generation.map(REVISION);
    let revision: Array<MapData, u64> = open(&path)?;
    revision.get(&0, 0).with_context(|| cannot_read(&path))
}

/// Changes a generation's maps in place by `change`, and has readers notice. Only one process at a time may.
///
/// # Errors
///
/// Those of `change`, or if readers cannot be told.
pub(crate) fn change_in_place<T>(generation: &Generation, change: impl FnOnce() -> Result<T>) -> Result<T> {
    let path = generation.map(REVISION);
    let mut revision: Array<MapData, u64> = open(&path)?;
    // Odd already where a process was killed.
    let begun = revision.get(&0, 0).with_context(|| cannot_read(&path))? | 1;
    let mut tell = |number| {
        revision
            .set(0, number, 0)
            .with_context(|| format!("{}: cannot be written", path.display()))
    };
    tell(begun.wrapping_add(2))?;
    let changed = change();
    tell(begun.wrapping_add(3))?;
    changed
}

/// Whether a generation's counters count the same reasons at the same places as this version's.
///
/// # Errors
///
/// If its reasons cannot be read.
pub(crate) fn counts_alike(generation: &Generation) -> Result<bool> {
    let path = generation.map(REASONS);
    let reasons: Array<MapData, Label> = open(&path)?;
    let theirs: Vec<_> = reasons
        .iter()
        .collect::<Result<_, _>>()
        .with_context(|| cannot_read(&path))?;
    Ok(theirs.into_iter().eq(Reason::ALL.iter().map(|reason| label(*reason))))
}

fn label(reason: Reason) -> Label {
    let action = match reason.action() {
        Action::Pass => "pass",
        Action::Drop => "drop",
    };
    let mut label: Label = [0; _];
    for (to, from) in label
        .iter_mut()
        .zip(reason.name().bytes().chain([b' ']).chain(action.bytes()))
    {
        *to = from;
    }
    label
}

fn cannot_make(map: &str) -> String {
    format!("map {map}: cannot be made")
}

fn cannot_read(path: &Path) -> String {
    format!("{}: cannot be read", path.display())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn labels_tell_reasons_apart() {
        let labels: HashSet<_> = Reason::ALL.iter().map(|reason| label(*reason)).collect();
        assert_eq!(labels.len(), Reason::COUNT);
        assert!(
            labels.iter().all(|label| label.ends_with(&[0])),
            "a label fills its room"
        );
    }
}
