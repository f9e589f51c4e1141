//! The local addresses, endpoints and prefixes that the program compares packets with, where they are few.

use aya::{EbpfLoader, Pod};
use gre_common::endpoints::{Endpoints, Ipv4, Ipv6};
use gre_common::few::{MANY, MOST, Masked};
use gre_common::maps::{
    COUNT_ENDPOINTS4, COUNT_ENDPOINTS6, COUNT_IN_PLACE, COUNT_LOCALS4, COUNT_LOCALS6, COUNT_PROTECTED4,
    COUNT_PROTECTED6, FEW_ENDPOINTS4, FEW_ENDPOINTS6, FEW_LOCALS4, FEW_LOCALS6, FEW_PROTECTED4, FEW_PROTECTED6,
};
use gre_common::tunnel::Tunnel;
use ipnet::IpNet;

use super::{Address, Entries, Tables, v4, v6};

/// What of these tables is compared, and what follows from that: constants of a program that is to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Few {
    locals4: List<Ipv4>,
    locals6: List<Ipv6>,
    endpoints4: List<Endpoints<Ipv4>>,
    endpoints6: List<Endpoints<Ipv6>>,
    protected4: List<Masked<Ipv4>>,
    protected6: List<Masked<Ipv6>>,
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
        // Those that make up another one are that.
        let protected = IpNet::aggregate(&tables.protected.iter().copied().collect());
        Self {
            locals4: List::of(v4.few_locals(), Ipv4::default()),
            locals6: List::of(v6.few_locals(), Ipv6::default()),
            endpoints4: List::of(v4.few_endpoints(), Endpoints::NOWHERE),
            endpoints6: List::of(v6.few_endpoints(), Endpoints::NOWHERE),
            protected4: List::of(few_masked(protected.iter().filter_map(masked4)), Masked::ALL),
            protected6: List::of(few_masked(protected.iter().filter_map(masked6)), Masked::ALL),
            count_in_place: (is_one_family && !tables.have_prefixes()).into(),
        }
    }

    /// Has the constants set in an object that is to be loaded.
    pub(crate) fn prepare<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        self.locals4.prepare(loader, FEW_LOCALS4, COUNT_LOCALS4);
        self.locals6.prepare(loader, FEW_LOCALS6, COUNT_LOCALS6);
        self.endpoints4.prepare(loader, FEW_ENDPOINTS4, COUNT_ENDPOINTS4);
        self.endpoints6.prepare(loader, FEW_ENDPOINTS6, COUNT_ENDPOINTS6);
        self.protected4.prepare(loader, FEW_PROTECTED4, COUNT_PROTECTED4);
        self.protected6.prepare(loader, FEW_PROTECTED6, COUNT_PROTECTED6);
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

/// Prefixes, where they are few.
fn few_masked<A>(prefixes: impl Iterator<Item = Masked<A>>) -> Option<Vec<Masked<A>>> {
    let few: Vec<_> = prefixes.take(MOST + 1).collect();
    (few.len() <= MOST).then_some(few)
}

fn masked4(net: &IpNet) -> Option<Masked<Ipv4>> {
    match net {
        IpNet::V4(net) => Some(Masked {
            mask: v4(net.netmask()),
            bits: v4(net.network()),
        }),
        IpNet::V6(_) => None,
    }
}

