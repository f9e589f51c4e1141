//! Delivery to an interface: no route is looked up, and nothing of the inner packet is changed.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gre_tests::frame::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_MPLS, ETHERTYPE_MPLS_MULTICAST, ETHERTYPE_TEB, Link, Mac, TPID_8021AD,
    TPID_8021Q,
};
use gre_tests::lab::{PATIENCE, Wire};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::bench::{Bench, Way, datagram_v4, datagram_v6, forwarded, frame, hex, inner_v4, inner_v6, is_housekeeping};
use crate::corpus::cases;
use crate::net::{Net, SCRUB_V4, SCRUB_V6, config, mac_text, net_or_return};

/// Nobody's.
const SOMEBODY: Mac = [2, 0xab, 0xcd, 0, 0, 1];
const WAYS: [Way; 5] = [Way::V4, Way::V6, Way::Tagged(0xa000), Way::Tagged(100), Way::Padded];

fn to(next_hop: &str) -> String {
    let next_hop = if next_hop.is_empty() {
        String::new()
    } else {
        format!(", next_hop = \"{next_hop}\"")
    };
    format!("inner = [\"ipv4\", \"ipv6\", \"ethernet\", \"mpls\"]\ndeliver = {{ interface = \"lan0\"{next_hop} }}")
}

#[test]
fn every_packet_goes_as_it_is_to_the_mac_address_in_native_mode() -> Result<()> {
    everything_goes(&net_or_return!(), "native", &mac_text(SOMEBODY), SOMEBODY)
}

#[test]
fn every_packet_goes_as_it_is_to_the_mac_address_in_generic_mode() -> Result<()> {
    everything_goes(&net_or_return!(), "generic", &mac_text(SOMEBODY), SOMEBODY)
}

#[test]
fn a_neighbours_address_is_resolved() -> Result<()> {
    let net = net_or_return!();
    everything_goes(&net, "native", "192.0.2.80", net.lan.1.mac)?;
    everything_goes(&net, "native", "2001:db8:2::80", net.lan.1.mac)
}

/// The other end is in another namespace.
#[test]
fn without_a_next_hop_a_veth_delivers_to_its_other_end() -> Result<()> {
    let net = net_or_return!();
    everything_goes(&net, "native", "", net.lan.1.mac)
}

fn everything_goes(net: &Net, mode: &str, next_hop: &str, mac: Mac) -> Result<()> {
    net.program.load(&config(mode, &to(next_hop)))?;
    let before = net.program.stats()?;
    let bench = Bench::open(net)?;
    let link = Link {
        destination: mac,
        source: net.lan.0.mac,
        tags: Vec::new(),
    };
    let mut counted = [[0; 3]; 2];
    let mut sent = 0;
    let mut wanted = Vec::new();
    let mut send = |way, protocol, inner: &[u8], frame: Vec<u8>| -> Result<()> {
        bench.centre.send(&bench.frame(way, protocol, inner))?;
        let packet = bench.packet(way, protocol, inner);
        let tunnel = &mut counted[usize::from(way == Way::V6)];
        for (count, more) in tunnel.iter_mut().zip([1, inner.len(), packet.ip_packet().len()]) {
            *count += more as u64;
        }
        sent += 1;
        wanted.push((format!("{} as {protocol:#06x} by {way:?}", hex(inner)), frame));
        if wanted.len() == 64 {
            arrive(&bench.server, &mut wanted)?;
        }
        Ok(())
    };
    for way in WAYS {
        for case in cases() {
            let packet = without_rest(&case.inner);
            send(way, case.protocol, &case.inner, link.frame(case.protocol, packet))?;
        }
        let labelled = [&[0x12, 0x34, 0x51, 0x40][..], &datagram_v4(&inner_v4(), b"labelled")].concat();
        for protocol in [ETHERTYPE_MPLS, ETHERTYPE_MPLS_MULTICAST] {
            send(way, protocol, &labelled, link.frame(protocol, &labelled))?;
        }
        for frame in inner_frames() {
            send(way, ETHERTYPE_TEB, &frame, frame.clone())?;
        }
    }
    arrive(&bench.server, &mut wanted)?;

    let stats = net.program.stats()?;
    for (name, counted) in [SCRUB_V4, SCRUB_V6].into_iter().zip(counted) {
        for (what, wanted) in ["packets", "bytes", "outer_bytes"].into_iter().zip(counted) {
            let count = |stats: &gre_tests::program::Stats| stats.tunnel(name, what).unwrap_or(0);
            let found = count(&stats) - count(&before);
            ensure!(found == wanted, "{found} {what} of {name}, not {wanted}");
        }
    }
    ensure!(sent > 500 && stats.0["reasons"] == json!({}), "{sent} sent, {stats:?}");
    Ok(())
}

