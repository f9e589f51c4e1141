//! A packet's whole way, in the order of the packet table.

use core::hint::black_box;

use crate::{
    Action, Reason, checksum,
    endian::Be16,
    endpoints::{Address, Endpoints, Ipv4, Ipv6},
    front::Front,
    gre::Gre,
    inner::{self, Remark},
    keepalive::Returning,
    link::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, Link, Mac},
    outer::{self, Chain, Outer, Payload},
    plain::Plain,
    protect::{self, Guard, Inner, Passage, Ruling},
    sequence::Order,
    tunnel::{ChecksumPolicy, Cores, Deliver, InnerTypes, Tunnel},
};

/// Where the bytes of a packet come from: the kernel's buffer, or a slice on the host.
pub trait Packet {
    /// Reads a `T` at `offset`, at any alignment. `None`: it does not lie within the first buffer.
    fn load<T: Plain>(&self, offset: usize) -> Option<T>;
    /// The same at an offset that the packet itself has led to, which the kernel program bounds anew: verifiers lose the bounds
    /// of what was multiplied (Linux 6.1), or of a sum after another that it was made of was compared (6.12).
    fn load_far<T: Plain>(&self, offset: usize) -> Option<T> {
        self.load(offset)
    }
    /// Bytes of the whole frame, all buffers together.
    fn len(&self) -> usize;
    /// The folded one's complement sum (RFC 1071) of `len` bytes from `offset`, in the packet's byte order. `None`: they
    /// could not be read.
    fn sum(&self, offset: usize, len: usize) -> Option<u16>;
    /// Walks the IPv6 extension headers from the one called `next` at `offset`: [`outer::walk`], which the kernel program
    /// calls in a function of its own to keep it out of the good path.
    fn walk(&self, next: u8, offset: usize) -> Chain {
        outer::walk(self, next, offset)
    }
    /// Whether there are no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What the decision looks up beside the packet: the kernel's maps, or tables on the host.
pub trait Tables {
    /// The most specific tunnel for an IPv4 packet's endpoints.
    fn tunnel4(&self, endpoints: &Endpoints<Ipv4>) -> Option<Tunnel>;
    /// The most specific tunnel for an IPv6 packet's endpoints.
    fn tunnel6(&self, endpoints: &Endpoints<Ipv6>) -> Option<Tunnel>;
    /// Whether any tunnel has this local address.
    fn is_local4(&self, address: &Ipv4) -> bool;
    /// Whether any tunnel has this local address.
    fn is_local6(&self, address: &Ipv6) -> bool;
    /// Whether a packet that no tunnel matches is dropped.
    fn drop_unknown(&self) -> bool;
    /// Whether any tunnel forwards, instead of delivering to the stack.
    fn forwards(&self) -> bool;
    /// Whether this is the MAC address of the interface that the packet came in on.
    fn is_own_mac(&self, mac: Mac) -> bool;
    /// Judges the sequence number of a tunnel's packet, moves the tunnel's state, and notes that it has come as [`Self::arrived`] does.
    fn order(&self, tunnel: u32, number: u32) -> Order;
    /// Notes that a packet with this number has come by a tunnel that does not enforce order, whatever becomes of it. Nothing is
    /// decided by that.
    fn arrived(&self, _tunnel: u32, _number: u32) {}
    /// What becomes of inner packets to destinations that are not protected.
    fn inner_destinations(&self) -> Guard;
    /// Whether this address is within `protect.prefixes`.
    fn is_protected4(&self, address: &Ipv4) -> bool;
    /// Whether this address is within `protect.prefixes`.
    fn is_protected6(&self, address: &Ipv6) -> bool;
    /// What becomes of packets that came by no tunnel to what is protected.
    fn lockdown(&self) -> Guard;
    /// Whether this source is within `protect.allow`.
    fn is_allowed4(&self, address: &Ipv4) -> bool;
    /// Whether this source is within `protect.allow`.
    fn is_allowed6(&self, address: &Ipv6) -> bool;
    /// Whether this inner destination is within the tunnel's `bypass`.
    fn is_bypassed4(&self, tunnel: u32, address: &Ipv4) -> bool;
    /// Whether this inner destination is within the tunnel's `bypass`.
    fn is_bypassed6(&self, tunnel: u32, address: &Ipv6) -> bool;
    /// Rules on a packet that came by a tunnel: [`protect::inner`], which the kernel program calls in a function of its own, and
    /// only if there is such a rule.
    fn judge_inner<P: Packet>(&self, packet: &P, inner: &Inner) -> Ruling
    where
        Self: Sized,
    {
        protect::inner(packet, self, inner)
    }
    /// Whether any tunnel answers keepalives.
    fn answers(&self) -> bool;
    /// Whether a tunnel that answers keepalives may answer one more now; if so, that is one more.
    fn may_answer(&self, tunnel: u32) -> bool;
    /// The rule on a packet that came by no tunnel: [`protect::breaks_lockdown`], which the kernel program calls in a function of
    /// its own, and only if there is such a rule.
    fn breaks_lockdown<P: Packet>(&self, packet: &P, link: Link) -> bool
    where
        Self: Sized,
    {
        self.lockdown() != Guard::Off && protect::breaks_lockdown(packet, self, link)
    }
}

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Pass it and count nothing: not GRE, or GRE for somebody else (row 1).
    NotOurs,
    /// Do what [`Reason::action`] says, and count it.
    Refuse {
        /// The tunnel it belongs to, 0 if none.
        tunnel: u32,
        /// Why.
        reason: Reason,
    },
    /// Decapsulate and deliver it (row 18).
    Deliver(Delivery),
    /// Decapsulate a keepalive and send it back where it came from, with the MAC addresses exchanged and its VLAN tags: it
    /// leaves by the interface that it came in on. Counted as [`Reason::Keepalive`], and not as bytes: its `outer_bytes` is 0.
    Reply(Delivery),
}

