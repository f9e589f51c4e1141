//! A packet's whole way, in the order of the packet table.

use core::hint::black_box;

use crate::{
    Action, Carrier, Delivery, Packet, Reason, Tables, Verdict,
    at_once::decide_at_once,
    checksum,
    endpoints::{Address, Endpoints, Ipv4, Ipv6},
    front::Front,
    gre::Gre,
    inner,
    keepalive::Returning,
    link::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, Link, Mac},
    outer::{self, Outer, Payload},
    protect::{Guard, Inner},
    tunnel::{ChecksumPolicy, Deliver, InnerTypes, Tunnel},
    usual::{Form, Usual},
};

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

    fn deliver_usual<F: Form>(self, usual: Usual<'_, F>) -> Verdict {
        Verdict::Deliver(usual.delivery())
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
    decide_at_once(packet, tables, Note).unwrap_or_else(|| decide_in_full(packet, tables, Note))
}

/// Decides on one packet and has the verdict carried out. Rows are those of the packet table in the project's contract, in
/// its order.
#[inline(always)]
pub fn decide_in_full<P: Packet, T: Tables, C: Carrier>(packet: &P, tables: &T, carrier: C) -> C::Done {
    let Some(Front { link, may_be_gre }) = Front::read(packet) else {
        return carrier.not_ours();
    };
    if !may_be_gre {
        return without_tunnel(packet, tables, carrier, None);
    }
    match link.ether_type {
        ETHER_TYPE_IPV4 => match outer::v4(packet, link) {
            Some(outer) => decide_gre(packet, tables, carrier, link, &outer),
            None => without_tunnel(packet, tables, carrier, None),
        },
        ETHER_TYPE_IPV6 => match outer::v6(packet, link) {
            Some(outer) => decide_gre(packet, tables, carrier, link, &outer),
            None => without_tunnel(packet, tables, carrier, None),
        },
        _ => carrier.not_ours(),
    }
}

/// An address family, as far as look-ups are concerned.
pub(crate) trait Family: Address {
    fn tunnel<T: Tables>(tables: &T, endpoints: &Endpoints<Self>) -> Option<Tunnel>;
    fn usual<T: Tables>(tables: &T, endpoints: &Endpoints<Self>) -> Option<Tunnel>;
    fn is_local<T: Tables>(&self, tables: &T) -> bool;
}

impl Family for Ipv4 {
    #[inline(always)]
    fn tunnel<T: Tables>(tables: &T, endpoints: &Endpoints<Self>) -> Option<Tunnel> {
        tables.tunnel4(endpoints)
    }
    #[inline(always)]
    fn usual<T: Tables>(tables: &T, endpoints: &Endpoints<Self>) -> Option<Tunnel> {
        tables.usual4(endpoints)
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
    fn usual<T: Tables>(tables: &T, endpoints: &Endpoints<Self>) -> Option<Tunnel> {
        tables.usual6(endpoints)
    }
    #[inline(always)]
    fn is_local<T: Tables>(&self, tables: &T) -> bool {
        tables.is_local6(self)
    }
}

/// Rows 2 to 18.
#[inline(always)]
fn decide_gre<P: Packet, T: Tables, C: Carrier, A: Family>(
    packet: &P,
    tables: &T,
    carrier: C,
    link: Link,
    outer: &Outer<A>,
) -> C::Done {
    match read_gre(packet, outer) {
        Ok(gre) => decide_read(packet, tables, carrier, link, outer, &gre),
        Err(reason) => unmatched(packet, tables, carrier, &outer.destination, reason),
    }
}

/// Rows 9 to 18. A tunnel found means the destination is ours, so whether it is ours is asked only where none was found:
/// the good path pays for one look-up.
#[inline(always)]
fn decide_read<P: Packet, T: Tables, C: Carrier, A: Family>(
    packet: &P,
    tables: &T,
    carrier: C,
    link: Link,
    outer: &Outer<A>,
    gre: &Gre,
) -> C::Done {
    let Some(tunnel) = A::tunnel(tables, &Endpoints::new(outer.destination, outer.source, gre.key)) else {
        return unmatched(packet, tables, carrier, &outer.destination, unknown(tables));
    };
    match check(packet, tables, link, outer, gre, tunnel) {
        Ok(delivery) => carrier.deliver(delivery),
        // Perhaps; what is out of the ordinary is looked into out of the way.
        Err(Reason::Loop) => carrier.returning(packet, tables, Returning::of(tunnel, link, &outer.payload, gre)),
        Err(reason) => carrier.refuse(tunnel.id, reason),
    }
}

/// Row 9.
#[inline(always)]
pub(crate) fn unknown<T: Tables>(tables: &T) -> Reason {
    if tables.drop_unknown() {
        Reason::UnknownDropped
    } else {
        Reason::UnknownPassed
    }
}

/// What no tunnel is known of, for a `reason` of rows 2 to 9, which counts only if the packet is for a tunnel's local address.
#[inline(always)]
pub(crate) fn unmatched<P: Packet, T: Tables, C: Carrier, A: Family>(
    packet: &P,
    tables: &T,
    carrier: C,
    destination: &A,
    reason: Reason,
) -> C::Done {
    let reason = destination.is_local(tables).then_some(reason);
    without_tunnel(packet, tables, carrier, reason)
}

/// What came by no tunnel: row 1, or for a `reason` of rows 2 to 9 if it is for a tunnel's local address. What would pass is subject
/// to lockdown.
#[inline(always)]
pub(crate) fn without_tunnel<P: Packet, T: Tables, C: Carrier>(
    packet: &P,
    tables: &T,
    carrier: C,
    reason: Option<Reason>,
) -> C::Done {
    let passes = reason.is_none_or(|reason| reason.action() == Action::Pass);
    if passes && tables.breaks_lockdown(packet) {
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
    let restart = check_sequence(tables, gre.sequence(), tunnel)?;
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
fn check_sequence<T: Tables>(tables: &T, number: Option<u32>, tunnel: Tunnel) -> Result<bool, Reason> {
    if !tunnel.policy.ordered() {
        if let Some(number) = number {
            tables.arrived(tunnel.id, number);
        }
        return Ok(false);
    }
    tables.order(tunnel.id, number.ok_or(Reason::Sequence)?).restarts()
}
