//! Where several ways lead to a destination, the program takes the one that the kernel would take.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gre_tests::frame::{
    Addresses, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Extension, Ipv4, Ipv6, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP,
    echo_request, tcp_segment, udp_datagram,
};
use gre_tests::lab::{PATIENCE, Wire};
use gre_tests::skip::say;

use crate::bench::{Bench, Way, hex, inner_v4, inner_v6};
use crate::net::{Net, config, mac_text, net_or_return};

const STACK: &str = "deliver = \"stack\"";
const ROUTE: &str = "deliver = \"route\"";

/// Packets of each family.
const PACKETS: u32 = 192;
/// Sent at once: fewer than a veth's queue has room for.
const BATCH: usize = 64;

/// Two ways to 10.20.0.0/16 and 2001:db8:20::/48: by lan0, and by lan1.
const WAYS: [[&str; 2]; 2] = [
    ["via 192.0.2.80 dev lan0", "via 192.0.3.80 dev lan1"],
    ["via 2001:db8:2::80 dev lan0", "via 2001:db8:3::80 dev lan1"],
];

/// What tells the ways apart, as arguments of `ip`.
#[rustfmt::skip]
const POLICIES: [(&str, &[&str]); 12] = [
    ("one way", &["route add 10.20.0.0/16 W0", "route add 2001:db8:20::/48 X0"]),
    ("the other way", &["route add 10.20.0.0/16 W1", "route add 2001:db8:20::/48 X1"]),
    ("the longer prefix", &[
        "route add 10.20.0.0/16 W0", "route add 10.20.128.0/17 W1",
        "route add 2001:db8:20::/48 X0", "route add 2001:db8:20:8000::/49 X1",
    ]),
    ("routes by TOS", &[
        "route add 10.20.0.0/16 W0", "route add 10.20.0.0/16 tos 0x10 W1", "route add 10.20.0.0/16 tos 0x08 W1",
        "route add 2001:db8:20::/48 X0",
    ]),
    ("rules by TOS", &[
        "route add 10.20.0.0/16 W0", "route add 10.20.0.0/16 W1 table 100",
        "rule add to 10.20.0.0/16 tos 0x10 table 100",
        "route add 2001:db8:20::/48 X0", "route add 2001:db8:20::/48 X1 table 100",
        "-6 rule add to 2001:db8:20::/48 tos 0x10 table 100", "-6 rule add to 2001:db8:20::/48 tos 0xb8 table 100",
    ]),
    ("rules by source", &[
        "route add 10.20.0.0/16 W0", "route add 10.20.0.0/16 W1 table 100",
        "rule add from 198.18.4.0/24 to 10.20.0.0/16 table 100",
        "route add 2001:db8:20::/48 X0", "route add 2001:db8:20::/48 X1 table 100",
        "-6 rule add from 2001:db8:5::/56 to 2001:db8:20::/48 table 100",
    ]),
    // TCP, UDP and ICMPv6, of whose names not every host has a file.
    ("rules by protocol and port", &[
        "route add 10.20.0.0/16 W0", "route add 10.20.0.0/16 W1 table 100",
        "rule add to 10.20.0.0/16 ipproto 6 table 100", "rule add to 10.20.0.0/16 ipproto 17 sport 1024-30000 table 100",
        "rule add to 10.20.0.0/16 ipproto 17 dport 40000-65534 table 100",
        "route add 2001:db8:20::/48 X0", "route add 2001:db8:20::/48 X1 table 100",
        "-6 rule add to 2001:db8:20::/48 ipproto 6 table 100",
        "-6 rule add to 2001:db8:20::/48 ipproto 17 sport 1024-30000 table 100",
        "-6 rule add to 2001:db8:20::/48 ipproto 17 dport 40000-65534 table 100",
        "-6 rule add to 2001:db8:20::/48 ipproto 58 table 100",
    ]),
    ("rules by the interface they came in by", &[
        "route add 10.20.0.0/16 W0", "route add 10.20.0.0/16 W1 table 100",
        "rule add to 10.20.0.0/16 iif wan0 table 100",
        "route add 2001:db8:20::/48 X0", "route add 2001:db8:20::/48 X1 table 100",
        "-6 rule add to 2001:db8:20::/48 iif wan0 table 100",
    ]),
    ("several next hops", &[
        "route add 10.20.0.0/16 nexthop W0 weight 1 nexthop W1 weight 1",
        "route add 2001:db8:20::/48 nexthop X0 weight 1 nexthop X1 weight 1",
    ]),
    ("several next hops of different weights", &[
        "route add 10.20.0.0/16 nexthop W0 weight 1 nexthop W1 weight 5",
        "route add 2001:db8:20::/48 nexthop X0 weight 1 nexthop X1 weight 5",
    ]),
    ("next hop groups", &[
        "nexthop add id 1 W0", "nexthop add id 2 W1", "nexthop add id 10 group 1/2",
        "nexthop add id 3 X0", "nexthop add id 4 X1", "nexthop add id 20 group 3/4",
        "route add 10.20.0.0/16 nhid 10", "route add 2001:db8:20::/48 nhid 20",
    ]),
    ("IPv4 by way of an IPv6 neighbour", &[
        "route add 10.20.0.0/16 via inet6 2001:db8:3::80 dev lan1", "route add 2001:db8:20::/48 X0",
    ]),
];

