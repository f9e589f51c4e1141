//! Packets that stay as they are: not ours, or refused. For each reason the first packet of the fixtures, so what is added there
//! is measured; of those with several packets the first, which meets no state that others have left.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use anyhow::Result;
use gre_tests::figures::costs::Group;
use gre_tests::fixtures::{self, Expect};
use gre_tests::frame::{
    Addresses, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ipv4, Ipv6, Link, Outer, PROTOCOL_TCP, TPID_8021Q,
    tcp_segment,
};

use super::stripped::{LOCAL, one, plain};
use super::{Shape, XDP_DROP, XDP_PASS};

/// Frames that the kernel test-runs in one buffer.
const LENGTHS: std::ops::Range<usize> = 14..3000;

pub(super) fn shapes() -> Result<Vec<Shape>> {
    Ok([not_ours(), refused()].concat())
}

fn not_ours() -> Vec<Shape> {
    let config = one("local = \"198.51.100.20\"\nremote = \"203.0.113.10\"", "");
    let (v4, v6) = (
        Ipv4 {
            protocol: PROTOCOL_TCP,
            destination: LOCAL,
            ..Ipv4::default()
        },
        Ipv6 {
            next_header: PROTOCOL_TCP,
            ..Ipv6::default()
        },
    );
    let tcp4 = v4.packet(&tcp_segment(Addresses::V4(v4.source, v4.destination), b"to the server"));
    let tcp6 = v6.packet(&tcp_segment(Addresses::V6(v6.source, v6.destination), b"to the server"));
    let link = Link::default();
    let tagged = Link::default().tagged(TPID_8021Q, 100);
    let stranger = |source: Ipv4Addr, destination: Ipv4Addr| {
        let mut packet = plain();
        if let Outer::V4(header) = &mut packet.outer {
            (header.source, header.destination) = (source, destination);
        }
        packet.frame()
    };
    let elsewhere = Ipv4Addr::new(198, 51, 100, 99);
    let of = |name: &str, frame| Shape::intact(Group::NotOurs, name, config.clone(), frame, XDP_PASS);
    let tcp = of("IPv4 TCP", link.frame(ETHERTYPE_IPV4, &tcp4));
    vec![
        tcp.clone(),
        tcp.built_without_what_is_off(),
        of("IPv6 TCP", link.frame(ETHERTYPE_IPV6, &tcp6)),
        of("ARP", link.frame(ETHERTYPE_ARP, &[0; 46])),
        of("IPv4 TCP, one VLAN tag", tagged.frame(ETHERTYPE_IPV4, &tcp4)),
        of(
            "GRE to another host",
            stranger(Ipv4Addr::new(203, 0, 113, 10), elsewhere),
        ),
    ]
}

fn refused() -> Vec<Shape> {
    let mut seen = BTreeSet::new();
    let mut shapes = Vec::new();
    let (mut fixtures, several): (Vec<_>, Vec<_>) = fixtures::all()
        .into_iter()
        .partition(|fixture| fixture.steps.len() == 1);
    fixtures.extend(several);
    for fixture in fixtures {
        let Some(step) = fixture.steps.first() else {
            continue;
        };
        let (reason, action) = match step.expect {
            Expect::Drop { reason } => (reason, XDP_DROP),
            Expect::Pass { reason: Some(reason) } => (reason, XDP_PASS),
            Expect::Pass { reason: None } | Expect::Deliver { .. } => continue,
        };
        if LENGTHS.contains(&step.frame.len()) && seen.insert((reason, action)) {
            let word = if action == XDP_DROP { "dropped" } else { "passed" };
            let name = format!("{reason}, {word}");
            shapes.push(Shape::intact(
                Group::Refused,
                name,
                fixture.config,
                step.frame.clone(),
                action,
            ));
        }
    }
    shapes
}
