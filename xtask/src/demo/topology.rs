//! The demo's networks: a client, a scrubbing centre and an origin, each a namespace; the second time the origin is a router
//! in front of a server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread;

use anyhow::Result;
use gre_tests::frame::{Gre, GreChecksum};
use gre_tests::lab::{Lab, Namespace, Tunnel};

/// The first scene's networks.
pub(super) const PICTURE: &str = "
    client ────────────────▶ scrubbing centre ═══ GRE, key 4200, checksums ═══▶ origin
    198.18.5.7               203.0.113.10                        198.51.100.20, XDP on wan0
    2001:db8:5::7                                             serves 192.0.2.80, 2001:db8:2::80
       ▲                                                                          │
       └────────────────────────── replies, straight back ────────────────────────┘
";

/// The second scene's.
pub(super) const ROUTED_PICTURE: &str = "
    client ────▶ scrubbing centre ═══ GRE ═══▶ router ──────────────────────▶ server
    198.18.5.7   203.0.113.10                  198.51.100.20, XDP on wan0    192.0.2.80
    2001:db8:5::7                              192.0.2.1 on lan0             2001:db8:2::80
       ▲                                                                        │
       └───────────────────────── replies, straight back ───────────────────────┘
";

/// What was shown if every claim held, in plain words.
pub(super) const PROVEN: &str = "\
What this proves:
  - Whatever the client sent came to the origin inside GRE, and the XDP program took it out: the
    origin's kernel has no GRE tunnel, and refused the same packets before and after.
  - What came out is what went in: megabytes of TCP with equal SHA-256 on both ends, UDP datagrams
    of many sizes, ICMP; IPv4 and IPv6.
  - Replies took the direct way and never saw the tunnel.
  - Damaged packets and strangers were refused, and every packet was counted, once.
  - On a router in front of a server the program forwarded the packets itself, one hop further, on
    the core of their flow; the router's kernel forwarded those alone whose next hop it had to find.
  - Under lockdown a flood straight at the origin was dropped, every packet counted as that, while
    megabytes went through the tunnel unharmed; so was what came by the tunnel for anything else.
  - TCP announced segments that fit into the tunnel, and the centre's health probes, echo replies to
    itself, came back to it.
  - Nothing is left: no program, no pinned object, and no namespace once this process has ended.";

/// The origin's configuration file.
pub(super) const CONFIG: &str = r#"# "drop", so that strangers' GRE to our tunnel end vanishes here. With "pass", the default, it goes to
# the kernel, for tunnels of the kernel's own; here there is none, and it would answer "unreachable".
unknown = "drop"

[[interface]]
name = "wan0"
mode = "native"

[[tunnel]]
name     = "scrub-fra"
local    = "198.51.100.20"
remote   = ["203.0.113.10"]
key      = 4200
checksum = "required"
inner    = ["ipv4", "ipv6"]
"#;

/// The router's: the same tunnel, but for what becomes of its packets.
pub(super) const ROUTED_CONFIG: &str = r#"unknown = "drop"

[[interface]]
name = "wan0"

[[tunnel]]
name     = "scrub-fra"
local    = "198.51.100.20"
remote   = ["203.0.113.10"]
key      = 4200
checksum = "required"
deliver  = "route"      # forward by this host's routes, not through its stack
spread   = "all"        # each flow on a core of its own
"#;

pub(super) const TUN: &str = "to-origin";
pub(super) const SERVICE_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 80));
pub(super) const SERVICE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x80));
/// An address that the origin's configuration does not mention.
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 66));

/// The scrubbing centre's tunnel to the origin.
pub(super) fn tunnel() -> Tunnel {
    let (scrubber, origin) = (Ipv4Addr::new(203, 0, 113, 10), Ipv4Addr::new(198, 51, 100, 20));
    let gre = Gre {
        checksum: GreChecksum::Right,
        key: Some(4200),
        ..Gre::default()
    };
    Tunnel::new(scrubber.into(), origin.into()).with_gre(gre)
}

/// The same tunnel, claimed by somebody else.
pub(super) fn strangers_tunnel() -> Tunnel {
    Tunnel {
        local: STRANGER,
        ..tunnel()
    }
}

/// Who serves the client.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    /// The origin itself, which the tunnel ends at.
    AtTheOrigin,
    /// A server behind it: the origin is a router.
    BehindTheOrigin,
}

