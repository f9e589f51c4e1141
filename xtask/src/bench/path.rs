//! Packets a second through a driver to each delivery, and TCP through the tunnel.

use std::{
    fmt::{self, Display},
    fs,
    path::Path,
    process::{ExitCode, Stdio},
};

use anyhow::{Context as _, Result};
use gre_tests::figures::path::Report;

use super::{Objects, program};
use crate::{build::Built, process, workspace::Workspace};

/// Measures, and shows the result, also in the file `json`.
pub(super) fn run(workspace: &Workspace, built: &Built, quick: bool, json: Option<&Path>) -> Result<ExitCode> {
    let mut measure = program(workspace, built, &Objects::build(workspace)?);
    measure.arg("path").args(quick.then_some("--quick"));
    let found = process::output(measure.stdin(Stdio::null()), "see the message above")?;
    let report: Report = serde_json::from_str(&found).context("the measuring program wrote no report")?;
    if let Some(file) = json {
        fs::write(file, &found).with_context(|| format!("write {}", file.display()))?;
    }
    print!("{}", Table(&report));
    Ok(ExitCode::SUCCESS)
}

struct Table<'a>(&'a Report);

impl Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(report) = self;
        writeln!(
            f,
            "{}, {} cores; {} rounds",
            report.machine, report.cores, report.rounds
        )?;
        writeln!(
            f,
            "\n  {:<34} {:>7} {:>13} {:>12} {:>6}",
            "million packets a second, to", "median", "middle half", "of XDP_DROP", "lost"
        )?;
        for rate in &report.deliveries {
            let spread = format!("{:.2}–{:.2}", rate.low / 1e6, rate.high / 1e6);
            let (part, lost) = (rate.of_drop * 100.0, rate.lost * 100.0);
            writeln!(
                f,
                "  {:<34} {:>7.2} {spread:>13} {part:>10.0} % {lost:>4.0} %",
                rate.name,
                rate.median / 1e6
            )?;
        }
        writeln!(
            f,
            "\n  {:<34} {:>7} {:>13} {:>12}",
            "TCP, gigabits a second", "median", "middle half", "GRO"
        )?;
        for tcp in &report.tcp {
            let spread = format!("{:.2}–{:.2}", tcp.low / 1e9, tcp.high / 1e9);
            writeln!(
                f,
                "  {:<34} {:>7.2} {spread:>13} {:>10.0} : 1",
                tcp.name,
                tcp.median / 1e9,
                tcp.frames_a_packet
            )?;
        }
        Ok(())
    }
}
