//! The tables in arrays of [`gre_common::slots`], as userspace fills and changes them.

use std::borrow::BorrowMut;
use std::collections::BTreeMap;

use anyhow::{Context, Result};
use aya::maps::{Array, MapData};
use aya::{Ebpf, Pod};
use gre_common::slots::{Key, Slot};

use crate::bpf::{batch, wait_for_programs};
use crate::state::Generation;
use crate::tables::{cannot_fill, data, map, open};

/// How many slots there are for at most so many elements: a power of two, and so many that nearly all find one of their two places.
pub(crate) fn slots_for(elements: u32) -> u32 {
    // At most MAX_TUNNELS.
    elements.saturating_mul(5).div_ceil(2).next_power_of_two()
}

/// Fills the slots of a map of a loaded object, where there are any.
///
/// # Errors
///
/// If the object lacks the map, or it has another layout.
pub(crate) fn fill<K: Key, V>(ebpf: &mut Ebpf, name: &str, elements: impl Iterator<Item = (K, V)>) -> Result<()>
where
    Slot<K, V>: Pod,
{
    let map = data(map(ebpf, name)?)?;
    let written = map.info().and_then(|info| match info.max_entries() {
        NO_SLOTS => Ok(()),
        count => batch::write(map, placed(elements, count)),
    });
    written.with_context(|| cannot_fill(name))
}

/// The number of entries of a map where they are not used, for a map must have one.
pub(crate) const NO_SLOTS: u32 = 1;

/// How often an element that finds both places taken moves another one to its other place, which moves the next.
const MOVES: usize = 64;

/// Which slots of so many, a power of two, hold these elements. Those that find no place are left out.
fn placed<K: Key, V>(elements: impl IntoIterator<Item = (K, V)>, count: u32) -> Vec<(u32, Slot<K, V>)> {
    let mut slots: Vec<Option<(K, V)>> = Vec::new();
    slots.resize_with(count as usize, || None);
    for element in elements {
        place(&mut slots, element);
    }
    let taken = (0..).zip(slots);
    taken
        .filter_map(|(index, slot)| slot.map(|(key, value)| (index, Slot::holding(key, value))))
        .collect()
}

fn place<K: Key, V>(slots: &mut [Option<(K, V)>], mut element: (K, V)) {
    let mask = slots.len() as u32 - 1;
    let [mut at, other] = element.0.places(mask);
    if slots[at as usize].is_some() && slots[other as usize].is_none() {
        at = other;
    }
    for _ in 0..MOVES {
        match slots[at as usize].replace(element) {
            None => return,
            Some(moved) => element = moved,
        }
        let [first, second] = element.0.places(mask);
        at = if at == first { second } else { first };
    }
}

/// Frees the slots of these elements in a map of a generation, and then has `change` change them in the hash map that the slots repeat.
///
/// # Errors
///
/// Those of `change`, and if the map of slots cannot be read or written.
pub(crate) fn change<K: Key + 'static, V: Copy + 'static>(
    generation: &Generation,
    name: &str,
    put: &[(K, V)],
    gone: &[K],
    change: impl FnOnce() -> Result<()>,
) -> Result<Unplaced>
where
    Slot<K, V>: Pod,
{
    if put.is_empty() && gone.is_empty() {
        change()?;
        return Ok(Unplaced::NONE);
    }
    let mut slots = Slots::open(generation, name)?;
    slots.forget(put.iter().map(|(key, _)| key).chain(gone))?;
    change()?;
    let put = put.to_vec();
    Ok(Unplaced(vec![Box::new(move || slots.place(&put))]))
}

/// Elements that are found in the hash map alone, until they are given slots.
#[must_use]
pub struct Unplaced(Vec<Box<dyn FnOnce() -> Result<()>>>);

impl Unplaced {
    pub(crate) const NONE: Self = Self(Vec::new());

    pub(crate) fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// Gives them slots, as far as one of their places is free. That takes as long as packets are on their way through the program, some
    /// times over.
    ///
    /// # Errors
    ///
    /// If a map cannot be read or written, or the kernel does not tell when packets are through. What was changed is in force all the
    /// same.
    pub fn place(self) -> Result<()> {
        let placed = self.0.into_iter().try_for_each(|place| place());
        placed.context("the change is in force, but found more slowly than need be (`gre-decap load` anew, once the reason is gone)")
    }
}

/// The slots of a map.
pub(crate) struct Slots<T, K, V>
where
    Slot<K, V>: Pod,
{
    map: Array<T, Slot<K, V>>,
    name: String,
}

impl<K: Key, V: Copy> Slots<MapData, K, V>
where
    Slot<K, V>: Pod,
{
    /// Those of a generation.
    ///
    /// # Errors
    ///
    /// If the map cannot be opened, or has another layout than this version's.
    pub(crate) fn open(generation: &Generation, name: &str) -> Result<Self> {
        let path = generation.map(name);
        let map = open(&path)?;
        let name = path.display().to_string();
        Ok(Self { map, name })
    }
}

