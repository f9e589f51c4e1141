//! `cargo xtask demo`: real TCP, UDP and ICMP through GRE into the XDP program, and the proof that it was so.
//!
//! Everything lives in network namespaces and mounts that end with this process, however it ends: a signal's default
//! action is all the cleaning up that Ctrl-C needs.

mod census;
mod program;
mod report;
mod scenes;
mod topology;
mod transfer;

use std::path::Path;

use anyhow::{Context, Result, bail};
use gre_tests::lab::{Lab, Scrubber};

use census::Census;
use program::Program;
use report::Report;
use topology::{SERVICE_V4, SERVICE_V6, Topology};
use transfer::Direction;

const MEGABYTE: usize = 1_000_000;

/// Runs the demo with the `gre-decap` at `binary`.
///
/// # Errors
///
/// When the machine lacks something that the demo needs, or one of its claims turns out to be false.
pub(crate) fn run(binary: &Path) -> Result<()> {
    if let Err(missing) = Lab::available() {
        bail!("the demo needs network namespaces; missing: {missing}");
    }
    let net = Topology::build().context("build the demo's networks")?;
    let scrubber = Scrubber::start(&net.scrub, topology::TUN, &topology::tunnel()).context("start the scrubber")?;
    net.route_through_scrubber()?;
    let config = net.lab.write_file("gre-decap.toml", topology::CONFIG)?;
    let program = Program::new(binary, &net.origin, &config);

    let mut report = Report::default();
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
    ))?;
    report.conclude(topology::PROVEN)
}

fn indented(text: &str) -> String {
    text.lines()
        .map(|line| {
            if line.is_empty() {
                "\n".to_owned()
            } else {
                format!("    {line}\n")
            }
        })
        .collect()
}
