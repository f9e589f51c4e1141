//! Replies to health probes, which are sent on by route whatever their tunnel does with the rest.

use gre_tests::frame::{PROTOCOL_ICMP, PROTOCOL_ICMPV6, TPID_8021Q, echo_reply, echo_request};

use super::*;

/// A tunnel that delivers in this way and sends probes on; the networks from 3 on are not protected.
fn config(deliver: &str, protect: &str) -> String {
    let tunnels = ROUTE.replace("deliver = \"route\"", &format!("probes = \"route\"\n{deliver}"));
    format!("{tunnels}\n[protect]\nprefixes = ['192.0.2.0/24', '2001:db8:2::/48']\n{protect}")
}

const STACK: &str = "deliver = \"stack\"";

/// A network that is not protected and lies behind `lan0`, if the routes of [`the_way`] are there.
const CENTRE: u8 = 20;

/// Lets the router know the way to where probes go.
fn the_way(router: &Router) -> Result<()> {
    router.namespace.ip("route add 192.0.20.0/24 via 10.0.0.2")?;
    router.namespace.ip("route add 2001:db8:14::/48 via 2001:db8:a0::2")?;
    Ok(())
}

/// An echo of each family to a network.
fn echoes(network: u8, ttl: u8, message: fn(Addresses, &[u8]) -> Vec<u8>) -> [Inner; 2] {
    let v4_header = Ipv4 {
        protocol: PROTOCOL_ICMP,
        ..header(network, ttl)
    };
    let v6_header = Ipv6 {
        next_header: PROTOCOL_ICMPV6,
        ..header6(network, ttl)
    };
    let addresses = (Addresses::V4(CLIENT, v4(network)), Addresses::V6(CLIENT6, v6(network)));
    [
        Inner::v4(&v4_header, &message(addresses.0, b"is it up?")),
        Inner::v6(&v6_header, &message(addresses.1, b"is it up?")),
    ]
}

/// The kernel gets a packet decapsulated, and nothing is counted beside.
fn to_stack(packet: &Packet) -> Wanted {
    Wanted {
        reason: None,
        ..Wanted::kernels(packet, Reason::RouteOther)
    }
}

#[test]
fn probes_leave_by_route_whatever_the_tunnel_delivers_to() -> Result<()> {
    let to_interface = "deliver = { interface = \"lan2\" }";
    for (deliver, to) in [
        (STACK, &[][..]),
        ("deliver = \"route\"", &[]),
        (to_interface, &[To::Deaf, To::Deaf]),
    ] {
        let mut router = router_or_return!(&config(deliver, ""), to);
        the_way(&router)?;
        for inner in echoes(CENTRE, 7, echo_reply) {
            let wanted = router.to_lan(inner.ethertype, &inner.leaves).probe();
            for (tunnel, packet) in everywhere(inner.ethertype, &inner.arrives) {
                for (trailing, padding) in [(0, 0), (3, 46)] {
                    let mut packet = router.addressed(packet.clone());
                    packet.payload.resize(packet.payload.len() + trailing, 0x77);
                    packet.padding = vec![0xee; padding];
                    router.check(tunnel, &packet, &wanted).context(deliver)?;
                }
            }
        }
    }
    Ok(())
}

/// Requests, and replies to what is protected, go where the tunnel delivers.
#[test]
fn other_echoes_go_where_the_tunnel_delivers() -> Result<()> {
    let mut router = router_or_return!(&config(STACK, ""), &[]);
    the_way(&router)?;
    for inner in [echoes(LAN, 7, echo_reply), echoes(CENTRE, 7, echo_request)].concat() {
        for (tunnel, packet) in everywhere(inner.ethertype, &inner.arrives) {
            let packet = router.addressed(packet);
            router.check(tunnel, &packet, &to_stack(&packet))?;
        }
    }
    Ok(())
}

