//! One tunnel over many cores: who gets what, in which order, and what is lost when a queue is full.

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gre_tests::frame::{
    Addresses, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_TEB, Extension, Ipv4, Ipv6, Link, udp_datagram,
};
use gre_tests::lab::{Namespace, PATIENCE};
use gre_tests::skip::{say, skip};
use gre_tests::traffic::flows::Flows;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::bench::{Bench, Way, datagram_v4, datagram_v6, inner_v4, inner_v6};
use crate::net::{SCRUB_V4, SERVER_V4, SERVER_V6, Wanted, config, net_or_return, tunnel_v4};

const STACK: &str = "deliver = \"stack\"";
const ROUTE: &str = "deliver = \"route\"";
const INTERFACE: &str = "inner = [\"ipv4\", \"ipv6\", \"ethernet\"]\ndeliver = { interface = \"lan0\" }";

fn over(deliver: &str, cores: &str) -> String {
    format!("{deliver}\nspread = \"{cores}\"")
}

/// The cores that are online, as the kernel lists them and one by one.
fn cores() -> Result<(String, Vec<usize>)> {
    let path = "/sys/devices/system/cpu/online";
    let list = std::fs::read_to_string(path).context(path)?.trim().to_owned();
    let mut cores = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cores.extend(first.parse::<usize>()?..=last.parse()?);
    }
    Ok((list, cores))
}

/// The cores, or none, loudly, where there is but one.
fn several_cores(test: &str) -> Result<Option<Vec<usize>>> {
    let (_, cores) = cores()?;
    if cores.len() < 2 {
        skip(test, "a second core");
        return Ok(None);
    }
    Ok(Some(cores))
}

/// The router is the origin itself: its own sockets say on which core they got their datagrams.
#[test]
fn every_configured_core_receives_and_each_flow_stays_on_one() -> Result<()> {
    let net = net_or_return!();
    let Some(cores) = several_cores("every_configured_core_receives_and_each_flow_stays_on_one")? else {
        return Ok(());
    };
    net.router.ip("address add 192.0.2.90/32 dev lo")?;
    net.router.ip("address add 2001:db8:2::90/128 dev lo nodad")?;
    let last = cores[cores.len() - 1];
    let lists = [
        ("all".to_owned(), cores.clone()),
        (format!("0,{last}"), vec![0, last]),
        (last.to_string(), vec![last]),
        ("0".to_owned(), vec![0]),
    ];
    let _scrubber = net.scrubber(&tunnel_v4())?;
    for (list, cores) in &lists {
        net.program.load(&config("native", &over(STACK, list)))?;
        for service in [IpAddr::from([192, 0, 2, 90]), "2001:db8:2::90".parse()?] {
            let flows = Flows::open(&net.client, &net.router, service, 64, 200)?.start(64)?;
            flows.wait_for(6400)?;
            let received = flows.stop()?;
            say(&format!("spread over {list}, to {service}: {received}"));
            ensure!(received.overtaken() == 0, "{list}: {received:?}");
            ensure!(
                received.flows.iter().all(|flow| flow.cores.len() == 1),
                "{list}: {received:?}"
            );
            ensure!(
                received.cores() == cores.iter().copied().collect(),
                "{list}: {received:?}"
            );
        }
    }
    Ok(())
}

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

