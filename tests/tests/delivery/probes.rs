//! Health probes of the scrubbing centre: echo requests in the tunnel to an address that is protected, which the stack answers, and
//! echo replies to an address of the centre, which this host sends on.

use anyhow::{Context, Result, ensure};
use gre_tests::frame::{
    Addresses, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ipv4, Ipv6, Link, PROTOCOL_ICMP, PROTOCOL_ICMPV6, echo_reply,
    echo_request,
};

use crate::bench::{Bench, Seen, Way};
use crate::net::{CLIENT_V4, CLIENT_V6, GATEWAY_V4, GATEWAY_V6, Net, SCRUB_V4, SCRUB_V6, config, net_or_return};

const DATA: &[u8] = b"are you there?";
/// Types of an echo reply (RFC 792, RFC 4443 section 4.2).
const ECHO_REPLY: u8 = 0;
const ECHO_REPLY_V6: u8 = 129;

fn request_v4() -> Vec<u8> {
    let header = Ipv4 {
        source: CLIENT_V4,
        destination: GATEWAY_V4,
        protocol: PROTOCOL_ICMP,
        ..Ipv4::default()
    };
    header.packet(&echo_request(Addresses::V4(CLIENT_V4, GATEWAY_V4), DATA))
}

fn request_v6() -> Vec<u8> {
    let header = Ipv6 {
        source: CLIENT_V6,
        destination: GATEWAY_V6,
        next_header: PROTOCOL_ICMPV6,
        ..Ipv6::default()
    };
    header.packet(&echo_request(Addresses::V6(CLIENT_V6, GATEWAY_V6), DATA))
}

/// The one frame that comes back: from the address that was asked, not in GRE, of this ICMP type.
fn answer(seen: &Seen, kind: u8, ethertype: u16) -> Result<()> {
    let [frame] = seen.centre.as_slice() else {
        return Err(anyhow::anyhow!("not one answer: {seen:?}"));
    };
    ensure!(frame[12..14] == ethertype.to_be_bytes(), "{frame:02x?}");
    let (source, destination, icmp) = match ethertype {
        ETHERTYPE_IPV4 => (26..30, 30..34, 34),
        _ => (22..38, 38..54, 54),
    };
    let (from, to) = match ethertype {
        ETHERTYPE_IPV4 => (GATEWAY_V4.octets().to_vec(), CLIENT_V4.octets().to_vec()),
        _ => (GATEWAY_V6.octets().to_vec(), CLIENT_V6.octets().to_vec()),
    };
    ensure!(frame[source] == from && frame[destination] == to, "{frame:02x?}");
    let answered = frame.get(icmp).copied().context("an ICMP message")?;
    ensure!(
        answered == kind && frame.ends_with(DATA) && seen.server.is_empty(),
        "{frame:02x?}"
    );
    Ok(())
}

/// They are inner packets like any other: the stack of the host that has the address answers, whatever brings them there.
#[test]
fn are_answered_by_the_stack() -> Result<()> {
    let net: Net = net_or_return!();
    for (mode, lines) in [
        ("native", ""),
        ("generic", ""),
        ("native", "deliver = \"route\""),
        ("native", "keepalive = \"reply\""),
    ] {
        net.program.load(&config(mode, lines))?;
        let bench = Bench::open(&net)?;
        let before = net.program.stats()?;
        for way in [Way::V4, Way::V6] {
            let seen = bench.pass(&bench.frame(way, ETHERTYPE_IPV4, &request_v4()))?;
            answer(&seen, ECHO_REPLY, ETHERTYPE_IPV4).with_context(|| format!("{mode}, {lines}, {way:?}"))?;
            let seen = bench.pass(&bench.frame(way, ETHERTYPE_IPV6, &request_v6()))?;
            answer(&seen, ECHO_REPLY_V6, ETHERTYPE_IPV6).with_context(|| format!("{mode}, {lines}, {way:?}"))?;
        }
        // Beside the markers, which come by the tunnel over IPv4.
        let after = net.program.stats()?;
        let packets = |name| after.tunnel(name, "packets").unwrap_or(0) - before.tunnel(name, "packets").unwrap_or(0);
        ensure!((packets(SCRUB_V4), packets(SCRUB_V6)) == (2 + 8, 2), "{after:?}");
        net.program.run("", "unload")?;
    }
    Ok(())
}

/// What is protected, and how the rule on inner destinations goes with it.
fn protecting(mode: &str, lines: &str, guard: &str) -> String {
    let lines = format!("probes = \"route\"\n{lines}");
    let prefixes = "prefixes = [\"192.0.2.0/24\", \"2001:db8:2::/64\"]";
    format!(
        "{}\n[protect]\n{prefixes}\ninner_destinations = \"{guard}\"\n",
        config(mode, &lines)
    )
}

/// An echo reply from the address that the centre asks about to itself, as it comes and as it is to go on: the same but for one hop.
fn reply_v4() -> (Vec<u8>, Vec<u8>) {
    let header = |ttl| Ipv4 {
        source: GATEWAY_V4,
        destination: CLIENT_V4,
        protocol: PROTOCOL_ICMP,
        ttl,
        ..Ipv4::default()
    };
    let message = echo_reply(Addresses::V4(GATEWAY_V4, CLIENT_V4), DATA);
    (header(9).packet(&message), header(8).packet(&message))
}

