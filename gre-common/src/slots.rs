//! Hash tables in arrays, which the program looks up without a call into the kernel: one costs more than all other checks of a packet
//! together.
//!
//! Each key has two [places](Key::places), and is in one of them or in none (cuckoo hashing, of one slot a place). A table only repeats
//! elements of a hash map of the kernel, which has them all: what is not found here is looked up there.
//!
//! The kernel replaces the element of a hash map as a whole, but an array's in place, under the eyes of packets. So userspace never
//! changes a slot that is taken: it frees it first, by its one byte [`taken`](Slot::taken), changes the hash map, waits until no packet
//! is left that may have seen the slot taken, writes it while it is free, and waits once more before it is taken.

use crate::{endian::Be32, endpoints::Endpoints};

/// An element of such an array. All zeros are a free one.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot<K, V> {
    /// 1 if key and value mean anything, else 0.
    taken: u32,
    key: K,
    value: V,
}

/// What a table is looked up by.
pub trait Key: Copy {
    /// All of it in one number.
    fn hash(&self) -> u64;

    /// Whether it is the same.
    fn is(&self, other: &Self) -> bool;

    /// Where in a table a key may be; `mask` is one less than the number of slots, a power of two.
    #[inline(always)]
    fn places(&self, mask: u32) -> [u32; 2] {
        let hash = scattered(self.hash());
        [(hash >> 32) as u32 & mask, hash as u32 & mask]
    }
}

impl<K: Key, V> Slot<K, V> {
    /// One that holds an element.
    pub const fn holding(key: K, value: V) -> Self {
        Self { taken: 1, key, value }
    }

    /// The same, but free. Only one byte differs.
    pub fn free(self) -> Self {
        Self { taken: 0, ..self }
    }

    /// Whether it is free.
    pub const fn is_free(&self) -> bool {
        self.taken == 0
    }

    /// The element's value, if it has this key.
    #[inline(always)]
    pub fn get(&self, key: &K) -> Option<&V> {
        (self.key.is(key) && self.taken != 0).then_some(&self.value)
    }
}

/// Tunnels' ids and interfaces' indices.
impl Key for u32 {
    #[inline(always)]
    fn hash(&self) -> u64 {
        mix(0, u64::from(*self))
    }

    /// They are numbered through, so the first place is by the number itself, in fewer instructions.
    #[inline(always)]
    fn places(&self, mask: u32) -> [u32; 2] {
        [*self & mask, scattered(self.hash()) as u32 & mask]
    }

    #[inline(always)]
    fn is(&self, other: &Self) -> bool {
        self == other
    }
}

impl<const WORDS: usize> Key for Endpoints<[Be32; WORDS]> {
    #[inline(always)]
    fn hash(&self) -> u64 {
        let key = mix(0, pair(self.keyed, bits(self.key)));
        (0..WORDS).fold(key, |hash, word| {
            mix(hash, pair(bits(self.local[word]), bits(self.remote[word])))
        })
    }

    /// By the word, the last of the remote first, in which tunnels mostly differ: as a whole it would be a call.
    #[inline(always)]
    fn is(&self, other: &Self) -> bool {
        (0..WORDS).rev().all(|word| self.remote[word] == other.remote[word])
            && (0..WORDS).rev().all(|word| self.local[word] == other.local[word])
            && self.keyed == other.keyed
            && self.key == other.key
    }
}

/// As they lie in memory, which saves turning them round.
#[inline(always)]
const fn bits(word: Be32) -> u32 {
    u32::from_ne_bytes(word.to_bytes())
}

#[inline(always)]
const fn pair(high: u32, low: u32) -> u64 {
    (high as u64) << 32 | low as u64
}

/// Multiplication takes each bit to those above it, so those have to come down before.
#[inline(always)]
const fn mix(hash: u64, word: u64) -> u64 {
    folded(hash ^ word).wrapping_mul(MULTIPLIER)
}

/// Such that each bit depends on all.
#[inline(always)]
const fn scattered(hash: u64) -> u64 {
    folded(folded(hash).wrapping_mul(LAST_MULTIPLIER))
}