/// How to decapsulate a packet. Offsets are in the frame as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The tunnel it belongs to.
    pub tunnel: u32,
    /// The link header it came with.
    pub link: Link,
    /// EtherType that the kept link header gets; `None`: the payload is an Ethernet frame, the link header goes away too.
    pub ether_type: Option<Be16>,
    /// Where the payload begins.
    pub inner: usize,
    /// Where it ends, which is where the outer IP packet ends.
    pub end: usize,
    /// Bytes after that, padding to be cut off.
    pub padding: usize,
    /// What changes in the inner IP header.
    pub remark: Remark,
    /// Bytes of the outer IP packet.
    pub outer_bytes: u32,
    /// Whether its sequence number told of a restarted sender.
    pub restart: bool,
    /// Not 0 if the inner packet is a fragment. No `bool`, which would make the verifier walk all that follows twice.
    pub fragment: u16,
    /// What the rules of protection note of it.
    pub passage: Passage,
    /// Where the payload goes; see [`Self::way`].
    pub deliver: Deliver,
    /// The cores that the tunnel's flows are spread over.
    pub cores: Cores,
    /// The most that a TCP SYN may announce as its [MSS](crate::mss), in bytes; 0: anything.
    pub mss: u16,
}

impl Delivery {
    /// How far the frame's start moves.
    #[inline(always)]
    pub const fn stripped(&self) -> usize {
        match self.ether_type {
            Some(_) => self.inner - self.link.len(),
            None => self.inner,
        }
    }

    /// Where it goes: a health probe's reply has a way of its own.
    #[inline(always)]
    pub const fn way(&self) -> Deliver {
        if self.passage.is_probe() {
            Deliver::Route
        } else {
            self.deliver
        }
    }

    /// Bytes of the payload.
    #[inline(always)]
    pub const fn inner_bytes(&self) -> usize {
        self.end - self.inner
    }
}

/// What follows a decision. The kernel program acts in these calls; [`decide`] only notes the verdict.
///
/// Calls and not a returned [`Verdict`], because what an enum's variant leaves unset would end in registers that the kernel's
/// verifier finds unset.
pub trait Carrier: Sized {
    /// What carrying a verdict out gives.
    type Done;
    /// See [`Verdict::NotOurs`].
    fn not_ours(self) -> Self::Done;
    /// See [`Verdict::Refuse`].
    fn refuse(self, tunnel: u32, reason: Reason) -> Self::Done;
    /// See [`Verdict::Deliver`].
    fn deliver(self, delivery: Delivery) -> Self::Done;
    /// A packet that would leave for where it came from: carries out what [`Returning::judge`] says, which is
    /// [`Verdict::Reply`] or [`Verdict::Refuse`].
    fn returning<P: Packet, T: Tables>(self, packet: &P, tables: &T, returning: Returning) -> Self::Done;
}

/// Notes the verdict.
struct Note;

impl Carrier for Note {
    type Done = Verdict;

    fn not_ours(self) -> Verdict {
        Verdict::NotOurs
    }

    fn refuse(self, tunnel: u32, reason: Reason) -> Verdict {
        Verdict::Refuse { tunnel, reason }
    }

    fn deliver(self, delivery: Delivery) -> Verdict {
        Verdict::Deliver(delivery)
    }

