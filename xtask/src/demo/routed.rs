//! The second scene: this host is a router, and the server is behind it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use gre_tests::lab::{Scrubber, Wire};
use gre_tests::traffic::flows::Flows;
use gre_tests::traffic::tcp::Direction;

use super::census::Census;
use super::program::{Program, Stats};
use super::report::Report;
use super::scenes::{self, Echo};
use super::topology::{self, SERVICE_V4, SERVICE_V6, Service, Topology};
use super::{MEGABYTE, indented, transfer};

/// Flows that are spread, and datagrams in all of them: so many at the least, so many on their way at most.
const FLOWS: u16 = 64;
const DATAGRAMS: u64 = 10_000;
const WINDOW: u64 = 64;
/// Length of what a frame has before its IP packet.
const ETHERNET: usize = 14;
/// Where the TTL is in an IPv4 header.
const TTL: usize = 8;

/// The same client, centre and tunnel, but the packets go on to a server.
pub(super) fn run(binary: &Path, report: &mut Report) -> Result<()> {
    let net = Topology::build(Service::BehindTheOrigin).context("build the router's networks")?;
    let scrubber = Scrubber::start(&net.scrub, topology::TUN, &topology::tunnel()).context("start the scrubber")?;
    net.route_through_scrubber()?;
    let config = net.lab.write_file("gre-decap.toml", topology::ROUTED_CONFIG)?;
    let program = Program::new(binary, &net.origin, &config);

    report.line("\nNow a router, with the server behind it.")?;
    report.line(topology::ROUTED_PICTURE)?;
    report.line(&format!(
        "The router's configuration file:\n\n{}",
        indented(topology::ROUTED_CONFIG)
    ))?;
    report.claim("nothing gets through before `load`", scenes::refused(&net))?;

    let pinned_before = program.pinned()?;
    report.command(&program.command_line("load"))?;
    program.run(&["load"])?;
    report.claim("the kernel runs it on wan0", program.attached())?;
    let census = Census::start(&net)?;
    let traffic: [(&str, &dyn Fn() -> Result<String>); 7] = [
        ("ICMP: ping", &|| scenes::pings(&net, SERVICE_V4)),
        ("TCP: download", &|| {
            transfer::run(&net, SERVICE_V4, Direction::Download, 20 * MEGABYTE)
        }),
        ("TCP: upload", &|| {
            transfer::run(&net, SERVICE_V4, Direction::Upload, 20 * MEGABYTE)
        }),
        ("IPv6 inside: TCP download", &|| {
            transfer::run(&net, SERVICE_V6, Direction::Download, 10 * MEGABYTE)
        }),
        ("IPv6 inside: TCP upload", &|| {
            transfer::run(&net, SERVICE_V6, Direction::Upload, 10 * MEGABYTE)
        }),
        ("UDP: many flows over all cores", &|| spread(&net)),
        ("a datagram, captured on its way", &|| one_hop_further(&net)),
    ];
    for (what, scene) in traffic {
        if !report.claim(what, scene())? {
            // What comes next would wait for its packets in vain, too.
            break;
        }
    }
    let census = census.end()?;
    let lost = net.lost_on_the_way()?;
    report.command(&program.command_line("stats --json"))?;
    let stats = program.stats()?;
    report.line(&stats.table())?;
    report.claim("nothing but GRE came to the router", census.only_gre_came())?;
    report.claim("replies went straight back", census.replies_went_straight_back())?;
    report.claim(
        "the counters account for every packet",
        scenes::counters_agree(&stats, census.gre(), lost),
    )?;
    report.claim("the program forwarded, not the kernel", kernel_forwarded(&net, &stats))?;

    report.command(&program.command_line("unload"))?;
    program.run(&["unload"])?;
    report.claim("`unload` leaves nothing behind", program.nothing_left(&pinned_before))?;
    report.claim("nothing gets through after `unload`", scenes::refused(&net))?;
    scrubber.stop().map(drop)
}

