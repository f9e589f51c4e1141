//! What drivers can do with XDP: generic netlink family `netdev`, since Linux 6.3.

use std::collections::BTreeMap;
use std::io;

use netlink_packet_core::{DecodeError, DefaultNla, parse_u32, parse_u64};

use super::generic_netlink::{Family, attributes};
use super::netlink::Message;

// `linux/netdev.h`.
const NETDEV_FAMILY: &str = "netdev";
const NETDEV_FAMILY_VERSION: u8 = 1;
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_XDP_ACT_BASIC: u64 = 1;
const NETDEV_XDP_ACT_NDO_XMIT: u64 = 4;
const NETDEV_XDP_ACT_RX_SG: u64 = 32;
const NETDEV_XDP_ACT_NDO_XMIT_SG: u64 = 64;

/// What a driver announces for an interface as it is set up now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpFeatures {
    /// It runs XDP programs: native mode.
    pub native: bool,
    /// It gives them frames that lie in several buffers.
    pub frags: bool,
    /// It sends frames that XDP redirects to it.
    pub transmit: bool,
    /// It sends them even if they lie in several buffers.
    pub transmit_frags: bool,
}

/// What an interface's driver announces.
///
/// # Errors
///
/// `Unsupported` if this kernel has no such family, ENODEV if there is no such interface.
pub fn read(interface: u32) -> io::Result<XdpFeatures> {
    let about = DefaultNla::new(NETDEV_A_DEV_IFINDEX, interface.to_ne_bytes().to_vec());
    let answer = family()?.get(NETDEV_CMD_DEV_GET, about)?;
    let (_, features) = XdpFeatures::decode(&answer).map_err(io::Error::other)?;
    Ok(features)
}

/// What the drivers of all interfaces announce, by the interfaces' indices.
///
/// # Errors
///
/// `Unsupported` if this kernel has no such family.
pub fn all() -> io::Result<BTreeMap<u32, XdpFeatures>> {
    let answers = family()?.dump(NETDEV_CMD_DEV_GET)?;
    let decoded: Result<_, _> = answers.iter().map(XdpFeatures::decode).collect();
    decoded.map_err(io::Error::other)
}

/// Whether this kernel has the family. Before it had, it redirected no frames in several buffers to interfaces, whatever their drivers.
///
/// # Errors
///
/// If the kernel cannot be asked.
pub fn are_told() -> io::Result<bool> {
    match family() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(false),
        Err(error) => Err(error),
    }
}

fn family() -> io::Result<Family> {
    Family::find(NETDEV_FAMILY, NETDEV_FAMILY_VERSION)
}

impl XdpFeatures {
    /// The index of the interface that an answer is about, and its features.
    fn decode(answer: &Message) -> Result<(u32, Self), DecodeError> {
        let answer = attributes(answer)?;
        let features = answer.require(NETDEV_A_DEV_XDP_FEATURES, parse_u64)?;
        let has = |feature| features & feature != 0;
        let features = Self {
            native: has(NETDEV_XDP_ACT_BASIC),
            frags: has(NETDEV_XDP_ACT_RX_SG),
            transmit: has(NETDEV_XDP_ACT_NDO_XMIT),
            transmit_frags: has(NETDEV_XDP_ACT_NDO_XMIT_SG),
        };
        Ok((answer.require(NETDEV_A_DEV_IFINDEX, parse_u32)?, features))
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorded::{FEATURES, message};
    use super::*;

    #[test]
    fn decodes_what_the_kernel_answers() {
        let decoded = |name| XdpFeatures::decode(&message(FEATURES, name)).expect("decodable");
        assert_eq!(decoded("lo"), (1, XdpFeatures::default()));
        let v1 = XdpFeatures {
            native: true,
            frags: true,
            ..XdpFeatures::default()
        };
        assert_eq!(decoded("v1"), (2, v1));
        let v0 = XdpFeatures {
            transmit: true,
            transmit_frags: true,
            ..v1
        };
        assert_eq!(decoded("v0"), (3, v0));
        let t0 = XdpFeatures {
            native: true,
            transmit: true,
            ..XdpFeatures::default()
        };
        assert_eq!(decoded("t0"), (4, t0));
    }

    #[test]
    fn the_loopback_interface_is_there_where_the_kernel_tells() {
        match all() {
            Ok(all) => assert_eq!(all.get(&1), Some(&XdpFeatures::default())),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{error}"),
        }
    }
}
