//! The kernel's routing tables, as far as it takes to find a gateway (`RTM_GETROUTE`).

use std::io;
use std::net::IpAddr;

use anyhow::{Context, Result};
use libc::{
    AF_INET, AF_INET6, RT_TABLE_MAIN, RTA_GATEWAY, RTA_MULTIPATH, RTA_OIF, RTA_PRIORITY, RTA_TABLE, RTM_GETROUTE,
    RTN_UNICAST,
};
use netlink_packet_core::{DecodeError, DefaultNla, parse_ip, parse_u32};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::netlink::{Attributes, Message, Netlink};

/// Size of `struct rtmsg` of `linux/rtnetlink.h`.
pub(super) const RTMSG: usize = 12;
/// Size of `struct rtnexthop` there, and of what comes before the address in `struct rtvia`.
const RTNEXTHOP: usize = 8;
const RTVIA: usize = 2;

// What libc lacks for some C libraries: an IPv4 route's gateway of another family, and the flag of a next hop that is not
// used (`linux/rtnetlink.h`).
const RTA_VIA: u16 = 18;
const RTNH_F_DEAD: u8 = 1;

/// A default route's way through one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    /// The routing table.
    table: u32,
    metric: u32,
    gateway: IpAddr,
}

/// The gateway of the default route that leaves by an interface; none if there is no such route, or it has no gateway.
///
/// Of several the one for IPv4 comes before that for IPv6, then the one in the main table, then the one of lowest metric.
///
/// # Errors
///
/// If the kernel cannot be asked.
pub fn gateway_via(interface_index: u32) -> Result<Option<IpAddr>> {
    gateway(interface_index).context("routes: cannot be listed over rtnetlink")
}

fn gateway(interface_index: u32) -> io::Result<Option<IpAddr>> {
    let mut netlink = Netlink::open(NETLINK_ROUTE)?;
    // The kernel lists only what was asked for, which on a router may be little of very much.
    netlink.filter_dumps()?;
    for family in [AF_INET, AF_INET6] {
        let mut header = [0; RTMSG];
        header[0] = family as u8;
        let interface = DefaultNla::new(RTA_OIF, interface_index.to_ne_bytes().to_vec());
        let routes = netlink.dump(&Message::new(RTM_GETROUTE, &header, &[interface]))?;
        let best = best(&routes, interface_index).map_err(io::Error::other)?;
        if let Some(way) = best {
            return Ok(Some(way.gateway));
        }
    }
    Ok(None)
}

/// Whether a message is about a default route.
pub(super) fn is_default(message: &Message) -> bool {
    message
        .split::<RTMSG>()
        .is_ok_and(|(header, _)| destination_length(header) == 0)
}

fn destination_length(header: &[u8; RTMSG]) -> u8 {
    header[1]
}

fn best(routes: &[Message], interface_index: u32) -> Result<Option<Way>, DecodeError> {
    let mut best: Option<Way> = None;
    let rank = |way: &Way| (way.table != u32::from(RT_TABLE_MAIN), way.metric);
    for route in routes {
        let way = Way::decode(route, interface_index)?;
        // The first of equals stays: it is the one that the kernel takes.
        best = match (best, way) {
            (Some(best), Some(way)) if rank(&way) < rank(&best) => Some(way),
            (None, way) => way,
            (best, _) => best,
        };
    }
    Ok(best)
}

impl Way {
    /// The way of a route through an interface; none unless it is a default route with a gateway there.
    fn decode(route: &Message, interface_index: u32) -> Result<Option<Self>, DecodeError> {
        let (header, attributes) = route.split::<RTMSG>()?;
        let [_, _, _, _, table, _, _, kind, flags, ..] = *header;
        if destination_length(header) != 0 || kind != RTN_UNICAST {
            return Ok(None);
        }
        let gateway = match attributes.get(RTA_MULTIPATH, |hops| through_one_of(hops, interface_index))? {
            Some(gateway) => gateway,
            None if attributes.get(RTA_OIF, parse_u32)? != Some(interface_index) => None,
            None if flags & RTNH_F_DEAD != 0 => None,
            None => gateway_in(&attributes)?,
        };
        let table = attributes.get(RTA_TABLE, parse_u32)?.unwrap_or(table.into());
        let metric = attributes.get(RTA_PRIORITY, parse_u32)?.unwrap_or(0);
        Ok(gateway.map(|gateway| Self { table, metric, gateway }))
    }
}

