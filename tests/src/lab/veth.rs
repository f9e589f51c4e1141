//! veth pairs that behave like wires: what one end sends is complete, and arrives as it was sent.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::net::if_::if_nametoindex;

use super::ethtool::behave_like_a_wire;
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
    merges: bool,
    queues: u32,
}

impl<'a> From<(&'a Namespace, &'a str)> for End<'a> {
    fn from((namespace, interface): (&'a Namespace, &'a str)) -> Self {
        Self {
            namespace,
            interface,
            addresses: Vec::new(),
            mtu: 1500,
            gro: false,
            merges: true,
            queues: 1,
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

    /// Turns GRO on, with which a veth runs NAPI: only then do frames that XDP redirects *to its peer* arrive at it. Of TCP
    /// segments that wait together it makes one, as on a busy machine.
    #[must_use]
    pub fn gro(mut self) -> Self {
        self.gro = true;
        self
    }

    /// Has it run NAPI as [`End::gro`] does, but merge nothing: every frame is seen there as it was sent.
    #[must_use]
    pub fn napi(mut self) -> Self {
        self.merges = false;
        self.gro()
    }

    /// Gives it so many queues in each direction; one otherwise. Frames that XDP redirects to its peer arrive on the queue
    /// whose number is that of the core that redirected them (`veth_select_rxq()` in drivers/net/veth.c).
    #[must_use]
    pub fn queues(mut self, queues: u32) -> Self {
        self.queues = queues;
        self
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
        "link add {} type veth peer {} netns {}",
        properties(a, mac_a),
        properties(b, mac_b),
        b.namespace.path(),
    ))?;
    let ends = (configure(a, mac_a)?, configure(b, mac_b)?);
    wait_until_up(a)?;
    wait_until_up(b)?;
    Ok(ends)
}

/// An end as `ip link add` takes it.
fn properties(end: &End, mac: [u8; 6]) -> String {
    let (name, mac, mtu, queues) = (end.interface, mac_text(mac), end.mtu, end.queues);
    format!("name {name} address {mac} mtu {mtu} numtxqueues {queues} numrxqueues {queues}")
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
    if !end.merges {
        // Two segments are longer than that (skb_gro_receive() in net/core/gro.c); it is the limit for both families.
        namespace.ip(&format!("link set dev {name} gro_max_size 1"))?;
    }
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
