//! Which addresses are this host's own.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use libc::{AF_INET, AF_INET6, IFA_ADDRESS, IFA_LOCAL, RTA_DST, RTM_GETADDR, RTM_GETROUTE, RTN_LOCAL};
use netlink_packet_core::{DecodeError, DefaultNla, parse_ip};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::netlink::{Message, Netlink};
use super::routes::RTMSG;

/// Size of `struct ifaddrmsg` of `linux/if_addr.h`.
const IFADDRMSG: usize = 8;

/// Those of the addresses that packets are delivered to here: an interface has them, or a route of type `local` covers
/// them.
pub(super) fn local(wanted: &BTreeSet<IpAddr>) -> io::Result<BTreeSet<IpAddr>> {
    let mut netlink = Netlink::open(NETLINK_ROUTE)?;
    // Addresses first, for the routes to those of a VRF are not in the table that a look-up starts from.
    let assigned = assigned(&mut netlink)?;
    let mut local = BTreeSet::new();
    for &address in wanted {
        if assigned.contains(&address) || is_routed_here(&mut netlink, address)? {
            local.insert(address);
        }
    }
    Ok(local)
}

/// Those of the prefixes that have an address in them which packets are delivered to here: an interface has it, or a route
/// of type `local` covers the prefix.
pub(super) fn within(prefixes: &[IpNet]) -> io::Result<BTreeSet<IpNet>> {
    let mut within = BTreeSet::new();
    if prefixes.is_empty() {
        return Ok(within);
    }
    let mut netlink = Netlink::open(NETLINK_ROUTE)?;
    let assigned = assigned(&mut netlink)?;
    for prefix in prefixes {
        if assigned.iter().any(|address| prefix.contains(address)) || is_routed_here(&mut netlink, prefix.network())? {
            within.insert(*prefix);
        }
    }
    Ok(within)
}

/// The addresses that interfaces have.
fn assigned(netlink: &mut Netlink) -> io::Result<BTreeSet<IpAddr>> {
    let answers = netlink.dump(&Message::new(RTM_GETADDR, &[0; IFADDRMSG], &[]))?;
    let addresses: Result<BTreeSet<_>, _> = answers.iter().map(address).collect();
    Ok(addresses.map_err(io::Error::other)?.into_iter().flatten().collect())
}

/// The address that an answer is about. On a point-to-point link IFA_ADDRESS is the other end's, and IFA_LOCAL ours.
fn address(answer: &Message) -> Result<Option<IpAddr>, DecodeError> {
    let (_, attributes) = answer.split::<IFADDRMSG>()?;
    match attributes.get(IFA_LOCAL, parse_ip)? {
        Some(local) => Ok(Some(local)),
        None => attributes.get(IFA_ADDRESS, parse_ip),
    }
}

fn is_routed_here(netlink: &mut Netlink, address: IpAddr) -> io::Result<bool> {
    let (family, octets) = match address {
        IpAddr::V4(address) => (AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (AF_INET6, address.octets().to_vec()),
    };
    let mut header = [0; RTMSG];
    header[0] = family as u8;
    header[1] = octets.len() as u8 * 8;
    let answers = match netlink.get(&Message::new(
        RTM_GETROUTE,
        &header,
        &[DefaultNla::new(RTA_DST, octets)],
    )) {
        Ok(answers) => answers,
        // No route, or one of type unreachable, prohibit or blackhole.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL)
            ) =>
        {
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    let Some(route) = answers.first() else { return Ok(false) };
    let (header, _) = route.split::<RTMSG>().map_err(io::Error::other)?;
    let [_, _, _, _, _, _, _, kind, ..] = *header;
    Ok(kind == RTN_LOCAL)
}
