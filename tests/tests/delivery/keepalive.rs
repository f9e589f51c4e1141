//! Keepalives of the scrubbing centre's routers, and what else would go back to where it came from.

use anyhow::{Result, ensure};
use gre_tests::frame::{
    Addresses, ETHERTYPE_IPV4, Gre, Ipv4, Link, PROTOCOL_ICMP, Packet, TPID_8021AD, TPID_8021Q, echo_request, keepalive,
};

use crate::bench::{Bench, Seen, hex};
use crate::net::{CENTRE_V4, CENTRE_V6, Net, ROUTER_V4, ROUTER_V6, SCRUB_V4, SCRUB_V6, config, gre_v6, net_or_return};

const V4: Addresses = Addresses::V4(CENTRE_V4, ROUTER_V4);
const V6: Addresses = Addresses::V6(CENTRE_V6, ROUTER_V6);

/// By GRE protocol type: Cisco's and Huawei's, and MikroTik's over IPv6.
const KINDS_V4: &[u16] = &[0, 4];
const KINDS_V6: &[u16] = &[0, 4, 0x86dd];

/// A keepalive from the centre to the router. The tunnel over IPv6 has a key and a checksum, which its keepalives have, too.
fn of_centre(net: &Net, ends: Addresses, protocol: u16) -> Packet {
    let gre = match ends {
        Addresses::V4(..) => Gre::default(),
        Addresses::V6(..) => gre_v6(),
    };
    let mut packet = keepalive(
        ends,
        &Gre {
            protocol,
            ..gre.clone()
        },
    );
    packet.gre = Gre {
        protocol: packet.gre.protocol,
        ..gre
    };
    packet.link = Link {
        destination: net.wan.1.mac,
        source: net.wan.0.mac,
        tags: Vec::new(),
    };
    packet
}

/// What is to come back: the payload, in the frame turned round.
fn answer(packet: &Packet) -> Vec<u8> {
    let link = Link {
        destination: packet.link.source,
        source: packet.link.destination,
        ..packet.link.clone()
    };
    link.frame(packet.outer.ethertype(), &packet.payload)
}

/// Whether this is all that came out of the router.
fn only(seen: &Seen, wanted: &[u8]) -> bool {
    seen.server.is_empty() && seen.centre == [wanted]
}

#[test]
fn are_answered_under_every_tag() -> Result<()> {
    let net = net_or_return!();
    for mode in ["native", "generic"] {
        net.program
            .load(&config(mode, "keepalive = \"reply\"\nkeepalive_rate = 10000"))?;
        let bench = Bench::open(&net)?;
        let before = net.program.stats()?;
        let tags: [&[(u16, u16)]; 3] = [&[], &[(TPID_8021Q, 7)], &[(TPID_8021AD, 9), (TPID_8021Q, 7)]];
        let mut sent = 0;
        for (ends, kinds) in [(V4, KINDS_V4), (V6, KINDS_V6)] {
            for (tags, kind) in tags.iter().flat_map(|tags| kinds.iter().map(move |kind| (tags, kind))) {
                for padding in [0, 40] {
                    let mut packet = of_centre(&net, ends, *kind);
                    for (tpid, tci) in *tags {
                        packet.link = packet.link.tagged(*tpid, *tci);
                    }
                    packet.padding = vec![0xee; padding];
                    let (frame, wanted) = (packet.frame(), answer(&packet));
                    let seen = bench.pass(&frame)?;
                    ensure!(
                        only(&seen, &wanted),
                        "{mode}, {}: wanted {}, got {seen:?}",
                        hex(&frame),
                        hex(&wanted)
                    );
                    sent += 1;
                }
            }
        }
        let after = net.program.stats()?;
        let counted = after.reason("keepalive") - before.reason("keepalive");
        ensure!(counted == sent, "{counted} counted of {sent}");
        // Of what is decapsulated there are only the markers, which come by the tunnel over IPv4.
        let packets = |name| after.tunnel(name, "packets").unwrap_or(0) - before.tunnel(name, "packets").unwrap_or(0);
        ensure!((packets(SCRUB_V4), packets(SCRUB_V6)) == (2 * sent, 0), "{after:?}");
        net.program.run("", "unload")?;
    }
    Ok(())
}

