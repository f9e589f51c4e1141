//! Addresses and prefixes.
//!
//! They are compared as numbers of 32 or 128 bits, never as text: `2001:db8::1` and `2001:0db8:0:0::1/128` are the same.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::error::ConfigError;
use super::item::Item;

/// A unicast address that a host can have.
pub(super) fn host(item: &Item<'_>) -> Result<IpAddr, ConfigError> {
    let address = item
        .string()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| item.expected("an IPv4 or IPv6 address without a prefix length"))?;
    refuse_mapped(item, address)?;
    match not_unicast(address) {
        Some(kind) => Err(item.error(format!("{} is {kind}; write the address of a host", item.written()))),
        None => Ok(address),
    }
}

/// The far ends of a tunnel: one or a list of addresses, prefixes or "any", of the family of `local`.
pub(super) fn remotes(item: &Item<'_>, local: IpAddr) -> Result<Vec<IpNet>, ConfigError> {
    let Some(elements) = item.elements() else {
        return Ok(vec![remote(item, local)?]);
    };
    if elements.len() == 0 {
        return Err(item.error("the list is empty; write at least one address or prefix, or \"any\""));
    }
    distinct(elements, |element| remote(element, local))
}

fn remote(item: &Item<'_>, local: IpAddr) -> Result<IpNet, ConfigError> {
    if item.string() == Some("any") {
        return Ok(match local {
            IpAddr::V4(_) => IpNet::V4(Default::default()),
            IpAddr::V6(_) => IpNet::V6(Default::default()),
        });
    }
    let remote = parse(item, "an address, a prefix or \"any\"")?;
    let family = |ipv4| if ipv4 { "IPv4" } else { "IPv6" };
    if remote.addr().is_ipv4() != local.is_ipv4() {
        return Err(item.error(format!(
            "{} is {}, but `local` {local} is {local_family}; write an {local_family} address or prefix",
            item.written(),
            family(remote.addr().is_ipv4()),
            local_family = family(local.is_ipv4()),
        )));
    }
    if remote.addr().is_unspecified() && is_host(&remote) {
        return Err(item.error(format!(
            "{} is no address of a host; write \"any\" for every remote",
            item.written()
        )));
    }
    if remote == IpNet::from(local) {
        return Err(item.error(format!(
            "{} is the tunnel's own `local`; write the far end's address",
            item.written()
        )));
    }
    refuse_not_unicast(item, remote)
}

/// A list of addresses and prefixes that hosts can have, of both families; it may be empty.
pub(super) fn unicast_prefixes(item: &Item<'_>) -> Result<Vec<IpNet>, ConfigError> {
    distinct(list(item)?, |element| refuse_not_unicast(element, prefix(element)?))
}

/// A list of addresses and prefixes of both families, multicast groups too; it may be empty.
pub(super) fn prefixes(item: &Item<'_>) -> Result<Vec<IpNet>, ConfigError> {
    distinct(list(item)?, prefix)
}

fn list<'a>(item: &Item<'a>) -> Result<impl ExactSizeIterator<Item = Item<'a>> + use<'a>, ConfigError> {
    item.elements()
        .ok_or_else(|| item.expected("a list of addresses and prefixes"))
}

fn prefix(item: &Item<'_>) -> Result<IpNet, ConfigError> {
    parse(item, "an IPv4 or IPv6 address or prefix")
}

fn distinct<'a>(
    elements: impl ExactSizeIterator<Item = Item<'a>>,
    read: impl Fn(&Item<'a>) -> Result<IpNet, ConfigError>,
) -> Result<Vec<IpNet>, ConfigError> {
    let mut seen = HashSet::new();
    let mut prefixes = Vec::with_capacity(elements.len());
    for element in elements {
        let prefix = read(&element)?;
        if !seen.insert(prefix) {
            let written = element.written();
            return Err(element.error(format!("{written} is listed twice; remove one")));
        }
        prefixes.push(prefix);
    }
    Ok(prefixes)
}

/// Parses an address, as a prefix of full length, or a prefix without host bits.
fn parse(item: &Item<'_>, expected: &str) -> Result<IpNet, ConfigError> {
    let text = item.string().ok_or_else(|| item.expected(expected))?;
    let (address, length) = text
        .split_once('/')
        .map_or((text, None), |(address, length)| (address, Some(length)));
    let address: IpAddr = address.parse().map_err(|_| item.expected(expected))?;
    let longest = if address.is_ipv4() {
        Ipv4Addr::BITS
    } else {
        Ipv6Addr::BITS
    };
    let prefix = match length {
        None => IpNet::from(address),
        Some(digits) => decimal(digits)
            .and_then(|length| IpNet::new(address, length).ok())
            .ok_or_else(|| item.expected(format!("a prefix length from 0 to {longest}")))?,
    };
    if prefix != prefix.trunc() {
        return Err(item.error(format!(
            "{} has host bits set; write {}",
            item.written(),
            prefix.trunc()
        )));
    }
    refuse_mapped(item, address)?;
    Ok(prefix)
}

/// Digits alone: `u8::from_str` would take a plus sign.
fn decimal(digits: &str) -> Option<u8> {
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())
        .flatten()
}

/// RFC 4291 section 2.5.5.2 gives IPv4-mapped addresses to programming interfaces; no packet carries one.
fn refuse_mapped(item: &Item<'_>, address: IpAddr) -> Result<(), ConfigError> {
    match address {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Err(item.error(format!(
            "{} is IPv4-mapped, which no packet carries; write it as IPv4",
            item.written()
        ))),
        _ => Ok(()),
    }
}

fn refuse_not_unicast(item: &Item<'_>, prefix: IpNet) -> Result<IpNet, ConfigError> {
    let address = prefix.network();
    match not_unicast(address).filter(|_| is_host(&prefix) || address.is_multicast()) {
        Some(kind) => Err(item.error(format!("{} is {kind}; write unicast addresses", item.written()))),
        None => Ok(prefix),
    }
}

fn is_host(prefix: &IpNet) -> bool {
    prefix.prefix_len() == prefix.max_prefix_len()
}

/// What the address is, if no host can have it.
fn not_unicast(address: IpAddr) -> Option<&'static str> {
    match address {
        _ if address.is_unspecified() => Some("the unspecified address"),
        _ if address.is_multicast() => Some("multicast"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast address"),
        _ => None,
    }
}
