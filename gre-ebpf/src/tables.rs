//! The maps, and the look-ups in them. Names, layouts and writers are documented in `gre_common::maps`.

use aya_ebpf::{
    Global,
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{Array, CpuMap, DevMapHash, HashMap, LpmTrie, PerCpuArray, ProgramArray, lpm_trie::Key},
    programs::XdpContext,
};
use gre_common::{
    Packet, Tables,
    counters::Counters,
    endpoints::{Endpoints, EndpointsPrefix, Ipv4, Ipv6},
    forward::Lookup,
    keepalive::Quota,
    link::Mac,
    maps::{MAX_PREFIXES, TunnelName},
    protect::{Guard, Inner, Prefix, Ruling, TunnelAddress},
    sequence::{Order, SequenceState},
    siphash,
    target::{NextHop, Target},
    tunnel::Tunnel,
};

use crate::{
    few::Few,
    frame, keepalive, protect, sequence,
    slots::{self, Placed},
    switch::Switch,
};

/// Interfaces that can be redirected to, at most: routers of containers have thousands.
const MOST_DEVICES: u32 = 16_384;
// Maps of which most entries are not used, or that packets have nothing to do with, take memory only for what they hold.

/// Entries where the loader sets no other number.
const DEFAULT_ENTRIES: u32 = 1024;

