//! The networks: client → scrubbing centre → (GRE) → router with the program → server, and straight back to the client.
//!
//! ```text
//! client isp0 ── clients0 centre wan ══ GRE ══ wan0 router lan0 ── eth0 server
//!   direct0 ────────────────────────────────────────────────────── direct0
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use gre_tests::frame::{Gre, GreChecksum};
use gre_tests::lab::{Interface, Lab, Namespace, Scrubber, Tunnel};
use gre_tests::program::Program;
use gre_tests::skip::binary_or_skip;

/// The scrubbing centre's address, and the router's.
pub(crate) const CENTRE_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
pub(crate) const ROUTER_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 20);
pub(crate) const CENTRE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x10);
pub(crate) const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x20);
/// The client's.
pub(crate) const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 5, 7);
pub(crate) const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, 7);
/// The router's towards the server, and the server's.
pub(crate) const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1);
pub(crate) const SERVER_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);
pub(crate) const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x80);

/// The names of the tunnels over IPv4 and over IPv6.
pub(crate) const SCRUB_V4: &str = "scrub4";
pub(crate) const SCRUB_V6: &str = "scrub6";
/// The key of the tunnel over IPv6.
const KEY: u32 = 7;

/// What a test may want otherwise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Bytes of the largest IP packet on every wire.
    pub(crate) mtu: u32,
    /// Receive queues of the server's interface.
    pub(crate) queues: u32,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { mtu: 1500, queues: 1 }
    }
}

/// The networks, and the program at the router.
pub(crate) struct Net {
    pub(crate) lab: Lab,
    pub(crate) client: Namespace,
    pub(crate) centre: Namespace,
    pub(crate) router: Namespace,
    pub(crate) server: Namespace,
    pub(crate) program: Program,
    /// The wire that GRE comes by: the centre's end, and the router's.
    pub(crate) wan: (Interface, Interface),
    /// The wire to the server: the router's end, and the server's.
    pub(crate) lan: (Interface, Interface),
    /// What the former has lost before anything was sent; see [`Net::lost_on_the_wire`].
    lost_before: u64,
}

/// A [`Net`] for the calling test; the test returns where the machine or the environment cannot hold one, after saying so.
macro_rules! net_or_return {
    () => {
        $crate::net::net_or_return!($crate::net::Wanted::default())
    };
    ($wanted:expr) => {{
        let Some(lab) = gre_tests::lab_or_skip!() else {
            return Ok(());
        };
        fn here() {}
        let name = std::any::type_name_of_val(&here);
        match $crate::net::Net::new(lab, name.trim_end_matches("::here"), $wanted)? {
            Some(net) => net,
            None => return Ok(()),
        }
    }};
}
pub(crate) use net_or_return;

impl Net {
    /// The networks, or none, loudly, if there is no `gre-decap` to test.
    pub(crate) fn new(lab: Lab, test: &str, wanted: Wanted) -> Result<Option<Self>> {
        let Some(binary) = binary_or_skip(test) else {
            return Ok(None);
        };
        let [client, centre, router, server] = ["client", "centre", "router", "server"].map(|name| lab.namespace(name));
        let (client, centre, router, server) = (client?, centre?, router?, server?);
        let mtu = wanted.mtu;
        lab.veth(
            client
                .end("isp0")
                .mtu(mtu)
                .address("198.18.5.7/24")
                .address("2001:db8:5::7/64"),
            centre
                .end("clients0")
                .mtu(mtu)
                .address("198.18.5.1/24")
                .address("2001:db8:5::1/64"),
        )?;
        // NAPI at the receiving ends of what is redirected, which get nothing without.
        let wan = lab.veth(
            centre
                .end("wan")
                .mtu(mtu)
                .napi()
                .address("203.0.113.10/24")
                .address("2001:db8:113::10/64"),
            router
                .end("wan0")
                .mtu(mtu)
                .address("203.0.113.20/24")
                .address("2001:db8:113::20/64"),
        )?;
        let lan = lab.veth(
            router
                .end("lan0")
                .mtu(mtu)
                .queues(wanted.queues)
                .address("192.0.2.1/24")
                .address("2001:db8:2::1/64"),
            server
                .end("eth0")
                .mtu(mtu)
                .queues(wanted.queues)
                .napi()
                .address("192.0.2.80/24")
                .address("2001:db8:2::80/64"),
        )?;
        lab.veth(
            server
                .end("direct0")
                .mtu(mtu)
                .address("198.18.6.1/30")
                .address("2001:db8:6::1/64"),
            client
                .end("direct0")
                .mtu(mtu)
                .address("198.18.6.2/30")
                .address("2001:db8:6::2/64"),
        )?;
        for namespace in [&centre, &router] {
            namespace.sysctl("net.ipv4.ip_forward", "1")?;
            namespace.sysctl("net.ipv6.conf.all.forwarding", "1")?;
        }
        // Errors are answered each time, not so many a second.
        router.sysctl("net.ipv4.icmp_ratelimit", "0")?;
        router.sysctl("net.ipv4.icmp_msgs_per_sec", "1000000")?;
        router.sysctl("net.ipv4.icmp_msgs_burst", "1000000")?;
        router.sysctl("net.ipv6.icmp.ratelimit", "0")?;
        for (namespace, destination, gateway) in [
            (&client, "default", "198.18.5.1"),
            (&client, "default", "2001:db8:5::1"),
            // What the router has to say to clients goes by the way that they came.
            (&router, "198.18.5.0/24", "203.0.113.10"),
            (&router, "2001:db8:5::/64", "2001:db8:113::10"),
            (&server, "default", "198.18.6.2"),
            (&server, "default", "2001:db8:6::2"),
        ] {
            namespace.ip(&format!("route add {destination} via {gateway}"))?;
        }
        Ok(Some(Self {
            lost_before: centre.statistic("wan", "tx_dropped")?,
            program: Program::new(&router, binary),
            lab,
            client,
            centre,
            router,
            server,
            wan,
            lan,
        }))
    }

