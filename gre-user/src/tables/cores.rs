//! The lists of cores that tunnels are spread over, one after the other, each list once.

use std::collections::HashMap;

use anyhow::{Context, Result};
use gre_common::tunnel::Cores;

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

#[cfg(test)]
mod tests {
    use super::*;

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
