//! What `[protect]` and a tunnel's `bypass` say about a packet, by its addresses alone.
//!
//! Two questions are asked. Of a packet that came by a tunnel, after all checks and before it is touched: may it go where it wants
//! to ([`inner`])? Of a packet that came by none: may it reach what is protected ([`breaks_lockdown`])?

use network_types::{
    eth::EthHdr,
    ip::{IpProto, Ipv4Hdr, Ipv6Hdr},
};

use crate::{
    Packet, Reason, Tables,
    endian::{Be16, Be32},
    endpoints::{Ipv4, Ipv6},
    link::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, ETHER_TYPE_TEB, Link, Mac},
    outer::words,
    probe,
};

/// How strictly a rule is kept.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guard {
    /// There is no such rule.
    #[default]
    Off = 0,
    /// What breaks it is counted and sampled, and let through.
    Monitor = 1,
    /// What breaks it is dropped.
    Enforce = 2,
}

impl Guard {
    /// From a number; what no version writes is [`Self::Off`].
    #[inline(always)]
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Monitor,
            2 => Self::Enforce,
            _ => Self::Off,
        }
    }
}

/// A prefix, as `struct bpf_lpm_trie_key_u8` has it: the key of a longest-prefix map.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix<D> {
    /// Significant bits of `data`, at most [`Prefix::BITS`].
    pub bits: u32,
    /// An address, or [`TunnelAddress`]; bits past the prefix are zero.
    pub data: D,
}

/// An inner destination of a tunnel: what the prefixes of `bypass` are prefixes of. The tunnel comes first and always matches
/// as a whole.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TunnelAddress<A> {
    /// The tunnel's id.
    pub tunnel: u32,
    /// The inner destination.
    pub address: A,
}

impl<D> Prefix<D> {
    /// All bits, as a prefix length.
    pub const BITS: u32 = 8 * size_of::<D>() as u32;

    /// All of `data`: what a look-up asks for.
    #[inline(always)]
    pub const fn whole(data: D) -> Self {
        Self { bits: Self::BITS, data }
    }
}

/// A packet that came by a tunnel, as far as protection must know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// The tunnel.
    pub tunnel: u32,
    /// The GRE protocol type.
    pub protocol: Be16,
    /// Where the payload begins in the frame.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// Whether the tunnel has inner destinations that stay encapsulated.
    pub bypasses: bool,
    /// Whether the tunnel's replies to health probes are sent on.
    pub probes: bool,
}

/// What is to become of a packet that came by a tunnel, as a number: what the kernel program's function can return. Deliveries are the
/// numbers that a [`Passage`] has, so that no verifier walks what follows once for each.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ruling(u32);

impl Ruling {
    /// It is delivered.
    pub const DELIVER: Self = Self(0);
    /// It is delivered, and counted as what would be dropped: [`Reason::InnerDestinationMonitored`].
    pub const MONITORED: Self = Self(Passage::MONITORED);
    /// It is a health probe's reply, and delivered by route.
    pub const PROBE: Self = Self(Passage::PROBE);
    /// Both.
    pub const MONITORED_PROBE: Self = Self(Passage::ALL);
    /// [`Reason::InnerDestination`].
    pub const INNER_DESTINATION: Self = Self(4);
    /// [`Reason::Bypass`].
    pub const BYPASS: Self = Self(5);
    /// Where it wants to go does not lie in the first buffer: [`Reason::Headroom`].
    pub const UNREADABLE: Self = Self(6);
    /// It is a health probe's reply in a frame for another host: [`Reason::OtherHost`].
    pub const OTHER_HOST: Self = Self(7);

    /// The reverse of [`Self::number`].
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// As a number.
    #[inline(always)]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// How it is delivered.
    ///
    /// # Errors
    /// Why it is not.
    #[inline(always)]
    pub const fn settle(self) -> Result<Passage, Reason> {
        match self {
            Self::INNER_DESTINATION => Err(Reason::InnerDestination),
            Self::BYPASS => Err(Reason::Bypass),
            Self::UNREADABLE => Err(Reason::Headroom),
            Self::OTHER_HOST => Err(Reason::OtherHost),
            Self(number) => Ok(Passage(number & Passage::ALL)),
        }
    }
}