/// Flows of numbered datagrams, which arrive in their order, and on which cores the router sent them on.
fn spread(net: &Topology) -> Result<String> {
    let before = queues(net)?;
    let flows = Flows::open(&net.client, &net.server, SERVICE_V4, FLOWS, 500)?.start(WINDOW)?;
    flows.wait_for(DATAGRAMS)?;
    let received = flows.stop()?;
    ensure!(received.overtaken() == 0, "{} were overtaken", received.overtaken());
    let counts: Vec<u64> = queues(net)?
        .iter()
        .zip(before)
        .map(|(now, before)| now - before)
        .collect();
    let used = counts.iter().filter(|count| **count > 0).count();
    ensure!(used == counts.len().min(2) || used > 2, "only by one core: {counts:?}");
    let shares = counts.iter().enumerate().map(|(core, count)| {
        let share = 100 * count / received.sent;
        format!("core {core}: {share} %")
    });
    Ok(format!(
        "{} datagrams of {FLOWS} flows in order; {}",
        received.sent,
        shares.collect::<Vec<_>>().join(", ")
    ))
}

/// Packets that each queue of the server's interface has received, one for each core that may have sent them.
fn queues(net: &Topology) -> Result<Vec<u64>> {
    let statistics = net.server.driver_statistics("eth0")?;
    let queue = |number| statistics.get(&format!("rx_queue_{number}_xdp_packets")).copied();
    Ok((0..).map_while(queue).collect())
}

/// Follows a datagram of the client into the tunnel and to the server.
fn one_hop_further(net: &Topology) -> Result<String> {
    let (tunnel, lan) = (Wire::open(&net.scrub, "wan")?, Wire::open(&net.server, "eth0")?);
    let echo = Echo::open(net, SERVICE_V4)?;
    let data = b"followed on its way";
    echo.round_trip(data)?;
    let inside = tunnel.expect("the datagram in GRE", |seen| {
        seen.outgoing && seen.bytes.ends_with(data)
    })?;
    let arrived = lan.expect("the datagram at the server", |seen| {
        !seen.outgoing && seen.bytes.ends_with(data)
    })?;
    let before = inside
        .bytes
        .get(ETHERNET + topology::tunnel().overhead()..)
        .context("an inner packet")?;
    let after = arrived.bytes.get(ETHERNET..).context("a packet")?;
    let ttl = |packet: &[u8]| packet.get(TTL).copied().context("an IPv4 header");
    let (ttl_before, ttl_after) = (ttl(before)?, ttl(after)?);
    ensure!(
        ttl_after + 1 == ttl_before && before.len() == after.len() && before[12..] == after[12..],
        "TTL {ttl_before} in the tunnel, {ttl_after} at the server, or something else was changed"
    );
    for (place, namespace, interface) in [(0..6, &net.server, "eth0"), (6..12, &net.origin, "lan0")] {
        let path = format!("/sys/class/net/{interface}/address");
        let address = namespace.run(|| fs::read_to_string(&path).context(path.clone()))?;
        let octets = arrived.bytes[place].iter().map(|octet| format!("{octet:02x}"));
        let found = octets.collect::<Vec<_>>().join(":");
        ensure!(found == address.trim(), "MAC address {found} instead of {interface}'s");
    }
    Ok(format!(
        "TTL {ttl_before} in the tunnel, {ttl_after} at the server; from lan0's MAC address to eth0's"
    ))
}

/// How many packets the router's kernel forwarded: no others than the counters say.
fn kernel_forwarded(net: &Topology, stats: &Stats) -> Result<String> {
    let read = |path: &str| net.origin.run(|| fs::read_to_string(path).context(path.to_owned()));
    let forwarded = ipv4_forwarded(&read("/proc/thread-self/net/snmp")?).context("ForwDatagrams of IPv4")?
        + ipv6_forwarded(&read("/proc/thread-self/net/snmp6")?).context("Ip6OutForwDatagrams")?;
    let handed_over = stats.reason("route_no_neighbour");
    ensure!(
        forwarded == handed_over,
        "the kernel forwarded {forwarded} packets, and {handed_over} were given to it"
    );
    Ok(format!(
        "{forwarded} of {} packets by the kernel, to find the server's MAC address",
        stats.tunnel()?.packets
    ))
}

/// The first line with `Ip:` has the names, the second the values.
fn ipv4_forwarded(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with("Ip: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let place = names.split(' ').position(|name| name == "ForwDatagrams")?;
    values.split(' ').nth(place)?.parse().ok()
}

fn ipv6_forwarded(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Ip6OutForwDatagrams"))?;
    line.trim().parse().ok()
}