#[test]
fn as_the_kernel_with_hashes_of_addresses() -> Result<()> {
    as_the_kernel(&net_or_return!(), 0)
}

#[test]
fn as_the_kernel_with_hashes_of_ports() -> Result<()> {
    as_the_kernel(&net_or_return!(), 1)
}

/// `hash`: what the kernel chooses by among several next hops (`fib_multipath_hash_policy`).
fn as_the_kernel(net: &Net, hash: u8) -> Result<()> {
    second_wire(net)?;
    for family in ["ipv4", "ipv6"] {
        net.router
            .sysctl(&format!("net.{family}.fib_multipath_hash_policy"), &hash.to_string())?;
    }
    let bench = Bench::open(net)?;
    let wires = [Wire::open(&net.server, "eth0")?, Wire::open(&net.server, "eth1")?];
    let outcomes = |lines| -> Result<Vec<_>> {
        net.program.load(&config("native", lines))?;
        let outcome = |(name, policy): &(&str, &[&str])| {
            set(net, policy, true)?;
            let outcome = outcome(&bench, &wires).with_context(|| format!("{name}, hash policy {hash}"));
            set(net, policy, false)?;
            outcome
        };
        POLICIES.iter().map(outcome).collect()
    };
    let (kernel, program) = (outcomes(STACK)?, outcomes(ROUTE)?);
    for (((name, policy), kernel), program) in POLICIES.iter().zip(kernel).zip(program) {
        let second = kernel.iter().filter(|(wire, _)| *wire == 1).count();
        say(&format!(
            "{name}, hash policy {hash}: {second} of {} by the second wire",
            kernel.len()
        ));
        for (index, (expected, seen)) in kernel.iter().zip(&program).enumerate() {
            let number = index as u32;
            if hash == 0 && policy_hashes(policy) && has_extension(&packet(number)) {
                // The kernel takes for the protocol what it finds first if no rule asks for ports, and else what is behind
                // the extension headers. Which of both, a program cannot know.
                continue;
            }
            ensure!(
                expected == seen,
                "{name}, hash policy {hash}: {}: the kernel sends it by wire {} as {}, the program by wire {} as {}",
                hex(&packet(number)),
                expected.0,
                hex(&expected.1),
                seen.0,
                hex(&seen.1),
            );
        }
    }
    let stats = net.program.stats()?;
    ensure!(stats.reason("route_other") == 0, "{stats:?}");
    Ok(())
}

/// Whether there is a choice by a hash.
fn policy_hashes(policy: &[&str]) -> bool {
    policy
        .iter()
        .any(|command| command.contains("weight") || command.contains("group"))
}

/// Whether an IPv6 packet has an extension header.
fn has_extension(packet: &[u8]) -> bool {
    packet[0] >> 4 == 6 && [Extension::FRAGMENT, Extension::DESTINATION_OPTIONS].contains(&packet[6])
}

/// A second wire from the router to the server.
fn second_wire(net: &Net) -> Result<()> {
    let (_, far) = net.lab.veth(
        net.router
            .end("lan1")
            .address("192.0.3.1/24")
            .address("2001:db8:3::1/64"),
        net.server
            .end("eth1")
            .napi()
            .address("192.0.3.80/24")
            .address("2001:db8:3::80/64"),
    )?;
    for address in ["192.0.3.80", "2001:db8:3::80"] {
        net.router.ip(&format!(
            "neighbour add {address} lladdr {} dev lan1 nud permanent",
            mac_text(far.mac)
        ))?;
    }
    Ok(())
}

/// Runs a policy's commands, or takes back what they did.
fn set(net: &Net, policy: &[&str], there: bool) -> Result<()> {
    let [[v4_first, v4_second], [v6_first, v6_second]] = WAYS;
    let run = |command: &&str| {
        let command = command
            .replace("W0", v4_first)
            .replace("W1", v4_second)
            .replace("X0", v6_first)
            .replace("X1", v6_second);
        net.router.ip(&command)
    };
    if there {
        return policy.iter().try_for_each(|command| run(command).map(drop));
    }
    for command in policy.iter().rev().filter(|command| !command.starts_with("nexthop")) {
        run(&command.replace(" add ", " del ").as_str())?;
    }
    net.router.ip("nexthop flush").map(drop)
}

