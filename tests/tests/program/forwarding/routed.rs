//! By route: what leaves, what the kernel gets to act on, and what is dropped.

use super::*;

#[test]
fn routed_packets_leave_in_new_frames() -> Result<()> {
    let mut router = router_or_return!(ROUTE, &[]);
    for inner in forwardable() {
        let wanted = router.to_lan(inner.ethertype, &inner.leaves);
        for (tunnel, packet) in everywhere(inner.ethertype, &inner.arrives) {
            for (trailing, padding) in [(0, 0), (1, 0), (46, 0), (0, 1), (0, 46), (7, 300)] {
                let mut packet = router.addressed(packet.clone());
                packet.payload.resize(packet.payload.len() + trailing, 0x77);
                packet.padding = vec![0xee; padding];
                router.check(tunnel, &packet, &wanted)?;
            }
        }
    }
    Ok(())
}

/// GRE's optional fields are no part of what leaves.
#[test]
fn every_gre_header_is_taken_off() -> Result<()> {
    let config = ROUTE.replace("\ndeliver", "\nkey = 4200\ndeliver");
    let mut router = router_or_return!(&(ROUTE.to_owned() + &config.replace("over", "keyed")), &[]);
    for inner in Inner::both(LAN, 64) {
        let wanted = router.to_lan(inner.ethertype, &inner.leaves);
        for flags in 0..8 {
            for (tunnel, mut packet) in everywhere(inner.ethertype, &inner.arrives) {
                packet.gre.checksum = if flags & 4 == 0 {
                    GreChecksum::Absent
                } else {
                    GreChecksum::Right
                };
                packet.gre.key = (flags & 2 != 0).then_some(4200);
                packet.gre.sequence = (flags & 1 != 0).then_some(77);
                let packet = router.addressed(packet);
                let tunnel = if flags & 2 == 0 { tunnel } else { tunnel + 2 };
                router.check(tunnel, &packet, &wanted)?;
            }
        }
    }
    Ok(())
}

/// RFC 6040 first, then one hop less: the checksum covers both.
#[test]
fn congestion_is_told_on_the_next_link() -> Result<()> {
    let mut router = router_or_return!(ROUTE, &[]);
    for network in [LAN, SILENT] {
        let inners = |ecn: u8| {
            let (v4, v6) = (header(network, 64), header6(network, 64));
            [
                Inner::v4(&Ipv4 { tos: 0xb8 | ecn, ..v4 }, &udp4()),
                Inner::v6(
                    &Ipv6 {
                        traffic_class: 0xb8 | ecn,
                        ..v6
                    },
                    &udp6(),
                ),
            ]
        };
        for (outside, inside, combined) in [
            (0b11, 0b10, 0b11),
            (0b11, 0b01, 0b11),
            (0b01, 0b10, 0b01),
            (0b10, 0b01, 0b01),
        ] {
            for (sent, received) in inners(inside).into_iter().zip(inners(combined)) {
                for (tunnel, mut packet) in everywhere(sent.ethertype, &sent.arrives) {
                    packet.outer.set_traffic_class(outside);
                    let packet = router.addressed(packet);
                    let wanted = if network == LAN {
                        router.to_lan(sent.ethertype, &received.leaves)
                    } else {
                        let packet = Packet {
                            payload: received.arrives.clone(),
                            ..packet.clone()
                        };
                        Wanted::kernels(&packet, Reason::RouteNoNeighbour)
                    };
                    router.check(tunnel, &packet, &wanted)?;
                }
            }
        }
        for inner in inners(0) {
            let mut packet = router.addressed(plain(inner.ethertype, &inner.arrives));
            packet.outer.set_traffic_class(0b11);
            router.check(1, &packet, &Wanted::dropped(Reason::Ecn))?;
        }
    }
    Ok(())
}

#[test]
fn the_way_back_is_taken_at_once() -> Result<()> {
    let mut router = router_or_return!(ROUTE, &[]);
    for inner in Inner::both(BACK, 64) {
        let wanted = router.back(inner.ethertype, &inner.leaves);
        for (tunnel, packet) in everywhere(inner.ethertype, &inner.arrives) {
            let mut packet = router.addressed(packet);
            packet.payload.extend_from_slice(&[0x77; 5]);
            packet.padding = vec![0xee; 4];
            router.check(tunnel, &packet, &wanted)?;
        }
    }
    Ok(())
}