/// With a sender that leaves its core to nobody, the queue of that core fills up.
#[test]
fn a_full_queue_is_counted() -> Result<()> {
    let net = net_or_return!();
    let (_, cores) = cores()?;
    let core = cores[cores.len() - 1];
    let spread = over(ROUTE, &core.to_string());
    net.program
        .load(&format!("spread_queue = 8\n{}", config("native", &spread)))?;
    let bench = Bench::open(&net)?;
    let data = b"one too many";
    let packet = datagram_v4(&inner_v4(), data);
    let frame = bench.frame(Way::V4, ETHERTYPE_IPV4, &packet);
    let (mut sent, mut received) = (0_u64, 0);
    let deadline = Instant::now() + PATIENCE;
    loop {
        thread::scope(|scope| {
            let burst = scope.spawn(|| {
                let mut set = CpuSet::new();
                set.set(core)?;
                sched_setaffinity(Pid::from_raw(0), &set).context("stay on one core")?;
                (0..1000).try_for_each(|_| bench.centre.send(&frame))
            });
            burst.join().expect("the sender does not panic")
        })?;
        sent += 1000;
        let lost = net.lost_on_the_wire()?;
        // Whatever is neither lost by the wire nor counted arrives.
        loop {
            let full = net.program.stats()?.reason("spread_full");
            while received + full + lost < sent {
                let Some(seen) = bench.server.next(Duration::from_millis(20))? else {
                    break;
                };
                received += u64::from(!seen.outgoing && seen.bytes.ends_with(data));
            }
            ensure!(
                received + full + lost <= sent,
                "{received} received, {full} counted, {lost} lost by the wire, of {sent}"
            );
            if received + full + lost == sent {
                break;
            }
            ensure!(
                Instant::now() < deadline,
                "{received} received, {full} counted, {lost} lost by the wire, of {sent}"
            );
        }
        let stats = net.program.stats()?;
        let full = stats.reason("spread_full");
        if full > 0 {
            say(&format!(
                "a queue of 8: of {sent} packets {received} delivered, {full} counted"
            ));
            let packets = stats.tunnel(SCRUB_V4, "packets").unwrap_or(0);
            ensure!(
                packets == received,
                "{packets} counted as delivered, {received} were, of {sent}: {full} counted, {lost} lost by the wire"
            );
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the queue of 8 was never full: {stats:?}");
    }
}

#[test]
fn nothing_is_lost_while_spread_and_deliver_change() -> Result<()> {
    let net = net_or_return!();
    let (_, cores) = cores()?;
    let last = cores[cores.len() - 1].to_string();
    // One after the other, in each order that matters: among ways to deliver, and among sets of cores.
    let changes = [
        STACK.to_owned(),
        over(STACK, "all"),
        over(ROUTE, "all"),
        ROUTE.to_owned(),
        over(ROUTE, &last),
        over(ROUTE, "0"),
        over(INTERFACE, "0"),
        INTERFACE.to_owned(),
        over(INTERFACE, "all"),
        over(STACK, &last),
        ROUTE.to_owned(),
        STACK.to_owned(),
    ];
    const WINDOW: u64 = 64;
    net.fix_neighbours()?;
    let _scrubber = net.scrubber(&tunnel_v4())?;
    for service in [IpAddr::from(SERVER_V4), SERVER_V6.into()] {
        net.program.load(&config("native", &changes[0]))?;
        let flows = Flows::open(&net.client, &net.server, service, 16, 300)?.start(WINDOW)?;
        for change in &changes {
            flows.wait_for(300)?;
            net.program
                .load(&config("native", change))
                .with_context(|| change.clone())?;
        }
        flows.wait_for(300)?;
        let received = flows.stop()?;
        let overtaken = received.overtaken();
        say(&format!("{} loads: {received}; {overtaken} overtaken", changes.len()));
        // What is on the way at a change may be overtaken, and nothing else.
        ensure!(overtaken <= WINDOW * changes.len() as u64, "{received:?}");
    }
    let lost = net.lost_on_the_wire()?;
    ensure!(lost == 0, "the wire itself lost {lost}");
    Ok(())
}

#[test]
fn cores_that_are_not_there_are_a_mistake_in_the_file() -> Result<()> {
    let net = net_or_return!();
    let (list, cores) = cores()?;
    let absent = cores[cores.len() - 1] + 90;
    for command in ["load", "check"] {
        let said = net
            .program
            .refused(&config("native", &over(ROUTE, &format!("0-{absent}"))), command, 2)?;
        ensure!(said.contains(&list) && said.contains("spread"), "{said}");
    }
    Ok(())
}
