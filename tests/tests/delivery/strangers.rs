//! Frames that are not for the interface's MAC address, which a switch floods or a promiscuous interface takes in: never
//! forwarded.

use std::ops::Range;

use anyhow::{Result, ensure};
use gre_tests::frame::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_TEB, Link, Mac, PROTOCOL_ICMPV6};
use gre_tests::lab::Wire;

use crate::bench::{Bench, Seen, Way, datagram_v4, datagram_v6, inner_v4, inner_v6};
use crate::net::{Net, SCRUB_V4, SCRUB_V6, config, mac_text, net_or_return};

const INNER: &str = "inner = [\"ipv4\", \"ipv6\", \"ethernet\"]";
const DESTINATIONS: [Mac; 5] = [
    [2, 0, 0, 0, 0x99, 0x99],
    // One bit from the interface's own, of either half.
    [2, 0, 0, 0, 2, 3],
    [0xff; 6],
    [1, 0, 0x5e, 0, 0, 1],
    [0x33, 0x33, 0, 0, 0, 1],
];

#[test]
fn are_not_routed() -> Result<()> {
    let net = net_or_return!();
    for mode in ["native", "generic"] {
        stay(&net, mode, "deliver = \"route\"", false)?;
    }
    Ok(())
}

#[test]
fn are_not_sent_out_of_an_interface() -> Result<()> {
    let net = net_or_return!();
    let lines = |next_hop: &str| format!("{INNER}\ndeliver = {{ interface = \"lan0\"{next_hop} }}");
    stay(&net, "native", &lines(""), true)?;
    let next_hop = format!(", next_hop = \"{}\"", mac_text(net.lan.1.mac));
    stay(&net, "generic", &lines(&next_hop), true)
}

fn stay(net: &Net, mode: &str, lines: &str, ethernet: bool) -> Result<()> {
    net.router.ip("link set dev wan0 promisc on")?;
    net.program.load(&config(mode, lines))?;
    let bench = Bench::open(net)?;
    let behind = Wire::open(&net.router, "wan0")?;
    let before = net.program.stats()?;
    let (v4, v6) = (
        datagram_v4(&inner_v4(), b"overheard"),
        datagram_v6(&inner_v6(), b"overheard"),
    );
    let bridged = Link::default().frame(ETHERTYPE_IPV4, &v4);
    let mut sent = [0; 2];
    for destination in DESTINATIONS {
        for way in [Way::V4, Way::V6] {
            for (protocol, inner) in [(ETHERTYPE_IPV4, &v4), (ETHERTYPE_IPV6, &v6), (ETHERTYPE_TEB, &bridged)] {
                if protocol == ETHERTYPE_TEB && !ethernet {
                    continue;
                }
                let mut packet = bench.packet(way, protocol, inner);
                packet.link.destination = destination;
                let frame = packet.frame();
                let mut seen = bench.pass(&frame)?;
                seen.centre.retain(|answer| !is_refusal(answer, &frame));
                ensure!(seen == Seen::default(), "{lines}, to {destination:02x?}: {seen:?}");
                // The kernel, and whoever listens, got it as it came.
                behind.expect("the frame as it came", |seen| !seen.outgoing && seen.bytes == frame)?;
                sent[usize::from(way == Way::V6)] += 1;
            }
        }
    }
    let after = net.program.stats()?;
    let counted = after.reason("other_host") - before.reason("other_host");
    let all: u64 = sent.iter().sum();
    ensure!(counted == all, "{lines}: {counted} counted as other_host, not {all}");
    // Of what is decapsulated there are only the markers, which come by the tunnel over IPv4.
    let packets = |name| after.tunnel(name, "packets").unwrap_or(0) - before.tunnel(name, "packets").unwrap_or(0);
    ensure!((packets(SCRUB_V4), packets(SCRUB_V6)) == (2 * all, 0), "{after:?}");
    // For the interface it would have been forwarded.
    let seen = bench.pass(&bench.frame(Way::V4, ETHERTYPE_IPV4, &v4))?;
    ensure!(seen.server.len() == 1, "{seen:?}");
    net.program.run("", "unload").map(drop)
}

/// Whether a frame says about another what a kernel with GRE devices over IPv6 (module `ip6_gre`) says where none of them is meant, even
/// to what came for everybody: "port unreachable".
fn is_refusal(answer: &[u8], frame: &[u8]) -> bool {
    let is = |range: Range<usize>, bytes: &[u8]| answer.get(range) == Some(bytes);
    is(12..14, &ETHERTYPE_IPV6.to_be_bytes())
        && is(20..21, &[PROTOCOL_ICMPV6])
        && is(54..56, &[1, 4])
        && frame[14..].starts_with(&answer[62..])
}
