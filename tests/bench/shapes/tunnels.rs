//! More tunnels, and remotes that are prefixes.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use gre_tests::figures::costs::Group;

use super::Shape;
use super::stripped::{LOCAL, one, plain};

/// The first remote; the others follow.
const FIRST: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 0);

/// So many tunnels, each with a remote of its own.
fn tunnels(count: u32) -> String {
    let mut config = format!("max_tunnels = {}\n", count.max(1024));
    for number in 0..count {
        let remote = Ipv4Addr::from_bits(FIRST.to_bits() + number);
        let written = write!(
            config,
            "[[tunnel]]\nname = \"scrub-{number}\"\nlocal = \"{LOCAL}\"\nremote = \"{remote}\"\n"
        );
        written.expect("a String takes all");
    }
    config
}

/// One tunnel with so many prefixes as remotes, a /30 each.
fn prefixes(count: u32) -> String {
    let nets: Vec<_> = (0..count)
        .map(|number| format!("\"{}/30\"", Ipv4Addr::from_bits(FIRST.to_bits() + 4 * number)))
        .collect();
    one(&format!("local = \"{LOCAL}\"\nremote = [{}]", nets.join(", ")), "")
}

/// The plain packet from [`FIRST`], or from so many addresses from there on.
fn shape(name: &str, config: &str, sources: u32) -> Shape {
    let mut packet = plain();
    if let gre_tests::frame::Outer::V4(header) = &mut packet.outer {
        header.source = FIRST;
    }
    Shape {
        sources,
        ..Shape::stripped(Group::Tunnels, name, config, &packet)
    }
}

pub(super) fn shapes() -> Vec<Shape> {
    let (few, some, many) = (tunnels(8), tunnels(1000), tunnels(100_000));
    let prefixes = prefixes(1000);
    vec![
        shape("1 tunnel", &tunnels(1), 0),
        shape("2 tunnels, any of them", &tunnels(2), 2),
        shape("8 tunnels", &few, 0),
        shape("8 tunnels, any of them", &few, 8),
        shape("1,000 tunnels", &some, 0),
        shape("1,000 tunnels, any of them", &some, 1000),
        shape("100,000 tunnels", &many, 0).taking_long(),
        shape("100,000 tunnels, any of them", &many, 100_000).taking_long(),
        shape("1,000 prefixes", &prefixes, 0).judging_programs(),
        shape("1,000 prefixes, any of them", &prefixes, 4000),
        shape(
            "any remote",
            &one(&format!("local = \"{LOCAL}\"\nremote = \"any\""), ""),
            0,
        ),
    ]
}