#[map]
static TUNNELS4: HashMap<Endpoints<Ipv4>, Tunnel> = HashMap::with_max_entries(DEFAULT_ENTRIES, 0);
#[map]
static TUNNELS6: HashMap<Endpoints<Ipv6>, Tunnel> = HashMap::with_max_entries(DEFAULT_ENTRIES, 0);
#[map]
static PREFIXES4: LpmTrie<Endpoints<Ipv4>, Tunnel> = LpmTrie::with_max_entries(DEFAULT_ENTRIES, 0);
#[map]
static PREFIXES6: LpmTrie<Endpoints<Ipv6>, Tunnel> = LpmTrie::with_max_entries(DEFAULT_ENTRIES, 0);
#[map]
static LOCALS4: HashMap<Ipv4, u32> = HashMap::with_max_entries(DEFAULT_ENTRIES, BPF_F_NO_PREALLOC);
#[map]
static LOCALS6: HashMap<Ipv6, u32> = HashMap::with_max_entries(DEFAULT_ENTRIES, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static SEQUENCES: Array<SequenceState> = Array::with_max_entries(DEFAULT_ENTRIES, 0);
#[map]
pub(crate) static ARRIVALS: Array<u64> = Array::with_max_entries(DEFAULT_ENTRIES, 0);
#[map]
pub(crate) static KEEPALIVES: Array<Quota> = Array::with_max_entries(DEFAULT_ENTRIES, 0);
#[map]
pub(crate) static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(DEFAULT_ENTRIES, 0);
#[map]
static CARRIED: HashMap<u32, Counters> = HashMap::with_max_entries(DEFAULT_ENTRIES, BPF_F_NO_PREALLOC);
#[map]
static NAMES: HashMap<u32, TunnelName> = HashMap::with_max_entries(DEFAULT_ENTRIES, BPF_F_NO_PREALLOC);
#[map]
static FORMER: HashMap<u32, TunnelName> = HashMap::with_max_entries(DEFAULT_ENTRIES, BPF_F_NO_PREALLOC);

#[map]
static TARGETS: HashMap<u32, Target> = HashMap::with_max_entries(DEFAULT_ENTRIES, 0);
#[map]
static NEXT_HOPS: HashMap<u32, NextHop> = HashMap::with_max_entries(DEFAULT_ENTRIES, 0);
#[map]
pub(crate) static DEVICES: DevMapHash = DevMapHash::with_max_entries(MOST_DEVICES, 0);
#[map]
pub(crate) static INTERFACES: HashMap<u32, Mac> = HashMap::with_max_entries(DEFAULT_ENTRIES, 0);
#[map]
pub(crate) static CORES: Array<u32> = Array::with_max_entries(DEFAULT_ENTRIES, 0);
#[map]
pub(crate) static CPUS: CpuMap = CpuMap::with_max_entries(DEFAULT_ENTRIES, 0);
/// The question to the routing tables and its answer. Not on the stack, where the compiler joins its small fields into accesses
/// that the verifier refuses.
#[map]
pub(crate) static LOOKUP: PerCpuArray<Lookup> = PerCpuArray::with_max_entries(1, 0);
/// The program that goes on with packets on this core.
#[map]
pub(crate) static FORWARD: ProgramArray = ProgramArray::with_max_entries(1, 0);

#[map]
static PROTECTED4: LpmTrie<Ipv4, u32> = LpmTrie::with_max_entries(MAX_PREFIXES, 0);
#[map]
static PROTECTED6: LpmTrie<Ipv6, u32> = LpmTrie::with_max_entries(MAX_PREFIXES, 0);
#[map]
static ALLOWED4: LpmTrie<Ipv4, u32> = LpmTrie::with_max_entries(MAX_PREFIXES, 0);
#[map]
static ALLOWED6: LpmTrie<Ipv6, u32> = LpmTrie::with_max_entries(MAX_PREFIXES, 0);
#[map]
static BYPASS4: LpmTrie<TunnelAddress<Ipv4>, u32> = LpmTrie::with_max_entries(MAX_PREFIXES, 0);
#[map]
static BYPASS6: LpmTrie<TunnelAddress<Ipv6>, u32> = LpmTrie::with_max_entries(MAX_PREFIXES, 0);

#[unsafe(no_mangle)]
static UNKNOWN_DROP: Switch = Switch::new(0);
#[unsafe(no_mangle)]
static HAVE_PREFIXES: Switch = Switch::new(1);

#[unsafe(no_mangle)]
pub(crate) static HAVE_ROUTE: Switch = Switch::new(1);
#[unsafe(no_mangle)]
pub(crate) static HAVE_INTERFACE: Switch = Switch::new(1);
#[unsafe(no_mangle)]
pub(crate) static FRAGS_BY_KERNEL: Switch = Switch::new(0);
#[unsafe(no_mangle)]
pub(crate) static HAVE_SPREAD: Switch = Switch::new(1);
#[unsafe(no_mangle)]
pub(crate) static HAVE_MSS: Switch = Switch::new(1);
#[unsafe(no_mangle)]
static INNER_DESTINATIONS: Switch = Switch::new(0);
#[unsafe(no_mangle)]
static LOCKDOWN: Switch = Switch::new(0);
#[unsafe(no_mangle)]
static HAVE_BYPASS: Switch = Switch::new(1);
#[unsafe(no_mangle)]
static HAVE_PROBES: Switch = Switch::new(1);
#[unsafe(no_mangle)]
pub(crate) static FLOW_KEY: Global<siphash::Key> = Global::new([0; 2]);

#[unsafe(no_mangle)]
static HAVE_KEEPALIVE: Switch = Switch::new(1);

/// The kernel's maps as the decision's tables, for the packet of a context.
pub(crate) struct Maps<'a>(pub(crate) &'a XdpContext);