/// For each packet the wire that it took, and the frame that arrived there.
fn outcome(bench: &Bench, wires: &[Wire; 2]) -> Result<Vec<(usize, Vec<u8>)>> {
    let mut outcome = Vec::new();
    let all: Vec<u32> = (0..2 * PACKETS).collect();
    for batch in all.chunks(BATCH) {
        for number in batch {
            let (way, protocol) = match number % 2 {
                0 => (Way::V4, ETHERTYPE_IPV4),
                _ => (Way::V6, ETHERTYPE_IPV6),
            };
            bench.centre.send(&bench.frame(way, protocol, &packet(*number)))?;
        }
        let mut arrived = vec![None; batch.len()];
        let deadline = Instant::now() + PATIENCE;
        while arrived.iter().any(Option::is_none) {
            ensure!(Instant::now() < deadline, "packets were lost: {arrived:?}");
            for (wire, socket) in wires.iter().enumerate() {
                while let Some(frame) = socket.next(Duration::from_millis(1))? {
                    let place = batch.iter().position(|number| frame.bytes.ends_with(&data(*number)));
                    if let (false, Some(place)) = (frame.outgoing, place) {
                        ensure!(arrived[place].is_none(), "{} arrived twice", batch[place]);
                        arrived[place] = Some((wire, frame.bytes));
                    }
                }
            }
        }
        outcome.extend(arrived.into_iter().flatten());
    }
    Ok(outcome)
}

/// How the packet of a number ends, and no other.
fn data(number: u32) -> Vec<u8> {
    [&scrambled(number).to_be_bytes()[..], &number.to_be_bytes()].concat()
}

/// The packet of a number: of a protocol, between addresses and ports, with a DSCP and a
/// flow label that the number chooses; IPv4 if it is even.
fn packet(number: u32) -> Vec<u8> {
    let chosen = scrambled(number);
    let [a, b, c, d, e, f, g, h] = chosen.to_be_bytes();
    let dscp = [0, 0x10, 0x08, 0xb8, 0x04, 0x1c][usize::from(a) % 6];
    let data = data(number);
    let (kind, fragment) = (b % 8, c % 8 == 0);
    if number.is_multiple_of(2) {
        let header = Ipv4 {
            source: [198, 18, 4 + d % 2, e].into(),
            destination: [10, 20, f, g].into(),
            tos: dscp,
            more_fragments: fragment,
            ..inner_v4()
        };
        let addresses = Addresses::V4(header.source, header.destination);
        let (protocol, content) = content(addresses, kind, PROTOCOL_ICMP, chosen, &data);
        Ipv4 { protocol, ..header }.packet(&content)
    } else {
        let header = Ipv6 {
            source: [0x2001, 0xdb8, 5, u16::from(d % 2) << 8, 0, 0, 0, u16::from(e)].into(),
            destination: [0x2001, 0xdb8, 0x20, u16::from(f) << 8, 0, 0, 0, u16::from(g)].into(),
            traffic_class: dscp,
            flow_label: if h % 2 == 0 {
                0
            } else {
                (chosen >> 20) as u32 & 0xf_ffff
            },
            extensions: match (fragment, c % 8) {
                (true, _) => vec![Extension::fragment(0, true, number)],
                (_, 1) => vec![Extension::destination_options()],
                _ => Vec::new(),
            },
            ..inner_v6()
        };
        let addresses = Addresses::V6(header.source, header.destination);
        let (next_header, content) = content(addresses, kind, PROTOCOL_ICMPV6, chosen, &data);
        Ipv6 { next_header, ..header }.packet(&content)
    }
}

/// TCP, UDP, ICMP or something without ports. Checksums are wrong as soon as ports are chosen, which is no router's business.
fn content(addresses: Addresses, kind: u8, icmp: u8, chosen: u64, data: &[u8]) -> (u8, Vec<u8>) {
    let (protocol, mut content) = match kind {
        0..3 => (17, udp_datagram(addresses, data)),
        3..6 => (PROTOCOL_TCP, tcp_segment(addresses, data)),
        6 => return (icmp, echo_request(addresses, data)),
        _ => return (253, data.to_vec()),
    };
    content[..4].copy_from_slice(&(chosen.rotate_left(17) as u32).to_be_bytes());
    (protocol, content)
}

/// SplitMix64.
fn scrambled(number: u32) -> u64 {
    let word = (u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