    fn returning<P: Packet, T: Tables>(self, packet: &P, tables: &T, returning: Returning) -> Verdict {
        match returning.judge(packet, tables) {
            Ok(reply) => Verdict::Reply(reply),
            Err(reason) => self.refuse(returning.tunnel, reason),
        }
    }
}

/// Decides on one packet.
pub fn decide<P: Packet, T: Tables>(packet: &P, tables: &T) -> Verdict {
    decide_and(packet, tables, Note)
}

/// Decides on one packet and has the verdict carried out. Rows are those of the packet table in the project's contract, in
/// its order.
#[inline(always)]
pub fn decide_and<P: Packet, T: Tables, C: Carrier>(packet: &P, tables: &T, carrier: C) -> C::Done {
    let Some(Front { link, may_be_gre }) = Front::read(packet) else {
        return carrier.not_ours();
    };
    if !may_be_gre {
        return without_tunnel(packet, tables, carrier, link, None);
    }
    match link.ether_type {
        ETHER_TYPE_IPV4 => match outer::v4(packet, link) {
            Some(outer) => decide_gre(packet, tables, carrier, link, &outer),
            None => without_tunnel(packet, tables, carrier, link, None),
        },
        ETHER_TYPE_IPV6 => match outer::v6(packet, link) {
            Some(outer) => decide_gre(packet, tables, carrier, link, &outer),
            None => without_tunnel(packet, tables, carrier, link, None),
        },
        _ => carrier.not_ours(),
    }
}

/// An address family, as far as look-ups are concerned.
trait Family: Address {
    fn tunnel<T: Tables>(tables: &T, endpoints: &Endpoints<Self>) -> Option<Tunnel>;
    fn is_local<T: Tables>(&self, tables: &T) -> bool;
}

impl Family for Ipv4 {
    #[inline(always)]
    fn tunnel<T: Tables>(tables: &T, endpoints: &Endpoints<Self>) -> Option<Tunnel> {
        tables.tunnel4(endpoints)
    }
    #[inline(always)]
    fn is_local<T: Tables>(&self, tables: &T) -> bool {
        tables.is_local4(self)
    }
}

impl Family for Ipv6 {
    #[inline(always)]
    fn tunnel<T: Tables>(tables: &T, endpoints: &Endpoints<Self>) -> Option<Tunnel> {
        tables.tunnel6(endpoints)
    }
    #[inline(always)]
    fn is_local<T: Tables>(&self, tables: &T) -> bool {
        tables.is_local6(self)
    }
}

/// Rows 2 to 18. A tunnel found means the destination is ours, so whether it is ours is asked only where none was found:
/// the good path pays for one look-up.
#[inline(always)]
fn decide_gre<P: Packet, T: Tables, C: Carrier, A: Family>(
    packet: &P,
    tables: &T,
    carrier: C,
    link: Link,
    outer: &Outer<A>,
) -> C::Done {
    let unmatched = |carrier: C, reason| {
        let reason = outer.destination.is_local(tables).then_some(reason);
        without_tunnel(packet, tables, carrier, link, reason)
    };
    let gre = match read_gre(packet, outer) {
        Ok(gre) => gre,
        Err(reason) => return unmatched(carrier, reason),
    };
    let Some(tunnel) = A::tunnel(tables, &Endpoints::new(outer.destination, outer.source, gre.key)) else {
        let drop = tables.drop_unknown();
        return unmatched(
            carrier,
            if drop {
                Reason::UnknownDropped
            } else {
                Reason::UnknownPassed
            },
        );
    };
    match check(packet, tables, link, outer, &gre, tunnel) {
        Ok(delivery) => carrier.deliver(delivery),
        // Perhaps; what is out of the ordinary is looked into out of the way.
        Err(Reason::Loop) => carrier.returning(packet, tables, Returning::of(tunnel, link, &outer.payload, &gre)),
        Err(reason) => carrier.refuse(tunnel.id, reason),
    }
}

/// What came by no tunnel: row 1, or for a `reason` of rows 2 to 9 if it is for a tunnel's local address. What would pass is subject
/// to lockdown.
#[inline(always)]
fn without_tunnel<P: Packet, T: Tables, C: Carrier>(
    packet: &P,
    tables: &T,
    carrier: C,
    link: Link,
    reason: Option<Reason>,
) -> C::Done {
    let passes = reason.is_none_or(|reason| reason.action() == Action::Pass);
    if passes && tables.breaks_lockdown(packet, link) {
        let is_enforced = tables.lockdown() == Guard::Enforce;
        return carrier.refuse(
            0,
            if is_enforced {
                Reason::Lockdown
            } else {
                Reason::LockdownMonitored
            },
        );
    }
    match reason {
        Some(reason) => carrier.refuse(0, reason),
        None => carrier.not_ours(),
    }
}

