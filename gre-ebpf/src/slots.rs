//! Looking up without a call: see `gre_common::slots`. What is not found is in a hash map, or nowhere.

use aya_ebpf::{Global, macros::map, maps::Array};
use gre_common::{
    endpoints::{Endpoints, Ipv4, Ipv6},
    link::Mac,
    maps::INTERFACE_SLOT_COUNT,
    slots::{Key, Slot},
    target::Target,
    tunnel::Tunnel,
};

#[map]
static TUNNEL_SLOTS4: Array<Slot<Endpoints<Ipv4>, Tunnel>> = Array::with_max_entries(1, 0);
#[map]
static TUNNEL_SLOTS6: Array<Slot<Endpoints<Ipv6>, Tunnel>> = Array::with_max_entries(1, 0);
#[map]
static TARGET_SLOTS: Array<Slot<u32, Target>> = Array::with_max_entries(1, 0);
#[map]
static INTERFACE_SLOTS: Array<Slot<u32, Mac>> = Array::with_max_entries(INTERFACE_SLOT_COUNT, 0);

#[unsafe(no_mangle)]
static TUNNEL_SLOTS4_MASK: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static TUNNEL_SLOTS6_MASK: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static TARGET_SLOTS_MASK: Global<u32> = Global::new(0);

/// Addresses of a family whose tunnels have slots.
pub(crate) trait Placed: Sized {
    /// The tunnel in the slot of these endpoints.
    fn placed(endpoints: &Endpoints<Self>) -> Option<Tunnel>;
}

impl Placed for Ipv4 {
    #[inline(always)]
    fn placed(endpoints: &Endpoints<Self>) -> Option<Tunnel> {
        find(&TUNNEL_SLOTS4, TUNNEL_SLOTS4_MASK.load(), endpoints)
    }
}

impl Placed for Ipv6 {
    #[inline(always)]
    fn placed(endpoints: &Endpoints<Self>) -> Option<Tunnel> {
        find(&TUNNEL_SLOTS6, TUNNEL_SLOTS6_MASK.load(), endpoints)
    }
}

/// Where a tunnel sends.
#[inline(always)]
pub(crate) fn target(tunnel: u32) -> Option<Target> {
    find(&TARGET_SLOTS, TARGET_SLOTS_MASK.load(), &tunnel)
}

/// The MAC address of an interface that the program is on.
#[inline(always)]
pub(crate) fn own_mac(interface: u32) -> Option<Mac> {
    find(&INTERFACE_SLOTS, INTERFACE_SLOT_COUNT - 1, &interface)
}

/// A mask of 0 says that there are no slots. The verifier knows it, and prunes the rest.
#[inline(always)]
fn find<K: Key, V: Copy>(slots: &'static Array<Slot<K, V>>, mask: u32, key: &K) -> Option<V> {
    if mask == 0 {
        return None;
    }
    let [first, second] = key.places(mask);
    let value = match slots.get(first).and_then(|slot| slot.get(key)) {
        Some(value) => value,
        None => slots.get(second).and_then(|slot| slot.get(key))?,
    };
    Some(*value)
}
