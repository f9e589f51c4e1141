//! Tables changed in the maps of a program that runs.
//!
//! Only where one element of the maps that packets are looked up in tells the new tables from the old: then each packet meets
//! the old ones or the new ones, and a process that is killed leaves the ones or the others. What else there is to write is
//! for userspace, or looked at only once that element is there. Any other change takes a generation of its own: so do all changes
//! of tunnels that are [few](gre_common::few), which are part of the program, and those that make them few, or too many for that.

mod elements;

use std::collections::HashSet;

use anyhow::{Context, Result, anyhow};
use aya::Pod;
use aya::maps::lpm_trie::Key;
use aya::maps::{LpmTrie, MapData};
use gre_common::endpoints::{Endpoints, EndpointsPrefix, Ipv4, Ipv6};
use gre_common::maps::{FORMER, NAMES, NEXT_HOPS, TunnelName};
use gre_common::slots::{Key as SlotKey, Slot};
use gre_common::target::NextHop;
use gre_common::tunnel::Tunnel;

use self::elements::{Elements, Pinned, cannot_write, gone, missing, removed};
use super::kernel::{Names, V4, V6, padded};
use super::{Address, Entries, Onward, Tables, open};
use crate::slots::{self, Unplaced};
use crate::state::Generation;

/// What must be written to get from some tables to others.
#[derive(Debug)]
struct Change {
    names: Elements<u32, String>,
    former: Elements<u32, String>,
    onward: Elements<u32, Onward>,
    v4: EntriesChange<Ipv4>,
    v6: EntriesChange<Ipv6>,
    /// The tunnels that packets find before the change.
    running: HashSet<u32>,
    /// Whether what else is looked at is the same: prefixes that are protected, allowed and bypassed, and rates of keepalives.
    same_rest: bool,
}

#[derive(Debug)]
struct EntriesChange<A: Address> {
    exact: Elements<Endpoints<A>, Tunnel>,
    prefixes: Elements<EndpointsPrefix<A>, Tunnel>,
    locals: Elements<A, u32>,
    /// Whether packets to some address become a tunnel's, or no tunnel's.
    changes_locals: bool,
    /// Whether there is a change of tunnels that packets are compared with, before it or after.
    changes_compared: bool,
}

impl Tables {
    /// Whether these tables can be changed to `new` in place.
    pub fn can_become(&self, new: &Self) -> bool {
        Change::between(self, new).is_single()
    }

    /// Changes the maps of a generation that hold these tables to `new`.
    ///
    /// # Errors
    ///
    /// If a map cannot be opened or written. Then all is as it was, or the line says what is not.
    pub fn change_to(&self, new: &Self, generation: &Generation) -> Result<Unplaced> {
        let error = match Change::between(self, new).carry_out(generation) {
            Err(error) => error,
            changed => return changed,
        };
        match Change::between(new, self)
            .carry_out(generation)
            .and_then(Unplaced::place)
        {
            Ok(()) => Err(error),
            Err(failed) => Err(anyhow!("{error:#}; and this could not be undone: {failed:#}")),
        }
    }
}

impl Change {
    fn between(old: &Tables, new: &Tables) -> Self {
        // Whole, so that no new field is forgotten.
        let Tables {
            names: _,
            former: _,
            v4: _,
            v6: _,
            onward: _,
            // They stand as in the old ones: `Tables::with_cores_of`.
            cores: _,
            protected,
            allowed,
            bypass,
            keepalives,
        } = old;
        let same_rest = *protected == new.protected
            && *allowed == new.allowed
            && *bypass == new.bypass
            && *keepalives == new.keepalives;
        let names = Elements {
            put: missing(&new.names, |id| old.names.get(id)),
            gone: gone(old.names.keys(), |id| new.names.contains_key(id)),
        };
        let former = Elements {
            put: missing(&new.former, |id| old.former.get(id)),
            gone: gone(old.former.keys(), |id| new.former.contains_key(id)),
        };
        let onward = Elements {
            put: missing(&new.onward, |id| old.onward.get(id)),
            gone: gone(old.onward.keys(), |id| new.onward.contains_key(id)),
        };
        Self {
            names,
            former,
            onward,
            v4: EntriesChange::between(&old.v4, &new.v4),
            v6: EntriesChange::between(&old.v6, &new.v6),
            running: old.values().map(|tunnel| tunnel.id).collect(),
            same_rest,
        }
    }

