//! An interface whose driver takes redirected frames only with an XDP program on it: virtio_net's. It gets one that passes
//! everything.

use std::fs;
use std::io::ErrorKind;
use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use gre_tests::frame::{Addresses, Ipv4, Link, Outer, PROTOCOL_GRE, PROTOCOL_UDP, Packet, udp_datagram};
use gre_tests::guest::CARDS;
use gre_tests::lab::{Lab, Namespace, Wire};
use gre_tests::program::Program;
use gre_tests::skip::{binary_or_skip, say};
use gre_user::host::xdp_features;

use crate::site::{take_cards, wait_until};

/// The index of the first interface of every namespace.
const LOOPBACK: u32 = 1;
const CARD: &str = "[[interface]]\nname = \"lan\"\n\n";
const WAN: &str = "[[interface]]\nname = \"wan0\"\n\n";
const TUNNEL: &str = "[[tunnel]]\nname = \"a\"\nlocal = \"198.51.100.20\"\nremote = \"203.0.113.10\"\n";

#[test]
fn an_interface_gets_a_program_for_as_long_as_frames_are_redirected_to_it() -> Result<()> {
    let name = "an_interface_gets_a_program_for_as_long_as_frames_are_redirected_to_it";
    let lab = Lab::for_test(name).context("a laboratory")?;
    let binary = binary_or_skip(name).context("a gre-decap to test")?;
    let (centre, router, server) = (
        lab.namespace("centre")?,
        lab.namespace("router")?,
        lab.namespace("server")?,
    );
    let (_, wan) = lab.veth(centre.end("wan"), router.end("wan0"))?;
    let names = ["lan", "lan0"];
    take_cards(&CARDS, [&router, &server], names)?;
    for (namespace, name) in [&router, &server].into_iter().zip(names) {
        wait_until("the card is up", || {
            Ok(namespace.ip(&format!("link show dev {name}"))?.contains("LOWER_UP"))
        })?;
    }
    let program = Program::new(&router, binary);
    // A card takes frames for its own address only.
    let address = "/sys/class/net/lan0/address";
    let next_hop = server.run(|| fs::read_to_string(address).context(address))?;
    let next_hop = next_hop.trim();
    let onward = format!("{WAN}{TUNNEL}deliver = {{ interface = \"lan\", next_hop = \"{next_hop}\" }}\n");
    let before = xdp(&router)?;
    ensure!(before.is_none(), "the card has an XDP program: {before:?}");
    if let Err(error) = xdp_features::read(LOOPBACK) {
        ensure!(error.kind() == ErrorKind::Unsupported, "XDP features: {error}");
        say(
            "this kernel does not tell which interface needs a program: it gets one by being named in the configuration",
        );
        return program_by_configuration(&program, &centre, &server, wan.mac, &onward);
    }

    let loaded = program.command(&onward, "load")?.output()?;
    let said = String::from_utf8_lossy(&loaded.stderr);
    ensure!(
        loaded.status.success() && said.contains("warning: lan: has got an XDP program that passes everything"),
        "{said}"
    );
    let pass = xdp(&router)?.context("the card has got a program")?;

    is_redirected(&program, &centre, &server, wan.mac)?;

    // Loading again keeps the program; without a tunnel that needs it, it goes; and unloading takes it away.
    program.load(&onward)?;
    ensure!(xdp(&router)? == Some(pass.clone()), "another program than {pass}");
    program.load(&format!("{WAN}{TUNNEL}"))?;
    ensure!(xdp(&router)?.is_none(), "the program stays although nothing needs it");
    program.load(&onward)?;
    ensure!(xdp(&router)?.is_some(), "the program has not come back");
    program.run("", "unload")?;
    ensure!(xdp(&router)?.is_none(), "the program stays behind");
    say("virtio_net takes redirected frames with the program that passes everything");
    Ok(())
}

/// What `check` advises where it cannot tell.
fn program_by_configuration(
    program: &Program,
    centre: &Namespace,
    server: &Namespace,
    router_mac: [u8; 6],
    onward: &str,
) -> Result<()> {
    let said = program.run(onward, "check")?;
    ensure!(
        said.contains("note: lan: cannot tell whether it takes redirected frames"),
        "{said}"
    );
    program.load(&format!("{CARD}{onward}"))?;
    is_redirected(program, centre, server, router_mac)?;
    program.run("", "unload").map(drop)
}

/// The program's work shows on the next link, and in its own counters.
fn is_redirected(program: &Program, centre: &Namespace, server: &Namespace, router_mac: [u8; 6]) -> Result<()> {
    let sender = Wire::open(centre, "wan")?;
    let receiver = Wire::open(server, "lan0")?;
    let packet = packet(router_mac);
    sender.send(&packet.frame())?;
    receiver.expect("the inner packet, redirected", |frame| {
        frame.bytes.get(14..14 + packet.payload.len()) == Some(&packet.payload)
    })?;
    let stats = program.run("", "stats --json")?;
    ensure!(
        stats.contains("\"packets\":1,") && !stats.contains("route_") && !stats.contains("redirect_failed"),
        "{stats}"
    );
    Ok(())
}

/// What the kernel says about the XDP program on the card.
fn xdp(router: &Namespace) -> Result<Option<String>> {
    let shown = router.ip("-details link show dev lan")?;
    Ok(shown.lines().find(|line| line.contains("prog/xdp")).map(str::to_owned))
}

fn packet(destination: [u8; 6]) -> Packet {
    let (client, server) = (Ipv4Addr::new(198, 18, 5, 7), Ipv4Addr::new(192, 0, 2, 80));
    let header = |source, destination, protocol| Ipv4 {
        source,
        destination,
        protocol,
        ..Ipv4::default()
    };
    let datagram = udp_datagram(Addresses::V4(client, server), b"hello");
    Packet {
        link: Link {
            destination,
            ..Link::default()
        },
        outer: Outer::V4(header(
            Ipv4Addr::new(203, 0, 113, 10),
            Ipv4Addr::new(198, 51, 100, 20),
            PROTOCOL_GRE,
        )),
        gre: gre_tests::frame::Gre::default(),
        payload: header(client, server, PROTOCOL_UDP).packet(&datagram),
        padding: Vec::new(),
    }
}
