//! Each result that a look-up of the route can have, provoked, seen on the wire, and counted.
//!
//! What the kernel is to do the kernel does: each expectation here but those of denied routes holds as well where it
//! forwards everything itself, which is how they were found.

mod devices;
mod trial;

use std::net::UdpSocket;

use anyhow::{Context, Result, ensure};
use gre_tests::frame::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ipv4, Ipv6};

use self::trial::Trial;
use crate::bench::{Bench, Seen, Way, datagram_v4, datagram_v6, forwarded, hex, inner_v4, inner_v6};
use crate::net::{Net, ROUTER_V4, ROUTER_V6, config, net_or_return};

const STACK: &str = "deliver = \"stack\"";
const ROUTE: &str = "deliver = \"route\"";

// Types and codes of ICMP (RFC 792, RFC 1812) and ICMPv6 (RFC 4443).
const TIME_EXCEEDED: [u8; 2] = [11, 0];
const FRAGMENTATION_NEEDED: [u8; 2] = [3, 4];
const PORT_UNREACHABLE: [u8; 2] = [3, 3];
const NETWORK_UNREACHABLE: [u8; 2] = [3, 0];
const HOP_LIMIT_EXCEEDED: [u8; 2] = [3, 0];
const PACKET_TOO_BIG: [u8; 2] = [2, 0];
const PORT_UNREACHABLE_V6: [u8; 2] = [1, 4];
const NO_ROUTE: [u8; 2] = [1, 0];

/// The same for the kernel alone and for the program's look-ups.
macro_rules! both {
    ($($name:ident)+) => {
        mod kernel {
            $(#[test]
            fn $name() -> anyhow::Result<()> {
                super::$name(&crate::net::net_or_return!(), super::STACK)
            })+
        }

        mod program {
            $(#[test]
            fn $name() -> anyhow::Result<()> {
                super::$name(&crate::net::net_or_return!(), super::ROUTE)
            })+
        }
    };
}

both! {
    an_unknown_neighbour_is_resolved_by_the_kernel_and_then_known
    a_time_to_live_that_runs_out_is_answered
    a_packet_too_big_is_answered_or_fragmented
    a_locked_mtu_of_the_route_counts
    a_local_address_gets_its_packets
    no_route_is_answered
    a_blackhole_swallows
    an_interface_that_does_not_forward
    a_way_back_out_of_the_interface
}

fn an_unknown_neighbour_is_resolved_by_the_kernel_and_then_known(net: &Net, lines: &str) -> Result<()> {
    net.server.ip("address add 192.0.2.81/24 dev eth0")?;
    net.server.ip("address add 2001:db8:2::81/64 dev eth0 nodad")?;
    let trial = Trial::new(net, lines)?;
    let packets = [
        datagram_v4(
            &Ipv4 {
                destination: [192, 0, 2, 81].into(),
                ..inner_v4()
            },
            b"who has",
        ),
        datagram_v6(
            &Ipv6 {
                destination: "2001:db8:2::81".parse()?,
                ..inner_v6()
            },
            b"neighbour?",
        ),
    ];
    for (number, packet) in packets.iter().enumerate() {
        let way = [Way::V4, Way::V6][number];
        let protocol = [ETHERTYPE_IPV4, ETHERTYPE_IPV6][number];
        let wanted = forwarded(packet, net.lan.1.mac, net.lan.0.mac)?;
        trial.bench.centre.send(&trial.bench.frame(way, protocol, packet))?;
        // The kernel keeps it until the neighbour has answered.
        trial
            .bench
            .server
            .expect("the first packet to a neighbour", |seen| seen.bytes == wanted)?;
        trial.counted("route_no_neighbour", 1 + number as u64)?;
        // What follows is not kept, and not counted.
        for _ in 0..5 {
            trial.forwards(packet, &net.lan.1, &net.lan.0)?;
        }
        trial.counted("route_no_neighbour", 1 + number as u64)?;
    }
    Ok(())
}

