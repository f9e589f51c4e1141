//! Health probes of the scrubbing centre that ask: echo requests in the tunnel, to an address that is protected.

use anyhow::{Context, Result, ensure};
use gre_tests::frame::{
    Addresses, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ipv4, Ipv6, PROTOCOL_ICMP, PROTOCOL_ICMPV6, echo_request,
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