    /// How many packets for the router the wire itself has lost, because its other end did not keep up. A multicast report that the
    /// centre sent before the router's end was up is none of them.
    pub(crate) fn lost_on_the_wire(&self) -> Result<u64> {
        Ok(self.centre.statistic("wan", "tx_dropped")? - self.lost_before)
    }

    /// A scrubbing centre that takes the server's prefixes into this tunnel.
    pub(crate) fn scrubber(&self, tunnel: &Tunnel) -> Result<Scrubber> {
        let scrubber = Scrubber::start(&self.centre, "to-router", tunnel)?;
        self.centre.ip("route add 192.0.2.0/24 dev to-router")?;
        self.centre.ip("route add 2001:db8:2::/64 dev to-router")?;
        Ok(scrubber)
    }

    /// Makes the router's neighbours known for good, so that each packet finds its way at once.
    pub(crate) fn fix_neighbours(&self) -> Result<()> {
        for (namespace, interface, address, mac) in [
            (&self.router, "lan0", IpAddr::from(SERVER_V4), self.lan.1.mac),
            (&self.router, "lan0", SERVER_V6.into(), self.lan.1.mac),
            (&self.router, "wan0", CENTRE_V4.into(), self.wan.0.mac),
            (&self.router, "wan0", CENTRE_V6.into(), self.wan.0.mac),
            (&self.centre, "wan", ROUTER_V4.into(), self.wan.1.mac),
            (&self.centre, "wan", ROUTER_V6.into(), self.wan.1.mac),
        ] {
            let mac = mac_text(mac);
            namespace.ip(&format!(
                "neighbour replace {address} lladdr {mac} dev {interface} nud permanent"
            ))?;
        }
        Ok(())
    }
}

/// A configuration with both tunnels, each with these lines of its own.
pub(crate) fn config(mode: &str, lines: &str) -> String {
    format!(
        r#"
[[interface]]
name = "wan0"
mode = "{mode}"

[[tunnel]]
name = "{SCRUB_V4}"
local = "{ROUTER_V4}"
remote = "{CENTRE_V4}"
{lines}

[[tunnel]]
name = "{SCRUB_V6}"
local = "{ROUTER_V6}"
remote = "{CENTRE_V6}"
key = {KEY}
checksum = "required"
{lines}
"#
    )
}

/// The centre's end of the tunnel over IPv4.
pub(crate) fn tunnel_v4() -> Tunnel {
    Tunnel::new(CENTRE_V4.into(), ROUTER_V4.into())
}

/// The centre's end of the tunnel over IPv6.
pub(crate) fn tunnel_v6() -> Tunnel {
    Tunnel::new(CENTRE_V6.into(), ROUTER_V6.into()).with_gre(gre_v6())
}

/// The header that the tunnel over IPv6 asks for.
pub(crate) fn gre_v6() -> Gre {
    Gre {
        key: Some(KEY),
        checksum: GreChecksum::Right,
        ..Gre::default()
    }
}

pub(crate) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}
