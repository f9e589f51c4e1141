//! The other end of a veth, in this network namespace or another.

use std::io;

use anyhow::{Context, Result};
use libc::{IFLA_ADDRESS, IFLA_LINK, IFLA_LINK_NETNSID, IFLA_TARGET_NETNSID, RTM_GETLINK};
use netlink_packet_core::{DecodeError, DefaultNla, parse_i32, parse_mac, parse_u32};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::interface::{IFINFOMSG, Interface};
use super::netlink::{Message, Netlink};

/// The kind of a veth.
pub(super) const VETH: &str = "veth";

/// Where an interface's other end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Peer {
    index: u32,
    /// This network namespace's number for that of the peer; none if it is this.
    namespace: Option<i32>,
}

/// The MAC address of a veth's other end; none if the interface is no veth, its other end is gone, or that is in a network
/// namespace which this process may not look into.
///
/// # Errors
///
/// If the kernel cannot be asked.
pub fn peer_mac(interface: &Interface) -> Result<Option<[u8; 6]>> {
    if interface.kind.as_deref() != Some(VETH) {
        return Ok(None);
    }
    let mac = Netlink::open(NETLINK_ROUTE).and_then(|mut netlink| mac(&mut netlink, interface.index));
    mac.with_context(|| format!("{}: its other end cannot be looked up over rtnetlink", interface.name))
}

fn mac(netlink: &mut Netlink, interface_index: u32) -> io::Result<Option<[u8; 6]>> {
    let peer = link(netlink, interface_index, None)?.map(|link| Peer::decode(&link));
    let Some(peer) = peer.transpose().map_err(io::Error::other)?.flatten() else {
        return Ok(None);
    };
    let Some(link) = link(netlink, peer.index, peer.namespace)? else {
        return Ok(None);
    };
    link.split::<IFINFOMSG>()
        .and_then(|(_, attributes)| attributes.require(IFLA_ADDRESS, parse_mac))
        .map(Some)
        .map_err(io::Error::other)
}

/// The kernel's answer about an interface in a network namespace; none if there is none, or the asker may not know.
fn link(netlink: &mut Netlink, index: u32, namespace: Option<i32>) -> io::Result<Option<Message>> {
    let mut header = [0; IFINFOMSG];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    let namespace = namespace.map(|id| DefaultNla::new(IFLA_TARGET_NETNSID, id.to_ne_bytes().to_vec()));
    match netlink.get(&Message::new(RTM_GETLINK, &header, namespace.as_slice())) {
        Ok(links) => Ok(links.into_iter().next()),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EACCES | libc::EPERM)) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Peer {
    /// Where a veth's answer says that its peer is; none if it has none.
    fn decode(link: &Message) -> Result<Option<Self>, DecodeError> {
        let (_, attributes) = link.split::<IFINFOMSG>()?;
        let index = attributes.get(IFLA_LINK, parse_u32)?.filter(|&index| index != 0);
        // A negative number is that of a namespace which this one has no number for.
        let namespace = attributes.get(IFLA_LINK_NETNSID, parse_i32)?;
        Ok(match (index, namespace) {
            (Some(_), Some(..0)) | (None, _) => None,
            (Some(index), namespace) => Some(Self { index, namespace }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorded::{LINKS, message};
    use super::*;

    #[test]
    fn decodes_what_the_kernel_answers() {
        let decoded = |name| Peer::decode(&message(LINKS, name)).expect("decodable");
        let p1 = Peer {
            index: 2,
            namespace: None,
        };
        assert_eq!(decoded("p0"), Some(p1));
        let q1 = Peer {
            index: 40,
            namespace: Some(0),
        };
        assert_eq!(decoded("q0"), Some(q1));
        assert_eq!(decoded("lo"), None);
    }

    #[test]
    fn only_a_veth_has_another_end() {
        let lo = Interface::by_name("lo").expect("rtnetlink").expect("lo");
        assert_eq!(peer_mac(&lo).expect("no question to the kernel"), None);
    }
}