/// Whatever the routing tables answer, the kernel gets what it must act on, and nothing is dropped but where the operator says so.
#[test]
fn every_answer_of_the_routing_tables() -> Result<()> {
    let mut router = router_or_return!(ROUTE, &[]);
    for ttl in [2, 64] {
        for inner in Inner::both(SILENT, ttl) {
            router.leaves_to_kernel(&inner, Reason::RouteNoNeighbour)?;
        }
        for inner in Inner::both(DEAF, ttl) {
            router.leaves_to_kernel(&inner, Reason::RouteOther)?;
        }
    }
    for ttl in [0, 1] {
        // Whether it would otherwise be sent, or the next hop is silent, or the packet too big.
        for network in [LAN, BACK, SILENT] {
            for inner in Inner::both(network, ttl) {
                router.leaves_to_kernel(&inner, Reason::RouteTtl)?;
            }
        }
        let big = [
            Inner::v4(&header(SMALL, ttl), &[0; 1481]),
            Inner::v6(&header6(SMALL, ttl), &[0; 1461]),
        ];
        for inner in big {
            router.leaves_to_kernel(&inner, Reason::RouteTtl)?;
        }
    }
    for ttl in [1, 64] {
        for inner in DENIED.into_iter().flat_map(|network| Inner::both(network, ttl)) {
            router.drops(&inner, Reason::RouteDenied)?;
        }
        for address in [
            "198.51.100.20",
            "10.0.0.1",
            "10.0.0.255",
            "224.0.0.5",
            "255.255.255.255",
            "127.0.0.1",
            "0.0.0.0",
            "9.9.9.9",
        ] {
            let destination = address.parse()?;
            let inner = Inner::v4(
                &Ipv4 {
                    destination,
                    ..header(LAN, ttl)
                },
                &udp4(),
            );
            router.leaves_to_kernel(&inner, Reason::RouteLocal).context(address)?;
        }
        // The last but two are the subnet's anycast address, a link-local one, and one that no route leads to.
        for address in [
            "2001:db8:51::20",
            "2001:db8:a0::1",
            "ff0e::1",
            "ff02::5",
            "::1",
            "2001:db8:a0::",
            "fe80::9",
            "2001:db9::1",
        ] {
            let destination = address.parse()?;
            let inner = Inner::v6(
                &Ipv6 {
                    destination,
                    ..header6(LAN, ttl)
                },
                &udp6(),
            );
            router.leaves_to_kernel(&inner, Reason::RouteLocal).context(address)?;
        }
    }
    Ok(())
}

/// The MTU of the way out is what the inner packet is held against, by its own length.
#[test]
fn too_big_is_longer_than_the_mtu() -> Result<()> {
    let mut router = router_or_return!(ROUTE, &[]);
    for (fits, length) in [(true, 1499), (true, 1500), (false, 1501), (false, 2900)] {
        let inners = [
            Inner::v4(&header(SMALL, 64), &vec![1; length - 20]),
            Inner::v6(&header6(SMALL, 64), &vec![1; length - 40]),
        ];
        for inner in inners {
            if !fits {
                router.leaves_to_kernel(&inner, Reason::RouteTooBig)?;
                continue;
            }
            let mut packet = router.addressed(plain(inner.ethertype, &inner.arrives));
            packet.payload.extend_from_slice(&[0x77; 50]);
            let run = router.run(&packet.frame(), packet.frame().len())?;
            ensure!(run.action == XDP_REDIRECT, "{length} bytes: XDP action {}", run.action);
            ensure!(run.frame[14..] == inner.leaves, "{length} bytes: not the packet");
        }
    }
    Ok(())
}