    /// Whether one element decides between the old and the new.
    fn is_single(&self) -> bool {
        let renamed = self.names.put.iter().any(|(id, _)| self.running.contains(id));
        let sent_elsewhere = self.onward.put.iter().any(|(id, _)| self.running.contains(id));
        let locals = self.v4.changes_locals || self.v6.changes_locals;
        let compared = self.v4.changes_compared || self.v6.changes_compared;
        let in_program = locals || compared;
        self.v4.looked_up() + self.v6.looked_up() <= 1 && !renamed && !sent_elsewhere && !in_program && self.same_rest
    }

    fn carry_out(self, generation: &Generation) -> Result<Unplaced> {
        let Self {
            names,
            former,
            onward,
            v4,
            v6,
            running,
            same_rest: _,
        } = self;
        let mut names_map = Pinned::<u32, TunnelName>::open(generation, NAMES)?;
        let former_map = Pinned::<u32, TunnelName>::open(generation, FORMER)?;
        let mut onward_map = Pinned::<u32, NextHop>::open(generation, NEXT_HOPS)?;
        // What a killed process has left must not take the room.
        let stale = names.gone.iter().filter(|id| !running.contains(id));
        stale.copied().try_for_each(|id| names_map.remove(id))?;
        let stale = onward.gone.iter().filter(|id| !running.contains(id));
        stale.copied().try_for_each(|id| onward_map.remove(id))?;

        for (id, name) in &names.put {
            names_map.put(*id, padded(name))?;
        }
        for (id, next_hop) in &onward.put {
            onward_map.put(*id, next_hop.to_record())?;
        }
        let unplaced = v4.carry_out(generation, &V4)?.and(v6.carry_out(generation, &V6)?);
        // Nobody looks at these but whoever changes tunnels next.
        former_map.carry_out(&Elements {
            put: former.put.into_iter().map(|(id, name)| (id, padded(&name))).collect(),
            gone: former.gone,
        })?;
        names.gone.into_iter().try_for_each(|id| names_map.remove(id))?;
        onward.gone.into_iter().try_for_each(|id| onward_map.remove(id))?;
        Ok(unplaced)
    }
}

