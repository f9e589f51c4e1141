//! Ten thousand protected prefixes of each family, of all lengths: the program finds what a plain search finds.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Result, ensure};
use gre_common::decide;
use gre_tests::frame::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Gre, Ipv4, Ipv6, Link, Outer, PROTOCOL_GRE, Packet};
use gre_tests::skip::say;

use crate::kernel::{Kernel, load_or_return};
use crate::support::bytes::Bytes;
use crate::support::outcome::{Outcome, hex};
use crate::support::reference::Reference;

const PREFIXES: u32 = 10_000;

/// A sequence of numbers without a pattern (Knuth's multiplicative hash).
fn scatter(number: u32) -> u32 {
    number.wrapping_mul(2_654_435_761)
}

fn v4(number: u32) -> (Ipv4Addr, u32) {
    let bits = 12 + number % 21;
    let address = 0x0a00_0000 | scatter(number) >> 8;
    (Ipv4Addr::from_bits(address >> (32 - bits) << (32 - bits)), bits)
}

fn v6(number: u32) -> (Ipv6Addr, u32) {
    let bits = 40 + number % 89;
    let address = 0x2001_0db8 << 96 | u128::from(scatter(number)) << 64 | u128::from(scatter(!number));
    (Ipv6Addr::from_bits(address >> (128 - bits) << (128 - bits)), bits)
}

fn config() -> String {
    let mut prefixes: Vec<_> = (0..PREFIXES)
        .flat_map(|number| {
            let ((v4, v4_bits), (v6, v6_bits)) = (v4(number), v6(number));
            [format!("'{v4}/{v4_bits}'"), format!("'{v6}/{v6_bits}'")]
        })
        .collect();
    prefixes.sort();
    prefixes.dedup();
    format!(
        "[[tunnel]]\nname = 'a'\nlocal = '198.51.100.20'\nremote = '203.0.113.10'\n\
         [protect]\ninner_destinations = 'enforce'\nlockdown = 'enforce'\nprefixes = [{}]\n",
        prefixes.join(", ")
    )
}

/// Frames to an address, by the tunnel and straight.
fn frames(ether_type: u16, packet: Vec<u8>) -> [Vec<u8>; 2] {
    let straight = Link::default().frame(ether_type, &packet);
    let outer = Ipv4 {
        source: Ipv4Addr::new(203, 0, 113, 10),
        destination: Ipv4Addr::new(198, 51, 100, 20),
        protocol: PROTOCOL_GRE,
        ..Ipv4::default()
    };
    let tunnelled = Packet {
        link: Link::default(),
        outer: Outer::V4(outer),
        gre: Gre {
            protocol: ether_type,
            ..Gre::default()
        },
        payload: packet,
        padding: Vec::new(),
    };
    [tunnelled.frame(), straight]
}

#[test]
fn ten_thousand_prefixes_are_found() -> Result<()> {
    load_or_return!();
    let config = config();
    let (mut kernel, reference) = (Kernel::load(&config)?, Reference::new(&config)?);
    let (mut dropped, mut passed) = (0, 0);
    for number in (0..PREFIXES).step_by(97) {
        // Within a prefix, right before it, and somewhere.
        let (net4, net6) = (v4(number).0.to_bits(), v6(number).0.to_bits());
        let to_v4 = [net4, net4.wrapping_sub(1), 0x0a00_0000 | scatter(!number) >> 8].map(Ipv4Addr::from_bits);
        let to_v6 = [net6, net6.wrapping_sub(1), net6 ^ 1 << 64].map(Ipv6Addr::from_bits);
        let packets_v4 = to_v4.map(|destination| {
            let header = Ipv4 {
                destination,
                ..Ipv4::default()
            };
            frames(ETHERTYPE_IPV4, header.packet(b"anything"))
        });
        let packets_v6 = to_v6.map(|destination| {
            let header = Ipv6 {
                destination,
                ..Ipv6::default()
            };
            frames(ETHERTYPE_IPV6, header.packet(b"anything"))
        });
        for frame in packets_v4.into_iter().chain(packets_v6).flatten() {
            let outcome = kernel.run(&frame)?;
            let on_host = Outcome::of(&decide(&Bytes::whole(&frame), &reference), &frame);
            ensure!(
                outcome == on_host,
                "{}: on the host {on_host:?}, in the kernel {outcome:?}",
                hex(&frame)
            );
            *(if outcome.passed.is_some() {
                &mut passed
            } else {
                &mut dropped
            }) += 1;
        }
    }
    say(&format!(
        "{PREFIXES} prefixes of each family: {passed} packets let through, {dropped} dropped"
    ));
    ensure!(passed > 100 && dropped > 100, "{passed} let through, {dropped} dropped");
    Ok(())
}
