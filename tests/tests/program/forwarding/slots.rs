//! What packets find in slots, and without.

use aya::Pod;
use gre_common::endian::Be32;
use gre_common::endpoints::Endpoints;
use gre_common::link::Mac;
use gre_common::maps::{INTERFACE_SLOTS, TARGET_SLOTS, TUNNEL_SLOTS4, TUNNEL_SLOTS6};
use gre_common::slots::{Key, Slot};
use gre_common::target::{Macs, Target};
use gre_common::tunnel::Tunnel;

use super::*;
use crate::kernel::among_many;

/// Another server than the one that the hash map knows of.
const OTHER: [u8; 6] = [0x02, 0, 0, 0, 0xaa, 0x09];

impl Router {
    /// Frees a key's slot, and gives what it held.
    fn free<K: Key + Pod, V: Copy>(&mut self, name: &str, key: K) -> Result<V>
    where
        Slot<K, V>: Pod,
    {
        let mut slots = self.kernel.slots::<K, V>(name)?;
        let all: Vec<_> = slots.iter().collect::<Result<_, _>>()?;
        let mut held = (0..)
            .zip(&all)
            .filter_map(|(place, slot)| Some((place, slot, *slot.get(&key)?)));
        let (place, slot, value) = held.next().with_context(|| format!("{name}: has a slot for a key"))?;
        ensure!(held.next().is_none(), "{name}: has two slots for a key");
        slots.set(place, slot.free(), 0)?;
        Ok(value)
    }

    /// Gives a key the slot at the first or second of its places.
    fn put<K: Key + Pod, V: Copy>(&mut self, name: &str, place: usize, key: K, value: V) -> Result<()>
    where
        Slot<K, V>: Pod,
    {
        let mut slots = self.kernel.slots::<K, V>(name)?;
        let places = key.places(slots.len() - 1);
        ensure!(places[0] != places[1], "{name}: a key has two places");
        slots.set(places[place], Slot::holding(key, value), 0)?;
        Ok(())
    }
}

/// The endpoints of the tunnel over a family.
fn ends<const WORDS: usize>(local: [u32; WORDS], remote: [u32; WORDS]) -> Endpoints<[Be32; WORDS]> {
    Endpoints::new(local.map(Be32::new), remote.map(Be32::new), None)
}

/// Whether a packet is of a usual form: no other is looked for in slots of tunnels.
fn is_usual(packet: &Packet) -> bool {
    match &packet.outer {
        Outer::V4(ip) => ip.options.is_empty(),
        Outer::V6(ip) => ip.extensions.is_empty() && packet.link.tags.is_empty(),
    }
}

/// A program that looked at no slots would not send elsewhere by another one; and one that looked at nothing else would not find what
/// has none.
#[test]
fn slots_are_looked_at_first_and_hash_maps_without() -> Result<()> {
    let config = among_many(INTERFACE);
    let mut router = router_or_return!(&config, &[To::Lan, To::Lan]);
    let inner = Inner::v4(&header(LAN, 64), &udp4());
    let packets = everywhere(inner.ethertype, &inner.arrives);
    let packets: Vec<_> = packets.into_iter().filter(|(_, packet)| is_usual(packet)).collect();
    let check = |router: &mut Router, server: [u8; 6], counted: [u32; 2]| -> Result<()> {
        let wanted = Wanted::sent(XDP_REDIRECT, server, router.lan.mac, inner.ethertype, &inner.arrives);
        for (tunnel, packet) in &packets {
            let packet = router.addressed(packet.clone());
            router.check(counted[*tunnel as usize - 1], &packet, &wanted)?;
        }
        Ok(())
    };
    check(&mut router, NEXT_HOP, [1, 2])?;

    let elsewhere = Target {
        interface: router.lan.index,
        macs: Macs::new(OTHER, router.lan.mac),
    };
    for place in [0, 1] {
        for tunnel in [1, 2] {
            router.free::<_, Target>(TARGET_SLOTS, tunnel)?;
        }
        check(&mut router, NEXT_HOP, [1, 2])?;
        for tunnel in [1, 2] {
            router.put(TARGET_SLOTS, place, tunnel, elsewhere)?;
        }
        check(&mut router, OTHER, [1, 2])?;
    }
    for tunnel in [1, 2] {
        router.free::<_, Target>(TARGET_SLOTS, tunnel)?;
    }

    let v4 = ends([0xc633_6414], [0xcb00_710a]);
    let v6 = ends([0x2001_0db8, 0x51_0000, 0, 0x20], [0x2001_0db8, 0x113_0000, 0, 0x10]);
    for place in [0, 1] {
        let over4: Tunnel = router.free(TUNNEL_SLOTS4, v4)?;
        let over6: Tunnel = router.free(TUNNEL_SLOTS6, v6)?;
        check(&mut router, NEXT_HOP, [1, 2])?;
        router.put(TUNNEL_SLOTS4, place, v4, Tunnel { id: 2, ..over4 })?;
        router.put(TUNNEL_SLOTS6, place, v6, Tunnel { id: 1, ..over6 })?;
        check(&mut router, NEXT_HOP, [2, 1])?;
    }

    let wan = router.wan.index;
    router.free::<_, Mac>(INTERFACE_SLOTS, wan)?;
    check(&mut router, NEXT_HOP, [2, 1])
}