fn masked6(net: &IpNet) -> Option<Masked<Ipv6>> {
    match net {
        IpNet::V4(_) => None,
        IpNet::V6(net) => Some(Masked {
            mask: v6(net.netmask()),
            bits: v6(net.network()),
        }),
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
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use gre_common::endian::Be32;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

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

    fn protecting(prefixes: &[IpNet]) -> Few {
        Few::of(&Tables {
            protected: prefixes.iter().copied().collect(),
            ..Tables::default()
        })
    }

    /// Whether the program finds an address among those that it compares with; `None` if it looks it up.
    fn finds<const WORDS: usize>(list: &List<Masked<[Be32; WORDS]>>, address: [Be32; WORDS]) -> Option<bool> {
        let count = list.count as usize;
        (list.count != MANY).then(|| list.few[..count].iter().any(|prefix| prefix.has(&address)))
    }

    fn is_compared(few: &Few, address: IpAddr) -> Option<bool> {
        match address {
            IpAddr::V4(address) => finds(&few.protected4, v4(address)),
            IpAddr::V6(address) => finds(&few.protected6, v6(address)),
        }
    }

    #[test]
    fn more_prefixes_than_fit_are_looked_up() {
        let prefixes = |texts: &[&str]| -> Vec<IpNet> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        let counts = |texts: &[&str]| {
            let few = protecting(&prefixes(texts));
            (few.protected4.count, few.protected6.count)
        };
        let four = ["192.0.2.1/32", "10.0.0.0/24", "12.0.0.0/9", "16.0.0.0/9"];
        assert_eq!(counts(&[]), (0, 0));
        assert_eq!(counts(&four[..1]), (1, 0));
        assert_eq!(counts(&four), (4, 0));
        assert_eq!(counts(&["::/0", "0.0.0.0/0"]), (1, 1));
        let many = [
            "10.0.0.0/24",
            "10.2.0.0/24",
            "10.4.0.0/24",
            "10.6.0.0/24",
            "10.8.0.0/24",
            "2001:db8::/32",
        ];
        assert_eq!(counts(&many), (MANY, 1));
        // Those that lie in another one, or make one up together.
        assert_eq!(counts(&[&many[..], &["10.0.0.0/8"]].concat()), (1, 1));
        let halves = [
            "10.0.0.0/25",
            "10.0.0.128/25",
            "10.2.0.0/24",
            "10.4.0.0/24",
            "10.6.0.0/24",
        ];
        assert_eq!(counts(&halves), (4, 0));
        assert_eq!(
            is_compared(&protecting(&prefixes(&halves)), "10.0.0.200".parse().unwrap()),
            Some(true)
        );
        assert_eq!(
            is_compared(&protecting(&prefixes(&halves)), "10.0.1.0".parse().unwrap()),
            Some(false)
        );
    }

    /// Addresses that share their first bits with many others.
    fn addresses() -> impl Strategy<Value = IpAddr> {
        let near = |bits: u32, left: u32| {
            any::<u128>().prop_map(move |random| random & 3 << (bits - 2) | random & ((1 << left) - 1))
        };
        prop_oneof![
            (near(32, 4), 0..28_u32)
                .prop_map(|(bits, shift)| IpAddr::from(Ipv4Addr::from_bits((bits as u32).rotate_left(shift)))),
            (near(128, 4), 0..124_u32)
                .prop_map(|(bits, shift)| IpAddr::from(Ipv6Addr::from_bits(bits.rotate_left(shift)))),
        ]
    }

    fn nets() -> impl Strategy<Value = IpNet> {
        (addresses(), any::<Index>()).prop_map(|(address, bits)| {
            let longest = IpNet::from(address).max_prefix_len();
            let bits = bits.index(usize::from(longest) + 1);
            IpNet::new(address, bits as u8)
                .expect("no longer than the longest")
                .trunc()
        })
    }

    proptest! {
        /// Exactly what any of the prefixes has is protected, and the few are always few.
        #[test]
        fn comparing_finds_what_looking_up_does(
            prefixes in vec(nets(), 0..7),
            addresses in vec(addresses(), 1..20),
        ) {
            let few = protecting(&prefixes);
            // The ends of the prefixes, and what is beside them, too.
            let ends = prefixes.iter().flat_map(|net| [net.network(), net.broadcast()]);
            let beside = ends.clone().flat_map(|address| match address {
                IpAddr::V4(address) => [1, u32::MAX].map(|by| IpAddr::from(Ipv4Addr::from_bits(address.to_bits().wrapping_add(by)))),
                IpAddr::V6(address) => [1, u128::MAX].map(|by| IpAddr::from(Ipv6Addr::from_bits(address.to_bits().wrapping_add(by)))),
            });
            for address in addresses.into_iter().chain(ends).chain(beside) {
                let of_its_family = prefixes.iter().filter(|net| net.addr().is_ipv4() == address.is_ipv4()).count();
                let compared = is_compared(&few, address);
                prop_assert!(compared.is_some() || of_its_family > MOST);
                if let Some(compared) = compared {
                    prop_assert_eq!(compared, prefixes.iter().any(|net| net.contains(&address)), "{}", address);
                }
            }
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
