//! Real traffic of a client through each way to deliver, both families inside and outside, native and generic.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use gre_tests::lab::Tunnel;
use gre_tests::traffic::flows::Flows;
use gre_tests::traffic::tcp::{Direction, transfer};

use crate::net::{Net, SCRUB_V4, SCRUB_V6, SERVER_V4, SERVER_V6, Wanted, config, net_or_return, tunnel_v4, tunnel_v6};
use crate::tagger::Tagger;

const LENGTH: usize = 4_000_000;

/// So that frames come in several buffers.
const JUMBO: Wanted = Wanted { mtu: 9000, queues: 1 };
/// The ways to deliver; the first, where the kernel forwards what is decapsulated, is what the others are to equal.
const STACK: &str = "deliver = \"stack\"";
const ROUTE: &str = "deliver = \"route\"";
const INTERFACE: &str = "deliver = { interface = \"lan0\" }";
const SPREAD_STACK: &str = "deliver = \"stack\"\nspread = \"all\"";
const SPREAD_ROUTE: &str = "deliver = \"route\"\nspread = \"all\"";
const SPREAD_INTERFACE: &str = "deliver = { interface = \"lan0\" }\nspread = \"all\"";

macro_rules! streams {
    ($($name:ident: $mode:literal, $lines:ident, $wanted:expr;)+) => {
        $(#[test]
        fn $name() -> Result<()> {
            traffic_flows(&net_or_return!($wanted), $mode, $lines)
        })+
    };
}

streams! {
    by_the_kernel_in_native_mode: "native", STACK, Wanted::default();
    by_the_kernel_in_generic_mode: "generic", STACK, Wanted::default();
    by_the_kernel_in_frames_of_several_buffers: "native", STACK, JUMBO;
    by_the_route_in_native_mode: "native", ROUTE, Wanted::default();
    by_the_route_in_generic_mode: "generic", ROUTE, Wanted::default();
    by_the_route_in_frames_of_several_buffers: "native", ROUTE, JUMBO;
    by_the_interface_in_native_mode: "native", INTERFACE, Wanted::default();
    by_the_interface_in_generic_mode: "generic", INTERFACE, Wanted::default();
    by_the_interface_in_frames_of_several_buffers: "native", INTERFACE, JUMBO;
    by_the_kernel_spread_over_the_cores_in_native_mode: "native", SPREAD_STACK, Wanted::default();
    by_the_kernel_spread_over_the_cores_in_frames_of_several_buffers: "native", SPREAD_STACK, JUMBO;
    by_the_route_spread_over_the_cores_in_native_mode: "native", SPREAD_ROUTE, Wanted::default();
    by_the_route_spread_over_the_cores_in_frames_of_several_buffers: "native", SPREAD_ROUTE, JUMBO;
    by_the_interface_spread_over_the_cores_in_native_mode: "native", SPREAD_INTERFACE, Wanted::default();
}

macro_rules! tagged_streams {
    ($($name:ident: $tci:literal, $lines:ident;)+) => {
        $(#[test]
        fn $name() -> Result<()> {
            let net = net_or_return!();
            let tagger = Tagger::start(&net, $tci)?;
            // Nobody here would answer in a VLAN.
            net.fix_neighbours()?;
            traffic_flows(&net, "native", $lines)?;
            let tagged = tagger.stop()?;
            ensure!(tagged > LENGTH as u64 / 1500, "only {tagged} frames had a tag");
            Ok(())
        })+
    };
}

// The stack keeps the tag, and has no device for a VLAN other than 0, which gives a priority only.
tagged_streams! {
    by_the_kernel_from_tagged_frames: 0xa000, STACK;
    by_the_route_from_tagged_frames: 100, ROUTE;
    by_the_interface_from_tagged_frames: 100, INTERFACE;
    by_the_kernel_spread_over_the_cores_from_tagged_frames: 0xa000, SPREAD_STACK;
    by_the_route_spread_over_the_cores_from_tagged_frames: 100, SPREAD_ROUTE;
    by_the_interface_spread_over_the_cores_from_tagged_frames: 100, SPREAD_INTERFACE;
}

/// Pings, numbered datagrams, and streams in both directions, and the counters of it.
fn traffic_flows(net: &Net, mode: &str, lines: &str) -> Result<()> {
    net.program.load(&config(mode, lines))?;
    for (name, tunnel) in [(SCRUB_V4, tunnel_v4()), (SCRUB_V6, tunnel_v6())] {
        through(net, name, &tunnel).with_context(|| format!("{lines}, {mode}, {name}"))?;
    }
    Ok(())
}

fn through(net: &Net, name: &str, tunnel: &Tunnel) -> Result<()> {
    let before = net.program.stats()?;
    let lost = || net.centre.statistic("wan", "tx_dropped");
    let lost_before = lost()?;
    let scrubber = net.scrubber(tunnel)?;
    for service in [IpAddr::from(SERVER_V4), SERVER_V6.into()] {
        for length in [0, 1, 1000] {
            net.client.ping(service, length)?;
        }
        let flows = Flows::open(&net.client, &net.server, service, 8, 900)?.start(64)?;
        flows.wait_for(2000)?;
        let received = flows.stop()?;
        ensure!(received.overtaken() == 0, "{received:?}");
        for direction in [Direction::Upload, Direction::Download] {
            transfer(&net.client, &net.server, service, direction, LENGTH)
                .with_context(|| format!("{direction:?} {service}"))?;
        }
    }
    let sent = scrubber.stop()?;
    let arrived = sent.packets - (lost()? - lost_before);
    let counted = |stats: &gre_tests::program::Stats, count| stats.tunnel(name, count).unwrap_or(0);
    let after = net.program.stats_when("each packet to be counted", |stats| {
        counted(stats, "packets") - counted(&before, "packets") == arrived
    })?;
    let overhead = (counted(&after, "outer_bytes") - counted(&before, "outer_bytes"))
        - (counted(&after, "bytes") - counted(&before, "bytes"));
    ensure!(overhead == arrived * tunnel.overhead() as u64, "{after:?}");
    Ok(())
}