/// An IP packet without the bytes behind its end.
fn without_rest(packet: &[u8]) -> &[u8] {
    let word = |at| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
    if packet[0] >> 4 == 4 {
        &packet[..word(2)]
    } else {
        &packet[..40 + word(4)]
    }
}

/// Waits until these frames have arrived, in this order, and no others.
fn arrive(wire: &Wire, wanted: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    for (what, frame) in wanted.drain(..) {
        let mut seen = wire.until(&what, |seen| !seen.outgoing && seen.bytes == frame)?;
        seen.pop();
        seen.retain(|other| !other.outgoing && !is_housekeeping(&other.bytes));
        ensure!(seen.is_empty(), "{what}: wanted {}, seen {seen:?}", hex(&frame));
    }
    Ok(())
}

/// Frames inside the tunnel: to anybody, from anybody, with tags, and as short as a header.
fn inner_frames() -> Vec<Vec<u8>> {
    let link = Link {
        destination: [2, 0x11, 0x22, 0x33, 0x44, 0x55],
        source: [2, 0x66, 0x77, 0x88, 0x99, 0xaa],
        tags: Vec::new(),
    };
    let group = |destination| Link {
        destination,
        ..link.clone()
    };
    let (v4, v6) = (
        datagram_v4(&inner_v4(), b"bridged"),
        datagram_v6(&inner_v6(), b"bridged"),
    );
    vec![
        link.frame(ETHERTYPE_IPV4, &v4),
        link.frame(ETHERTYPE_IPV6, &v6),
        group([0xff; 6]).frame(ETHERTYPE_IPV4, &v4),
        group([1, 0, 0x5e, 0, 0, 1]).frame(ETHERTYPE_IPV4, &v4),
        group([0x33, 0x33, 0, 0, 0, 1]).frame(ETHERTYPE_IPV6, &v6),
        link.clone().tagged(TPID_8021Q, 100).frame(ETHERTYPE_IPV4, &v4),
        link.clone()
            .tagged(TPID_8021AD, 7)
            .tagged(TPID_8021Q, 0xe001)
            .frame(ETHERTYPE_IPV6, &v6),
        // EtherTypes for experiments (IEEE 802): no stack knows what is in there.
        link.frame(0x88b5, b"whatever"),
        link.frame(0x88b6, &[]),
    ]
}

/// A `gre-decap run`, which ends with this.
struct Runner(Child);

impl Runner {
    fn start(net: &Net, config: &str) -> Result<Self> {
        let mut command = net.program.command(config, "run")?;
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("start gre-decap")?;
        let stdout = child.stdout.take();
        let runner = Self(child);
        let mut line = String::new();
        BufReader::new(stdout.context("its output")?).read_line(&mut line)?;
        ensure!(!line.is_empty(), "gre-decap run has ended");
        Ok(runner)
    }

    fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM)?;
        let status = self.0.wait()?;
        ensure!(status.success(), "gre-decap run: {status}");
        Ok(())
    }
}