fn a_time_to_live_that_runs_out_is_answered(net: &Net, lines: &str) -> Result<()> {
    let trial = Trial::new(net, lines)?;
    for ttl in [1, 0] {
        trial.answers(&datagram_v4(&Ipv4 { ttl, ..inner_v4() }, b"late"), TIME_EXCEEDED)?;
        let header = Ipv6 {
            hop_limit: ttl,
            ..inner_v6()
        };
        trial.answers(&datagram_v6(&header, b"late"), HOP_LIMIT_EXCEEDED)?;
    }
    trial.counted("route_ttl", 8)?;
    // Two are enough for one hop.
    let header = Ipv4 { ttl: 2, ..inner_v4() };
    trial.forwards(&datagram_v4(&header, b"just in time"), &net.lan.1, &net.lan.0)?;
    let header = Ipv6 {
        hop_limit: 2,
        ..inner_v6()
    };
    trial.forwards(&datagram_v6(&header, b"just in time"), &net.lan.1, &net.lan.0)?;
    trial.counted("route_ttl", 8)
}

/// Bytes of the largest packet that goes through, next to which one more is too many.
const NARROW: u16 = 1300;

fn a_packet_too_big_is_answered_or_fragmented(net: &Net, lines: &str) -> Result<()> {
    for (namespace, interface) in [(&net.router, "lan0"), (&net.server, "eth0")] {
        namespace.ip(&format!("link set dev {interface} mtu {NARROW}"))?;
    }
    too_big(net, lines)
}

fn a_locked_mtu_of_the_route_counts(net: &Net, lines: &str) -> Result<()> {
    net.router
        .ip(&format!("route replace 192.0.2.80/32 dev lan0 mtu lock {NARROW}"))?;
    net.router
        .ip(&format!("route replace 2001:db8:2::80/128 dev lan0 mtu lock {NARROW}"))?;
    too_big(net, lines)
}

/// What an IPv4 route says of its MTU without locking it, the kernel heeds when it forwards, and does not tell a program
/// (`ip_mtu_from_fib_result()`).
#[test]
fn an_mtu_of_the_route_that_is_not_locked_is_for_the_kernel_alone() -> Result<()> {
    let net = net_or_return!();
    net.router
        .ip(&format!("route replace 192.0.2.80/32 dev lan0 mtu {NARROW}"))?;
    let header = Ipv4 {
        dont_fragment: true,
        ..inner_v4()
    };
    let packet = datagram_v4(&header, &[5; 1400]);
    Trial::new(&net, STACK)?.answers(&packet, FRAGMENTATION_NEEDED)?;
    Trial::new(&net, ROUTE)?.forwards(&packet, &net.lan.1, &net.lan.0)
}

fn too_big(net: &Net, lines: &str) -> Result<()> {
    let trial = Trial::new(net, lines)?;
    let narrow = usize::from(NARROW);
    let (v4, v6) = (
        Ipv4 {
            dont_fragment: true,
            ..inner_v4()
        },
        inner_v6(),
    );
    for length in [narrow - 1, narrow] {
        trial.forwards(&datagram_v4(&v4, &vec![5; length - 28]), &net.lan.1, &net.lan.0)?;
        trial.forwards(&datagram_v6(&v6, &vec![5; length - 48]), &net.lan.1, &net.lan.0)?;
    }
    let mut counted = 0;
    for length in [narrow + 1, 1440] {
        let mtu = trial.answers(&datagram_v4(&v4, &vec![5; length - 28]), FRAGMENTATION_NEEDED)?;
        ensure!(mtu == u32::from(NARROW), "the MTU told is {mtu}");
        let mtu = trial.answers(&datagram_v6(&v6, &vec![5; length - 48]), PACKET_TOO_BIG)?;
        ensure!(mtu == u32::from(NARROW), "the MTU told is {mtu}");
        counted += 4;
        trial.counted("route_too_big", counted)?;
    }

    // What may be fragmented is, and arrives whole.
    let header = Ipv4 {
        identification: 77,
        ..inner_v4()
    };
    let packet = datagram_v4(&header, &(0..1400).map(|index| index as u8).collect::<Vec<_>>());
    for seen in trial.send(&packet)? {
        ensure!(seen.server.len() == 2 && seen.centre.is_empty(), "{seen:?}");
        let payload: Vec<u8> = seen.server.iter().flat_map(|frame| frame[34..].to_vec()).collect();
        ensure!(payload == packet[20..], "fragments of another packet: {seen:?}");
        ensure!(
            seen.server
                .iter()
                .all(|frame| frame[18..20] == [0, 77] && frame[22] == 63)
        );
    }
    trial.counted("route_too_big", counted + 2)
}

