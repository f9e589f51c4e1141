//! A tunnel as the datapath sees it: the value of the tunnel maps.

use crate::endian::Be16;
use crate::link::{
    ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, ETHER_TYPE_MPLS_MULTICAST, ETHER_TYPE_MPLS_UNICAST, ETHER_TYPE_TEB,
};
use crate::usual::Field;

/// In the place of a tunnel's id: packets that only the loader has made up, to try the program. No map has an element for it, so
/// nothing is counted, and nothing is sampled.
pub const TRIAL: u32 = u32::MAX;

/// What the datapath must know of a tunnel. It lies in the value of each of the tunnel's endpoints, and the kernel replaces
/// a hash or trie element as a whole, so no packet meets half of a change. (Where endpoints are [few](crate::few), the element of an
/// array, which no running program's is changed.)
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Index of its counters and sequence state, from 1. 0 stands for "no tunnel".
    pub id: u32,
    /// How its packets are checked, and delivered.
    pub policy: Policy,
    /// The cores that its flows are spread over.
    pub cores: Cores,
}

impl Tunnel {
    /// Whether it delivers this type, in GRE with this field, as it is, on the same core.
    #[inline(always)]
    pub(crate) fn takes_usual(&self, inner: InnerTypes, field: Field) -> bool {
        self.policy.0 & Policy::usual(inner, field) != 0 && self.cores == Cores::NONE
    }

    /// The same, and that the delivery is to the stack, in as few instructions.
    #[inline(always)]
    pub(crate) fn takes_usual_to_stack(&self, inner: InnerTypes, field: Field) -> bool {
        let usual = Policy::usual(inner, field);
        usual != 0 && self.policy.0 & (usual | Policy::DELIVER) == usual && self.cores == Cores::NONE
    }
}

/// How inner packets leave the program.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deliver {
    /// To the network stack of this host.
    Stack = 0,
    /// On by this host's routes.
    Route = 1,
    /// Out of an interface, without a route look-up: the tunnel's [`Target`](crate::target::Target).
    Interface = 2,
}

impl Deliver {
    /// From two bits; what no version writes is [`Self::Stack`].
    #[inline(always)]
    pub const fn from_bits(bits: u32) -> Self {
        match bits & 3 {
            1 => Self::Route,
            2 => Self::Interface,
            _ => Self::Stack,
        }
    }
}

/// The cores that a tunnel's flows are spread over: a run of slots in the map [`CORES`](crate::maps::CORES), or none.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cores(u32);

impl Cores {
    /// Packets stay on the core that received them.
    pub const NONE: Self = Self(0);

    /// So many slots from `first` on.
    pub const fn new(first: u16, count: u16) -> Self {
        Self(first as u32 | (count as u32) << 16)
    }

    /// The first slot.
    #[inline(always)]
    pub const fn first(self) -> u32 {
        self.0 & 0xffff
    }

    /// How many slots there are.
    #[inline(always)]
    pub const fn count(self) -> u32 {
        self.0 >> 16
    }

    /// The slot of the flow with this hash: each slot gets an equal share of all hashes. Nothing to choose from gives the first.
    #[inline(always)]
    pub const fn slot(self, hash: u32) -> u32 {
        self.first() + (((hash as u64) * (self.count() as u64)) >> 32) as u32
    }
}

/// How a tunnel treats the checksum field.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumPolicy {
    /// Verify it if it is there.
    Optional = 0,
    /// It must be there, and right.
    Required = 1,
    /// It must not be there.
    Forbidden = 2,
    /// It may be there and is not looked at.
    Ignore = 3,
}

/// The inner protocols that a tunnel may carry, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InnerTypes(u32);

impl InnerTypes {
    /// None at all.
    pub const NONE: Self = Self(0);
    /// IPv4, GRE protocol type 0x0800.
    pub const IPV4: Self = Self(1);
    /// IPv6, 0x86DD.
    pub const IPV6: Self = Self(1 << 1);
    /// Transparent Ethernet bridging, 0x6558.
    pub const ETHERNET: Self = Self(1 << 2);
    /// MPLS unicast and multicast, 0x8847 and 0x8848 (RFC 4023).
    pub const MPLS: Self = Self(1 << 3);

    const MASK: u32 = 0xf;

    /// These and those.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are among these.
    #[inline(always)]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The type that a GRE protocol type stands for, if this program can carry it at all.
    #[inline(always)]
    pub fn of(protocol: Be16) -> Option<Self> {
        match protocol {
            ETHER_TYPE_IPV4 => Some(Self::IPV4),
            ETHER_TYPE_IPV6 => Some(Self::IPV6),
            ETHER_TYPE_TEB => Some(Self::ETHERNET),
            ETHER_TYPE_MPLS_UNICAST | ETHER_TYPE_MPLS_MULTICAST => Some(Self::MPLS),
            _ => None,
        }
    }
}