/// The namespaces and the wires between them.
pub(super) struct Topology {
    pub(super) lab: Lab,
    pub(super) client: Namespace,
    pub(super) scrub: Namespace,
    /// Where the program runs.
    pub(super) origin: Namespace,
    /// Who serves: the origin itself, or a namespace behind it.
    pub(super) server: Namespace,
    /// What the wire to the origin lost before anything was sent: a multicast report, while the origin's end was not up yet.
    lost_before: u64,
}

impl Topology {
    pub(super) fn build(service: Service) -> Result<Self> {
        let lab = Lab::new()?;
        let (client, scrub, origin) = (
            lab.namespace("client")?,
            lab.namespace("scrub")?,
            lab.namespace("origin")?,
        );
        lab.veth(
            client.end("isp0").address("198.18.5.7/24").address("2001:db8:5::7/64"),
            scrub
                .end("clients0")
                .address("198.18.5.1/24")
                .address("2001:db8:5::1/64"),
        )?;
        lab.veth(
            // The stranger is anywhere on the internet: to the origin it is nothing but a source address.
            scrub
                .end("wan")
                .address("203.0.113.10 peer 198.51.100.20")
                .address("203.0.113.66/32"),
            origin.end("wan0").address("198.51.100.20 peer 203.0.113.10"),
        )?;
        let server = match service {
            Service::AtTheOrigin => {
                origin.ip(&format!("address add {SERVICE_V4}/32 dev lo"))?;
                origin.ip(&format!("address add {SERVICE_V6}/128 dev lo nodad"))?;
                origin.clone()
            }
            Service::BehindTheOrigin => behind(&lab, &origin)?,
        };
        lab.veth(
            server.end("isp0").address("198.18.6.1/30").address("2001:db8:6::1/64"),
            client
                .end("direct0")
                .address("198.18.6.2/30")
                .address("2001:db8:6::2/64"),
        )?;

        client.ip("route add default via 198.18.5.1 dev isp0")?;
        client.ip("route add default via 2001:db8:5::1 dev isp0")?;
        scrub.sysctl("net.ipv4.ip_forward", "1")?;
        scrub.sysctl("net.ipv6.conf.all.forwarding", "1")?;
        server.ip("route add default via 198.18.6.2 dev isp0")?;
        server.ip("route add default via 2001:db8:6::2 dev isp0")?;
        // Direct server return is asymmetric: requests come by one interface, and the way back to their source is by
        // another. Strict reverse path filtering drops such packets without a word, at the origin and, in this small
        // world, at the client too. The larger of "all" and the interface's own value counts.
        for (namespace, interface) in [(&origin, "wan0"), (&client, "direct0")] {
            namespace.sysctl("net.ipv4.conf.all.rp_filter", "0")?;
            namespace.sysctl(&format!("net.ipv4.conf.{interface}.rp_filter"), "0")?;
        }
        Ok(Self {
            lost_before: scrub.statistic("wan", "tx_dropped")?,
            lab,
            client,
            scrub,
            origin,
            server,
        })
    }

    /// Announces the origin's prefixes at the scrubbing centre.
    pub(super) fn route_through_scrubber(&self) -> Result<()> {
        self.scrub.ip(&format!("route add 192.0.2.0/24 dev {TUN}"))?;
        self.scrub.ip(&format!("route add 2001:db8:2::/48 dev {TUN}"))?;
        Ok(())
    }

    /// Frames that the wire to the origin has lost: a veth's receive queue has room for 256.
    pub(super) fn lost_on_the_way(&self) -> Result<u64> {
        Ok(self.scrub.statistic("wan", "tx_dropped")? - self.lost_before)
    }
}

/// Makes the origin a router with a server behind it.
fn behind(lab: &Lab, origin: &Namespace) -> Result<Namespace> {
    let server = lab.namespace("server")?;
    // A queue for each core, so that the server's interface shows which core a packet was sent by.
    let queues = u32::try_from(thread::available_parallelism()?.get())?;
    lab.veth(
        origin
            .end("lan0")
            .queues(queues)
            .address("192.0.2.1/24")
            .address("2001:db8:2::1/64"),
        // GRO, for a veth takes redirected frames only if its other end runs NAPI, as network cards do anyway.
        server
            .end("eth0")
            .queues(queues)
            .gro()
            .address(&format!("{SERVICE_V4}/24"))
            .address(&format!("{SERVICE_V6}/64")),
    )?;
    origin.sysctl("net.ipv4.ip_forward", "1")?;
    origin.sysctl("net.ipv6.conf.all.forwarding", "1")?;
    Ok(server)
}