fn reply_v6() -> (Vec<u8>, Vec<u8>) {
    let header = |hop_limit| Ipv6 {
        source: GATEWAY_V6,
        destination: CLIENT_V6,
        next_header: PROTOCOL_ICMPV6,
        hop_limit,
        ..Ipv6::default()
    };
    let message = echo_reply(Addresses::V6(GATEWAY_V6, CLIENT_V6), DATA);
    (header(9).packet(&message), header(8).packet(&message))
}

/// Sends each kind of reply by each way; gives what comes out for it and what is to.
fn send_replies(bench: &Bench<'_>, mut judge: impl FnMut(&Seen, &[u8]) -> Result<()>) -> Result<u64> {
    let net = bench.net;
    let towards_centre = Link {
        destination: net.wan.0.mac,
        source: net.wan.1.mac,
        tags: Vec::new(),
    };
    let mut sent = 0;
    for (ethertype, (comes, goes)) in [(ETHERTYPE_IPV4, reply_v4()), (ETHERTYPE_IPV6, reply_v6())] {
        for way in [Way::V4, Way::V6, Way::Tagged(7), Way::Padded] {
            let seen = bench.pass(&bench.frame(way, ethertype, &comes))?;
            judge(&seen, &towards_centre.frame(ethertype, &goes)).with_context(|| format!("{way:?}: {seen:02x?}"))?;
            sent += 1;
        }
    }
    Ok(sent)
}

/// By this host's routes, whatever the tunnel does with the rest, and once a reply is not for what is protected.
#[test]
fn that_are_replies_are_sent_on() -> Result<()> {
    let net: Net = net_or_return!();
    for (mode, lines, guard) in [
        ("native", "", "off"),
        ("native", "", "monitor"),
        ("generic", "", "off"),
        ("native", "deliver = \"route\"", "off"),
        ("native", "deliver = { interface = \"lan0\" }", "off"),
    ] {
        net.program.load(&protecting(mode, lines, guard))?;
        let context = || format!("{mode}, {lines}, inner destinations {guard}");
        let bench = Bench::open(&net)?;
        let before = net.program.stats()?;
        let sent = send_replies(&bench, |seen, goes| {
            ensure!(seen.centre == [goes] && seen.server.is_empty(), "to be {goes:02x?}");
            Ok(())
        })
        .with_context(context)?;
        let after = net.program.stats()?;
        let counted = |reason| after.reason(reason) - before.reason(reason);
        ensure!(counted("probe") == sent, "{}: {after:?}", context());
        let noted = if guard == "monitor" { sent } else { 0 };
        ensure!(counted("inner_destination") == noted, "{}: {after:?}", context());
        net.program.run("", "unload")?;
    }
    Ok(())
}

/// Another core has its own time, so each is waited for.
#[test]
fn that_are_replies_are_sent_on_by_the_core_of_their_flow() -> Result<()> {
    let net: Net = net_or_return!();
    net.program.load(&protecting("native", "spread = \"all\"", "off"))?;
    let bench = Bench::open(&net)?;
    let mut sent = 0;
    for (ethertype, (comes, goes)) in [(ETHERTYPE_IPV4, reply_v4()), (ETHERTYPE_IPV6, reply_v6())] {
        for way in [Way::V4, Way::V6] {
            bench.centre.send(&bench.frame(way, ethertype, &comes))?;
            bench.centre.expect("the reply to be sent on", |frame| {
                !frame.outgoing && frame.bytes.get(14..) == Some(goes.as_slice())
            })?;
            sent += 1;
        }
    }
    net.program
        .stats_when("each to be counted", |stats| stats.reason("probe") == sent)
        .map(drop)
}

/// The contract's order: what is not for what is protected is dropped before anybody asks what it is.
#[test]
fn that_are_replies_are_dropped_where_inner_destinations_are_enforced() -> Result<()> {
    let net: Net = net_or_return!();
    let text = protecting("native", "", "enforce");
    net.program.load(&text)?;
    let bench = Bench::open(&net)?;
    let before = net.program.stats()?;
    let sent = send_replies(&bench, |seen, _| {
        ensure!(*seen == Seen::default(), "came through");
        Ok(())
    })?;
    let after = net.program.stats()?;
    let dropped = after.reason("inner_destination") - before.reason("inner_destination");
    ensure!((dropped, after.reason("probe")) == (sent, 0), "{after:?}");

    // What the warning says: listed among the prefixes, they go where the tunnel delivers, and by route that is on.
    let text = text.replace("probes =", "deliver = \"route\"\nprobes =");
    let prefixes = "\"192.0.2.0/24\", ";
    let listed = text.replace(prefixes, &format!("{prefixes}\"198.18.5.0/24\", \"2001:db8:5::/64\", "));
    net.program.load(&listed)?;
    send_replies(&bench, |seen, goes| {
        ensure!(seen.centre == [goes] && seen.server.is_empty(), "to be {goes:02x?}");
        Ok(())
    })?;
    Ok(())
}
