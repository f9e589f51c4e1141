//! The local addresses that the program compares packets with, where they are few.

use aya::EbpfLoader;
use gre_common::endian::Be32;
use gre_common::endpoints::{Ipv4, Ipv6};
use gre_common::few::{MANY, MOST};
use gre_common::maps::{COUNT_IN_PLACE, COUNT_LOCALS4, COUNT_LOCALS6, FEW_LOCALS4, FEW_LOCALS6};

use super::{Address, Entries, Tables};

/// What of these tables is compared, and what follows from that: constants of a program that is to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Few {
    v4: List<Ipv4>,
    v6: List<Ipv6>,
    count_in_place: u8,
}

/// As many as there are, and what is left of [`MOST`] filled up; or nothing but that, because there are [`MANY`].
#[derive(Clone, Debug, PartialEq, Eq)]
struct List<A> {
    few: [A; MOST],
    count: u32,
}

impl Few {
    pub(crate) fn of(tables: &Tables) -> Self {
        let (v4, v6) = (List::of(&tables.v4), List::of(&tables.v6));
        let is_one_family = v4.count == 0 || v6.count == 0;
        Self {
            v4,
            v6,
            count_in_place: (is_one_family && !tables.have_prefixes()).into(),
        }
    }

    /// Has the constants set in an object that is to be loaded.
    pub(crate) fn prepare<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        loader
            .override_global(FEW_LOCALS4, &self.v4.few[..], true)
            .override_global(COUNT_LOCALS4, &self.v4.count, true)
            .override_global(FEW_LOCALS6, &self.v6.few[..], true)
            .override_global(COUNT_LOCALS6, &self.v6.count, true)
            .override_global(COUNT_IN_PLACE, &self.count_in_place, true);
    }
}

impl<const WORDS: usize> List<[Be32; WORDS]>
where
    [Be32; WORDS]: Address,
{
    fn of(entries: &Entries<[Be32; WORDS]>) -> Self {
        let mut few = [[Be32::default(); WORDS]; MOST];
        let locals = &entries.locals;
        let count = match few.get_mut(..locals.len()) {
            Some(room) => {
                for (to, local) in room.iter_mut().zip(locals.keys()) {
                    *to = *local;
                }
                locals.len() as u32
            }
            None => MANY,
        };
        Self { few, count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(count: u32) -> Entries<Ipv4> {
        Entries {
            locals: (1..=count).map(|local| ([Be32::new(local)], 1)).collect(),
            ..Entries::default()
        }
    }

    #[test]
    fn more_than_fit_are_many() {
        for count in 0..=4 {
            let mut list = List::of(&entries(count));
            list.few.sort_by_key(|local| local[0].get());
            let expected: Vec<_> = (1..=count).map(|local| [Be32::new(local)]).collect();
            assert_eq!(list.count, count);
            assert_eq!(list.few[MOST - count as usize..], expected);
        }
        assert_eq!(List::of(&entries(5)).count, MANY);
    }

    #[test]
    fn counting_is_in_place_where_little_is_to_be_verified() {
        let tables = |v4, v6| Tables {
            v4: entries(v4),
            v6: Entries {
                locals: (0..v6).map(|local| ([Be32::new(local); 4], 1)).collect(),
                ..Entries::default()
            },
            ..Tables::default()
        };
        assert_eq!(Few::of(&tables(9, 0)).count_in_place, 1);
        assert_eq!(Few::of(&tables(0, 1)).count_in_place, 1);
        assert_eq!(Few::of(&tables(1, 1)).count_in_place, 0);
    }
}