#[test]
fn a_neighbour_that_gets_another_mac_address_is_followed() -> Result<()> {
    let net = net_or_return!();
    // A host that changes its address says so, as network cards in a bond or an address that moves do.
    net.server.sysctl("net.ipv4.conf.eth0.arp_notify", "1")?;
    net.server.sysctl("net.ipv6.conf.eth0.ndisc_notify", "1")?;
    let server = Wire::open(&net.server, "eth0")?;
    let centre = Wire::open(&net.centre, "wan")?;
    // The bench would fix the neighbours.
    let packet = datagram_v4(&inner_v4(), b"to whom it may concern");
    let frame = frame(&net, Way::V4, ETHERTYPE_IPV4, &packet);
    for (number, next_hop) in ["192.0.2.80", "2001:db8:2::80"].into_iter().enumerate() {
        let runner = Runner::start(&net, &config("native", &to(next_hop)))?;
        for turn in 0..2 {
            let mac = [2, 0xee, 0, 0, number as u8, turn];
            net.server.ip(&format!("link set dev eth0 address {}", mac_text(mac)))?;
            let deadline = Instant::now() + PATIENCE;
            let arrived = |mac: Mac| -> Result<bool> {
                centre.send(&frame)?;
                let next = server.until("the packet", |seen| !seen.outgoing && seen.bytes.ends_with(&packet))?;
                Ok(next.last().is_some_and(|seen| seen.bytes[..6] == mac))
            };
            while !arrived(mac)? {
                ensure!(
                    Instant::now() < deadline,
                    "by way of {next_hop}: packets still do not go to {}",
                    mac_text(mac)
                );
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        runner.stop()?;
    }
    Ok(())
}

/// Until somebody answers to the next hop's address, the kernel forwards by its own routes.
#[test]
fn a_next_hop_that_nobody_has_leaves_packets_to_the_kernel() -> Result<()> {
    let net = net_or_return!();
    let lines = to("192.0.2.250");
    let bench = Bench::open(&net)?;
    let packets = [
        (ETHERTYPE_IPV4, datagram_v4(&inner_v4(), b"to nobody")),
        (ETHERTYPE_IPV6, datagram_v6(&inner_v6(), b"to nobody")),
    ];
    net.program.load(&config("native", &lines))?;
    let before = net.program.stats()?;
    for (protocol, packet) in &packets {
        for way in [Way::V4, Way::V6] {
            let frame = forwarded(packet, net.lan.1.mac, net.lan.0.mac)?;
            let seen = bench.pass(&bench.frame(way, *protocol, packet))?;
            ensure!(seen.server == [frame], "{seen:?}");
        }
    }
    // The packets, and two markers for each.
    let counted = net.program.stats()?.reason("route_no_neighbour") - before.reason("route_no_neighbour");
    ensure!(counted == 12, "{counted} counted");

    let runner = Runner::start(&net, &config("native", &lines))?;
    net.server.ip("address add 192.0.2.250/24 dev eth0")?;
    let (protocol, packet) = &packets[0];
    let direct = [&net.lan.1.mac[..], &net.lan.0.mac, &protocol.to_be_bytes(), packet].concat();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = bench.pass(&bench.frame(Way::V4, *protocol, packet))?;
        if seen.server == [direct.clone()] {
            break;
        }
        ensure!(Instant::now() < deadline, "still by the kernel: {seen:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    runner.stop()
}

#[test]
fn an_interface_that_is_missing_is_an_error_and_changes_nothing() -> Result<()> {
    let net = net_or_return!();
    net.program.load(&config("native", &to("")))?;
    let before = (net.program.run("", "status --json")?, net.program.stats()?);
    let lines = to("").replace("lan0", "absent0");
    let said = net.program.refused(&config("native", &lines), "load", 1)?;
    ensure!(said.contains("absent0"), "{said}");
    ensure!(before == (net.program.run("", "status --json")?, net.program.stats()?));
    // What runs goes on.
    let bench = Bench::open(&net)?;
    let packet = datagram_v4(&inner_v4(), b"still there");
    let seen = bench.pass(&bench.frame(Way::V4, ETHERTYPE_IPV4, &packet))?;
    ensure!(seen.server.len() == 1 && seen.server[0].ends_with(&packet), "{seen:?}");
    Ok(())
}
