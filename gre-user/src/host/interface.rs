//! Network interfaces as the kernel has them: rtnetlink's `RTM_GETLINK`.

use std::io;

use anyhow::{Context, Result};
use libc::{
    IFLA_ADDRESS, IFLA_EXT_MASK, IFLA_IFNAME, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MTU, IFLA_XDP,
    RTEXT_FILTER_SKIP_STATS, RTM_GETLINK,
};
use netlink_packet_core::{DecodeError, DefaultNla, parse_mac, parse_u32};
use netlink_sys::protocols::NETLINK_ROUTE;
use serde::Serialize;
use strum::Display;

use super::ethtool;
use super::netlink::{Attributes, Message, Netlink, text, zero_terminated};

/// Size of `struct ifinfomsg` of `linux/rtnetlink.h`.
pub(super) const IFINFOMSG: usize = 16;

/// Attributes nested in `IFLA_XDP` of `linux/if_link.h`: the id of the program of each mode.
const IFLA_XDP_PROG_IDS: [(u16, XdpMode); 3] = [(5, XdpMode::Native), (6, XdpMode::Generic), (7, XdpMode::Offload)];

/// Hardware types of `linux/if_arp.h` whose frames start with an Ethernet header: ARPHRD_ETHER, ARPHRD_LOOPBACK.
const ETHERNET: [u16; 2] = [1, 772];

/// A network interface of the calling thread's network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its index.
    pub index: u32,
    /// Its name; bytes that are no UTF-8 replaced.
    pub name: String,
    /// The longest network-layer packet it sends, in bytes, without link header.
    pub mtu: u32,
    /// Whether it is set up (`IFF_UP`).
    pub is_up: bool,
    /// Whether there is something at the other end (`IFF_LOWER_UP`).
    pub has_carrier: bool,
    /// Whether its frames start with an Ethernet header.
    pub is_ethernet: bool,
    /// Its link-layer address, if that has six bytes.
    pub mac: Option<[u8; 6]>,
    /// The kind of a virtual interface, as `ip link add … type` takes it: "veth", "vlan", "gre". None for hardware.
    pub kind: Option<String>,
    /// The driver's name, if it gives one: "mlx5_core", "virtio_net", "veth".
    pub driver: Option<String>,
    /// The XDP programs attached to it: at most one of each mode.
    pub xdp: Vec<AttachedXdp>,
}

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AttachedXdp {
    /// Where it runs.
    pub mode: XdpMode,
    /// The kernel's id for it, as `bpftool prog show id` takes it.
    pub program_id: u32,
}

/// Where an XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, Serialize)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum XdpMode {
    /// In the driver, before an skb exists.
    Native,
    /// In the stack, on an skb.
    Generic,
    /// In the network card.
    Offload,
}