/// A tunnel's checks and delivery in one word: bits 0–1 the checksum policy, bit 2 ordered, bit 3 enabled, bits 4–7 the inner
/// types, bits 8–9 the delivery, bit 10 whether there is a bypass, bit 11 whether keepalives are answered, bit 12 whether replies to
/// health probes are sent on, bits 18–31 the MSS. Bits 13 to 16 follow from the others, so that most packets need ask for nothing else:
/// what [`Policy::is_usual`] says of IPv4 without either, with a sequence number, with a checksum, and of IPv6 without either.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Policy(u32);

impl Policy {
    const CHECKSUM: u32 = 0x3;
    const ORDERED: u32 = 1 << 2;
    const ENABLED: u32 = 1 << 3;
    const INNER_SHIFT: u32 = 4;
    const DELIVER_SHIFT: u32 = 8;
    const DELIVER: u32 = 3 << Self::DELIVER_SHIFT;
    const BYPASS: u32 = 1 << 10;
    const ANSWERS: u32 = 1 << 11;
    const PROBES: u32 = 1 << 12;
    const USUAL4: u32 = 1 << 13;
    const USUAL4_NUMBERED: u32 = 1 << 14;
    const USUAL4_SUMMED: u32 = 1 << 15;
    const USUAL6: u32 = 1 << 16;
    const MSS_SHIFT: u32 = 18;

    /// The largest MSS that there is room for.
    pub const MAX_MSS: u16 = (u32::MAX >> Self::MSS_SHIFT) as u16;

    /// The policy of an enabled or disabled tunnel that delivers to the stack; `ordered` drops what is late or duplicate.
    pub const fn new(checksum: ChecksumPolicy, ordered: bool, inner: InnerTypes, enabled: bool) -> Self {
        let ordered = if ordered { Self::ORDERED } else { 0 };
        let enabled = if enabled { Self::ENABLED } else { 0 };
        Self(checksum as u32 | ordered | enabled | inner.0 << Self::INNER_SHIFT).concluded()
    }

    /// The same checks, with another delivery.
    pub const fn delivering(self, deliver: Deliver) -> Self {
        Self(self.0 & !Self::DELIVER | (deliver as u32) << Self::DELIVER_SHIFT)
    }

    /// The same, of a tunnel that has inner destinations which stay encapsulated.
    pub const fn bypassing(self) -> Self {
        Self(self.0 | Self::BYPASS).concluded()
    }

    /// Whether the tunnel has inner destinations that stay encapsulated: entries in the maps of `bypass`.
    #[inline(always)]
    pub const fn bypasses(self) -> bool {
        self.0 & Self::BYPASS != 0
    }

    /// The same, with the MSS of inner TCP SYNs lowered to so many bytes, at most [`Self::MAX_MSS`]; 0 leaves it alone.
    pub const fn with_mss(self, mss: u16) -> Self {
        Self(self.0 & !(u32::MAX << Self::MSS_SHIFT) | (mss as u32) << Self::MSS_SHIFT).concluded()
    }

    /// The most that inner TCP SYNs may announce as their MSS, in bytes; 0: anything.
    #[inline(always)]
    pub const fn mss(self) -> u16 {
        (self.0 >> Self::MSS_SHIFT) as u16
    }

    /// The same, with sequence numbers not enforced.
    pub const fn in_any_order(self) -> Self {
        Self(self.0 & !Self::ORDERED).concluded()
    }

    /// The same, with keepalives answered.
    pub const fn answering(self) -> Self {
        Self(self.0 | Self::ANSWERS)
    }

    /// Whether keepalives are answered.
    #[inline(always)]
    pub const fn answers(self) -> bool {
        self.0 & Self::ANSWERS != 0
    }

    /// The same, with replies to health probes sent on by route.
    pub const fn routing_probes(self) -> Self {
        Self(self.0 | Self::PROBES).concluded()
    }

    /// Whether replies to health probes are sent on by route, whatever the delivery.
    #[inline(always)]
    pub const fn routes_probes(self) -> bool {
        self.0 & Self::PROBES != 0
    }

    /// The same, with what follows from the rest.
    const fn concluded(self) -> Self {
        let mut policy = self;
        let mut all = Self::USUAL.as_slice();
        while let [(inner, field), rest @ ..] = all {
            let bit = Self::usual(*inner, *field);
            let is_usual = if self.is_usual(*inner, *field) { bit } else { 0 };
            policy = Self(policy.0 & !bit | is_usual);
            all = rest;
        }
        policy
    }