/// Beside every way of delivery, and from the core that it came to.
#[test]
fn are_answered_however_the_tunnel_delivers() -> Result<()> {
    let net = net_or_return!();
    for lines in [
        "deliver = \"route\"",
        "deliver = { interface = \"lan0\" }",
        "deliver = \"route\"\nspread = \"all\"",
    ] {
        net.program
            .load(&config("native", &format!("{lines}\nkeepalive = \"reply\"")))?;
        let bench = Bench::open(&net)?;
        for ends in [V4, V6] {
            let packet = of_centre(&net, ends, 0);
            let seen = bench.pass(&packet.frame())?;
            ensure!(only(&seen, &answer(&packet)), "{lines}: {seen:?}");
        }
    }
    Ok(())
}

#[test]
fn no_more_are_answered_than_the_rate_allows() -> Result<()> {
    let net = net_or_return!();
    const SENT: usize = 12;
    net.program
        .load(&config("native", "keepalive = \"reply\"\nkeepalive_rate = 3"))?;
    let bench = Bench::open(&net)?;
    let packet = of_centre(&net, V4, 0);
    for _ in 1..SENT {
        bench.centre.send(&packet.frame())?;
    }
    let seen = bench.pass(&packet.frame())?;
    let answers = seen.centre.iter().filter(|frame| **frame == answer(&packet)).count();
    // On a slow machine one more may come due.
    ensure!((3..=4).contains(&answers) && seen.centre.len() == answers, "{seen:?}");
    let stats = net.program.stats()?;
    let counted = (stats.reason("keepalive"), stats.reason("keepalive_rate"));
    ensure!(counted == (answers as u64, (SENT - answers) as u64), "{counted:?}");
    Ok(())
}

/// Without `keepalive = "reply"`, and where it is another host's: the kernel gets it as it came.
#[test]
fn are_left_alone() -> Result<()> {
    let net = net_or_return!();
    for (lines, reason) in [("", "keepalive"), ("keepalive = \"reply\"", "other_host")] {
        net.router.ip("link set dev wan0 promisc on")?;
        net.program.load(&config("native", lines))?;
        let bench = Bench::open(&net)?;
        let behind = gre_tests::lab::Wire::open(&net.router, "wan0")?;
        for ends in [V4, V6] {
            let mut packet = of_centre(&net, ends, 0);
            if reason == "other_host" {
                packet.link.destination[5] ^= 1;
            }
            let (frame, before) = (packet.frame(), net.program.stats()?.reason(reason));
            let seen = bench.pass(&frame)?;
            ensure!(!seen.centre.contains(&answer(&packet)), "{lines}: {seen:?}");
            behind.expect("the frame as it came", |seen| !seen.outgoing && seen.bytes == frame)?;
            let counted = net.program.stats()?.reason(reason) - before;
            ensure!(counted == 1, "{lines}: {counted} counted as {reason}");
        }
    }
    Ok(())
}

/// What is no keepalive and would go back goes nowhere, whatever answers keepalives or routes.
#[test]
fn loops_end() -> Result<()> {
    let net = net_or_return!();
    let back = Ipv4 {
        source: ROUTER_V4,
        destination: CENTRE_V4,
        protocol: PROTOCOL_ICMP,
        ..Ipv4::default()
    };
    let back = back.packet(&echo_request(Addresses::V4(ROUTER_V4, CENTRE_V4), b"round and round"));
    for lines in [
        "",
        "keepalive = \"reply\"",
        "deliver = \"route\"",
        "deliver = { interface = \"lan0\" }",
    ] {
        net.program.load(&config("native", lines))?;
        let bench = Bench::open(&net)?;
        let before = net.program.stats()?.reason("loop");
        let mut tunnelled = of_centre(&net, V4, ETHERTYPE_IPV4);
        let seen = bench.pass(&tunnelled.frame())?;
        ensure!(seen == Seen::default(), "{lines}: {seen:?}");
        tunnelled.payload.clone_from(&back);
        let seen = bench.pass(&tunnelled.frame())?;
        ensure!(seen == Seen::default(), "{lines}: {seen:?}");
        let counted = net.program.stats()?.reason("loop") - before;
        ensure!(counted == 2, "{lines}: {counted} counted");
    }
    Ok(())
}
