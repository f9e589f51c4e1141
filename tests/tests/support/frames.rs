//! Generated frames: the fixtures' own, damaged in every way that keeps them near to what they were, and packets put together
//! at random from the fixtures' cast.

use std::fmt;
use std::sync::LazyLock;

use gre_tests::fixtures;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::outcome::hex;

mod build;
mod repair;
mod usual;

/// A frame to decide on, by itself: what was received before is part of it.
#[derive(Clone)]
pub(crate) struct Case {
    /// The configuration's place in [`CONFIGS`].
    pub(crate) config: usize,
    /// The frame.
    pub(crate) frame: Vec<u8>,
    /// How much of it lies in the first buffer; it may be more than all.
    pub(crate) first: usize,
    /// Every tunnel's cursor over sequence numbers, as `SequenceState` has it.
    pub(crate) cursor: u64,
    /// Whether every tunnel last accepted a packet too long ago for order to be kept, or else just now.
    pub(crate) silent: bool,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            config,
            frame,
            first,
            cursor,
            silent,
        } = self;
        let (text, frame) = (CONFIGS[*config], hex(frame));
        write!(
            f,
            "frame {frame} with {first} bytes in the first buffer, cursor {cursor:#x}, silent {silent}, under\n{text}"
        )
    }
}

/// The fixtures' configurations, each once.
pub(crate) static CONFIGS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let mut configs = Vec::new();
    for fixture in fixtures::all() {
        if !configs.contains(&fixture.config) {
            configs.push(fixture.config);
        }
    }
    configs
});

/// The fixtures' frames, each with its configuration.
static POOL: LazyLock<Vec<(usize, Vec<u8>)>> = LazyLock::new(|| {
    let mut pool = Vec::new();
    for fixture in fixtures::all() {
        let config = CONFIGS.iter().position(|config| *config == fixture.config);
        let config = config.expect("the configurations are the fixtures'");
        pool.extend(fixture.steps.into_iter().map(|step| (config, step.frame)));
    }
    pool
});

/// Frames of all kinds, whole or split.
pub(crate) fn cases() -> impl Strategy<Value = Case> {
    // Boxed, for a test has only so much stack.
    let frame = prop_oneof![damaged().boxed(), built().boxed(), nearly_usual().boxed()];
    let first = prop_oneof![3 => Just(usize::MAX), 1 => 14..200_usize];
    let expected = prop_oneof![select(vec![0, 2, 5000, 5001, 1 << 31, u32::MAX]), any::<u32>()];
    let begun = proptest::bool::weighted(0.8);
    (frame, first, expected, begun, 0..16_u64, any::<bool>()).prop_map(
        |((config, frame), first, expected, begun, late, silent)| Case {
            config,
            frame,
            first,
            cursor: u64::from(expected) | u64::from(begun) << 32 | late << 40,
            silent,
        },
    )
}

/// A packet put together at random, under a configuration that knows the ends it goes between.
fn built() -> impl Strategy<Value = (usize, Vec<u8>)> {
    (knowing(), build::frame())
}

/// A frame of one of the forms that have a [way of their own](gre_common::usual), or what a changed bit of its headers makes of it: next
/// to those forms lies all that must not be taken for them. The outer header's checksum is made good then, which would else hide all other
/// damage.
fn nearly_usual() -> impl Strategy<Value = (usize, Vec<u8>)> {
    let bit = option::weighted(0.7, 0..usual::HEADERS * 8);
    let repair = proptest::bool::weighted(0.8);
    (knowing(), usual::frame(), bit, repair).prop_map(|(config, mut frame, bit, repair)| {
        if let Some(bit) = bit
            && let Some(byte) = frame.get_mut(bit / 8)
        {
            *byte ^= 1 << (bit % 8);
        }
        if repair {
            repair::HEADER_CHECKSUM.make(&mut frame);
        }
        (config, frame)
    })
}

/// A configuration that knows those ends.
fn knowing() -> impl Strategy<Value = usize> {
    let configs = (0..CONFIGS.len()).filter(|config| CONFIGS[*config].contains(build::LOCAL));
    select(configs.collect::<Vec<_>>())
}

/// A fixture's frame, under its configuration or another, with up to three damages, some of them then made good where that
/// is only a matter of lengths and checksums: most damage would else be found by those alone.
fn damaged() -> impl Strategy<Value = (usize, Vec<u8>)> {
    let config = prop_oneof![9 => Just(None), 1 => (0..CONFIGS.len()).prop_map(Some)];
    let damage = proptest::collection::vec(damage(), 0..4);
    (0..POOL.len(), config, damage, repair::repair()).prop_map(|(place, config, damages, repair)| {
        let (own, frame) = &POOL[place];
        let mut frame = frame.clone();
        for damage in damages {
            damage.inflict(&mut frame);
        }
        repair.make(&mut frame);
        (config.unwrap_or(*own), frame)
    })
}

/// One change of a frame's bytes. Places are more often in the headers than behind them.
#[derive(Clone, Debug)]
enum Damage {
    Flip(Place, u8),
    Set(Place, u8),
    Cut(Place),
    Remove(Place, usize),
    Insert(Place, Vec<u8>),
    Append(Vec<u8>),
    /// From there on it is another fixture's frame.
    Splice(Place, usize),
}

/// A place in a frame of any length.
#[derive(Clone, Debug)]
enum Place {
    Head(usize),
    Anywhere(Index),
}

impl Place {
    fn within(&self, length: usize) -> usize {
        match self {
            Self::Head(place) => (*place).min(length - 1),
            Self::Anywhere(index) => index.index(length),
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let place =
        || prop_oneof![3 => (0..100_usize).prop_map(Place::Head), 1 => any::<Index>().prop_map(Place::Anywhere)];
    let bytes = |most| proptest::collection::vec(any::<u8>(), 1..most);
    prop_oneof![
        3 => (place(), 0..8_u8).prop_map(|(place, bit)| Damage::Flip(place, bit)),
        3 => (place(), any::<u8>()).prop_map(|(place, value)| Damage::Set(place, value)),
        1 => place().prop_map(Damage::Cut),
        1 => (place(), 1..9_usize).prop_map(|(place, length)| Damage::Remove(place, length)),
        1 => (place(), bytes(9)).prop_map(|(place, bytes)| Damage::Insert(place, bytes)),
        1 => bytes(64).prop_map(Damage::Append),
        1 => (place(), 0..POOL.len()).prop_map(|(place, other)| Damage::Splice(place, other)),
    ]
}

impl Damage {
    fn inflict(self, frame: &mut Vec<u8>) {
        let length = frame.len();
        if length == 0 {
            return;
        }
        match self {
            Self::Flip(place, bit) => frame[place.within(length)] ^= 1 << bit,
            Self::Set(place, value) => frame[place.within(length)] = value,
            Self::Cut(place) => frame.truncate(place.within(length)),
            Self::Remove(place, count) => {
                let from = place.within(length);
                frame.drain(from..length.min(from + count));
            }
            Self::Insert(place, bytes) => {
                let at = place.within(length);
                frame.splice(at..at, bytes);
            }
            Self::Append(bytes) => frame.extend(bytes),
            Self::Splice(place, other) => {
                let at = place.within(length);
                frame.truncate(at);
                frame.extend(POOL[other].1.iter().skip(at));
            }
        }
    }
}
