//! What ethtool(8) sets and shows, without the tool.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::libc;
use socket2::{Domain, Socket, Type};

use super::Namespace;

// linux/ethtool.h
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_STXCSUM: u32 = 0x17;
const ETHTOOL_SSG: u32 = 0x19;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSTATS: u32 = 0x1d;
const ETHTOOL_STSO: u32 = 0x1f;
const ETHTOOL_SGSO: u32 = 0x24;
const ETHTOOL_SGRO: u32 = 0x2c;
const ETHTOOL_SRSSH: u32 = 0x47;
const ETH_SS_STATS: u32 = 1;
/// Bytes of a name (`ETH_GSTRING_LEN`).
const NAME: usize = 32;
/// Bytes of `struct ethtool_drvinfo`, and where its field `n_stats` is.
const DRIVER_INFORMATION: usize = 196;
const NUMBER_OF_STATISTICS: usize = 180;

/// `struct ethtool_rxfh` of linux/ethtool.h without a table or key behind it: the table becomes the default one, and nothing else
/// changes.
#[repr(C)]
struct EthtoolRxfh {
    command: u32,
    context: u32,
    table_size: u32,
    key_size: u32,
    function: u8,
    rest: [u8; 7],
}

/// `struct ethtool_value` of linux/ethtool.h.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

nix::ioctl_readwrite_bad!(
    /// SIOCETHTOOL: `ifr_data` points to a structure that its first field names.
    ethtool,
    libc::SIOCETHTOOL,
    libc::ifreq
);

impl Namespace {
    /// Turns GRO on or off at an interface, and with it NAPI at a veth that is up: see [`End::gro`](super::End::gro).
    ///
    /// # Errors
    ///
    /// When there is no such interface, or it refuses.
    pub fn set_gro(&self, interface: &str, on: bool) -> Result<()> {
        self.run(|| set(interface, ETHTOOL_SGRO, on))
    }

    /// Leaves checksums of what an interface sends to it, or has the kernel compute them: a veth then hands them over incomplete.
    ///
    /// # Errors
    ///
    /// When there is no such interface, or it refuses.
    pub fn tx_checksum(&self, interface: &str, on: bool) -> Result<()> {
        self.run(|| set(interface, ETHTOOL_STXCSUM, on))
    }

    /// Has the hash of what an interface receives choose among its queues, each as often as any other: `ethtool -X … default`.
    ///
    /// # Errors
    ///
    /// When there is no such interface, or its driver cannot.
    pub fn choose_queues_by_hash(&self, interface: &str) -> Result<()> {
        self.run(|| {
            let mut rxfh = EthtoolRxfh {
                command: ETHTOOL_SRSSH,
                context: 0,
                table_size: 0,
                key_size: 0,
                function: 0,
                rest: [0; 7],
            };
            // SAFETY: this command reads a `struct ethtool_rxfh`, and as much behind it as the two sizes say: nothing.
            unsafe { call(interface, (&raw mut rxfh).cast()) }
                .with_context(|| format!("set the default receive hash of {interface}"))
        })
    }

    /// The driver's own statistics of an interface, by name, as `ethtool -S` shows them.
    ///
    /// # Errors
    ///
    /// When there is no such interface, or its driver has none.
    pub fn driver_statistics(&self, interface: &str) -> Result<BTreeMap<String, u64>> {
        self.run(|| statistics(interface).with_context(|| format!("statistics of {interface}")))
    }
}

/// Turns off what would make a veth hand over packets with no checksum yet, or several as one, as real wires never do.
pub(super) fn behave_like_a_wire(interface: &str) -> Result<()> {
    for command in [ETHTOOL_STXCSUM, ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SSG] {
        match set(interface, command, false) {
            // It cannot be turned on either, as GSO while the other end has an XDP program.
            Err(error) if error.downcast_ref() == Some(&Errno::EOPNOTSUPP) && !is_on(interface, command - 1)? => {}
            result => result?,
        }
    }
    Ok(())
}

/// Whether a feature is on; the command that asks for it comes before the one that sets it.
fn is_on(interface: &str, command: u32) -> Result<bool> {
    let mut value = EthtoolValue { command, data: 1 };
    // SAFETY: these commands write a `struct ethtool_value`.
    unsafe { call(interface, (&raw mut value).cast()) }
        .with_context(|| format!("ethtool command {command:#x} on {interface}"))?;
    Ok(value.data != 0)
}

fn set(interface: &str, command: u32, on: bool) -> Result<()> {
    let mut value = EthtoolValue {
        command,
        data: u32::from(on),
    };
    // SAFETY: these commands read a `struct ethtool_value`.
    unsafe { call(interface, (&raw mut value).cast()) }
        .with_context(|| format!("ethtool command {command:#x} with {on} on {interface}"))
}

fn statistics(interface: &str) -> Result<BTreeMap<String, u64>> {
    let mut information = [0_u32; DRIVER_INFORMATION / 4];
    information[0] = ETHTOOL_GDRVINFO;
    // SAFETY: the array is as long as what this command writes.
    unsafe { call(interface, information.as_mut_ptr().cast()) }.context("ask how many there are")?;
    let number = information[NUMBER_OF_STATISTICS / 4];

    // Command, set and number of strings, then the strings.
    let mut names = [ETHTOOL_GSTRINGS, ETH_SS_STATS, number].to_vec();
    names.resize(names.len() + number as usize * NAME / 4, 0);
    // SAFETY: there is room for as many names as the field says.
    unsafe { call(interface, names.as_mut_ptr().cast()) }.context("ask for their names")?;
    // Command and number, then the values.
    let mut values = [ETHTOOL_GSTATS, number].to_vec();
    values.resize(values.len() + number as usize * 2, 0);
    // SAFETY: there is room for as many values as the field says.
    unsafe { call(interface, values.as_mut_ptr().cast()) }.context("ask for their values")?;

    let (names, values) = (bytes(&names[3..]), bytes(&values[2..]));
    let names = names.as_chunks::<NAME>().0.iter().map(|name| {
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(NAME);
        String::from_utf8_lossy(&name[..end]).into_owned()
    });
    let values = values.as_chunks().0.iter().map(|value| u64::from_ne_bytes(*value));
    Ok(names.zip(values).collect())
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// # Safety
///
/// `data` must point to what the command in its first four bytes reads and writes.
unsafe fn call(interface: &str, data: *mut c_void) -> Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).context("open a socket")?;
    let mut request = interface_request(interface)?;
    request.ifr_ifru.ifru_data = data.cast();
    // SAFETY: `request` names the interface and points to what the caller vouches for; both outlive the call.
    unsafe { ethtool(socket.as_raw_fd(), &raw mut request) }?;
    Ok(())
}

/// A `struct ifreq` that names an interface and is zero otherwise.
pub(super) fn interface_request(interface: &str) -> Result<libc::ifreq> {
    ensure!(
        !interface.is_empty() && interface.len() < libc::IFNAMSIZ,
        "interface name `{interface}`: must have 1 to {} bytes",
        libc::IFNAMSIZ - 1
    );
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_ifindex: 0 },
    })
}
