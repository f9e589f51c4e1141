//! What a driver can do with XDP: generic netlink family `netdev`, since Linux 6.3.

use std::io;

use netlink_packet_core::{DefaultNla, parse_u64};

use super::generic_netlink::{Family, attributes};

// `linux/netdev.h`.
const NETDEV_FAMILY_VERSION: u8 = 1;
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_XDP_ACT_BASIC: u64 = 1;
const NETDEV_XDP_ACT_RX_SG: u64 = 32;

/// What a driver announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct XdpFeatures {
    /// It runs XDP programs: native mode.
    pub(super) native: bool,
    /// It gives them frames that lie in several buffers.
    pub(super) frags: bool,
}

/// What an interface's driver announces.
pub(super) fn read(interface: u32) -> io::Result<XdpFeatures> {
    let about = DefaultNla::new(NETDEV_A_DEV_IFINDEX, interface.to_ne_bytes().to_vec());
    let answer = Family::find("netdev", NETDEV_FAMILY_VERSION)?.get(NETDEV_CMD_DEV_GET, about)?;
    let features = attributes(&answer).and_then(|answer| answer.require(NETDEV_A_DEV_XDP_FEATURES, parse_u64));
    let features = features.map_err(io::Error::other)?;
    Ok(XdpFeatures {
        native: features & NETDEV_XDP_ACT_BASIC != 0,
        frags: features & NETDEV_XDP_ACT_RX_SG != 0,
    })
}