/// Rows 2 to 8.
#[inline(always)]
fn read_gre<P: Packet, A>(packet: &P, outer: &Outer<A>) -> Result<Gre, Reason> {
    if let Some(reason) = outer.trouble {
        return Err(reason);
    }
    Gre::parse(packet, &outer.payload)
}

/// Rows 10 to 16, protection, and that the frame is for this host where its packet is forwarded. [`Reason::Loop`] before row 16:
/// the inner packet is addressed to the outer source.
#[inline(always)]
fn check<P: Packet, T: Tables, A: Address>(
    packet: &P,
    tables: &T,
    link: Link,
    outer: &Outer<A>,
    gre: &Gre,
    tunnel: Tunnel,
) -> Result<Delivery, Reason> {
    let at = &outer.payload;
    if !tunnel.policy.enabled() {
        return Err(Reason::TunnelDisabled);
    }
    check_addressee(packet, tables, tunnel)?;
    check_checksum(packet, at, gre, tunnel)?;
    let restart = check_sequence(tables, gre, tunnel)?;
    let kind = match InnerTypes::of(gre.protocol) {
        Some(kind) if tunnel.policy.inner().contains(kind) => kind,
        _ => return Err(Reason::InnerProtocol),
    };
    let remark = inner::inspect(packet, kind, gre.payload, at, &outer.source)?;
    let fragment = inner::fragment(packet, kind, gre.payload);
    let inner = Inner {
        tunnel: tunnel.id,
        protocol: gre.protocol,
        start: gre.payload,
        end: at.end,
        bypasses: tunnel.policy.bypasses(),
        probes: tunnel.policy.routes_probes(),
    };
    let passage = tables.judge_inner(packet, &inner).settle()?;
    Ok(Delivery {
        tunnel: tunnel.id,
        link,
        ether_type: (kind != InnerTypes::ETHERNET).then_some(gre.protocol),
        inner: gre.payload,
        end: at.end,
        padding: at.padding,
        remark,
        outer_bytes: at.outer_bytes,
        restart,
        fragment,
        passage,
        deliver: tunnel.policy.deliver(),
        cores: tunnel.cores,
        mss: tunnel.policy.mss(),
    })
}

/// Promiscuous mode and flooding bring frames for others. The stack throws them away by itself; a program that forwards must not
/// take them for its own (RFC 1812 section 3.3.1).
#[inline(always)]
fn check_addressee<P: Packet, T: Tables>(packet: &P, tables: &T, tunnel: Tunnel) -> Result<(), Reason> {
    if !tables.forwards() {
        return Ok(());
    }
    // The delivery is asked for again at the end. If the compiler kept the answer until then, the verifier would walk all that is
    // between twice, once for each.
    if black_box(tunnel.policy).deliver() == Deliver::Stack {
        return Ok(());
    }
    match Mac::destination(packet) {
        Some(mac) if tables.is_own_mac(mac) => Ok(()),
        _ => Err(Reason::OtherHost),
    }
}

/// Rows 11 and 12. The checksum covers the GRE header and its payload (RFC 2784 section 2.3).
#[inline(always)]
fn check_checksum<P: Packet>(packet: &P, at: &Payload, gre: &Gre, tunnel: Tunnel) -> Result<(), Reason> {
    match (tunnel.policy.checksum(), gre.has_checksum()) {
        (ChecksumPolicy::Ignore, _) | (ChecksumPolicy::Optional | ChecksumPolicy::Forbidden, false) => Ok(()),
        (ChecksumPolicy::Required, false) | (ChecksumPolicy::Forbidden, true) => Err(Reason::ChecksumPolicy),
        (ChecksumPolicy::Optional | ChecksumPolicy::Required, true) => {
            let sum = packet.sum(at.gre, at.end - at.gre).ok_or(Reason::Internal)?;
            if checksum::is_valid(sum) {
                Ok(())
            } else {
                Err(Reason::ChecksumBad)
            }
        }
    }
}

/// Row 13. An absent number is no sign of a restart: it never moves the state. Gives whether the sender has restarted.
#[inline(always)]
fn check_sequence<T: Tables>(tables: &T, gre: &Gre, tunnel: Tunnel) -> Result<bool, Reason> {
    if !tunnel.policy.ordered() {
        if let Some(number) = gre.sequence() {
            tables.arrived(tunnel.id, number);
        }
        return Ok(false);
    }
    match tables.order(tunnel.id, gre.sequence().ok_or(Reason::Sequence)?) {
        Order::InOrder => Ok(false),
        Order::Restart => Ok(true),
        Order::Late => Err(Reason::Sequence),
    }
}
