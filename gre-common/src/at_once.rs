//! Deciding on what most packets are, in as few instructions as that takes.

use crate::{
    Carrier, Packet, Reason, Tables,
    decide::{Family, unknown, unmatched, without_tunnel},
    front::Front,
    link::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, VlanTags},
    protect,
    tunnel::{Deliver, Tunnel},
    usual::{
        Around6, Candidate, DoublyTagged4, Field, Field4, Headers, Inner4, InnerHeader, Kind, Outer4, Outer6,
        OuterHeader, Plain4, Plain6, Tagged4,
    },
};

/// Decides on what most packets are: nobody's GRE, or of [a usual form](crate::usual) without a fault. `None` leaves the rest, of
/// which nothing was changed or counted, to [`decide_in_full`](crate::decide_in_full), which decides the same of any packet.
#[inline(always)]
pub fn decide_at_once<P: Packet, T: Tables, C: Carrier>(packet: &P, tables: &T, carrier: C) -> Option<C::Done> {
    let Some(Front { link, may_be_gre }) = Front::read(packet) else {
        return Some(carrier.not_ours());
    };
    if !may_be_gre {
        return Some(without_tunnel(packet, tables, carrier, None));
    }
    match (link.ether_type, link.tags) {
        (ETHER_TYPE_IPV4, VlanTags::None) => {
            let headers = packet.beginning::<Plain4>()?;
            if headers.is_plain() {
                return decide_usual(packet, tables, carrier, headers, Field::None);
            }
            rare();
            match headers.kind()? {
                Kind::Keyed => decide_usual(packet, tables, carrier, packet.beginning::<Field4>()?, Field::Key),
                Kind::Numbered => decide_usual(packet, tables, carrier, packet.beginning::<Field4>()?, Field::Number),
                Kind::Summed => decide_usual(packet, tables, carrier, packet.beginning::<Field4>()?, Field::Checksum),
                Kind::Around6 => decide_around6::<_, _, _, Outer4>(packet, tables, carrier),
            }
        }
        (ETHER_TYPE_IPV4, VlanTags::One) => decide_if_plain(packet, tables, carrier, packet.beginning::<Tagged4>()?),
        (ETHER_TYPE_IPV4, VlanTags::Two) if tables.takes_doubly_tagged() => {
            decide_if_plain(packet, tables, carrier, packet.beginning::<DoublyTagged4>()?)
        }
        (ETHER_TYPE_IPV6, VlanTags::None) => {
            let headers = packet.beginning::<Plain6>()?;
            match headers.kind() {
                Some(Kind::Around6) => decide_around6::<_, _, _, Outer6>(packet, tables, carrier),
                _ => decide_if_plain(packet, tables, carrier, headers),
            }
        }
        _ => None,
    }
}

/// Tells the compiler that this is not what mostly happens.
#[cold]
const fn rare() {}

/// The same of a frame with these headers, if its GRE is the plainest.
#[inline(always)]
fn decide_if_plain<P: Packet, T: Tables, C: Carrier, const TAGS: usize, O: OuterHeader<Address: Family>>(
    packet: &P,
    tables: &T,
    carrier: C,
    headers: &Headers<TAGS, O, 0, Inner4>,
) -> Option<C::Done> {
    if headers.is_plain() {
        decide_usual(packet, tables, carrier, headers, Field::None)
    } else {
        None
    }
}

/// The same of a frame with such an outer header and no VLAN tag, whose GRE has no optional field and IPv6 inside.
#[inline(always)]
fn decide_around6<P: Packet, T: Tables, C: Carrier, O: OuterHeader<Address: Family>>(
    packet: &P,
    tables: &T,
    carrier: C,
) -> Option<C::Done> {
    let headers = packet.beginning::<Around6<O>>()?;
    decide_usual(packet, tables, carrier, headers, Field::None)
}

/// The same of a frame with these headers, whose GRE has this optional field.
#[inline(always)]
fn decide_usual<
    P: Packet,
    T: Tables,
    C: Carrier,
    const TAGS: usize,
    O: OuterHeader<Address: Family>,
    const FIELDS: usize,
    I: InnerHeader<Address: protect::Address>,
>(
    packet: &P,
    tables: &T,
    carrier: C,
    headers: &Headers<TAGS, O, FIELDS, I>,
    field: Field,
) -> Option<C::Done> {
    let candidate = Candidate::read(packet, headers, field)?;
    let endpoints = candidate.endpoints();
    let Some(tunnel) = O::Address::usual(tables, &endpoints) else {
        let reason = unknown(tables);
        return Some(unmatched(packet, tables, carrier, &endpoints.local, reason));
    };
    if tunnel.takes_usual_to_stack(I::TYPE, field) {
        return conclude_usual(packet, tables, carrier, &candidate, tunnel, Deliver::Stack);
    }
    if !tables.forwards() || !tunnel.takes_usual(I::TYPE, field) {
        return None;
    }
    match tunnel.policy.deliver() {
        Deliver::Stack => None,
        deliver if tables.is_own_mac_usual(headers.addressee()) => {
            conclude_usual(packet, tables, carrier, &candidate, tunnel, deliver)
        }
        _ => None,
    }
}

/// Rows 11 to 13 and protection, once all else was asked. What may leave the packet to the general way comes before its number is judged:
/// the state would be moved twice.
#[inline(always)]
fn conclude_usual<
    P: Packet,
    T: Tables,
    C: Carrier,
    const TAGS: usize,
    O: OuterHeader,
    const FIELDS: usize,
    I: InnerHeader<Address: protect::Address>,
>(
    packet: &P,
    tables: &T,
    carrier: C,
    candidate: &Candidate<'_, TAGS, O, FIELDS, I>,
    tunnel: Tunnel,
    deliver: Deliver,
) -> Option<C::Done> {
    if !candidate.is_intact(packet)? {
        return Some(carrier.refuse(tunnel.id, Reason::ChecksumBad));
    }
    let judged = protect::usual(tables, &candidate.inner_destination())?;
    let ordered = order_usual(tables, candidate.number(), tunnel);
    Some(match ordered.and_then(|restart| judged.map(|()| restart)) {
        Ok(restart) => carrier.deliver_usual(candidate.by(tunnel, restart, deliver)),
        Err(reason) => carrier.refuse(tunnel.id, reason),
    })
}

/// Row 13.
#[inline(always)]
fn order_usual<T: Tables>(tables: &T, number: Option<u32>, tunnel: Tunnel) -> Result<bool, Reason> {
    let Some(number) = number else {
        return Ok(false);
    };
    if !tunnel.policy.ordered() {
        tables.arrived_usual(tunnel.id, number);
        return Ok(false);
    }
    tables.order_usual(tunnel.id, number).restarts()
}
