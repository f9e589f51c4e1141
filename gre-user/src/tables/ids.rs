//! Which id each tunnel has: its index in the counters, and so what must not change while it lives.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Result, ensure};

/// The ids of a configuration's tunnels, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    ids: Vec<u32>,
    added: Vec<u32>,
    former: BTreeMap<u32, String>,
    takes_over: bool,
}

impl Ids {
    /// The ids where no tunnels were removed before. See [`Ids::assign_after`].
    ///
    /// # Errors
    ///
    /// As that.
    pub fn assign<'a>(
        names: impl Iterator<Item = &'a str>,
        running: &BTreeMap<u32, String>,
        max_tunnels: u32,
    ) -> Result<Self> {
        Self::assign_after(names, running, &BTreeMap::new(), max_tunnels)
    }

    /// A running tunnel keeps its id, and a `former` one gets its own back, so that what it has counted goes on. Another one gets
    /// the lowest id that neither has. If there is none left, it takes over that of a former tunnel, which is then forgotten, and
    /// only if there is no such either, that of a tunnel that goes.
    ///
    /// # Errors
    ///
    /// If there are more names than `max_tunnels`; a valid configuration has not.
    pub fn assign_after<'a>(
        names: impl Iterator<Item = &'a str>,
        running: &BTreeMap<u32, String>,
        former: &BTreeMap<u32, String>,
        max_tunnels: u32,
    ) -> Result<Self> {
        let names: Vec<_> = names.collect();
        ensure!(
            names.len() <= max_tunnels as usize,
            "{} tunnels do not fit into {max_tunnels}",
            names.len()
        );
        let possible = 1..=max_tunnels;
        let by_name: HashMap<_, _> = former
            .iter()
            .chain(running)
            .filter(|(id, _)| possible.contains(id))
            .map(|(id, name)| (name.as_str(), *id))
            .collect();
        let kept: Vec<_> = names.iter().map(|name| by_name.get(name).copied()).collect();
        let in_use: HashSet<_> = kept.iter().flatten().copied().collect();

        let free = |id: &u32| possible.contains(id) && !in_use.contains(id);
        let unused = possible
            .clone()
            .filter(|id| !running.contains_key(id) && !former.contains_key(id));
        let forgotten = former.keys().copied().filter(free);
        let leaving = running.keys().copied().filter(free);
        let mut next = unused.chain(forgotten).chain(leaving);
        let mut added = Vec::new();
        let mut ids = Vec::with_capacity(names.len());
        for id in kept {
            ids.push(match id.or_else(|| next.next().inspect(|&id| added.push(id))) {
                Some(id) => id,
                None => anyhow::bail!("{} tunnels do not fit into {max_tunnels}", names.len()),
            });
        }
        let takes_over = added.iter().any(|id| running.contains_key(id));
        let taken: HashSet<_> = ids.iter().copied().collect();
        let former = former
            .iter()
            .chain(running)
            .filter(|(id, _)| possible.contains(id) && !taken.contains(id))
            .map(|(id, name)| (*id, name.clone()))
            .collect();
        Ok(Self {
            ids,
            added,
            former,
            takes_over,
        })
    }

    /// The ids in the configuration's order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.ids.iter().copied()
    }

    /// Tunnels that are gone, by the ids that still hold what they have counted.
    pub fn former(&self) -> &BTreeMap<u32, String> {
        &self.former
    }

    /// Those of tunnels that start at zero.
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
    fn a_tunnel_that_comes_back_gets_its_id_back() {
        let running: BTreeMap<_, _> = [(1, "a".to_owned()), (2, "b".to_owned())].into();
        let gone = Ids::assign(["a", "new"].into_iter(), &running, 8).unwrap();
        assert_eq!(
            (gone.iter().collect(), gone.former()),
            (vec![1, 3], &[(2, "b".to_owned())].into())
        );
        let running: BTreeMap<_, _> = [(1, "a".to_owned()), (3, "new".to_owned())].into();
        let back = Ids::assign_after(["b", "a"].into_iter(), &running, gone.former(), 8).unwrap();
        assert_eq!(
            (back.iter().collect(), back.added(), back.former()),
            (vec![2, 1], &[][..], &[(3, "new".to_owned())].into())
        );
    }

    #[test]
    fn the_gone_are_forgotten_before_the_leaving() {
        let (running, former): (BTreeMap<_, _>, BTreeMap<_, _>) = (
            [(1, "a".to_owned()), (2, "b".to_owned())].into(),
            [(3, "c".to_owned())].into(),
        );
        let ids = Ids::assign_after(["a", "new"].into_iter(), &running, &former, 3).unwrap();
        assert_eq!(
            (ids.iter().collect(), ids.takes_over(), ids.former()),
            (vec![1, 3], false, &[(2, "b".to_owned())].into())
        );
        let ids = Ids::assign_after(["a", "new", "newer"].into_iter(), &running, &former, 3).unwrap();
        assert_eq!(
            (ids.iter().collect(), ids.takes_over(), ids.former()),
            (vec![1, 3, 2], true, &BTreeMap::new())
        );
    }

    #[test]
    fn too_many_are_refused() {
        let error = Ids::assign(["a", "b"].into_iter(), &BTreeMap::new(), 1).unwrap_err();
        assert_eq!(error.to_string(), "2 tunnels do not fit into 1");
    }
}