fn a_local_address_gets_its_packets(net: &Net, lines: &str) -> Result<()> {
    let trial = Trial::new(net, lines)?;
    let (v4, v6) = (
        Ipv4 {
            destination: ROUTER_V4,
            // Nothing is forwarded, so this is enough.
            ttl: 1,
            ..inner_v4()
        },
        Ipv6 {
            destination: ROUTER_V6,
            hop_limit: 1,
            ..inner_v6()
        },
    );
    trial.answers(&datagram_v4(&v4, b"nobody listens"), PORT_UNREACHABLE)?;
    trial.answers(&datagram_v6(&v6, b"nobody listens"), PORT_UNREACHABLE_V6)?;
    let sockets = net
        .router
        .run(|| Ok((UdpSocket::bind((ROUTER_V4, 443))?, UdpSocket::bind((ROUTER_V6, 443))?)))?;
    trial.drops(&datagram_v4(&v4, b"to the router itself"))?;
    trial.drops(&datagram_v6(&v6, b"to the router itself"))?;
    for socket in [&sockets.0, &sockets.1] {
        for _ in 0..2 {
            let mut buffer = [0; 64];
            // It came before the markers, which have been seen.
            socket.set_nonblocking(true)?;
            let length = socket.recv(&mut buffer).context("the router's socket")?;
            ensure!(buffer[..length] == *b"to the router itself", "{buffer:?}");
        }
    }
    trial.counted("route_local", 8)
}

fn no_route_is_answered(net: &Net, lines: &str) -> Result<()> {
    // These errors have a limit of their own as well, of five to begin with (`ip_error()`). On Linux 6.1 the limit of all errors, where it
    // is 0, takes that credit from the receiver; what no mask names has none.
    net.router.sysctl("net.ipv4.icmp_ratemask", "0")?;
    // What has no route of its own, and what a throw leaves without one.
    net.router.ip("route add throw 192.0.2.128/25")?;
    let trial = Trial::new(net, lines)?;
    for destination in [[10, 9, 9, 9], [192, 0, 2, 200]] {
        let header = Ipv4 {
            destination: destination.into(),
            ..inner_v4()
        };
        trial.answers(&datagram_v4(&header, b"nowhere"), NETWORK_UNREACHABLE)?;
    }
    let header = Ipv6 {
        destination: "2001:db8:dead::1".parse()?,
        ..inner_v6()
    };
    trial.answers(&datagram_v6(&header, b"nowhere"), NO_ROUTE)?;
    trial.counted("route_local", 6)
}

fn a_blackhole_swallows(net: &Net, lines: &str) -> Result<()> {
    denied(net, lines, &["blackhole"])
}

#[test]
fn routes_that_say_no_drop() -> Result<()> {
    denied(&net_or_return!(), ROUTE, &["blackhole", "unreachable", "prohibit"])
}

/// Routes, and rules, of these kinds let nothing through and say nothing. Of "unreachable" rules, and of all IPv6 rules, a program
/// learns only that there is no way; the kernel enforces them.
fn denied(net: &Net, lines: &str, kinds: &[&str]) -> Result<()> {
    let trial = Trial::new(net, lines)?;
    let packets = |last: u8| -> Result<_> {
        let v4 = Ipv4 {
            destination: [10, 9, 9, last].into(),
            ..inner_v4()
        };
        let v6 = Ipv6 {
            destination: format!("2001:db8:dead::{last}").parse()?,
            ..inner_v6()
        };
        Ok([datagram_v4(&v4, b"no"), datagram_v6(&v6, b"no")])
    };
    let (mut by_program, mut by_kernel) = (0, 0);
    for kind in kinds {
        net.router.ip(&format!("route replace {kind} 10.9.9.0/24"))?;
        net.router
            .ip(&format!("route replace {kind} 2001:db8:dead::/64 metric 1"))?;
        for packet in packets(1)? {
            trial.drops(&packet).with_context(|| format!("route {kind}"))?;
        }
        net.router.ip("route del 2001:db8:dead::/64 metric 1")?;

        // By a rule, though there is a way.
        net.router.ip("route replace 10.9.9.0/24 via 192.0.2.80")?;
        net.router.ip("route add 2001:db8:dead::/64 via 2001:db8:2::80")?;
        let rules = [
            format!("rule add to 10.9.9.2 pref 100 {kind}"),
            format!("-6 rule add to 2001:db8:dead::2 pref 100 {kind}"),
        ];
        for rule in &rules {
            net.router.ip(rule)?;
        }
        let [v4, v6] = packets(2)?;
        for packet in [&v4, &v6] {
            for seen in trial.send(packet)? {
                ensure!(seen.server.is_empty(), "rule {kind}: {seen:?}");
            }
        }
        for packet in packets(1)? {
            trial.forwards(&packet, &net.lan.1, &net.lan.0)?;
        }
        for rule in &rules {
            net.router.ip(&rule.replace("add", "del"))?;
        }
        net.router.ip("route del 2001:db8:dead::/64 via 2001:db8:2::80")?;
        let by_rule = if *kind == "unreachable" { 0 } else { 2 };
        by_program += 4 + by_rule;
        by_kernel += 4 - by_rule;
        trial.counted_all(&[("route_denied", by_program), ("route_local", by_kernel)])?;
    }
    Ok(())
}

