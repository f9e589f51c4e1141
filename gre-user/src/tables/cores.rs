//! The lists of cores that tunnels are spread over, one after the other, each list once.

use std::collections::HashMap;

use anyhow::{Context, Result};
use gre_common::tunnel::{Cores, Tunnel};

use super::{Address, Entries, Tables};
use crate::config::Spread;

/// The lists that are in use.
#[derive(Debug)]
pub(super) struct CoreLists<'a> {
    /// What "all" means.
    online: &'a [u32],
    /// The lists, one after the other.
    cores: Vec<u32>,
    /// Where each list is.
    places: HashMap<Vec<u32>, Cores>,
}

impl<'a> CoreLists<'a> {
    /// None yet, on a host with these cores online.
    pub(super) fn new(online: &'a [u32]) -> Self {
        Self {
            online,
            cores: Vec::new(),
            places: HashMap::new(),
        }
    }

    /// Where the list of a tunnel is.
    ///
    /// # Errors
    ///
    /// If all lists together are longer than 65,535 cores.
    pub(super) fn place(&mut self, spread: &Spread) -> Result<Cores> {
        let list = match spread {
            Spread::Off => return Ok(Cores::NONE),
            Spread::All => self.online,
            Spread::Cpus(cpus) => cpus,
        };
        if let Some(place) = self.places.get(list) {
            return Ok(*place);
        }
        let end = self.cores.len() + list.len();
        let (Ok(first), Ok(count), Ok(_)) = (
            u16::try_from(self.cores.len()),
            u16::try_from(list.len()),
            u16::try_from(end),
        ) else {
            return None
                .context("all different lists of `spread` together name more than 65535 cores; write fewer lists");
        };
        let place = Cores::new(first, count);
        self.cores.extend_from_slice(list);
        self.places.insert(list.to_vec(), place);
        Ok(place)
    }

    /// All of them.
    pub(super) fn into_cores(self) -> Vec<u32> {
        self.cores
    }
}

/// The cores of a place; none if it points to where there are none.
pub(super) fn at(cores: &[u32], place: Cores) -> Option<&[u32]> {
    let first = place.first() as usize;
    cores.get(first..first + place.count() as usize)
}

impl Tables {
    /// The same tables with every list of cores where `other` has it; none if `other` lacks one.
    pub fn with_cores_of(mut self, other: &Self) -> Option<Self> {
        self.v4.place_cores(&self.cores, &other.v4, &other.cores)?;
        self.v6.place_cores(&self.cores, &other.v6, &other.cores)?;
        self.cores.clone_from(&other.cores);
        Some(self)
    }
}

impl<A: Address> Entries<A> {
    fn place_cores(&mut self, cores: &[u32], other: &Self, places: &[u32]) -> Option<()> {
        for (endpoints, tunnel) in &mut self.exact {
            place_cores(tunnel, cores, other.exact.get(endpoints), places)?;
        }
        for (endpoints, tunnel) in &mut self.prefixes {
            place_cores(tunnel, cores, other.prefixes.get(endpoints), places)?;
        }
        Some(())
    }
}

fn place_cores(tunnel: &mut Tunnel, cores: &[u32], other: Option<&Tunnel>, places: &[u32]) -> Option<()> {
    if tunnel.cores == Cores::NONE {
        return Some(());
    }
    let list = at(cores, tunnel.cores)?;
    tunnel.cores = match other {
        // The same list may stand in two places.
        Some(other) if at(places, other.cores) == Some(list) => other.cores,
        _ => {
            let first = places.windows(list.len()).position(|window| window == list)?;
            Cores::new(u16::try_from(first).ok()?, u16::try_from(list.len()).ok()?)
        }
    };
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use crate::config::Config;
    use crate::tables::Ids;

    fn tables(spreads: &[&str]) -> Tables {
        let sections = (1..).zip(spreads).map(|(number, spread)| {
            format!(
                "[[tunnel]]\nname = '{number}'\nlocal = '198.51.100.{number}'\nremote = 'any'\nspread = '{spread}'\n"
            )
        });
        let config = Config::from_str(&sections.collect::<String>(), "test").unwrap();
        let names = config.tunnels.iter().map(|tunnel| tunnel.name.as_str());
        let ids = Ids::assign(names, &BTreeMap::new(), 1024).unwrap();
        Tables::of(&config, &ids, &[0, 1, 2, 3]).unwrap()
    }

    #[test]
    fn lists_in_another_order_are_the_same() {
        let running = tables(&["0-3", "2-3", "off"]);
        let mut file = tables(&["2-3", "0-3"]);
        // The same tunnels, in another order.
        let names = [(1, "2"), (2, "1"), (3, "3")].map(|(id, name)| (id, name.to_owned()));
        file.names = BTreeMap::from(names);
        let placed = tables(&["all", "2-3", "off"]).with_cores_of(&running);
        assert_eq!(placed, Some(running.clone()));
        let file = file.with_cores_of(&running).unwrap();
        assert_eq!(file.cores, running.cores);
        let lists: Vec<_> = file
            .tunnels()
            .unwrap()
            .into_iter()
            .map(|tunnel| tunnel.spread)
            .collect();
        assert_eq!(lists, [Spread::Cpus(vec![0, 1, 2, 3]), Spread::Cpus(vec![2, 3])]);
    }

    #[test]
    fn a_list_may_lie_within_another() {
        let running = tables(&["0-3"]);
        let placed = tables(&["1-2"]).with_cores_of(&running).unwrap();
        assert_eq!(placed.v4.prefixes.values().next().unwrap().cores, Cores::new(1, 2));
        assert_eq!(tables(&["0,2"]).with_cores_of(&running), None);
        assert_eq!(tables(&["0"]).with_cores_of(&tables(&["off"])), None);
    }

    #[test]
    fn each_list_stands_once() {
        let mut lists = CoreLists::new(&[0, 1, 4]);
        let all = lists.place(&Spread::All).unwrap();
        let some = lists.place(&Spread::Cpus(vec![1, 4])).unwrap();
        assert_eq!(lists.place(&Spread::Off).unwrap(), Cores::NONE);
        assert_eq!(lists.place(&Spread::Cpus(vec![0, 1, 4])).unwrap(), all);
        assert_eq!(lists.place(&Spread::Cpus(vec![1, 4])).unwrap(), some);
        let cores = lists.into_cores();
        assert_eq!(at(&cores, all), Some(&[0, 1, 4][..]));
        assert_eq!(at(&cores, some), Some(&[1, 4][..]));
        assert_eq!(at(&cores, Cores::new(3, 3)), None);
    }

    #[test]
    fn more_than_fit_are_refused() {
        let mut lists = CoreLists::new(&[]);
        let mut place = |first: u32| lists.place(&Spread::Cpus((first..first + 8000).collect()));
        for first in 0..8 {
            place(first).unwrap();
        }
        assert!(place(8).is_err());
    }
}