impl Tables for Maps<'_> {
    #[inline(always)]
    fn tunnel4(&self, endpoints: &Endpoints<Ipv4>) -> Option<Tunnel> {
        most_specific(&TUNNELS4, &PREFIXES4, endpoints)
    }

    #[inline(always)]
    fn tunnel6(&self, endpoints: &Endpoints<Ipv6>) -> Option<Tunnel> {
        most_specific(&TUNNELS6, &PREFIXES6, endpoints)
    }

    #[inline(always)]
    fn usual4(&self, endpoints: &Endpoints<Ipv4>) -> Option<Tunnel> {
        usual(&TUNNELS4, &PREFIXES4, endpoints)
    }

    #[inline(always)]
    fn usual6(&self, endpoints: &Endpoints<Ipv6>) -> Option<Tunnel> {
        usual(&TUNNELS6, &PREFIXES6, endpoints)
    }

    #[inline(always)]
    fn takes_doubly_tagged(&self) -> bool {
        // With prefixes the verifier would walk through the general way once more: 137,000 instructions.
        HAVE_PREFIXES.load() == 0
    }

    #[inline(always)]
    fn is_local4(&self, address: &Ipv4) -> bool {
        address.is_local(&LOCALS4)
    }

    #[inline(always)]
    fn is_local6(&self, address: &Ipv6) -> bool {
        address.is_local(&LOCALS6)
    }

    #[inline(always)]
    fn drop_unknown(&self) -> bool {
        UNKNOWN_DROP.load() != 0
    }

    #[inline(always)]
    fn forwards(&self) -> bool {
        HAVE_ROUTE.load() != 0 || HAVE_INTERFACE.load() != 0
    }

    #[inline(always)]
    fn is_own_mac(&self, mac: Mac) -> bool {
        // SAFETY: userspace replaces elements and never changes one in place.
        unsafe { INTERFACES.get(frame::ingress(self.0)) }.is_some_and(|own| *own == mac)
    }

    #[inline(always)]
    fn is_own_mac_usual(&self, mac: Mac) -> bool {
        slots::own_mac(frame::ingress(self.0)).map_or_else(|| self.is_own_mac(mac), |own| own == mac)
    }

    #[inline(always)]
    fn order(&self, tunnel: u32, number: u32) -> Order {
        sequence::order(tunnel, number)
    }

    #[inline(always)]
    fn arrived(&self, tunnel: u32, number: u32) {
        sequence::arrived(tunnel, number);
    }

    #[inline(always)]
    fn order_usual(&self, tunnel: u32, number: u32) -> Order {
        sequence::order_in_place(tunnel, number)
    }

    #[inline(always)]
    fn arrived_usual(&self, tunnel: u32, number: u32) {
        sequence::arrived_in_place(tunnel, number);
    }

    #[inline(always)]
    fn answers(&self) -> bool {
        HAVE_KEEPALIVE.load() != 0
    }

    #[inline(always)]
    fn may_answer(&self, tunnel: u32) -> bool {
        keepalive::may_answer(tunnel)
    }

    #[inline(always)]
    fn inner_destinations(&self) -> Guard {
        inner_destinations()
    }

    #[inline(always)]
    fn guards_inner_destinations(&self) -> bool {
        // In fewer instructions than what the number stands for.
        INNER_DESTINATIONS.load() != Guard::Off as u8
    }

    #[inline(always)]
    fn is_protected4(&self, address: &Ipv4) -> bool {
        is_protected4(address)
    }

    #[inline(always)]
    fn is_protected6(&self, address: &Ipv6) -> bool {
        is_protected6(address)
    }

    #[inline(always)]
    fn lockdown(&self) -> Guard {
        lockdown()
    }

    #[inline(always)]
    fn is_allowed4(&self, address: &Ipv4) -> bool {
        is_listed(&ALLOWED4, *address)
    }

    #[inline(always)]
    fn is_allowed6(&self, address: &Ipv6) -> bool {
        is_listed(&ALLOWED6, *address)
    }

    #[inline(always)]
    fn is_bypassed4(&self, tunnel: u32, address: &Ipv4) -> bool {
        let address = *address;
        have_bypass() && is_listed(&BYPASS4, TunnelAddress { tunnel, address })
    }

    #[inline(always)]
    fn is_bypassed6(&self, tunnel: u32, address: &Ipv6) -> bool {
        let address = *address;
        have_bypass() && is_listed(&BYPASS6, TunnelAddress { tunnel, address })
    }

    #[inline(always)]
    fn judge_inner<P: Packet>(&self, _: &P, inner: &Inner) -> Ruling {
        protect::judge_inner(self.0, inner)
    }

    #[inline(always)]
    fn breaks_lockdown<P: Packet>(&self, _: &P) -> bool {
        protect::breaks_lockdown(self.0)
    }
}

/// What becomes of inner packets to destinations that are not protected: a constant of the loaded program.
#[inline(always)]
pub(crate) fn inner_destinations() -> Guard {
    Guard::from_number(INNER_DESTINATIONS.load())
}

/// What becomes of packets that came by no tunnel to what is protected: the same.
#[inline(always)]
pub(crate) fn lockdown() -> Guard {
    Guard::from_number(LOCKDOWN.load())
}

/// Whether there is such a rule, in fewer instructions: most packets on most hosts come by here.
#[inline(always)]
pub(crate) fn has_lockdown() -> bool {
    LOCKDOWN.load() != Guard::Off as u8
}