/// The first gateway through an interface in a list of `struct rtnexthop`, each with its attributes.
fn through_one_of(mut hops: &[u8], interface_index: u32) -> Result<Option<IpAddr>, DecodeError> {
    while let Some(&[l0, l1, flags, _, i0, i1, i2, i3]) = hops.first_chunk::<RTNEXTHOP>() {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let attributes = hops.get(RTNEXTHOP..length);
        let attributes = attributes.ok_or_else(|| DecodeError::buffer_too_small(hops.len(), length))?;
        if u32::from_ne_bytes([i0, i1, i2, i3]) == interface_index
            && flags & RTNH_F_DEAD == 0
            && let Some(gateway) = gateway_in(&Attributes::parse(attributes)?)?
        {
            return Ok(Some(gateway));
        }
        hops = hops.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(None)
}

fn gateway_in(attributes: &Attributes<'_>) -> Result<Option<IpAddr>, DecodeError> {
    match attributes.get(RTA_GATEWAY, parse_ip)? {
        Some(gateway) => Ok(Some(gateway)),
        None => attributes.get(RTA_VIA, |via| parse_ip(via.get(RTVIA..).unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorded::{ROUTES, messages};
    use super::*;

    /// Indices in the recording.
    const V0: u32 = 3;
    const W0: u32 = 5;

    fn ways(family: &str, interface: u32) -> Vec<(u32, u32, String)> {
        let ways = messages(ROUTES, family)
            .into_iter()
            .filter_map(|route| Way::decode(&route, interface).expect("decodable"));
        ways.map(|way| (way.table, way.metric, way.gateway.to_string()))
            .collect()
    }

    fn best_of(family: &str, interface: u32) -> Option<String> {
        let best = best(&messages(ROUTES, family), interface).expect("decodable");
        best.map(|way| way.gateway.to_string())
    }

    #[test]
    fn decodes_what_the_kernel_answers() {
        let way = |table, metric, gateway: &str| (table, metric, gateway.to_owned());
        assert_eq!(
            ways("inet", V0),
            [
                way(100, 0, "10.0.0.4"),
                way(254, 50, "10.0.0.3"),
                way(254, 100, "10.0.0.2"),
                way(254, 400, "10.0.0.5"),
            ]
        );
        assert_eq!(
            ways("inet", W0),
            [
                way(254, 20, "10.1.0.7"),
                way(254, 300, "fe80::9"),
                way(254, 400, "10.1.0.5"),
            ]
        );
        assert_eq!(ways("inet6", V0), [way(254, 50, "fe80::3"), way(254, 1024, "fe80::2")]);
        assert_eq!(ways("inet6", W0), [way(254, 50, "fe80::4")]);
    }

    #[test]
    fn the_main_table_comes_first_then_the_lowest_metric() {
        assert_eq!(best_of("inet", V0).as_deref(), Some("10.0.0.3"));
        assert_eq!(best_of("inet", W0).as_deref(), Some("10.1.0.7"));
        assert_eq!(best_of("inet6", V0).as_deref(), Some("fe80::3"));
        assert_eq!(best_of("inet", 9), None);
    }

    #[test]
    fn what_is_dead_is_no_way() {
        let mut route = messages(ROUTES, "inet").remove(1);
        route.payload[8] |= RTNH_F_DEAD;
        assert_eq!(Way::decode(&route, W0).expect("decodable"), None);
        let mut route = messages(ROUTES, "inet6").remove(0);
        assert!(Way::decode(&route, V0).expect("decodable").is_some());
        // The flags of the first next hop: after the route's header, its table and metric, and the attribute's header.
        route.payload[RTMSG + 8 + 8 + 4 + 2] |= RTNH_F_DEAD;
        assert_eq!(Way::decode(&route, V0).expect("decodable"), None);
        assert!(Way::decode(&route, W0).expect("decodable").is_some());
    }

    #[test]
    fn an_answer_cut_short_is_an_error_or_right() {
        for family in ["inet", "inet6"] {
            for whole in messages(ROUTES, family) {
                for length in 0..whole.payload.len() {
                    let cut = Message {
                        kind: whole.kind,
                        payload: whole.payload[..length].to_vec(),
                    };
                    let cut = |interface| Way::decode(&cut, interface).ok().flatten().map(|way| way.gateway);
                    let all = |interface| {
                        Way::decode(&whole, interface)
                            .expect("decodable")
                            .map(|way| way.gateway)
                    };
                    for interface in [V0, W0] {
                        assert!(
                            cut(interface).is_none() || cut(interface) == all(interface),
                            "{length} bytes"
                        );
                    }
                }
            }
        }
    }
}