    /// What there is a bit for; as to keys, those that have none.
    const USUAL: [(InnerTypes, Field); 4] = [
        (InnerTypes::IPV4, Field::None),
        (InnerTypes::IPV4, Field::Number),
        (InnerTypes::IPV4, Field::Checksum),
        (InnerTypes::IPV6, Field::None),
    ];

    /// The bit that says [`Self::is_usual`]; none if there is no such bit.
    #[inline(always)]
    const fn usual(inner: InnerTypes, field: Field) -> u32 {
        match (inner, field) {
            (InnerTypes::IPV4, Field::None | Field::Key) => Self::USUAL4,
            (InnerTypes::IPV4, Field::Number) => Self::USUAL4_NUMBERED,
            (InnerTypes::IPV4, Field::Checksum) => Self::USUAL4_SUMMED,
            (InnerTypes::IPV6, Field::None | Field::Key) => Self::USUAL6,
            _ => 0,
        }
    }

    /// Whether this type is delivered as it is once the field, which GRE has alone, is found right. A tunnel that enforces order takes
    /// nothing without a number, and one that requires checksums nothing without.
    const fn is_usual(self, inner: InnerTypes, field: Field) -> bool {
        const MSS: u32 = u32::MAX << Policy::MSS_SHIFT;
        let ordered = match field {
            Field::Number => 0,
            Field::None | Field::Key | Field::Checksum => Self::ORDERED,
        };
        let checksum = match (field, self.checksum()) {
            (Field::Checksum, policy) => matches!(policy, ChecksumPolicy::Optional | ChecksumPolicy::Required),
            (_, policy) => !matches!(policy, ChecksumPolicy::Required),
        };
        let inner = inner.0 << Self::INNER_SHIFT;
        let asked = Self::ENABLED | ordered | inner | Self::BYPASS | Self::PROBES | MSS;
        checksum && self.0 & asked == Self::ENABLED | inner
    }

    /// How inner packets leave the program.
    #[inline(always)]
    pub const fn deliver(self) -> Deliver {
        Deliver::from_bits(self.0 >> Self::DELIVER_SHIFT)
    }

    /// The checksum policy.
    #[inline(always)]
    pub const fn checksum(self) -> ChecksumPolicy {
        match self.0 & Self::CHECKSUM {
            0 => ChecksumPolicy::Optional,
            1 => ChecksumPolicy::Required,
            2 => ChecksumPolicy::Forbidden,
            _ => ChecksumPolicy::Ignore,
        }
    }

    /// Whether sequence numbers are enforced.
    #[inline(always)]
    pub const fn ordered(self) -> bool {
        self.0 & Self::ORDERED != 0
    }

    /// Whether the tunnel decapsulates at all.
    #[inline(always)]
    pub const fn enabled(self) -> bool {
        self.0 & Self::ENABLED != 0
    }