#[inline(always)]
const fn folded(hash: u64) -> u64 {
    hash ^ hash >> 32
}

/// Two odd numbers without a pattern: 2^64 divided by the golden ratio, and another.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
const LAST_MULTIPLIER: u64 = 0xd6e8_feb8_6659_fd93;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::{collections::HashSet, vec::Vec};

    use super::*;
    use crate::{
        endpoints::{Ipv4, Ipv6},
        link::Mac,
        target::Target,
        tunnel::Tunnel,
    };

    #[test]
    fn layout_has_no_padding() {
        assert_eq!(size_of::<Slot<Endpoints<Ipv4>, Tunnel>>(), 4 + 16 + 12);
        assert_eq!(size_of::<Slot<Endpoints<Ipv6>, Tunnel>>(), 4 + 40 + 12);
        assert_eq!(size_of::<Slot<u32, Target>>(), 4 + 4 + 16);
        assert_eq!(size_of::<Slot<u32, Mac>>(), 4 + 4 + 8);
    }

    #[test]
    fn a_slot_gives_its_value_for_its_key_while_it_is_taken() {
        let slot = Slot::holding(7_u32, 'v');
        assert_eq!(
            (slot.get(&7), slot.get(&8), slot.free().get(&7)),
            (Some(&'v'), None, None)
        );
        assert!(!slot.is_free() && slot.free().is_free());
        assert_eq!(slot.free().free(), slot.free());
    }

    /// Keys of a kind that are alike must not crowd in few places.
    fn assert_spread<K: Key>(keys: impl Iterator<Item = K>) {
        const SLOTS: u32 = 1 << 16;
        let places: Vec<_> = keys.take(1 << 14).map(|key| key.places(SLOTS - 1)).collect();
        for place in [0, 1] {
            let different: HashSet<_> = places.iter().map(|places| places[place]).collect();
            // Of a quarter as many keys as places, thrown at random, 88.5 % meet none that is taken.
            assert!(different.len() > places.len() * 85 / 100, "{}", different.len());
        }
        let pairs: HashSet<_> = places.iter().collect();
        assert!(pairs.len() > places.len() - 16, "{} of {}", pairs.len(), places.len());
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes minutes, and has nothing that is not safe")]
    fn tunnels_that_are_numbered_through_are_spread() {
        let v4 = |at: u32| [Be32::new(0xcb00_7100 + at)];
        let v6 = |at: u32| [0x2001_0db8, 0, 0, at].map(Be32::new);
        let (local4, local6) = (v4(0), v6(0));
        assert_spread(1_u32..);
        assert_spread((0..).map(|at| Endpoints::new(local4, v4(at), None)));
        assert_spread((0..).map(|at| Endpoints::new(v4(at), local4, None)));
        assert_spread((0..).map(|at| Endpoints::new(v4(at), v4(at << 8), None)));
        assert_spread((0..).map(|at| Endpoints::new(local4, v4(1), Some(Be32::new(at)))));
        assert_spread((0..).map(|at| Endpoints::new(local6, v6(at), None)));
        assert_spread((0..).map(|at| Endpoints::new(v6(at), local6, Some(Be32::new(at)))));
    }

    proptest! {
        #[test]
        fn a_key_has_its_places_within_the_table(key: u32, bits in 0_u32..32) {
            let mask = (1 << bits) - 1;
            prop_assert!(key.places(mask).into_iter().all(|place| place <= mask));
        }

        #[test]
        fn each_bit_of_endpoints_counts(words: [u32; 10], at in 0_usize..10, bit in 0_u32..32) {
            let of = |[keyed, key, a, b, c, d, e, f, g, h]: [u32; 10]| Endpoints {
                keyed,
                key: Be32::new(key),
                local: [a, b, c, d].map(Be32::new),
                remote: [e, f, g, h].map(Be32::new),
            };
            let mut others = words;
            others[at] ^= 1 << bit;
            let (these, others) = (of(words), of(others));
            prop_assert!(these.is(&these) && !these.is(&others));
            prop_assert_ne!(these.hash(), others.hash());
        }
    }
}