/// Whether any tunnel has inner destinations that stay encapsulated: the same.
#[inline(always)]
pub(crate) fn have_bypass() -> bool {
    HAVE_BYPASS.load() != 0
}

/// Whether any tunnel's replies to health probes are sent on: the same.
#[inline(always)]
pub(crate) fn have_probes() -> bool {
    HAVE_PROBES.load() != 0
}

/// Whether an address is within `protect.prefixes`.
#[inline(always)]
pub(crate) fn is_protected4(address: &Ipv4) -> bool {
    address
        .is_protected()
        .unwrap_or_else(|| is_listed(&PROTECTED4, *address))
}

/// The same of IPv6.
#[inline(always)]
pub(crate) fn is_protected6(address: &Ipv6) -> bool {
    address
        .is_protected()
        .unwrap_or_else(|| is_listed(&PROTECTED6, *address))
}

/// Whether a prefix of `data` is in the map.
#[inline(always)]
fn is_listed<D>(prefixes: &LpmTrie<D, u32>, data: D) -> bool {
    let whole = Prefix::whole(data);
    // SAFETY: both are a `u32` and the data without padding, in that order; `Key` alone is packed, so it asks for no alignment.
    // On the stack the aligned one is what the verifier accepts.
    let key: &Key<D> = unsafe { &*(&raw const whole).cast() };
    prefixes.get(key).is_some()
}

/// Where a tunnel that delivers to an interface sends.
#[inline(always)]
pub(crate) fn target(tunnel: u32) -> Option<Target> {
    // SAFETY: userspace replaces elements and never changes one in place; the target is copied at once.
    slots::target(tunnel).or_else(|| unsafe { TARGETS.get(tunnel) }.copied())
}

/// An exact remote before the longest prefix.
#[inline(always)]
fn most_specific<A: Few>(
    exact: &HashMap<Endpoints<A>, Tunnel>,
    prefixes: &LpmTrie<Endpoints<A>, Tunnel>,
    endpoints: &Endpoints<A>,
) -> Option<Tunnel> {
    if A::are_compared()
        && let Some(tunnel) = A::compared(endpoints)
    {
        return Some(tunnel);
    }
    looked_up(exact, prefixes, endpoints)
}

/// The same in fewer instructions, but more of the verifier's time.
#[inline(always)]
fn usual<A: Few + Placed>(
    exact: &HashMap<Endpoints<A>, Tunnel>,
    prefixes: &LpmTrie<Endpoints<A>, Tunnel>,
    endpoints: &Endpoints<A>,
) -> Option<Tunnel> {
    if let Some(tunnel) = A::compared_at_once(endpoints) {
        return Some(tunnel);
    }
    // A copy, for those are compared in registers, and a look-up wants them in memory.
    let endpoints = *endpoints;
    A::placed(&endpoints).or_else(|| looked_up(exact, prefixes, &endpoints))
}

/// The same among those that packets are not compared with.
#[inline(always)]
fn looked_up<A: Few>(
    exact: &HashMap<Endpoints<A>, Tunnel>,
    prefixes: &LpmTrie<Endpoints<A>, Tunnel>,
    endpoints: &Endpoints<A>,
) -> Option<Tunnel> {
    if A::are_compared() && HAVE_PREFIXES.load() == 0 {
        return None;
    }
    // Most GRE that is not ours ends here.
    if !endpoints.local.may_be_local() {
        return None;
    }
    if !A::are_compared() {
        // SAFETY: userspace replaces elements and never changes one in place; the tunnel is copied at once.
        let tunnel = unsafe { exact.get(endpoints) };
        if tunnel.is_some() {
            return tunnel.copied();
        }
    }
    if HAVE_PREFIXES.load() == 0 {
        return None;
    }
    let all = EndpointsPrefix {
        prefix_len: Endpoints::<A>::BITS,
        endpoints: *endpoints,
    };
    // SAFETY: both are a `u32` and the endpoints without padding, in that order; `Key` alone is packed, so it asks for no
    // alignment. On the stack the aligned one is what the verifier accepts.
    let key: &Key<Endpoints<A>> = unsafe { &*(&raw const all).cast() };
    prefixes.get(key).copied()
}
