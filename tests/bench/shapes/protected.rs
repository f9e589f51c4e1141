//! What protection costs, with few and with many prefixes, those whom it lets by above all.

use std::net::Ipv4Addr;

use gre_common::keepalive::Quota;
use gre_tests::figures::costs::Group;
use gre_tests::frame::{Addresses, ETHERTYPE_IPV4, Gre, Ipv4, Link, PROTOCOL_TCP, keepalive, tcp_segment};

use super::stripped::{IPV4, LOCAL, REMOTE, SERVER, one, plain};
use super::{Shape, XDP_DROP, XDP_PASS, XDP_TX};

/// How many prefixes are protected. Up to four are compared with, of which the protected one is the last; of more the programs are the
/// same.
const COUNTS: [(u32, &str); 4] = [(1, "1"), (4, "4"), (10, "10"), (10_000, "10,000")];
/// Of these the programs are judged.
const JUDGED: [u32; 2] = [4, 10];
/// Who may come in by no tunnel, and who may not.
const ALLOWED: Ipv4Addr = Ipv4Addr::new(198, 18, 9, 9);
const STRANGER: Ipv4Addr = Ipv4Addr::new(198, 18, 10, 10);

pub(super) fn shapes() -> Vec<Shape> {
    let mut shapes = off_and_on();
    shapes.extend(keepalives());
    shapes.extend(COUNTS.into_iter().flat_map(inner_destinations));
    shapes.extend(COUNTS.into_iter().flat_map(lockdown));
    shapes
}

/// So many prefixes, that of the server among them if it `is_protected`, and these rules.
fn protect(count: u32, is_protected: bool, rules: &str) -> String {
    let others = (1..count).map(|number| format!("\"{}/24\"", Ipv4Addr::from_bits((10 << 24) | (number << 9))));
    let own = format!("\"{SERVER}/32\"");
    let first = if is_protected {
        own
    } else {
        "\"192.0.2.0/26\"".to_owned()
    };
    let prefixes: Vec<_> = [first].into_iter().chain(others).collect();
    let tunnel = one(IPV4, "");
    format!("{tunnel}[protect]\nprefixes = [{}]\n{rules}\n", prefixes.join(", "))
}

/// A packet that no rule concerns, with the rules off and on.
fn off_and_on() -> Vec<Shape> {
    let of = |name: &str, config: String| Shape::stripped(Group::Protected, name, config, &plain()).judging_programs();
    let off = "inner_destinations = \"off\"\nlockdown = \"off\"";
    vec![
        of("prefixes listed, all rules off", protect(10, true, off)),
        of(
            "keepalives answered, another packet",
            one(IPV4, "keepalive = \"reply\""),
        ),
        of("bypass", one(IPV4, "bypass = [\"10.9.0.0/30\"]")),
        of("MSS lowered", one(IPV4, "mss = 1400")),
    ]
}

/// Keepalives, each answered, and each beyond the rate.
fn keepalives() -> Vec<Shape> {
    // Of the highest rate a nanosecond's turn comes sooner than a packet; of the other none comes at all.
    let (any, none) = (
        Quota {
            due: 0,
            rate: 1_000_000_000,
        },
        Quota {
            due: u64::MAX / 2,
            rate: 1,
        },
    );
    let gre = Gre {
        protocol: 0,
        ..Gre::default()
    };
    let packet = keepalive(Addresses::V4(REMOTE, LOCAL), &gre);
    let config = |rate| one(IPV4, &format!("keepalive = \"reply\"\nkeepalive_rate = {rate}"));
    let answered = Shape::stripped(Group::Protected, "keepalive, answered", config(10), &packet).with_action(XDP_TX);
    let beyond = Shape::intact(
        Group::Protected,
        "keepalive_rate, dropped",
        config(1),
        packet.frame(),
        XDP_DROP,
    );
    let with = |shape, quota| Shape {
        quota: Some(quota),
        ..shape
    };
    vec![with(answered, any), with(beyond, none)]
}

fn inner_destinations((count, number): (u32, &str)) -> Vec<Shape> {
    let rule = "inner_destinations = \"enforce\"";
    let delivered = Shape::stripped(
        Group::Protected,
        format!("inner_destination, {number} prefixes"),
        protect(count, true, rule),
        &plain(),
    );
    let dropped = Shape::intact(
        Group::Protected,
        format!("inner_destination, {number} prefixes, dropped"),
        protect(count, false, rule),
        plain().frame(),
        XDP_DROP,
    );
    vec![delivered.judging_programs_if(JUDGED.contains(&count)), dropped]
}

fn lockdown((count, number): (u32, &str)) -> Vec<Shape> {
    let rule = format!("lockdown = \"enforce\"\nallow = [\"{ALLOWED}\"]");
    let config = protect(count, true, &rule);
    let in_tunnel = Shape::stripped(
        Group::Protected,
        format!("lockdown, {number} prefixes, by the tunnel"),
        config.clone(),
        &plain(),
    );
    let mut shapes = vec![in_tunnel.judging_programs_if(JUDGED.contains(&count))];
    for (name, source, destination, action) in [
        ("not protected", STRANGER, LOCAL, XDP_PASS),
        ("allowed", ALLOWED, SERVER, XDP_PASS),
        ("dropped", STRANGER, SERVER, XDP_DROP),
    ] {
        let header = Ipv4 {
            protocol: PROTOCOL_TCP,
            source,
            destination,
            ..Ipv4::default()
        };
        let segment = tcp_segment(Addresses::V4(source, destination), b"past the tunnel");
        shapes.push(Shape::intact(
            Group::Protected,
            format!("lockdown, {number} prefixes, {name}"),
            config.clone(),
            Link::default().frame(ETHERTYPE_IPV4, &header.packet(&segment)),
            action,
        ));
    }
    shapes
}
