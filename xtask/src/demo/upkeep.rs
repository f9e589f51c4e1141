//! The fourth scene: what a tunnel lives by beside its traffic. TCP announces segments that fit into it, and the scrubbing centre's
//! health probes come back.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use gre_tests::frame::{Addresses, ETHERTYPE_IPV4, Ipv4, PROTOCOL_ICMP, echo_reply};
use gre_tests::lab::{Captured, PATIENCE, Scrubber, Wire};
use nix::sys::socket::{getsockopt, sockopt};

use super::indented;
use super::program::Program;
use super::report::Report;
use super::topology::{self, SERVICE_V4, Service, Topology};

/// What the file says besides the first scene's.
const ADDED: &str = r#"probes   = "route"        # in the tunnel: echo replies to elsewhere are the centre's probes

[[interface]]
name      = "isp0"        # where replies leave
clamp_mss = "auto"        # the interface's MTU less the tunnel's headers, less those of IP and TCP

[protect]
prefixes = ["192.0.2.0/24", "2001:db8:2::/48"]
"#;

/// Who waits for probes, and whose answer they pretend to be. The prober is the centre's, and reached like anybody on the internet:
/// straight, which in this small world is by the client's wire.
const PROBER: Ipv4Addr = Ipv4Addr::new(198, 18, 7, 99);
const PROBED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 99);
const PROBES: u8 = 5;

/// What is left of 1500 bytes for TCP behind IPv4, GRE with key and checksum, and IPv4, without and with timestamps (RFC 7323).
const FITS: u32 = 1500 - 20 - 12 - 20 - 20;
const TIMESTAMPS: u32 = 12;

/// The origin of the first scene again.
pub(super) fn run(binary: &Path, report: &mut Report) -> Result<()> {
    let net = Topology::build(Service::AtTheOrigin).context("build the networks of the upkeep")?;
    let scrubber = Scrubber::start(&net.scrub, topology::TUN, &topology::tunnel()).context("start the scrubber")?;
    net.route_through_scrubber()?;
    net.client.ip(&format!("address add {PROBER}/32 dev direct0"))?;
    // As every network card does; a veth takes redirected frames only so.
    net.client.set_gro("direct0", true)?;
    net.origin.sysctl("net.ipv4.ip_forward", "1")?;
    let config = net
        .lab
        .write_file("gre-decap.toml", &format!("{}{ADDED}", topology::CONFIG))?;
    let program = Program::new(binary, &net.origin, &config);

    report.line("\nLast, what the tunnel lives by. The first scene's file says in addition:")?;
    report.line(&indented(ADDED))?;
    report.command(&program.command_line("load"))?;
    program.run(&["load"])?;
    report.claim("TCP announces what fits into the tunnel", announced(&net))?;
    report.claim("health probes by reply come back", probes(&net, &program))?;
    program.run(&["unload"])?;
    scrubber.stop().map(drop)
}

/// What the client may send in a segment, after what the origin has announced.
fn announced(net: &Topology) -> Result<String> {
    let listener = net
        .server
        .run(|| TcpListener::bind((SERVICE_V4, 0)).context("open the service's port"))?;
    let address: SocketAddr = listener.local_addr().context("the service's port")?;
    let client = net
        .client
        .run(|| TcpStream::connect_timeout(&address, PATIENCE).context("connect"))?;
    let most = getsockopt(&client, sockopt::TcpMaxSeg).context("read TCP_MAXSEG")?;
    ensure!(
        most == FITS - TIMESTAMPS,
        "the client may send {most} bytes, not {}",
        FITS - TIMESTAMPS
    );
    Ok(format!("an MSS of {FITS}: with all headers, packets of 1500 bytes"))
}

/// Echo replies through the tunnel that nobody here has asked for, to the centre itself.
fn probes(net: &Topology, program: &Program<'_>) -> Result<String> {
    let tunnel = topology::tunnel();
    let (socket, wire) = (tunnel.socket(&net.scrub)?, Wire::open(&net.client, "direct0")?);
    for number in 0..PROBES {
        let header = |ttl| Ipv4 {
            source: PROBED,
            destination: PROBER,
            protocol: PROTOCOL_ICMP,
            ttl,
            ..Ipv4::default()
        };
        let message = echo_reply(Addresses::V4(PROBED, PROBER), &[b"probe ", &[number][..]].concat());
        socket
            .send(&tunnel.gre.packet(&header(64).packet(&message)))
            .context("send a probe")?;
        let one_hop_further = header(63).packet(&message);
        let is_it = |frame: &Captured| {
            !frame.outgoing
                && frame.bytes.get(12..14) == Some(&ETHERTYPE_IPV4.to_be_bytes())
                && frame.bytes.get(14..14 + one_hop_further.len()) == Some(&one_hop_further)
        };
        wire.expect("the probe to come back", is_it)?;
    }
    let counted = program.stats()?.reason("probe");
    ensure!(counted == u64::from(PROBES), "`probe` is {counted}, not {PROBES}");
    Ok(format!(
        "{PROBES} of {PROBES}, each one hop further, counted as probe: {counted}"
    ))
}
