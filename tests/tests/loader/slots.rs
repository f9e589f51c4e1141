//! What the program finds in slots is what the hash maps hold, whatever has changed.

use anyhow::{Result, ensure};
use aya::Pod;
use aya::maps::MapData;
use gre_common::endpoints::{Endpoints, Ipv4, Ipv6};
use gre_common::link::Mac;
use gre_common::maps::{
    INTERFACE_SLOTS, INTERFACES, TARGET_SLOTS, TARGETS, TUNNEL_SLOTS4, TUNNEL_SLOTS6, TUNNELS4, TUNNELS6,
};
use gre_common::slots::{Key, Slot};
use gre_common::target::Target;
use gre_common::tunnel::Tunnel;
use gre_user::bpf::batch;

use crate::site::{ROOT, Site};

impl Site {
    /// Checks that of the generation in force each slot that is taken repeats an element of its hash map, in one of its places. Gives
    /// how many slots of tunnels, targets and interfaces are taken, and how many elements there are.
    pub(crate) fn slots(&self) -> Result<[(usize, usize); 3]> {
        let v4 = self.slots_of::<Endpoints<Ipv4>, Tunnel>(TUNNEL_SLOTS4, TUNNELS4)?;
        let v6 = self.slots_of::<Endpoints<Ipv6>, Tunnel>(TUNNEL_SLOTS6, TUNNELS6)?;
        Ok([
            (v4.0 + v6.0, v4.1 + v6.1),
            self.slots_of::<u32, Target>(TARGET_SLOTS, TARGETS)?,
            self.slots_of::<u32, Mac>(INTERFACE_SLOTS, INTERFACES)?,
        ])
    }

    fn slots_of<K: Key + Pod, V: Pod + PartialEq>(&self, slots: &str, elements: &str) -> Result<(usize, usize)>
    where
        Slot<K, V>: Pod,
    {
        let all: Vec<(u32, Slot<K, V>)> = self.elements(slots)?;
        let elements: Vec<(K, V)> = self.elements(elements)?;
        let mask = all.len() as u32 - 1;
        let mut taken = 0;
        for (index, slot) in all.iter().filter(|(_, slot)| !slot.is_free()) {
            taken += 1;
            let repeated = elements.iter().find(|(key, _)| slot.get(key).is_some());
            let repeats =
                repeated.is_some_and(|(key, value)| slot.get(key) == Some(value) && key.places(mask).contains(index));
            ensure!(repeats, "{slots}: slot {index} repeats no element of its place");
        }
        ensure!(
            taken <= elements.len(),
            "{slots}: {taken} slots are taken, of {} elements",
            elements.len()
        );
        Ok((taken, elements.len()))
    }

    /// All of a map of the generation in force.
    fn elements<K: Pod, V: Pod>(&self, name: &str) -> Result<Vec<(K, V)>> {
        let path = format!("{ROOT}/current/{name}");
        Ok(batch::read_all(&self.origin.run(|| Ok(MapData::from_pin(&path)?))?)?)
    }
}