impl<'a, K: Key, V: Copy> Slots<&'a mut MapData, K, V>
where
    Slot<K, V>: Pod,
{
    /// Those of a loaded object.
    ///
    /// # Errors
    ///
    /// If it lacks the map, or that has another layout.
    pub(crate) fn of(ebpf: &'a mut Ebpf, name: &str) -> Result<Self> {
        Ok(Self {
            map: Array::try_from(map(ebpf, name)?)?,
            name: format!("map {name}"),
        })
    }
}

impl<T: BorrowMut<MapData>, K: Key, V: Copy> Slots<T, K, V>
where
    Slot<K, V>: Pod,
{
    /// Frees these keys' slots: from now on they are looked up in the hash map.
    fn forget<'a>(&mut self, keys: impl Iterator<Item = &'a K>) -> Result<()>
    where
        K: 'a,
    {
        for key in keys {
            if let Some((place, slot)) = self.find(key)? {
                self.set(place, slot.free())?;
            }
        }
        Ok(())
    }

    /// Gives these elements, which have none, slots.
    fn place(&mut self, elements: &[(K, V)]) -> Result<()> {
        let mut chosen = BTreeMap::new();
        for (key, value) in elements {
            if let Some(place) = self.free_place(key, |place| chosen.contains_key(&place))? {
                chosen.insert(place, Slot::holding(*key, *value));
            }
        }
        if chosen.is_empty() {
            return Ok(());
        }
        // Packets may have seen what lay there before.
        self.wait()?;
        for (place, slot) in &chosen {
            self.set(*place, slot.free())?;
        }
        // Nor may any see it taken before all else of it.
        self.wait()?;
        chosen.into_iter().try_for_each(|(place, slot)| self.set(place, slot))
    }

    /// Changes the value of an element, if it has a slot, in a map that no packet is looked up in.
    ///
    /// # Errors
    ///
    /// If the map cannot be read or written.
    pub(crate) fn overwrite(&mut self, key: K, value: V) -> Result<()> {
        match self.find(&key)? {
            Some((place, _)) => self.set(place, Slot::holding(key, value)),
            None => Ok(()),
        }
    }

    /// The slot that this key has, and where.
    fn find(&self, key: &K) -> Result<Option<(u32, Slot<K, V>)>> {
        for place in self.places(key) {
            let slot = self.get(place)?;
            if slot.get(key).is_some() {
                return Ok(Some((place, slot)));
            }
        }
        Ok(None)
    }

    /// Where this key, which has no slot, could have one that is free and not `chosen` for another.
    fn free_place(&self, key: &K, chosen: impl Fn(u32) -> bool) -> Result<Option<u32>> {
        for place in self.places(key) {
            if !chosen(place) && self.get(place)?.is_free() {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    fn places(&self, key: &K) -> impl Iterator<Item = u32> + use<T, K, V> {
        let slots = self.map.len();
        let places = (slots != NO_SLOTS).then(|| key.places(slots.saturating_sub(1)));
        places.into_iter().flatten()
    }

    fn get(&self, place: u32) -> Result<Slot<K, V>> {
        let slot = self.map.get(&place, 0);
        slot.with_context(|| format!("{}: cannot be read", self.name))
    }

    fn set(&mut self, place: u32, slot: Slot<K, V>) -> Result<()> {
        let set = self.map.set(place, slot, 0);
        set.with_context(|| format!("{}: cannot be written", self.name))
    }

    fn wait(&self) -> Result<()> {
        let waited = wait_for_programs();
        waited.with_context(|| format!("{}: the kernel does not tell when packets are through", self.name))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn there_are_enough_slots_for_all_that_there_may_be() {
        for (elements, slots) in [(1, 4), (5, 16), (1024, 4096), (100_000, 262_144), (1 << 20, 1 << 22)] {
            assert_eq!(slots_for(elements), slots);
        }
    }

    #[test]
    fn nearly_all_of_as_many_as_there_may_be_are_placed() {
        for elements in [5_u32, 409, 13_107, 100_000] {
            let placed = placed((1..=elements).map(|key| (key, key)), slots_for(elements));
            assert!(
                placed.len() * 1000 >= elements as usize * 999,
                "{} of {elements}",
                placed.len()
            );
        }
    }

    #[test]
    fn more_elements_than_slots_leave_some_out() {
        assert_eq!(placed((1..=100_u32).map(|key| (key, key)), 16).len(), 16);
        assert_eq!(placed([(1_u32, 'a'), (2, 'b')], 1).len(), 1);
    }

    proptest! {
        #[test]
        fn each_slot_is_a_place_of_its_element(
            elements in prop::collection::hash_map(any::<u32>(), any::<u16>(), 0..200),
            bits in 0_u32..9,
        ) {
            let placed = placed(elements.clone(), 1 << bits);
            let mut seen = HashMap::new();
            for (index, slot) in &placed {
                let found = elements.iter().find(|(key, _)| slot.get(key).is_some());
                let (key, value) = found.unwrap();
                prop_assert_eq!(slot.get(key), Some(value));
                prop_assert!(key.places((1 << bits) - 1).contains(index));
                prop_assert!(seen.insert(*key, *index).is_none(), "one slot each");
            }
        }
    }
}
