//! The kernel's neighbour table: which link-layer addresses the hosts on a link have (`RTM_GETNEIGH`).

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Instant;

use anyhow::{Context, Result};
use libc::{
    AF_INET, AF_INET6, NDA_DST, NDA_LLADDR, NTF_USE, NUD_DELAY, NUD_FAILED, NUD_NOARP, NUD_PERMANENT, NUD_PROBE,
    NUD_REACHABLE, NUD_STALE, RTM_GETNEIGH, RTM_NEWNEIGH, RTNLGRP_NEIGH,
};
use netlink_packet_core::{DecodeError, DefaultNla, parse_mac};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::netlink::{Message, Netlink};
use super::subscription::Subscription;

/// Size of `struct ndmsg` of `linux/neighbour.h`.
const NDMSG: usize = 12;

/// States in which the kernel itself sends to the address that it has (`NUD_VALID` of `net/neighbour.h`).
const USABLE: u16 = NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY;

/// What the table has for an IP address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Neighbour {
    /// NUD_*.
    state: u16,
    mac: Option<[u8; 6]>,
}

/// The MAC address that the kernel would send to now for an IP address on a link; none if it has none.
///
/// # Errors
///
/// If the kernel cannot be asked, or there is no such interface.
pub fn mac_of(interface_index: u32, address: IpAddr) -> Result<Option<[u8; 6]>> {
    let neighbour = Netlink::open(NETLINK_ROUTE).and_then(|mut netlink| look(&mut netlink, interface_index, address));
    let neighbour = neighbour.with_context(|| format!("neighbour {address}: cannot be looked up over rtnetlink"))?;
    Ok(neighbour.and_then(Neighbour::usable))
}

/// Makes the kernel ask the link for an IP address that it does not know, and does not wait for the answer: so that many can be
/// waited for at once.
///
/// # Errors
///
/// If the kernel cannot be asked, or there is no such interface.
pub fn prompt(interface_index: u32, address: IpAddr) -> Result<()> {
    Netlink::open(NETLINK_ROUTE)
        .and_then(|mut netlink| {
            let known = look(&mut netlink, interface_index, address)?.and_then(Neighbour::usable);
            match known {
                Some(_) => Ok(()),
                None => netlink.set(&request(RTM_NEWNEIGH, interface_index, address, NTF_USE)),
            }
        })
        .with_context(|| format!("neighbour {address}: cannot be resolved over rtnetlink"))
}

/// The MAC address of an IP address on a link, for which the kernel asks the link if it must; none if nobody has answered
/// by the deadline or the kernel gives up twice.
///
/// An address that was not confirmed for long is returned at once, and the kernel made to confirm it.
///
/// # Errors
///
/// If the kernel cannot be asked, or there is no such interface.
pub fn resolve(interface_index: u32, address: IpAddr, deadline: Instant) -> Result<Option<[u8; 6]>> {
    resolve_by(interface_index, address, deadline)
        .with_context(|| format!("neighbour {address}: cannot be resolved over rtnetlink"))
}

/// Makes the kernel confirm the neighbours on these interfaces that were not confirmed for long.
///
/// The kernel does so by itself when it sends to one, but not when XDP does: without, a next hop that has another address now
/// would keep the old one for as long as the table has room.
///
/// # Errors
///
/// If the kernel cannot be asked.
pub fn confirm_stale(interfaces: &BTreeSet<u32>) -> Result<()> {
    let confirm = || {
        let mut netlink = Netlink::open(NETLINK_ROUTE)?;
        for answer in netlink.dump(&Message::new(RTM_GETNEIGH, &[0; NDMSG], &[]))? {
            let Some((interface, address)) = stale(&answer).map_err(io::Error::other)? else {
                continue;
            };
            if interfaces.contains(&interface) {
                match netlink.set(&request(RTM_NEWNEIGH, interface, address, NTF_USE)) {
                    // The interface has gone since.
                    Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
                    result => result?,
                }
            }
        }
        io::Result::Ok(())
    };
    confirm().context("neighbours: cannot be confirmed over rtnetlink")
}

/// The interface and address of a neighbour that was not confirmed for long.
fn stale(answer: &Message) -> Result<Option<(u32, IpAddr)>, DecodeError> {
    let (header, attributes) = answer.split::<NDMSG>()?;
    let [_, _, _, _, i0, i1, i2, i3, s0, s1, ..] = *header;
    if u16::from_ne_bytes([s0, s1]) != NUD_STALE {
        return Ok(None);
    }
    let address = attributes.get(NDA_DST, |address| Ok(ip(address)))?.flatten();
    Ok(address.map(|address| (u32::from_ne_bytes([i0, i1, i2, i3]), address)))
}

