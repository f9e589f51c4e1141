//! The local addresses and endpoints that the program compares packets with, where they are few.

use aya::{EbpfLoader, Pod};
use gre_common::endpoints::{Endpoints, Ipv4, Ipv6};
use gre_common::few::{MANY, MOST};
use gre_common::maps::{
    COUNT_ENDPOINTS4, COUNT_ENDPOINTS6, COUNT_IN_PLACE, COUNT_LOCALS4, COUNT_LOCALS6, FEW_ENDPOINTS4, FEW_ENDPOINTS6,
    FEW_LOCALS4, FEW_LOCALS6,
};
use gre_common::tunnel::Tunnel;

use super::{Address, Entries, Tables};

/// What of these tables is compared, and what follows from that: constants of a program that is to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Few {
    locals4: List<Ipv4>,
    locals6: List<Ipv6>,
    endpoints4: List<Endpoints<Ipv4>>,
    endpoints6: List<Endpoints<Ipv6>>,
    count_in_place: u8,
}

/// As many as there are, and what is left of [`MOST`] filled up; or nothing but that, because there are [`MANY`].
#[derive(Clone, Debug, PartialEq, Eq)]
struct List<T> {
    few: [T; MOST],
    count: u32,
}

impl Few {
    pub(crate) fn of(tables: &Tables) -> Self {
        let (v4, v6) = (&tables.v4, &tables.v6);
        let is_one_family = v4.locals.is_empty() || v6.locals.is_empty();
        Self {
            locals4: List::of(v4.few_locals(), Ipv4::default()),
            locals6: List::of(v6.few_locals(), Ipv6::default()),
            endpoints4: List::of(v4.few_endpoints(), Endpoints::NOWHERE),
            endpoints6: List::of(v6.few_endpoints(), Endpoints::NOWHERE),
            count_in_place: (is_one_family && !tables.have_prefixes()).into(),
        }
    }

    /// Has the constants set in an object that is to be loaded.
    pub(crate) fn prepare<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        self.locals4.prepare(loader, FEW_LOCALS4, COUNT_LOCALS4);
        self.locals6.prepare(loader, FEW_LOCALS6, COUNT_LOCALS6);
        self.endpoints4.prepare(loader, FEW_ENDPOINTS4, COUNT_ENDPOINTS4);
        self.endpoints6.prepare(loader, FEW_ENDPOINTS6, COUNT_ENDPOINTS6);
        loader.override_global(COUNT_IN_PLACE, &self.count_in_place, true);
    }
}

impl<A: Address> Entries<A> {
    /// The local addresses, where they are few.
    fn few_locals(&self) -> Option<Vec<A>> {
        (self.locals.len() <= MOST).then(|| self.locals.keys().copied().collect())
    }

    /// The endpoints of tunnels whose remote is a whole address, in the order of their places; where they are few.
    fn few_endpoints(&self) -> Option<Vec<Endpoints<A>>> {
        let few = self.compared()?;
        Some(few.into_iter().map(|(endpoints, _)| endpoints).collect())
    }

    /// Whether packets are compared with the tunnels whose remote is a whole address.
    pub(crate) fn are_compared(&self) -> bool {
        self.exact.len() <= MOST
    }

    /// The tunnels whose remote is a whole address, in the order of their places, if packets are compared with them. No packet is
    /// looked up in [`exact`](Self::exact) then.
    pub(crate) fn compared(&self) -> Option<Vec<(Endpoints<A>, Tunnel)>> {
        if !self.are_compared() {
            return None;
        }
        let mut few: Vec<_> = self
            .exact
            .iter()
            .map(|(endpoints, tunnel)| (*endpoints, *tunnel))
            .collect();
        // The same order each time, and the file's at first.
        few.sort_by_key(|(endpoints, tunnel)| (tunnel.id, endpoints.remote.to_ip()));
        Some(few)
    }
}

impl<T: Pod> List<T> {
    fn of(few: Option<Vec<T>>, filler: T) -> Self {
        let mut list = Self {
            few: [filler; MOST],
            count: MANY,
        };
        if let Some(few) = few {
            list.count = few.len() as u32;
            for (to, from) in list.few.iter_mut().zip(few) {
                *to = from;
            }
        }
        list
    }

    fn prepare<'a>(&'a self, loader: &mut EbpfLoader<'a>, few: &'static str, count: &'static str) {
        loader
            .override_global(few, &self.few[..], true)
            .override_global(count, &self.count, true);
    }
}

#[cfg(test)]
mod tests {
    use gre_common::endian::Be32;

    use super::*;
    use crate::tables::Tables;

    fn entries(count: u32) -> Entries<Ipv4> {
        Entries {
            locals: (1..=count).map(|local| ([Be32::new(local)], 1)).collect(),
            ..Entries::default()
        }
    }

    #[test]
    fn more_than_fit_are_many() {
        for count in 0..=4 {
            let mut list = List::of(entries(count).few_locals(), Ipv4::default());
            list.few.sort_by_key(|local| local[0].get());
            let expected: Vec<_> = (1..=count).map(|local| [Be32::new(local)]).collect();
            assert_eq!(list.count, count);
            assert_eq!(list.few[MOST - count as usize..], expected);
        }
        assert_eq!(List::of(entries(5).few_locals(), Ipv4::default()).count, MANY);
    }

    /// Each in the place that the program has its endpoints at, and always the same one.
    #[test]
    fn few_tunnels_have_their_places() {
        let tunnels = |count: u32| {
            let mut tables = Tables::default();
            for number in 0..count {
                let endpoints = Endpoints::new([Be32::new(1)], [Be32::new(9 - number)], None);
                tables.v4.exact.insert(endpoints, tunnel(number / 2 + 1));
            }
            tables
        };
        let four = tunnels(4);
        let compared = four.v4.compared().unwrap();
        let places: Vec<_> = compared
            .iter()
            .map(|(endpoints, tunnel)| (endpoints.remote[0].get(), tunnel.id))
            .collect();
        assert_eq!(places, [(8, 1), (9, 1), (6, 2), (7, 2)]);
        let few = Few::of(&four);
        assert!(
            few.endpoints4
                .few
                .iter()
                .eq(compared.iter().map(|(endpoints, _)| endpoints))
        );
        assert_eq!((few.endpoints4.count, few.endpoints6.count), (4, 0));
        assert_eq!(few, Few::of(&four.clone()));

        assert_eq!(tunnels(5).v4.compared(), None);
        assert_eq!(Few::of(&tunnels(5)).endpoints4.count, MANY);
    }

    fn tunnel(id: u32) -> Tunnel {
        use gre_common::tunnel::{ChecksumPolicy, Cores, InnerTypes, Policy};
        Tunnel {
            id,
            policy: Policy::new(ChecksumPolicy::Optional, false, InnerTypes::IPV4, true),
            cores: Cores::NONE,
        }
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
