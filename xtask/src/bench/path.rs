//! Packets a second through a driver to each delivery, and TCP through the tunnel.

use std::{
    fmt::{self, Display},
    fs,
    path::Path,
    process::{ExitCode, Stdio},
};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::program;
use crate::{bpf, build::Built, process, workspace::Workspace};

/// What `tests/bench` writes.
#[derive(Deserialize)]
struct Report {
    machine: String,
    cores: usize,
    rounds: usize,
    deliveries: Vec<Rate>,
    tcp: Vec<Throughput>,
}

/// Packets a second.
#[derive(Deserialize)]
struct Rate {
    name: String,
    median: f64,
    low: f64,
    high: f64,
    /// As part of XDP_DROP's.
    of_drop: f64,
    /// The part that did not arrive.
    lost: f64,
}

/// Bits a second.
#[derive(Deserialize)]
struct Throughput {
    name: String,
    median: f64,
    low: f64,
    high: f64,
    /// What GRO made one packet of.
    frames_a_packet: f64,
}

/// Measures, and shows the result, also in the file `json`.
pub(super) fn run(workspace: &Workspace, built: &Built, quick: bool, json: Option<&Path>) -> Result<ExitCode> {
    let bench = bpf::build_bench(workspace)?;
    let mut measure = program(workspace, built, &bench);
    measure.arg("path").args(quick.then_some("--quick"));
    let found = process::output(measure.stdin(Stdio::null()), "see the message above")?;
    let report: Report = serde_json::from_str(&found).context("the measuring program wrote no report")?;
    if let Some(file) = json {
        fs::write(file, &found).with_context(|| format!("write {}", file.display()))?;
    }
    print!("{report}");
    Ok(ExitCode::SUCCESS)
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, {} cores; {} rounds", self.machine, self.cores, self.rounds)?;
        writeln!(
            f,
            "\n  {:<34} {:>7} {:>13} {:>12} {:>6}",
            "million packets a second, to", "median", "middle half", "of XDP_DROP", "lost"
        )?;
        for rate in &self.deliveries {
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
        for tcp in &self.tcp {
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