fn ip(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

fn resolve_by(interface_index: u32, address: IpAddr, deadline: Instant) -> io::Result<Option<[u8; 6]>> {
    let mut netlink = Netlink::open(NETLINK_ROUTE)?;
    // Before the question, so that no answer is missed.
    let told = Subscription::open(&[RTNLGRP_NEIGH])?;
    let before = look(&mut netlink, interface_index, address)?;
    if let Some(neighbour) = before
        && let Some(mac) = neighbour.usable()
    {
        // In all other states of these it is confirmed, about to be, or nobody's business but the operator's.
        if neighbour.state == NUD_STALE {
            netlink.set(&request(RTM_NEWNEIGH, interface_index, address, NTF_USE))?;
        }
        return Ok(Some(mac));
    }
    netlink.set(&request(RTM_NEWNEIGH, interface_index, address, NTF_USE))?;
    let mut again = true;
    loop {
        let now = look(&mut netlink, interface_index, address)?;
        if let Some(mac) = now.and_then(Neighbour::usable) {
            return Ok(Some(mac));
        }
        if now.is_some_and(|neighbour| neighbour.state == NUD_FAILED) {
            // What the kernel has just given up may be what it was asked before; the question of this call is then still to ask.
            if !again {
                return Ok(None);
            }
            again = false;
            netlink.set(&request(RTM_NEWNEIGH, interface_index, address, NTF_USE))?;
        }
        if !told.wait(deadline)? {
            return Ok(None);
        }
        // Whatever it says, the table says it too.
        told.drain(|_| true)?;
    }
}

/// Whether a message tells that a neighbour's address is known, or that the kernel has given up asking for it.
pub(super) fn is_settled(message: &Message) -> bool {
    Neighbour::decode(message).is_ok_and(|neighbour| neighbour.state & (USABLE | NUD_FAILED) != 0)
}

fn look(netlink: &mut Netlink, interface_index: u32, address: IpAddr) -> io::Result<Option<Neighbour>> {
    match netlink.get(&request(RTM_GETNEIGH, interface_index, address, 0)) {
        Ok(answers) => answers
            .first()
            .map(Neighbour::decode)
            .transpose()
            .map_err(io::Error::other),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A request about one neighbour, with flags NTF_*.
fn request(kind: u16, interface_index: u32, address: IpAddr, flags: u8) -> Message {
    let (family, octets) = match address {
        IpAddr::V4(address) => (AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (AF_INET6, address.octets().to_vec()),
    };
    let mut header = [0; NDMSG];
    header[0] = family as u8;
    header[4..8].copy_from_slice(&interface_index.to_ne_bytes());
    header[10] = flags;
    Message::new(kind, &header, &[DefaultNla::new(NDA_DST, octets)])
}

impl Neighbour {
    fn decode(answer: &Message) -> Result<Self, DecodeError> {
        let (header, attributes) = answer.split::<NDMSG>()?;
        let [_, _, _, _, _, _, _, _, s0, s1, ..] = *header;
        Ok(Self {
            state: u16::from_ne_bytes([s0, s1]),
            mac: attributes.get(NDA_LLADDR, |mac| Ok(parse_mac(mac).ok()))?.flatten(),
        })
    }

    fn usable(self) -> Option<[u8; 6]> {
        self.mac.filter(|_| self.state & USABLE != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorded::{NEIGHBOURS, message};
    use super::*;

    #[test]
    fn decodes_what_the_kernel_answers() {
        let decoded = |address| Neighbour::decode(&message(NEIGHBOURS, address)).expect("decodable");
        let stale = Neighbour {
            state: NUD_STALE,
            mac: Some([2, 0, 0, 0, 0, 3]),
        };
        assert_eq!(decoded("10.0.0.3"), stale);
        for (address, mac) in [
            ("10.0.0.2", Some([2, 0, 0, 0, 0, 2])),
            ("10.0.0.3", Some([2, 0, 0, 0, 0, 3])),
            ("10.0.0.4", None),
            ("10.0.0.5", None),
            ("fe80::2", Some([2, 0, 0, 0, 0, 2])),
            ("ff02::16", Some([0x33, 0x33, 0, 0, 0, 0x16])),
        ] {
            assert_eq!(decoded(address).usable(), mac, "{address}");
        }
        assert_eq!(decoded("10.0.0.5").state, NUD_FAILED);
        // The kernel keeps the address of one that has failed since.
        let failed = Neighbour {
            state: NUD_FAILED,
            ..stale
        };
        assert_eq!(failed.usable(), None);
    }
}
