//! veth pairs that behave like wires: what one end sends is complete, and arrives as it was sent.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::libc;
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Socket, Type};
use std::os::fd::AsRawFd;

use super::wire::PATIENCE;
use super::{Lab, Namespace};

/// One end of a veth pair to be: its namespace and name, and what is to be set on it.
#[derive(Clone, Debug)]
pub struct End<'a> {
    namespace: &'a Namespace,
    interface: &'a str,
    addresses: Vec<&'a str>,
    mtu: u32,
    gro: bool,
}

impl<'a> From<(&'a Namespace, &'a str)> for End<'a> {
    fn from((namespace, interface): (&'a Namespace, &'a str)) -> Self {
        Self {
            namespace,
            interface,
            addresses: Vec::new(),
            mtu: 1500,
            gro: false,
        }
    }
}

impl<'a> End<'a> {
    /// Gives it an address, as `ip address add` takes it: `192.0.2.1/24`, `2001:db8::1/64`, `10.0.0.1 peer 10.0.0.2`.
    #[must_use]
    pub fn address(mut self, address: &'a str) -> Self {
        self.addresses.push(address);
        self
    }

    /// Sets its MTU in bytes; 1500 otherwise.
    #[must_use]
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = mtu;
        self
    }

    /// Turns GRO on, with which a veth runs NAPI: only then do frames that XDP redirects *to its peer* arrive at it.
    #[must_use]
    pub fn gro(mut self) -> Self {
        self.gro = true;
        self
    }
}

impl Namespace {
    /// Turns GRO on or off at a veth that is up, and with it NAPI: see [`End::gro`].
    ///
    /// # Errors
    ///
    /// When there is no such interface, or it refuses.
    pub fn set_gro(&self, interface: &str, on: bool) -> Result<()> {
        self.run(|| set_offload(interface, ETHTOOL_SGRO, on))
    }
}

/// An interface that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name in its namespace.
    pub name: String,
    /// Its index in its namespace.
    pub index: u32,
    /// Its link-layer address. The n-th pair of a lab has 02:00:00:00:n:01 and 02:00:00:00:n:02.
    pub mac: [u8; 6],
}

pub(super) fn create(lab: &Lab, a: &End, b: &End) -> Result<(Interface, Interface)> {
    let pair = lab.next_pair.fetch_add(1, Ordering::Relaxed);
    ensure!(pair < u8::MAX, "a lab has room for {} veth pairs", u8::MAX);
    let (mac_a, mac_b) = ([2, 0, 0, 0, pair + 1, 1], [2, 0, 0, 0, pair + 1, 2]);
    a.namespace.ip(&format!(
        "link add name {} address {} mtu {} type veth peer name {} address {} mtu {} netns {}",
        a.interface,
        mac_text(mac_a),
        a.mtu,
        b.interface,
        mac_text(mac_b),
        b.mtu,
        b.namespace.path(),
    ))?;
    let ends = (configure(a, mac_a)?, configure(b, mac_b)?);
    wait_until_up(a)?;
    wait_until_up(b)?;
    Ok(ends)
}

/// Waits until the kernel has noticed that the other end is up too. It does so in its own time, and until then an interface has
/// the queueing discipline `noop`, which throws away what is sent.
fn wait_until_up(end: &End) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let shown = end.namespace.ip(&format!("-oneline link show dev {}", end.interface))?;
        if shown.contains(" state UP ") && !shown.contains(" qdisc noop ") {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "waited for {} to be up: {shown}",
            end.interface
        );
        thread::sleep(Duration::from_millis(2));
    }
}

fn configure(end: &End, mac: [u8; 6]) -> Result<Interface> {
    let (namespace, name) = (end.namespace, end.interface);
    let index = namespace.run(|| {
        behave_like_a_wire(name)?;
        if_nametoindex(name).with_context(|| format!("index of {name}"))
    })?;
    for address in &end.addresses {
        // `nodad`, since duplicate address detection delays the first packet by a second.
        let nodad = if is_ipv6(address) { "nodad" } else { "" };
        namespace.ip(&format!("address add {address} dev {name} {nodad}"))?;
    }
    namespace.ip(&format!("link set dev {name} up"))?;
    // Only of an interface that is up does the kernel tell the other end (veth_set_features()), which else announces that
    // nothing can be redirected to it.
    namespace.set_gro(name, end.gro)?;
    Ok(Interface {
        name: name.to_owned(),
        index,
        mac,
    })
}

fn is_ipv6(address: &str) -> bool {
    let first = address.split([' ', '/']).next().unwrap_or_default();
    matches!(first.parse(), Ok(IpAddr::V6(_)))
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

// linux/ethtool.h
const ETHTOOL_STXCSUM: u32 = 0x17;
const ETHTOOL_SSG: u32 = 0x19;
const ETHTOOL_STSO: u32 = 0x1f;
const ETHTOOL_SGSO: u32 = 0x24;
const ETHTOOL_SGRO: u32 = 0x2c;

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

/// Turns off what would make a veth hand over packets with no checksum yet, or several as one, as real wires never do.
fn behave_like_a_wire(interface: &str) -> Result<()> {
    for command in [ETHTOOL_STXCSUM, ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SSG] {
        set_offload(interface, command, false)?;
    }
    Ok(())
}

fn set_offload(interface: &str, command: u32, on: bool) -> Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).context("open a socket")?;
    let mut value = EthtoolValue {
        command,
        data: on.into(),
    };
    let mut request = interface_request(interface)?;
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: `request` names the interface and points to `value`, which is laid out as these commands expect; both
    // outlive the call.
    unsafe { ethtool(socket.as_raw_fd(), &raw mut request) }
        .with_context(|| format!("ethtool command {command:#x} with {on} on {interface}"))?;
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