/// What is to be known of a packet that no rule stops.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage(u32);

impl Passage {
    const MONITORED: u32 = 1;
    const PROBE: u32 = 1 << 1;
    const ALL: u32 = Self::MONITORED | Self::PROBE;

    /// Of a packet that nothing is to be noted of.
    pub const PLAIN: Self = Self(0);

    /// Whether its inner destination is not protected, and that is only monitored. Counted before the packet is touched.
    #[inline(always)]
    pub const fn is_monitored(self) -> bool {
        self.0 & Self::MONITORED != 0
    }

    /// Whether it is a reply to a health probe, which is delivered by route whatever its tunnel does with the rest: [`Reason::Probe`].
    #[inline(always)]
    pub const fn is_probe(self) -> bool {
        self.0 & Self::PROBE != 0
    }
}

/// An address family, as far as look-ups are concerned.
pub(crate) trait Address: Copy {
    fn is_protected<T: Tables>(&self, tables: &T) -> bool;
    fn is_allowed<T: Tables>(&self, tables: &T) -> bool;
    fn is_bypassed<T: Tables>(&self, tables: &T, tunnel: u32) -> bool;
}

impl Address for Ipv4 {
    #[inline(always)]
    fn is_protected<T: Tables>(&self, tables: &T) -> bool {
        tables.is_protected4(self)
    }
    #[inline(always)]
    fn is_allowed<T: Tables>(&self, tables: &T) -> bool {
        tables.is_allowed4(self)
    }
    #[inline(always)]
    fn is_bypassed<T: Tables>(&self, tables: &T, tunnel: u32) -> bool {
        tables.is_bypassed4(tunnel, self)
    }
}

impl Address for Ipv6 {
    #[inline(always)]
    fn is_protected<T: Tables>(&self, tables: &T) -> bool {
        tables.is_protected6(self)
    }
    #[inline(always)]
    fn is_allowed<T: Tables>(&self, tables: &T) -> bool {
        tables.is_allowed6(self)
    }
    #[inline(always)]
    fn is_bypassed<T: Tables>(&self, tables: &T, tunnel: u32) -> bool {
        tables.is_bypassed6(tunnel, self)
    }
}

/// Rules on a packet that came by a tunnel and passed rows 2 to 16, in the contract's order: bypass, inner destinations, probes.
///
/// IP within Ethernet is looked at as well. What is neither, as ARP in Ethernet, has no destination that could be wrong; MPLS is
/// not looked into, so the configuration allows none beside such rules. Probes are not looked for within Ethernet: a frame is
/// delivered as a whole.
#[inline(always)]
pub fn inner<P: Packet, T: Tables>(packet: &P, tables: &T, inner: &Inner) -> Ruling {
    if !inner.bypasses && !inner.probes && tables.inner_destinations() == Guard::Off {
        return Ruling::DELIVER;
    }
    let seeks_probes = inner.probes && inner.protocol != ETHER_TYPE_TEB;
    let (protocol, start) = match inner.protocol {
        // Too short for any IP in it.
        ETHER_TYPE_TEB if inner.start + EthHdr::LEN + Ipv4Hdr::LEN > inner.end => return Ruling::DELIVER,
        ETHER_TYPE_TEB => match Link::parse_at(packet, inner.start) {
            Some(link) => (link.ether_type, inner.start + link.len()),
            None => return Ruling::UNREADABLE,
        },
        protocol => (protocol, inner.start),
    };
    match protocol {
        ETHER_TYPE_IPV4 if start + Ipv4Hdr::LEN <= inner.end => match packet.load::<Ipv4Hdr>(start) {
            Some(ip) => {
                let reply = if seeks_probes {
                    probe::reply_v4(packet, start, &ip)
                } else {
                    NO_REPLY
                };
                inner_to(packet, tables, inner, &[Be32::from_bytes(ip.dst_addr)], reply)
            }
            None => Ruling::UNREADABLE,
        },
        ETHER_TYPE_IPV6 if start + Ipv6Hdr::LEN <= inner.end => match packet.load::<Ipv6Hdr>(start) {
            Some(ip) => {
                let reply = if seeks_probes {
                    probe::reply_v6(packet, start, &ip)
                } else {
                    NO_REPLY
                };
                inner_to(packet, tables, inner, &words(ip.dst_addr), reply)
            }
            None => Ruling::UNREADABLE,
        },
        _ => Ruling::DELIVER,
    }
}

