//! Which id each tunnel has: its index in the counters, and so what must not change while it lives.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Result, ensure};

/// The ids of a configuration's tunnels, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    ids: Vec<u32>,
    added: Vec<u32>,
    takes_over: bool,
}

impl Ids {
    /// A running tunnel keeps its id; another one gets the lowest id that no running tunnel has. Only if there is none left
    /// does it take over the id of a tunnel that goes.
    ///
    /// # Errors
    ///
    /// If there are more names than `max_tunnels`; a valid configuration has not.
    pub fn assign<'a>(
        names: impl Iterator<Item = &'a str>,
        running: &BTreeMap<u32, String>,
        max_tunnels: u32,
    ) -> Result<Self> {
        let names: Vec<_> = names.collect();
        ensure!(
            names.len() <= max_tunnels as usize,
            "{} tunnels do not fit into {max_tunnels}",
            names.len()
        );
        let by_name: HashMap<_, _> = running
            .iter()
            .filter(|(id, _)| (1..=max_tunnels).contains(*id))
            .map(|(id, name)| (name.as_str(), *id))
            .collect();
        let kept: Vec<_> = names.iter().map(|name| by_name.get(name).copied()).collect();
        let in_use: HashSet<_> = kept.iter().flatten().copied().collect();

        let unused = (1..=max_tunnels).filter(|id| !running.contains_key(id));
        let leaving = running
            .keys()
            .copied()
            .filter(|id| (1..=max_tunnels).contains(id) && !in_use.contains(id));
        let mut free = unused.chain(leaving);
        let mut added = Vec::new();
        let mut ids = Vec::with_capacity(names.len());
        for id in kept {
            ids.push(match id.or_else(|| free.next().inspect(|&id| added.push(id))) {
                Some(id) => id,
                None => anyhow::bail!("{} tunnels do not fit into {max_tunnels}", names.len()),
            });
        }
        let takes_over = added.iter().any(|id| running.contains_key(id));
        Ok(Self { ids, added, takes_over })
    }

    /// The ids in the configuration's order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.ids.iter().copied()
    }

    /// Those of tunnels that were not running.
    pub fn added(&self) -> &[u32] {
        &self.added
    }

    /// Whether one of those still counts for a tunnel that goes.
    pub fn takes_over(&self) -> bool {
        self.takes_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assign(names: &[&str], running: &[(u32, &str)], max_tunnels: u32) -> Ids {
        let running = running.iter().map(|(id, name)| (*id, (*name).to_owned())).collect();
        Ids::assign(names.iter().copied(), &running, max_tunnels).unwrap()
    }

    #[test]
    fn a_first_load_counts_from_one() {
        let ids = assign(&["a", "b", "c"], &[], 3);
        assert_eq!(
            (ids.iter().collect(), ids.added(), ids.takes_over()),
            (vec![1, 2, 3], &[1, 2, 3][..], false)
        );
    }

    #[test]
    fn running_tunnels_keep_theirs_whatever_the_order() {
        let ids = assign(&["c", "new", "a"], &[(1, "a"), (2, "b"), (3, "c")], 8);
        assert_eq!(
            (ids.iter().collect(), ids.added(), ids.takes_over()),
            (vec![3, 4, 1], &[4][..], false)
        );
    }

    #[test]
    fn an_id_is_taken_over_only_when_none_is_left() {
        let ids = assign(&["a", "new"], &[(1, "a"), (2, "b")], 2);
        assert_eq!(
            (ids.iter().collect(), ids.added(), ids.takes_over()),
            (vec![1, 2], &[2][..], true)
        );
    }

    #[test]
    fn an_id_beyond_a_smaller_capacity_is_given_up() {
        let ids = assign(&["z", "a"], &[(1, "a"), (9, "z")], 2);
        assert_eq!(
            (ids.iter().collect(), ids.added(), ids.takes_over()),
            (vec![2, 1], &[2][..], false)
        );
    }

    #[test]
    fn too_many_are_refused() {
        let error = Ids::assign(["a", "b"].into_iter(), &BTreeMap::new(), 1).unwrap_err();
        assert_eq!(error.to_string(), "2 tunnels do not fit into 1");
    }
}