fn an_interface_that_does_not_forward(net: &Net, lines: &str) -> Result<()> {
    let trial = Trial::new(net, lines)?;
    let forwarding = |value: &str| -> Result<()> {
        for family in ["ipv4", "ipv6"] {
            net.router
                .sysctl(&format!("net.{family}.conf.wan0.forwarding"), value)?;
        }
        Ok(())
    };
    forwarding("0")?;
    let (v4, v6) = (datagram_v4(&inner_v4(), b"no way"), datagram_v6(&inner_v6(), b"no way"));
    // The markers would not get through either.
    for (way, protocol, packet) in [(Way::V4, ETHERTYPE_IPV4, &v4), (Way::V6, ETHERTYPE_IPV6, &v6)] {
        trial.bench.centre.send(&trial.bench.frame(way, protocol, packet))?;
    }
    // Of the two the kernel forwards IPv6 all the same: it asks the setting of all interfaces.
    let frame = forwarded(&v6, net.lan.1.mac, net.lan.0.mac)?;
    trial
        .bench
        .server
        .expect("IPv6 by the kernel", |seen| seen.bytes == frame)?;
    trial.counted("route_other", 2)?;
    forwarding("1")?;
    let seen = trial.bench.settle()?;
    ensure!(seen == Seen::default(), "{seen:?}");
    trial.forwards(&v4, &net.lan.1, &net.lan.0)?;
    trial.forwards(&v6, &net.lan.1, &net.lan.0)?;
    trial.counted("route_other", 2)
}

/// A router on a stick: what comes by an interface leaves by it.
fn a_way_back_out_of_the_interface(net: &Net, lines: &str) -> Result<()> {
    for interface in ["all", "wan0"] {
        net.router
            .sysctl(&format!("net.ipv4.conf.{interface}.send_redirects"), "0")?;
    }
    net.router.ip("route add 10.30.0.0/16 via 203.0.113.10")?;
    net.router.ip("route add 2001:db8:30::/48 via 2001:db8:113::10")?;
    let v4 = Ipv4 {
        destination: [10, 30, 0, 1].into(),
        ..inner_v4()
    };
    let v6 = Ipv6 {
        destination: "2001:db8:30::1".parse()?,
        ..inner_v6()
    };
    let bench = Bench::open(net)?;
    for mode in ["native", "generic"] {
        net.program.load(&config(mode, lines))?;
        for (protocol, packet) in [
            (ETHERTYPE_IPV4, datagram_v4(&v4, b"back")),
            (ETHERTYPE_IPV6, datagram_v6(&v6, b"back")),
        ] {
            let frame = forwarded(&packet, net.wan.0.mac, net.wan.1.mac)?;
            for way in [Way::V4, Way::V6, Way::Tagged(0)] {
                let seen = bench.pass(&bench.frame(way, protocol, &packet))?;
                ensure!(
                    seen.centre == [frame.clone()] && seen.server.is_empty(),
                    "{mode}, {way:?}: wanted {}\nseen {seen:?}",
                    hex(&frame)
                );
            }
        }
        // Nothing but delivery was counted.
        let stats = net.program.stats()?;
        ensure!(stats.0["reasons"] == serde_json::json!({}), "{mode}: {stats:?}");
        net.program.run("", "unload")?;
    }
    Ok(())
}
