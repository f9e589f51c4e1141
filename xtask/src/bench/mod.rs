//! Measures what the program costs. The measuring is a program of its own, `tests/bench`, because it is built around the eBPF
//! object; here it is built and run, and what it found is shown and compared.

mod control;
mod report;
mod targets;

use std::{
    fs,
    path::PathBuf,
    process::{ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{
    bpf,
    build::Built,
    process::{self, cargo},
    workspace::Workspace,
};

use self::report::Report;

/// What is measured, and what is done with it.
#[derive(Args)]
pub(crate) struct Options {
    /// A run of seconds that leaves out what takes long: shows that the benchmark works, not how fast anything is
    #[arg(long)]
    quick: bool,
    /// Measure the control plane instead: how long commands take with 1, 1,000 and 100,000 tunnels, and how much memory
    #[arg(long, conflicts_with_all = ["quick", "rounds", "baseline", "filters"])]
    control: bool,
    /// How often everything is measured
    #[arg(long, value_name = "N", conflicts_with = "quick")]
    rounds: Option<u32>,
    /// Write the figures there, for `--baseline`
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Say what got slower since the run that wrote this
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Parts of the names of what to measure; all if left out
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
}

/// Measures, and shows the result.
pub(crate) fn run(workspace: &Workspace, built: &Built, options: &Options) -> Result<ExitCode> {
    if options.control {
        return control::run(&built.binary, options.json.as_deref());
    }
    let baseline = options.baseline.as_deref().map(Report::read).transpose()?;
    let bench = bpf::build_bench(workspace)?;
    let mut measure = cargo(workspace);
    measure.args([
        "test",
        "--quiet",
        "--package",
        "gre-tests",
        "--test",
        "bench",
        "--target-dir",
    ]);
    measure.arg(workspace.target()).arg("--");
    if options.quick {
        measure.arg("--quick");
    }
    if let Some(rounds) = options.rounds {
        measure.args(["--rounds", &rounds.to_string()]);
    }
    measure
        .args(&options.filters)
        .env("GRE_DECAP_OBJECT", &built.object)
        .env("GRE_BENCH_OBJECT", &bench)
        .stdin(Stdio::null());
    let found = process::output(&mut measure, "see the message above")?;
    let report = Report::parse(&found).context("the measuring program wrote no report")?;
    if let Some(file) = &options.json {
        fs::write(file, &found).with_context(|| format!("write {}", file.display()))?;
    }
    print!("{report}");
    print!("{}", targets::of(&report));
    if let Some(baseline) = &baseline {
        if !report.shares_with(baseline) {
            bail!("the baseline has nothing that was measured now: measure both with the same FILTER");
        }
        print!("{}", report.against(baseline));
    }
    Ok(ExitCode::SUCCESS)
}
