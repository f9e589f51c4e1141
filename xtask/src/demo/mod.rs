//! `cargo xtask demo`: real TCP, UDP and ICMP through GRE into the XDP program, and the proof that it was so.
//!
//! Everything lives in network namespaces and mounts that end with this process, however it ends: a signal's default
//! action is all the cleaning up that Ctrl-C needs.

mod attack;
mod census;
mod origin;
mod program;
mod report;
mod routed;
mod scenes;
mod topology;
mod transfer;
mod upkeep;

use std::path::Path;

use anyhow::{Result, bail};
use gre_tests::lab::Lab;

use report::Report;

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
    let mut report = Report::default();
    origin::run(binary, &mut report)?;
    routed::run(binary, &mut report)?;
    attack::run(binary, &mut report)?;
    upkeep::run(binary, &mut report)?;
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