const NO_REPLY: Option<bool> = Some(false);

/// `reply` says whether the packet is an echo reply that could be a probe's; `None`: that does not lie in the first buffer.
#[inline(always)]
fn inner_to<P: Packet, T: Tables, A: Address>(
    packet: &P,
    tables: &T,
    inner: &Inner,
    destination: &A,
    reply: Option<bool>,
) -> Ruling {
    if inner.bypasses && destination.is_bypassed(tables, inner.tunnel) {
        return Ruling::BYPASS;
    }
    let guard = tables.inner_destinations();
    let is_of_interest = guard != Guard::Off || reply != NO_REPLY;
    if !is_of_interest || destination.is_protected(tables) {
        return Ruling::DELIVER;
    }
    match (guard, reply) {
        (Guard::Enforce, _) => Ruling::INNER_DESTINATION,
        (_, None) => Ruling::UNREADABLE,
        (Guard::Off, Some(false)) => Ruling::DELIVER,
        (Guard::Monitor, Some(false)) => Ruling::MONITORED,
        // As every packet that is forwarded (RFC 1812 section 3.3.1).
        (_, Some(true)) if !Mac::destination_at_last(packet).is_some_and(|mac| tables.is_own_mac(mac)) => {
            Ruling::OTHER_HOST
        }
        (Guard::Off, Some(true)) => Ruling::PROBE,
        (Guard::Monitor, Some(true)) => Ruling::MONITORED_PROBE,
    }
}

/// The same as [`inner`] of a packet of [a usual form](crate::usual) for this address, whose tunnel has neither a bypass nor probes;
/// `None` if something is to be noted of it.
#[inline(always)]
pub(crate) fn usual<T: Tables, A: Address>(tables: &T, destination: &A) -> Option<Result<(), Reason>> {
    if !tables.guards_inner_destinations() || destination.is_protected(tables) {
        return Some(Ok(()));
    }
    match tables.inner_destinations() {
        Guard::Enforce => Some(Err(Reason::InnerDestination)),
        _ => None,
    }
}

/// Whether a packet that came by no tunnel is for what is protected, and its source may not go there. Only addresses count: not
/// whether it is a fragment, nor what it carries. Neighbour discovery is left alone, and so is what is not IP, as ARP. The link
/// header is read once more: kept for this, it would cost each packet that came by no tunnel, whether there is such a rule or not.
#[inline(always)]
pub fn breaks_lockdown<P: Packet, T: Tables>(packet: &P, tables: &T) -> bool {
    let Some(link) = Link::parse(packet) else {
        return false;
    };
    let start = link.len();
    match link.ether_type {
        ETHER_TYPE_IPV4 => packet.load::<Ipv4Hdr>(start).is_some_and(|ip| {
            let [source, destination] = [ip.src_addr, ip.dst_addr].map(|address| [Be32::from_bytes(address)]);
            is_closed(tables, &source, &destination)
        }),
        ETHER_TYPE_IPV6 => packet.load::<Ipv6Hdr>(start).is_some_and(|ip| {
            !is_neighbour_discovery(packet, start, &ip) && is_closed(tables, &words(ip.src_addr), &words(ip.dst_addr))
        }),
        _ => false,
    }
}

#[inline(always)]
fn is_closed<T: Tables, A: Address>(tables: &T, source: &A, destination: &A) -> bool {
    destination.is_protected(tables) && !source.is_allowed(tables)
}

/// Router and neighbour solicitations and advertisements, and redirects. A hop limit of 255 tells that no router has sent it on
/// (RFC 4861 section 7.1). What does not lie in the first buffer may be one.
#[inline(always)]
fn is_neighbour_discovery<P: Packet>(packet: &P, start: usize, ip: &Ipv6Hdr) -> bool {
    const TYPES: core::ops::RangeInclusive<u8> = 133..=137;
    let at = start + Ipv6Hdr::LEN;
    ip.next_hdr == IpProto::Ipv6Icmp as u8
        && ip.hop_limit == 255
        && match packet.load::<u8>(at) {
            Some(kind) => TYPES.contains(&kind),
            None => at < packet.len(),
        }
}