impl<A: Address> EntriesChange<A>
where
    Endpoints<A>: Pod + SlotKey,
    Slot<Endpoints<A>, Tunnel>: Pod,
{
    fn between(old: &Entries<A>, new: &Entries<A>) -> Self {
        let locals = Elements::between(&old.locals, &new.locals);
        let exact = Elements::between(&old.exact, &new.exact);
        Self {
            changes_compared: exact.len() > 0 && (old.are_compared() || new.are_compared()),
            exact,
            prefixes: Elements::between(&old.prefixes, &new.prefixes),
            changes_locals: !locals.gone.is_empty()
                || locals.put.iter().any(|(local, _)| !old.locals.contains_key(local)),
            locals,
        }
    }

    /// Elements of the maps that packets are looked up in.
    fn looked_up(&self) -> usize {
        self.exact.len() + self.prefixes.len()
    }

    fn carry_out(self, generation: &Generation, names: &Names) -> Result<Unplaced> {
        let Elements { put, gone } = &self.exact;
        let unplaced = slots::change(generation, names.slots, put, gone, || {
            Pinned::open(generation, names.tunnels)?.carry_out(&self.exact)
        })?;
        let path = generation.map(names.prefixes);
        let mut prefixes: LpmTrie<MapData, Endpoints<A>, Tunnel> = open(&path)?;
        let key = |prefix: &EndpointsPrefix<A>| Key::new(prefix.prefix_len, prefix.endpoints);
        for (prefix, tunnel) in &self.prefixes.put {
            let put = prefixes.insert(&key(prefix), tunnel, 0);
            put.with_context(|| cannot_write(&path))?;
        }
        for prefix in &self.prefixes.gone {
            removed(prefixes.remove(&key(prefix))).with_context(|| cannot_write(&path))?;
        }
        Pinned::open(generation, names.locals)?.carry_out(&self.locals)?;
        Ok(unplaced)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use gre_common::few::MOST;

    use super::*;
    use crate::config::Config;
    use crate::tables::Ids;

    /// These tunnels beside so many that none is compared.
    fn tables(tunnels: &[&str]) -> Tables {
        among(MOST + 1, tunnels)
    }

    /// These tunnels beside so many others.
    fn among(others: usize, tunnels: &[&str]) -> Tables {
        let others = (0..others).map(|number| {
            format!(
                "name = 'other{number}'\nlocal = '198.51.100.20'\nremote = '203.0.113.{}'",
                100 + number
            )
        });
        let sections = others.chain(tunnels.iter().map(|lines| (*lines).to_owned()));
        let sections = sections.map(|lines| format!("[[tunnel]]\n{lines}\n"));
        let config = Config::from_str(&sections.collect::<String>(), "test").unwrap();
        let names = config.tunnels.iter().map(|tunnel| tunnel.name.as_str());
        let ids = Ids::assign(names, &BTreeMap::new(), 1024).unwrap();
        Tables::of(&config, &ids, &[0, 1]).unwrap()
    }

    const A: &str = "name = 'a'\nlocal = '198.51.100.20'\nremote = '203.0.113.10'";
    const B: &str = "name = 'b'\nlocal = '198.51.100.20'\nremote = '203.0.113.0/24'";

    #[test]
    fn one_element_is_changed_in_place() {
        let both = tables(&[A, B]);
        assert!(tables(&[A]).can_become(&both));
        assert!(both.can_become(&tables(&[A])));
        assert!(both.can_become(&both));
        assert!(both.can_become(&tables(&[A, &format!("{B}\nenabled = false")])));
        assert!(both.can_become(&tables(&[&format!("{A}\nchecksum = 'ignore'"), B])));
    }

    #[test]
    fn more_than_one_takes_a_generation() {
        let both = tables(&[A, B]);
        let many = B.replace("'203.0.113.0/24'", "['203.0.113.11', '203.0.113.12']");
        assert!(!tables(&[A]).can_become(&tables(&[A, &many])));
        assert!(!both.can_become(&tables(&[A, &format!("{B}\nkey = 7")])));
        assert!(!both.can_become(&tables(&[
            &format!("{A}\nenabled = false"),
            &format!("{B}\nenabled = false")
        ])));
        assert!(!both.can_become(&tables(&[])));
    }

    /// Packets to a new local address are looked up only once it is known: that is another element.
    #[test]
    fn a_local_address_that_comes_or_goes_takes_a_generation() {
        let elsewhere = B.replace("100.20", "100.21");
        let both = tables(&[A, &elsewhere]);
        assert!(!tables(&[A]).can_become(&both));
        assert!(!both.can_become(&tables(&[A])));
        assert!(both.can_become(&tables(&[A, &format!("{elsewhere}\nenabled = false")])));
    }

    #[test]
    fn what_a_running_tunnel_is_called_or_where_it_sends_takes_a_generation() {
        let to = |interface| format!("{B}\ndeliver = {{ interface = '{interface}' }}");
        let both = tables(&[A, &to("eth1")]);
        assert!(!both.can_become(&tables(&[A, &to("eth2")])));
        assert!(!both.can_become(&tables(&[A, &to("eth1").replace("'b'", "'c'")])));
        assert!(tables(&[A]).can_become(&both));
        assert!(both.can_become(&tables(&[A])));
    }

    #[test]
    fn prefixes_and_rates_take_a_generation() {
        let bypassing = format!("{B}\nbypass = ['10.0.0.0/30']");
        assert!(!tables(&[A]).can_become(&tables(&[A, &bypassing])));
        assert!(!tables(&[A, &bypassing]).can_become(&tables(&[A])));
        let answering = format!("{B}\nkeepalive = 'reply'");
        assert!(!tables(&[A]).can_become(&tables(&[A, &answering])));
        assert!(tables(&[A, &bypassing]).can_become(&tables(&[&format!("{A}\nenabled = false"), &bypassing])));
    }

    #[test]
    fn what_is_protected_from_whom_takes_a_generation() {
        let protecting = |lines: &str| tables(&[&format!("{A}\n[protect]\nprefixes = ['192.0.2.0/24']\n{lines}")]);
        let (none, one) = (
            protecting("lockdown = 'enforce'"),
            protecting("lockdown = 'enforce'\nallow = ['198.18.5.0/24']"),
        );
        assert!(!none.can_become(&one));
        assert!(!one.can_become(&none));
        assert!(one.can_become(&one));
        let other = tables(&[&format!(
            "{A}\n[protect]\nprefixes = ['192.0.2.0/25']\nlockdown = 'enforce'"
        )]);
        assert!(!none.can_become(&other));
        // What addresses are compared with is part of the program, and so is that they are looked up.
        let listing = |count: usize| {
            let prefixes: Vec<_> = (0..count)
                .map(|number| format!("'192.0.{}.0/24'", 2 * number))
                .collect();
            let list = prefixes.join(", ");
            tables(&[&format!("{A}\n[protect]\nprefixes = [{list}]\nlockdown = 'enforce'")])
        };
        let (few, many) = (listing(MOST), listing(MOST + 1));
        assert!(!few.can_become(&many) && !many.can_become(&few));
        assert!(!many.can_become(&listing(MOST + 2)));
    }

    /// What packets are compared with is part of the program.
    #[test]
    fn any_change_of_few_tunnels_takes_a_generation() {
        let disabled = format!("{A}\nenabled = false");
        for others in 0..MOST {
            let (with, without) = (among(others, &[A]), among(others, &[]));
            assert!(
                !with.can_become(&without) && !without.can_become(&with),
                "{others} others"
            );
            assert!(!with.can_become(&among(others, &[&disabled])), "{others} others");
            assert!(with.can_become(&with));
        }
        // From few to many, and back.
        let (few, many) = (among(MOST, &[]), among(MOST, &[A]));
        assert!(!few.can_become(&many) && !many.can_become(&few));
        assert!(many.can_become(&among(MOST, &[&disabled])));
    }

    /// Prefixes are looked up, however few tunnels there are, and the other family's tunnels are nobody's concern.
    #[test]
    fn what_is_not_compared_is_changed_in_place() {
        let (with, without) = (among(1, &[B]), among(1, &[]));
        assert!(with.can_become(&without) && without.can_become(&with));
        let v6 = "name = 'c'\nlocal = '2001:db8::1'\nremote = '2001:db8::2'";
        let (with, without) = (tables(&[v6, A]), tables(&[v6]));
        assert!(with.can_become(&without) && without.can_become(&with));
        assert!(!with.can_become(&tables(&[&format!("{v6}\nenabled = false"), A])));
    }

    #[test]
    fn names_that_a_killed_process_has_left_are_cleared() {
        let mut left = tables(&[A]);
        left.names.insert(9, "left".to_owned());
        let change = Change::between(&left, &tables(&[A]));
        assert!(change.is_single());
        assert_eq!((change.names.gone, change.names.put.len()), (vec![9], 0));
    }
}
