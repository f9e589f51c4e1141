//! The core that each flow meets, by the queue of the server that its packets are redirected to.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gre_tests::frame::{
    Addresses, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_TEB, Extension, Ipv4, Ipv6, Link, udp_datagram,
};
use gre_tests::lab::{Namespace, PATIENCE};

use super::{INTERFACE, ROUTE, over, several_cores};
use crate::bench::{Bench, Way, datagram_v4, datagram_v6, inner_v4, inner_v6};
use crate::net::{SERVER_V4, SERVER_V6, Wanted, config, net_or_return};

/// A server with a queue for each core of the router, whose statistics tell which core a frame was redirected on.
fn wanted(cores: &[usize]) -> Wanted {
    Wanted {
        queues: cores.len() as u32,
        ..Wanted::default()
    }
}

/// Frames that each queue of an interface has received.
fn queues(namespace: &Namespace, interface: &str) -> Result<Vec<u64>> {
    let statistics = namespace.driver_statistics(interface)?;
    let queue = |number| statistics.get(&format!("rx_queue_{number}_xdp_packets")).copied();
    Ok((0..).map_while(queue).collect())
}

/// How often each packet is sent.
const TIMES: usize = 24;

/// The core on which all of these packets were redirected, sent [`TIMES`] times.
fn core_of(bench: &Bench, way: Way, protocol: u16, packets: &[Vec<u8>]) -> Result<usize> {
    let server = &bench.net.server;
    let before = queues(server, "eth0")?;
    for _ in 0..TIMES {
        for packet in packets {
            bench.centre.send(&bench.frame(way, protocol, packet))?;
        }
    }
    let wanted = (TIMES * packets.len()) as u64;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = queues(server, "eth0")?;
        let more: Vec<u64> = now.iter().zip(&before).map(|(now, before)| now - before).collect();
        if more.iter().sum::<u64>() >= wanted {
            // Neighbour discovery and the like add a few, the wrong core half of all or more.
            let core = more.iter().position(|count| *count >= wanted);
            return core.with_context(|| format!("{wanted} packets of one flow went to several cores: {more:?}"));
        }
        ensure!(Instant::now() < deadline, "of {wanted} packets there arrived {more:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn what_is_routed_is_redirected_on_the_core_of_its_flow() -> Result<()> {
    redirected("what_is_routed_is_redirected_on_the_core_of_its_flow", ROUTE)
}

#[test]
fn what_goes_out_of_an_interface_is_redirected_on_the_core_of_its_flow() -> Result<()> {
    redirected(
        "what_goes_out_of_an_interface_is_redirected_on_the_core_of_its_flow",
        INTERFACE,
    )
}

/// Flows that differ in one thing each, of every kind, find their cores, which are always the same.
fn redirected(test: &str, deliver: &str) -> Result<()> {
    let Some(cores) = several_cores(test)? else {
        return Ok(());
    };
    let net = net_or_return!(wanted(&cores));
    net.program.load(&config("native", &over(deliver, "all")))?;
    let bench = Bench::open(&net)?;
    let before = net.program.stats()?;
    let mut sent = 0;
    for (kind, way, protocol, flows) in kinds(deliver == INTERFACE) {
        let mut met = BTreeSet::new();
        let mut first = Vec::new();
        for flow in &flows {
            let core = core_of(&bench, way, protocol, std::slice::from_ref(flow)).context(kind)?;
            first.push(core);
            met.insert(core);
            sent += TIMES;
        }
        ensure!(
            met.len() == cores.len(),
            "{kind}: {} flows met the cores {met:?}",
            flows.len()
        );
        // The same again, after all the others.
        for (flow, core) in flows.iter().zip(first).take(4) {
            let again = core_of(&bench, way, protocol, std::slice::from_ref(flow)).context(kind)?;
            ensure!(again == core, "{kind}: on core {again} after core {core}");
            sent += TIMES;
        }
    }
    let packets = |stats: &gre_tests::program::Stats| {
        ["scrub4", "scrub6"]
            .map(|name| stats.tunnel(name, "packets").unwrap_or(0))
            .iter()
            .sum::<u64>()
    };
    let stats = net.program.stats()?;
    ensure!(
        packets(&stats) - packets(&before) == sent as u64,
        "{sent} sent, {stats:?}"
    );
    ensure!(stats.0["reasons"] == serde_json::json!({}), "{stats:?}");
    Ok(())
}

/// Thirty-two flows of each kind: enough that none of a few cores is missed by chance.
fn kinds(ethernet: bool) -> Vec<(&'static str, Way, u16, Vec<Vec<u8>>)> {
    let ports = |port: u16, mut packet: Vec<u8>, at: usize| {
        packet[at..at + 2].copy_from_slice(&(1024 + 7 * port).to_be_bytes());
        packet
    };
    let by = |f: &dyn Fn(u16) -> Vec<u8>| (0..32).map(f).collect::<Vec<_>>();
    let v4 = |header: &Ipv4| datagram_v4(header, b"which core?");
    let v6 = |header: &Ipv6| datagram_v6(header, b"which core?");
    let mut kinds = vec![
        (
            "IPv4 by source port",
            Way::V4,
            ETHERTYPE_IPV4,
            by(&|n| ports(n, v4(&inner_v4()), 20)),
        ),
        (
            "IPv4 by destination port",
            Way::V6,
            ETHERTYPE_IPV4,
            by(&|n| ports(n, v4(&inner_v4()), 22)),
        ),
        (
            "IPv4 by source",
            Way::Tagged(100),
            ETHERTYPE_IPV4,
            by(&|n| {
                v4(&Ipv4 {
                    source: [198, 18, 5, 10 + n as u8].into(),
                    ..inner_v4()
                })
            }),
        ),
        (
            "IPv6 by source port",
            Way::V4,
            ETHERTYPE_IPV6,
            by(&|n| ports(n, v6(&inner_v6()), 40)),
        ),
        (
            "IPv6 by destination port",
            Way::V6,
            ETHERTYPE_IPV6,
            by(&|n| ports(n, v6(&inner_v6()), 42)),
        ),
        (
            "IPv6 by source",
            Way::Padded,
            ETHERTYPE_IPV6,
            by(&|n| {
                v6(&Ipv6 {
                    source: [0x2001, 0xdb8, 5, 0, 0, 0, 0, 10 + n].into(),
                    ..inner_v6()
                })
            }),
        ),
    ];
    if ethernet {
        let frames = by(&|n| Link::default().frame(ETHERTYPE_IPV4, &ports(n, v4(&inner_v4()), 20)));
        kinds.push(("Ethernet by the ports inside", Way::V4, ETHERTYPE_TEB, frames));
    }
    kinds
}

/// All fragments between two addresses meet one core, whatever their ports, and what they are parts of arrives.
#[test]
fn fragments_of_a_datagram_meet_on_one_core() -> Result<()> {
    let Some(cores) = several_cores("fragments_of_a_datagram_meet_on_one_core")? else {
        return Ok(());
    };
    let net = net_or_return!(wanted(&cores));
    net.program.load(&config("native", &over(ROUTE, "all")))?;
    let bench = Bench::open(&net)?;
    let sockets = net
        .server
        .run(|| Ok((UdpSocket::bind((SERVER_V4, 443))?, UdpSocket::bind((SERVER_V6, 443))?)))?;
    let mut met = [BTreeSet::new(), BTreeSet::new()];
    for client in 0..16_u8 {
        let v4 = Ipv4 {
            source: [198, 18, 5, 100 + client].into(),
            ..inner_v4()
        };
        let v6 = Ipv6 {
            source: [0x2001, 0xdb8, 5, 0, 0, 0, 0, 0x100 + u16::from(client)].into(),
            ..inner_v6()
        };
        let message: Vec<u8> = (0..3000_u32)
            .map(|index| (index * 3 + u32::from(client)) as u8)
            .collect();
        let datagram = udp_datagram(Addresses::V4(v4.source, v4.destination), &message);
        let parts_v4 = parts(&datagram, |offset, more, identification, part| {
            let header = Ipv4 {
                identification: identification as u16,
                ..v4.clone().fragment(offset, more)
            };
            header.packet(part)
        });
        let datagram = udp_datagram(Addresses::V6(v6.source, v6.destination), &message);
        let parts_v6 = parts(&datagram, |offset, more, identification, part| {
            let header = Ipv6 {
                extensions: vec![Extension::fragment(offset, more, identification)],
                ..v6.clone()
            };
            header.packet(part)
        });
        let families = [
            (ETHERTYPE_IPV4, &parts_v4, &sockets.0),
            (ETHERTYPE_IPV6, &parts_v6, &sockets.1),
        ];
        for (met, (protocol, parts, socket)) in met.iter_mut().zip(families) {
            met.insert(core_of(&bench, Way::V4, protocol, parts)?);
            socket.set_read_timeout(Some(PATIENCE))?;
            for number in 0..TIMES {
                let mut buffer = vec![0; 4000];
                let length = socket.recv(&mut buffer).with_context(|| format!("datagram {number}"))?;
                ensure!(buffer[..length] == message, "another datagram of {length} bytes");
            }
        }
    }
    ensure!(
        met.iter().all(|met| met.len() == cores.len()),
        "fragments met only the cores {met:?}"
    );
    Ok(())
}

/// The fragments of a datagram, and of another to a port where nobody listens.
fn parts(datagram: &[u8], fragment: impl Fn(u16, bool, u32, &[u8]) -> Vec<u8>) -> Vec<Vec<u8>> {
    let mut other = datagram.to_vec();
    other[..4].copy_from_slice(&[0x12, 0x34, 0x56, 0x78]);
    let mut parts = Vec::new();
    for (identification, datagram) in [(1, datagram), (2, other.as_slice())] {
        // Multiples of eight bytes.
        let size = 1200;
        for (number, part) in datagram.chunks(size).enumerate() {
            let more = (number + 1) * size < datagram.len();
            parts.push(fragment((number * size / 8) as u16, more, identification, part));
        }
    }
    parts
}