impl Interface {
    /// The interface of a name, if there is one. Alternative names (`ip link property`) count.
    ///
    /// # Errors
    ///
    /// When the kernel cannot be asked.
    pub fn by_name(name: &str) -> Result<Option<Self>> {
        // The kernel calls a name that no interface can have a malformed request.
        if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains('\0') {
            return Ok(None);
        }
        let attributes = [
            DefaultNla::new(IFLA_IFNAME, zero_terminated(name)),
            without_statistics(),
        ];
        let request = Message::new(RTM_GETLINK, &[0; IFINFOMSG], &attributes);
        match Netlink::open(NETLINK_ROUTE).and_then(|mut netlink| netlink.get(&request)) {
            Ok(links) => links.first().map(Self::from_link).transpose(),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
        .with_context(|| format!("{name}: cannot be looked up over rtnetlink"))
    }

    fn from_link(link: &Message) -> io::Result<Self> {
        let mut interface = Self::decode(link).map_err(io::Error::other)?;
        interface.driver = ethtool::driver(&interface.name)?;
        Ok(interface)
    }

    /// All but the driver, which rtnetlink does not know.
    fn decode(link: &Message) -> Result<Self, DecodeError> {
        let (header, attributes) = link.split::<IFINFOMSG>()?;
        let [_, _, t0, t1, i0, i1, i2, i3, f0, f1, f2, f3, ..] = *header;
        let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
        let has = |flag: libc::c_int| flags & flag.cast_unsigned() != 0;
        let info = attributes.get(IFLA_LINKINFO, Attributes::parse)?.unwrap_or_default();
        Ok(Self {
            index: u32::from_ne_bytes([i0, i1, i2, i3]),
            name: attributes.require(IFLA_IFNAME, text)?,
            mtu: attributes.require(IFLA_MTU, parse_u32)?,
            is_up: has(libc::IFF_UP),
            has_carrier: has(libc::IFF_LOWER_UP),
            is_ethernet: ETHERNET.contains(&u16::from_ne_bytes([t0, t1])),
            mac: attributes
                .get(IFLA_ADDRESS, |address| Ok(parse_mac(address).ok()))?
                .flatten(),
            kind: info.get(IFLA_INFO_KIND, text)?,
            driver: None,
            xdp: programs(&attributes.get(IFLA_XDP, Attributes::parse)?.unwrap_or_default())?,
        })
    }
}

/// All interfaces, in the order of their indices.
///
/// # Errors
///
/// When the kernel cannot be asked.
pub fn interfaces() -> Result<Vec<Interface>> {
    links()
        .and_then(|links| links.iter().map(Interface::from_link).collect())
        .context("interfaces: cannot be listed over rtnetlink")
}

/// The kernel's answers about all interfaces (`RTM_NEWLINK`).
pub(super) fn links() -> io::Result<Vec<Message>> {
    Netlink::open(NETLINK_ROUTE)?.dump(&Message::new(RTM_GETLINK, &[0; IFINFOMSG], &[without_statistics()]))
}

/// An answer is a third as long without them.
fn without_statistics() -> DefaultNla {
    DefaultNla::new(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS.to_ne_bytes().to_vec())
}

fn programs(xdp: &Attributes<'_>) -> Result<Vec<AttachedXdp>, DecodeError> {
    let program = |(attribute, mode)| {
        let id = xdp.get(attribute, parse_u32);
        id.map(|id| id.map(|program_id| AttachedXdp { mode, program_id }))
            .transpose()
    };
    IFLA_XDP_PROG_IDS.into_iter().filter_map(program).collect()
}

#[cfg(test)]
mod tests {
    use super::super::recorded::{LINKS, message};
    use super::*;

    #[test]
    fn decodes_what_the_kernel_answers() {
        let decoded = |name| Interface::decode(&message(LINKS, name)).expect("decodable");
        let v0 = Interface {
            index: 3,
            name: "v0".to_owned(),
            mtu: 1500,
            is_up: true,
            has_carrier: true,
            is_ethernet: true,
            mac: Some([0x0e, 0x4b, 0x73, 0xcb, 0x6e, 0x99]),
            kind: Some("veth".to_owned()),
            driver: None,
            xdp: vec![AttachedXdp {
                mode: XdpMode::Native,
                program_id: 351,
            }],
        };
        assert_eq!(decoded("v0"), v0);
        assert_eq!(
            decoded("v1").xdp,
            [AttachedXdp {
                mode: XdpMode::Generic,
                program_id: 351
            }]
        );

        let lo = decoded("lo");
        assert!(lo.is_ethernet && !lo.is_up && lo.xdp.is_empty() && lo.kind.is_none());
        // Its link-layer address is that of its local end: four bytes.
        let gre1 = decoded("gre1");
        assert!(!gre1.is_ethernet && gre1.is_up && gre1.mac.is_none());
    }

    #[test]
    fn an_answer_cut_short_is_an_error_or_right() {
        let whole = message(LINKS, "v0");
        for length in 0..whole.payload.len() {
            let cut = Message {
                kind: whole.kind,
                payload: whole.payload[..length].to_vec(),
            };
            // Between attributes a cut cannot be seen: nothing but what is then missing tells.
            if let Ok(interface) = Interface::decode(&cut) {
                assert_eq!(interface.mtu, 1500, "{length} bytes");
            }
        }
    }

    #[test]
    fn a_name_that_no_interface_can_have_is_not_found() {
        for name in ["", "sixteen-bytes-01", "a\0b"] {
            assert_eq!(Interface::by_name(name).expect("no question to the kernel"), None);
        }
    }

    #[test]
    fn the_loopback_interface_is_there() {
        let lo = Interface::by_name("lo").expect("rtnetlink").expect("lo");
        assert_eq!(
            (lo.name.as_str(), lo.driver.as_deref(), lo.kind.as_deref()),
            ("lo", None, None)
        );
        assert!(interfaces().expect("rtnetlink").contains(&lo));
        assert_eq!(Interface::by_name("no-such-thing").expect("rtnetlink"), None);
    }
}
