//! The first scene: this host is the origin.

use std::path::Path;

use anyhow::{Context, Result};
use gre_tests::lab::Scrubber;
use gre_tests::traffic::tcp::Direction;

use super::census::Census;
use super::program::Program;
use super::report::Report;
use super::topology::{self, SERVICE_V4, SERVICE_V6, Service, Topology};
use super::{MEGABYTE, indented, scenes, transfer};

/// Everything that a client can do, and what must not get in.
pub(super) fn run(binary: &Path, report: &mut Report) -> Result<()> {
    let net = Topology::build(Service::AtTheOrigin).context("build the demo's networks")?;
    let scrubber = Scrubber::start(&net.scrub, topology::TUN, &topology::tunnel()).context("start the scrubber")?;
    net.route_through_scrubber()?;
    let config = net.lab.write_file("gre-decap.toml", topology::CONFIG)?;
    let program = Program::new(binary, &net.origin, &config);

    report.line(topology::PICTURE)?;
    report.line(&format!(
        "The origin's configuration file:\n\n{}",
        indented(topology::CONFIG)
    ))?;
    report.claim("nothing gets in before `load`", scenes::refused(&net))?;

    let pinned_before = program.pinned()?;
    report.command(&program.command_line("load"))?;
    program.run(&["load"])?;
    report.claim("the kernel runs it on wan0", program.attached())?;
    let census = Census::start(&net)?;
    let traffic: [(&str, &dyn Fn() -> Result<String>); 9] = [
        ("ICMP: ping", &|| scenes::pings(&net, SERVICE_V4)),
        ("UDP: echo", &|| scenes::echoes(&net, SERVICE_V4)),
        ("TCP: download", &|| {
            transfer::run(&net, SERVICE_V4, Direction::Download, 40 * MEGABYTE)
        }),
        ("TCP: upload", &|| {
            transfer::run(&net, SERVICE_V4, Direction::Upload, 40 * MEGABYTE)
        }),
        ("IPv6 inside: ping", &|| scenes::pings(&net, SERVICE_V6)),
        ("IPv6 inside: UDP echo", &|| scenes::echoes(&net, SERVICE_V6)),
        ("IPv6 inside: TCP upload", &|| {
            transfer::run(&net, SERVICE_V6, Direction::Upload, 10 * MEGABYTE)
        }),
        ("a wrong GRE checksum is refused", &|| {
            scenes::wrong_checksum(&net, &program)
        }),
        ("a stranger's GRE is refused", &|| scenes::stranger(&net, &program)),
    ];
    for (what, scene) in traffic {
        if !report.claim(what, scene())? {
            // What comes next would wait for its packets in vain, too.
            break;
        }
    }
    let census = census.end()?;
    let lost = net.lost_on_the_way()?;
    report.command(&program.command_line("stats --json"))?;
    let stats = program.stats()?;
    report.line(&stats.table())?;
    report.claim("nothing but GRE came to the origin", census.only_gre_came())?;
    report.claim("replies went straight back", census.replies_went_straight_back())?;
    report.claim(
        "the counters account for every packet",
        scenes::counters_agree(&stats, census.gre(), lost),
    )?;

    report.command(&program.command_line("unload"))?;
    program.run(&["unload"])?;
    report.claim("`unload` leaves nothing behind", program.nothing_left(&pinned_before))?;
    report.claim("nothing gets in after `unload`", scenes::refused(&net))?;
    let sent = scrubber.stop()?;
    report.line(&format!(
        "The scrubber sent {} packets ({} MB) through GRE, and had to drop {}.",
        sent.packets,
        sent.bytes / MEGABYTE as u64,
        sent.dropped
    ))
}
