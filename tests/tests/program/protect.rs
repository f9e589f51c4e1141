//! Protected prefixes, from none of a family to ten thousand of each, of all lengths: the program finds what a plain search finds.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, bail, ensure};
use gre_common::decide;
use gre_common::few::MOST;
use gre_tests::frame::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, Gre, GreChecksum, Ipv4, Ipv6, Link, Outer, PROTOCOL_GRE, Packet,
};
use gre_tests::skip::say;
use gre_user::config::Config;

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
            [format!("{v4}/{v4_bits}"), format!("{v6}/{v6_bits}")]
        })
        .collect();
    prefixes.sort();
    prefixes.dedup();
    protecting(&prefixes, "enforce")
}

fn protecting(prefixes: &[impl Display], guard: &str) -> String {
    let prefixes: Vec<_> = prefixes.iter().map(|prefix| format!("'{prefix}'")).collect();
    format!(
        "[[tunnel]]\nname = 'a'\nlocal = '198.51.100.20'\nremote = '203.0.113.10'\n\
         [protect]\ninner_destinations = '{guard}'\nlockdown = '{guard}'\nprefixes = [{}]\n",
        prefixes.join(", ")
    )
}

/// Frames to addresses, each by the tunnel, in a form that is usual for IPv4 and in one that is not, and straight.
fn frames(v4: &[Ipv4Addr], v6: &[Ipv6Addr]) -> Vec<Vec<u8>> {
    let v4 = v4.iter().map(|&destination| {
        let header = Ipv4 {
            destination,
            ..Ipv4::default()
        };
        carried(ETHERTYPE_IPV4, header.packet(b"anything"))
    });
    let v6 = v6.iter().map(|&destination| {
        let header = Ipv6 {
            destination,
            ..Ipv6::default()
        };
        carried(ETHERTYPE_IPV6, header.packet(b"anything"))
    });
    v4.chain(v6).flatten().collect()
}

fn carried(ether_type: u16, packet: Vec<u8>) -> [Vec<u8>; 3] {
    let straight = Link::default().frame(ether_type, &packet);
    let outer = Ipv4 {
        source: Ipv4Addr::new(203, 0, 113, 10),
        destination: Ipv4Addr::new(198, 51, 100, 20),
        protocol: PROTOCOL_GRE,
        ..Ipv4::default()
    };
    let [plain, summed] = [GreChecksum::Absent, GreChecksum::Right].map(|checksum| {
        let tunnelled = Packet {
            link: Link::default(),
            outer: Outer::V4(outer.clone()),
            gre: Gre {
                protocol: ether_type,
                checksum,
                ..Gre::default()
            },
            payload: packet.clone(),
            padding: Vec::new(),
        };
        tunnelled.frame()
    });
    [plain, summed, straight]
}

/// Frames that were let through, and such that were dropped.
#[derive(Default)]
struct Counts {
    passed: u32,
    dropped: u32,
}

impl Counts {
    /// Counts what becomes of the frames, which must be the same in the kernel and on the host.
    fn compare(&mut self, kernel: &mut Kernel, reference: &Reference, frames: &[Vec<u8>]) -> Result<()> {
        for frame in frames {
            let outcome = kernel.run(frame)?;
            let on_host = Outcome::of(&decide(&Bytes::whole(frame), reference), frame);
            ensure!(
                outcome == on_host,
                "{}: on the host {on_host:?}, in the kernel {outcome:?}",
                hex(frame)
            );
            *(if outcome.passed.is_some() {
                &mut self.passed
            } else {
                &mut self.dropped
            }) += 1;
        }
        Ok(())
    }
}

#[test]
fn ten_thousand_prefixes_are_found() -> Result<()> {
    load_or_return!();
    let config = config();
    let (mut kernel, reference) = (Kernel::load(&config)?, Reference::new(&config)?);
    let mut counts = Counts::default();
    for number in (0..PREFIXES).step_by(97) {
        // Within a prefix, right before it, and somewhere.
        let (net4, net6) = (v4(number).0.to_bits(), v6(number).0.to_bits());
        let to_v4 = [net4, net4.wrapping_sub(1), 0x0a00_0000 | scatter(!number) >> 8].map(Ipv4Addr::from_bits);
        let to_v6 = [net6, net6.wrapping_sub(1), net6 ^ 1 << 64].map(Ipv6Addr::from_bits);
        counts.compare(&mut kernel, &reference, &frames(&to_v4, &to_v6))?;
    }
    let Counts { passed, dropped } = counts;
    say(&format!(
        "{PREFIXES} prefixes of each family: {passed} packets let through, {dropped} dropped"
    ));
    ensure!(passed > 100 && dropped > 100, "{passed} let through, {dropped} dropped");
    Ok(())
}

/// Prefixes that do not make up a shorter one together: one more than the program compares with.
const APART: [&str; MOST + 1] = [
    "192.0.2.77/32",
    "10.9.0.0/31",
    "172.16.0.0/12",
    "203.0.113.128/25",
    "128.0.0.0/2",
];
const APART6: [&str; MOST + 1] = [
    "2001:db8:7::77/128",
    "2001:db8:0:1:8000::/65",
    "2001:db8:2::/47",
    "fc00::/7",
    "2400::/12",
];

/// Lists around the number up to which they are compared with, and of all lengths.
fn lists() -> Vec<Vec<&'static str>> {
    let mut lists = vec![
        vec!["0.0.0.0/0"],
        vec!["::/0"],
        vec!["0.0.0.0/0", "::/0"],
        // One in another, and two halves.
        vec![
            "192.0.2.64/26",
            "192.0.2.72/29",
            "10.0.0.0/25",
            "10.0.0.128/25",
            "172.16.0.0/12",
            "223.255.255.255/32",
            "2001:db8::/33",
            "2001:db8:8000::/33",
            "2001:db8::1/128",
        ],
    ];
    for count in [1, MOST, MOST + 1] {
        lists.push(APART[..count].to_vec());
        lists.push(APART6[..count].to_vec());
        lists.push([&APART[..count], &APART6[MOST + 1 - count..]].concat());
    }
    lists
}

#[test]
fn few_prefixes_are_found() -> Result<()> {
    load_or_return!();
    let all: Vec<_> = lists()
        .concat()
        .into_iter()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let all = Config::from_str(&protecting(&all, "off"), "all")?.protect.prefixes;
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    // The ends of each, and what is beside them.
    for net in all {
        match (net.network(), net.broadcast()) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                let (first, last) = (first.to_bits(), last.to_bits());
                let around = [first.wrapping_sub(1), first, last, last.wrapping_add(1)];
                v4.extend(around.map(Ipv4Addr::from_bits));
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                let (first, last) = (first.to_bits(), last.to_bits());
                let around = [first.wrapping_sub(1), first, last, last.wrapping_add(1)];
                v6.extend(around.map(Ipv6Addr::from_bits));
            }
            ends => bail!("a prefix of two families: {ends:?}"),
        }
    }
    let frames = frames(&v4, &v6);
    for list in lists() {
        for guard in ["monitor", "enforce"] {
            let config = protecting(&list, guard);
            let (mut kernel, reference) = (Kernel::load(&config)?, Reference::new(&config)?);
            let mut counts = Counts::default();
            let compared = counts.compare(&mut kernel, &reference, &frames);
            compared.with_context(|| format!("for{config}"))?;
            let Counts { passed, dropped } = counts;
            ensure!(
                passed > 0 && (dropped > 0) == (guard == "enforce"),
                "{passed} let through, {dropped} dropped"
            );
        }
    }
    Ok(())
}