    /// The inner types it may carry.
    #[inline(always)]
    pub const fn inner(self) -> InnerTypes {
        InnerTypes(self.0 >> Self::INNER_SHIFT & InnerTypes::MASK)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn policy_gives_back_what_it_was_made_of() {
        use ChecksumPolicy::*;
        for checksum in [Optional, Required, Forbidden, Ignore] {
            for ordered in [false, true] {
                for enabled in [false, true] {
                    for bits in 0..16 {
                        let inner = InnerTypes(bits);
                        let policy = Policy::new(checksum, ordered, inner, enabled);
                        assert_eq!(policy.checksum(), checksum);
                        assert_eq!(policy.ordered(), ordered);
                        assert_eq!(policy.enabled(), enabled);
                        assert_eq!(policy.inner(), inner);
                        assert_eq!(policy.deliver(), Deliver::Stack);
                        assert!(!policy.bypasses() && policy.bypassing().bypasses());
                        assert_eq!(policy.in_any_order(), Policy::new(checksum, false, inner, enabled));
                        check_deliveries(policy);
                    }
                }
            }
        }
    }

    fn check_deliveries(policy: Policy) {
        use Deliver::*;
        for first in [Stack, Route, Interface] {
            for second in [Stack, Route, Interface] {
                let changed = policy.delivering(first).delivering(second);
                assert_eq!(changed.deliver(), second);
                assert_eq!(changed.delivering(Stack), policy, "the checks are as they were");
                assert!(!changed.answers() && changed.answering().answers());
                assert_eq!(changed.answering().delivering(Stack), policy.answering());
                assert!(!changed.routes_probes() && changed.routing_probes().routes_probes());
                assert_eq!(changed.routing_probes().delivering(Stack), policy.routing_probes());
            }
        }
        for mss in [88, 1436, 9216, Policy::MAX_MSS] {
            let changed = policy.with_mss(1).delivering(Route).with_mss(mss);
            assert_eq!((changed.mss(), changed.deliver()), (mss, Route));
            assert_eq!(
                changed.with_mss(0).delivering(Stack),
                policy,
                "the checks are as they were"
            );
        }
    }

    /// Whatever a policy was made of, and in whatever order.
    #[test]
    fn what_is_usual_follows_from_the_rest() {
        use ChecksumPolicy::*;
        let changes: [fn(Policy) -> Policy; 8] = [
            |policy| policy.delivering(Deliver::Stack),
            |policy| policy.delivering(Deliver::Route),
            |policy| policy.with_mss(0),
            |policy| policy.with_mss(1400),
            Policy::in_any_order,
            Policy::bypassing,
            Policy::answering,
            Policy::routing_probes,
        ];
        let mut usual = 0;
        for bits in 0..256_u32 {
            let checksum = [Optional, Required, Forbidden, Ignore][bits as usize & 3];
            let made = Policy::new(checksum, bits & 4 != 0, InnerTypes(bits >> 4), bits & 8 != 0);
            for first in changes {
                for second in changes {
                    usual += check_usual(second(first(made)));
                }
            }
        }
        assert!(usual > 0);
    }

    /// Gives how many kinds of packets are usual.
    fn check_usual(policy: Policy) -> usize {
        let to_stack = policy.deliver() == Deliver::Stack;
        let here = Tunnel {
            id: 1,
            policy,
            cores: Cores::NONE,
        };
        let spread = Tunnel {
            cores: Cores::new(0, 1),
            ..here
        };
        let check = |(inner, field)| {
            let is_usual = policy.is_usual(inner, field);
            assert_eq!(here.takes_usual(inner, field), is_usual, "{policy:?}");
            assert_eq!(
                here.takes_usual_to_stack(inner, field),
                is_usual && to_stack,
                "{policy:?}"
            );
            assert!(!spread.takes_usual(inner, field) && !spread.takes_usual_to_stack(inner, field));
            is_usual
        };
        for field in [Field::Number, Field::Checksum] {
            assert!(!here.takes_usual(InnerTypes::IPV6, field) && !here.takes_usual_to_stack(InnerTypes::IPV6, field));
        }
        Policy::USUAL.into_iter().filter(|kind| check(*kind)).count()
    }

    #[test]
    fn what_no_version_writes_delivers_to_the_stack() {
        for (bits, deliver) in [
            (0, Deliver::Stack),
            (1, Deliver::Route),
            (2, Deliver::Interface),
            (3, Deliver::Stack),
            (!3 | 1, Deliver::Route),
        ] {
            assert_eq!(Deliver::from_bits(bits), deliver);
        }
    }

    #[test]
    fn no_cores_are_no_slots() {
        assert_eq!((Cores::NONE.first(), Cores::NONE.count()), (0, 0));
        assert_eq!(Cores::NONE.slot(u32::MAX), 0);
        assert_eq!(Cores::new(7, 0).slot(u32::MAX), 7);
    }

    /// Among all hashes each slot has as many as any other, but for one that is left over.
    #[test]
    fn slots_have_equal_shares() {
        const HASHES: u64 = 1 << 32;
        for (first, count) in [
            (0, 1),
            (0, 2),
            (5, 3),
            (9, 7),
            (0, 64),
            (1000, 8192),
            (0, u16::MAX),
            (u16::MAX, 2),
        ] {
            let cores = Cores::new(first, count);
            assert_eq!((cores.first(), cores.count()), (u32::from(first), u32::from(count)));
            let begin = |slot: u64| (slot * HASHES).div_ceil(u64::from(count));
            for slot in 0..u64::from(count) {
                let (lowest, highest) = (begin(slot) as u32, (begin(slot + 1) - 1) as u32);
                let expected = u32::from(first) + slot as u32;
                assert_eq!(
                    (cores.slot(lowest), cores.slot(highest)),
                    (expected, expected),
                    "{count} slots"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn no_hash_leads_outside(first: u16, count in 1..=u16::MAX, hash: u32) {
            let cores = Cores::new(first, count);
            let slot = cores.slot(hash);
            prop_assert!((cores.first()..cores.first() + cores.count()).contains(&slot), "{slot}");
            prop_assert!(cores.slot(hash.saturating_add(1)) >= slot, "shares are in one piece");
        }
    }
}