/// What routing leaves to the kernel, or refuses, is counted beside.
#[test]
fn probes_that_cannot_be_sent_on_are_told() -> Result<()> {
    let mut router = router_or_return!(&config(STACK, ""), &[]);
    for (network, ttl, reason) in [
        (SILENT, 7, Reason::RouteNoNeighbour),
        (SILENT, 1, Reason::RouteTtl),
        (DEAF, 7, Reason::RouteOther),
    ] {
        for inner in echoes(network, ttl, echo_reply) {
            let packet = router.addressed(plain(inner.ethertype, &inner.arrives));
            let wanted = Wanted::kernels(&packet, reason).probe();
            router.check(1, &packet, &wanted)?;
        }
    }
    for network in DENIED {
        for inner in echoes(network, 7, echo_reply) {
            let packet = router.addressed(plain(inner.ethertype, &inner.arrives));
            let wanted = Wanted::dropped(Reason::RouteDenied).probe();
            router.check(1, &packet, &wanted)?;
        }
    }
    for inner in echoes(BACK, 7, echo_reply) {
        let wanted = router.back(inner.ethertype, &inner.leaves).probe();
        let packet = router.addressed(plain(inner.ethertype, &inner.arrives));
        router.check(1, &packet, &wanted)?;
    }
    Ok(())
}

/// The rule on inner destinations comes first: it notes a probe, or drops it.
#[test]
fn inner_destinations_come_first() -> Result<()> {
    for (guard, reason) in [
        ("monitor", Reason::InnerDestinationMonitored),
        ("enforce", Reason::InnerDestination),
    ] {
        let protect = format!("inner_destinations = '{guard}'");
        let mut router = router_or_return!(&config(STACK, &protect), &[]);
        the_way(&router)?;
        for inner in echoes(CENTRE, 7, echo_reply) {
            for (tunnel, packet) in everywhere(inner.ethertype, &inner.arrives) {
                let packet = router.addressed(packet);
                let wanted = match guard {
                    "monitor" => Wanted {
                        reason: Some(reason),
                        ..router.to_lan(inner.ethertype, &inner.leaves).probe()
                    },
                    _ => Wanted::dropped(reason),
                };
                router.check(tunnel, &packet, &wanted).context(guard)?;
            }
        }
        for inner in echoes(CENTRE, 7, echo_request) {
            let packet = router.addressed(plain(inner.ethertype, &inner.arrives));
            let wanted = match guard {
                "monitor" => Wanted::kernels(&packet, reason),
                _ => Wanted::dropped(reason),
            };
            router.check(1, &packet, &wanted).context(guard)?;
        }
    }
    Ok(())
}

/// A router takes only what is for it; the stack sees to that by itself.
#[test]
fn probes_in_frames_for_others_are_left_alone() -> Result<()> {
    let mut router = router_or_return!(&config(STACK, "inner_destinations = 'monitor'"), &[]);
    the_way(&router)?;
    for (message, is_probe) in [
        (echo_reply as fn(Addresses, &[u8]) -> Vec<u8>, true),
        (echo_request, false),
    ] {
        for inner in echoes(CENTRE, 7, message) {
            let mut packet = plain(inner.ethertype, &inner.arrives);
            packet.link = Link::default().tagged(TPID_8021Q, 7);
            packet.link.destination = [0x02, 0, 0, 0, 0x77, 0x77];
            let wanted = if is_probe {
                Wanted::passed(&packet, Reason::OtherHost)
            } else {
                Wanted::kernels(&packet, Reason::InnerDestinationMonitored)
            };
            router.check(1, &packet, &wanted)?;
        }
    }
    Ok(())
}

/// Where the message does not lie in the first buffer, nobody can tell: the kernel gets the packet as it came.
#[test]
fn probes_that_cannot_be_read_are_left_alone() -> Result<()> {
    let mut router = router_or_return!(&config(STACK, ""), &[]);
    the_way(&router)?;
    let [inner, _] = echoes(CENTRE, 7, echo_reply);
    let header = Ipv4 {
        protocol: PROTOCOL_ICMP,
        options: vec![1; 40],
        ..header(CENTRE, 7)
    };
    let message = echo_reply(Addresses::V4(CLIENT, v4(CENTRE)), &[7; 3000]);
    let long = Inner::v4(&header, &message);
    let headers = 14 + 20 + 4 + 20;
    let packet = router.addressed(plain(inner.ethertype, &long.arrives));
    let wanted = Wanted::passed(&packet, Reason::Headroom);
    router.check_split(1, &packet, headers + 40, &wanted)
}