#[test]
fn what_only_the_kernel_may_forward_is_left_to_it() -> Result<()> {
    let mut router = router_or_return!(ROUTE, &[]);
    let options = Ipv4 {
        options: vec![1; 4],
        ..header(LAN, 64)
    };
    let right = header(LAN, 64).packet(&udp4());
    let checksum = Some(u16::from_be_bytes([right[10], right[11]]) ^ 0x0100);
    let damaged = Ipv4 {
        checksum,
        ..header(LAN, 64)
    };
    let mut left = vec![Inner::v4(&options, &udp4()), Inner::v4(&damaged, &udp4())];
    for source in [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
    ] {
        let source = source.parse()?;
        left.push(Inner::v4(
            &Ipv4 {
                source,
                ..header(LAN, 64)
            },
            &udp4(),
        ));
    }
    let hop_by_hop = Ipv6 {
        extensions: vec![Extension::hop_by_hop()],
        ..header6(LAN, 64)
    };
    left.push(Inner::v6(&hop_by_hop, &udp6()));
    for source in ["::", "::1", "ff02::1"] {
        let source = source.parse()?;
        left.push(Inner::v6(
            &Ipv6 {
                source,
                ..header6(LAN, 64)
            },
            &udp6(),
        ));
    }
    for inner in left {
        router.leaves_to_kernel(&inner, Reason::RouteOther)?;
    }
    // Link-local sources the look-up refuses, as what is not to be forwarded.
    let source = "fe80::7".parse()?;
    let inner = Inner::v6(
        &Ipv6 {
            source,
            ..header6(LAN, 64)
        },
        &udp6(),
    );
    router.leaves_to_kernel(&inner, Reason::RouteLocal)
}

/// Forwarding is asked for on the interface that packets come in on, for each family by itself.
#[test]
fn without_forwarding_all_goes_to_the_kernel() -> Result<()> {
    let mut router = router_or_return!(ROUTE, &[]);
    let [v4, v6] = Inner::both(LAN, 64);
    for (family, off, on) in [("ipv4", &v4, &v6), ("ipv6", &v6, &v4)] {
        let setting = format!("net.{family}.conf.wan0.forwarding");
        router.namespace.sysctl(&setting, "0")?;
        router.leaves_to_kernel(off, Reason::RouteOther)?;
        router.sends(on)?;
        router.namespace.sysctl(&setting, "1")?;
        router.sends(off)?;
    }
    Ok(())
}

/// Rules see of a packet what they would see of one that the kernel forwards: each of these leads it into a blackhole.
#[test]
fn policy_rules_see_the_inner_packet() -> Result<()> {
    let mut router = router_or_return!(ROUTE, &[]);
    let inners = Inner::both(LAN, 64);
    for (inner, family, source, destination) in [
        (&inners[0], "-4", IpAddr::V4(CLIENT), IpAddr::V4(v4(LAN))),
        (&inners[1], "-6", CLIENT6.into(), v6(LAN).into()),
    ] {
        router
            .namespace
            .ip(&format!("{family} route add blackhole default table 100"))?;
        for (matching, other) in [
            (format!("from {source}"), format!("from {destination}")),
            (format!("to {destination}"), format!("to {source}")),
            ("iif wan0".to_owned(), "iif lan0".to_owned()),
            // UDP and TCP, of whose names not every host has a file.
            ("ipproto 17".to_owned(), "ipproto 6".to_owned()),
            ("sport 40000".to_owned(), "sport 16540".to_owned()),
            ("dport 443".to_owned(), "dport 47873".to_owned()),
            ("tos 0x18".to_owned(), "tos 0x10".to_owned()),
        ] {
            let rule = |command: &str, what: &str| format!("{family} rule {command} {what} priority 10 lookup 100");
            router.namespace.ip(&rule("add", &other))?;
            router.sends(inner).with_context(|| other.clone())?;
            router.namespace.ip(&rule("del", &other))?;
            router.namespace.ip(&rule("add", &matching))?;
            router
                .drops(inner, Reason::RouteDenied)
                .with_context(|| matching.clone())?;
            router.namespace.ip(&rule("del", &matching))?;
        }
    }
    Ok(())
}

/// A gateway of the other family, by RFC 5549, is as good as any.
#[test]
fn ipv4_by_way_of_an_ipv6_gateway() -> Result<()> {
    let mut router = router_or_return!(ROUTE, &[]);
    router
        .namespace
        .ip("route replace 192.0.2.0/24 via inet6 2001:db8:a0::2 dev lan0")?;
    router.sends(&Inner::v4(&header(LAN, 64), &udp4()))
}
