//! A driver's own facts about an interface, as ethtool(8) shows them.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::io;
use std::os::fd::AsRawFd;

use netlink_packet_core::{DecodeError, DefaultNla, Emitable, NLA_F_NESTED, parse_u32};
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};

use super::generic_netlink::{Family, attributes};
use super::netlink::{Attributes, Message, text};

// `linux/ethtool.h` and `linux/ethtool_netlink.h`.
const ETHTOOL_GDRVINFO: u32 = 3;
const ETHTOOL_GENL_VERSION: u8 = 1;
const ETHTOOL_MSG_FEATURES_GET: u8 = 11;
const ETHTOOL_MSG_CHANNELS_GET: u8 = 17;
/// The header's number in every request.
const ETHTOOL_A_HEADER: u16 = 1;
const ETHTOOL_A_HEADER_DEV_INDEX: u16 = 1;
const ETHTOOL_A_FEATURES_ACTIVE: u16 = 4;
const ETHTOOL_A_BITSET_BITS: u16 = 3;
const ETHTOOL_A_BITSET_BIT_NAME: u16 = 2;
const ETHTOOL_A_CHANNELS_COMBINED_MAX: u16 = 5;
const ETHTOOL_A_CHANNELS_RX_COUNT: u16 = 6;
const ETHTOOL_A_CHANNELS_COMBINED_COUNT: u16 = 9;

/// `struct ethtool_drvinfo` of `linux/ethtool.h`.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    /// Versions, bus address and counts.
    rest: [u8; 160],
}

/// The queues of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Channels {
    /// Queues that only receive.
    pub(super) receive: u32,
    /// Queues that receive and send.
    pub(super) combined: u32,
    /// The most that `combined` can be set to.
    pub(super) combined_max: u32,
}

/// The name of an interface's driver; none if it gives none, or there is no such interface (any more).
///
/// By ioctl, for netlink does not tell, and sysfs shows the interfaces of the network namespace that it was mounted in.
pub(super) fn driver(interface: &str) -> io::Result<Option<String>> {
    let mut info = DriverInfo {
        command: ETHTOOL_GDRVINFO,
        driver: [0; 32],
        rest: [0; 160],
    };
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_data: (&raw mut info).cast(),
        },
    };
    // The last byte stays zero.
    for (to, from) in request
        .ifr_name
        .iter_mut()
        .take(libc::IFNAMSIZ - 1)
        .zip(interface.bytes())
    {
        *to = from as libc::c_char;
    }
    // A socket of any family will do, and this one needs nothing that a kernel may lack.
    let socket = Socket::new(NETLINK_ROUTE)?;
    // SAFETY: `request` names an interface and points to `info`, which has the layout and size of what this command
    // writes; both outlive the call.
    let status = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    if status == 0 {
        let name = CStr::from_bytes_until_nul(&info.driver)
            .unwrap_or_default()
            .to_string_lossy();
        return Ok(Some(name.into_owned()).filter(|name| !name.is_empty()));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP | libc::ENODEV) => Ok(None),
        _ => Err(error),
    }
}

/// The names of the offloads that are on, as the kernel calls them: "rx-lro", "rx-gro-hw".
pub(super) fn active_offloads(interface: u32) -> io::Result<BTreeSet<String>> {
    let answer = ask(ETHTOOL_MSG_FEATURES_GET, interface)?;
    let active = || {
        let active = attributes(&answer)?.require(ETHTOOL_A_FEATURES_ACTIVE, Attributes::parse)?;
        let bits = active
            .get(ETHTOOL_A_BITSET_BITS, Attributes::parse)?
            .unwrap_or_default();
        // Of this set only the bits that are set are listed.
        let name = |(_, bit)| Attributes::parse(bit)?.require(ETHTOOL_A_BITSET_BIT_NAME, text);
        bits.iter().map(name).collect::<Result<_, DecodeError>>()
    };
    active().map_err(io::Error::other)
}

/// The queues; none if the driver does not tell.
pub(super) fn channels(interface: u32) -> io::Result<Option<Channels>> {
    let answer = match ask(ETHTOOL_MSG_CHANNELS_GET, interface) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(None),
        answer => answer?,
    };
    let channels = || {
        let answer = attributes(&answer)?;
        // A driver that cannot have queues of a kind leaves their count out.
        let count = |attribute| Ok::<_, DecodeError>(answer.get(attribute, parse_u32)?.unwrap_or(0));
        Ok::<_, DecodeError>(Channels {
            receive: count(ETHTOOL_A_CHANNELS_RX_COUNT)?,
            combined: count(ETHTOOL_A_CHANNELS_COMBINED_COUNT)?,
            combined_max: count(ETHTOOL_A_CHANNELS_COMBINED_MAX)?,
        })
    };
    channels().map(Some).map_err(io::Error::other)
}

fn ask(command: u8, interface: u32) -> io::Result<Message> {
    let index = DefaultNla::new(ETHTOOL_A_HEADER_DEV_INDEX, interface.to_ne_bytes().to_vec());
    let mut header = vec![0; index.buffer_len()];
    index.emit(&mut header);
    let about = DefaultNla::new(ETHTOOL_A_HEADER | NLA_F_NESTED, header);
    Family::find("ethtool", ETHTOOL_GENL_VERSION)?.get(command, about)
}
