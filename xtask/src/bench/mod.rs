//! Measures what the program costs. The measuring is a program of its own, `tests/bench`, because it is built around the eBPF
//! object; here it is built and run, and what it found is shown and compared.

mod baseline;
mod control;
mod kernel;
mod path;
mod programs;
mod report;
mod targets;

use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result};
use clap::Args;
use gre_tests::figures::costs::Report;

use crate::{
    bpf,
    build::Built,
    process::{self, cargo},
    vm,
    workspace::Workspace,
};

use self::report::Table;

/// The measuring program.
const PROGRAM: &str = "bench";
/// The variable by which it finds the object of `gre-ebpf/bench`.
const OBJECT: &str = "GRE_BENCH_OBJECT";
/// And that of `gre-ebpf` without what a configuration can switch on.
const BARE_OBJECT: &str = "GRE_BARE_OBJECT";

/// The objects that the measuring program needs, by the variables in which it finds their paths.
struct Objects([(&'static str, PathBuf); 2]);

impl Objects {
    fn build(workspace: &Workspace) -> Result<Self> {
        Ok(Self([
            (OBJECT, bpf::build_bench(workspace)?),
            (BARE_OBJECT, bpf::build_bare(workspace)?),
        ]))
    }
}

/// What is measured, and what is done with it.
#[derive(Args)]
pub(crate) struct Options {
    /// A run of seconds that leaves out what takes long: shows that the benchmark works, not how fast anything is
    #[arg(long)]
    quick: bool,
    /// Measure the control plane instead: how long commands take with 1, 1,000 and 100,000 tunnels, and how much memory
    #[arg(long, conflicts_with_all = ["quick", "rounds", "baseline", "filters"])]
    control: bool,
    /// Measure whole paths instead: packets a second through a driver to each delivery, and TCP through the tunnel
    #[arg(long, conflicts_with_all = ["control", "rounds", "baseline", "filters"])]
    path: bool,
    /// Count instructions a packet instead, beside the kernel's own GRE, on Debian's kernels in virtual machines: a kernel's version
    /// or its beginning, or "newest", several separated by commas; 6.12 and the newest if left out
    #[arg(long, value_name = "VERSION", num_args = 0.., value_delimiter = ',', conflicts_with_all = ["quick", "control", "path", "rounds", "baseline", "filters"])]
    kernel: Option<Vec<String>>,
    /// Draw what `--kernel` counts there, as SVG
    #[arg(long, value_name = "FILE", requires = "kernel")]
    chart: Option<PathBuf>,
    /// Count instructions instead of nanoseconds, on a Debian kernel in a virtual machine, named as for --kernel: exact on the
    /// busiest machine
    #[arg(long, value_name = "VERSION", conflicts_with_all = ["quick", "control", "path", "rounds", "kernel"])]
    count: Option<String>,
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
    if options.path {
        return path::run(workspace, built, options.quick, options.json.as_deref());
    }
    if let Some(wanted) = &options.kernel {
        return kernel::run(
            workspace,
            built,
            wanted,
            options.json.as_deref(),
            options.chart.as_deref(),
        );
    }
    let baseline = options.baseline.as_deref().map(report::read).transpose()?;
    let objects = Objects::build(workspace)?;
    let found = match &options.count {
        Some(kernel) => count(workspace, built, &objects, kernel, &options.filters)?,
        None => measure(workspace, built, &objects, options)?,
    };
    let report: Report = serde_json::from_str(&found).context("the measuring program wrote no report")?;
    if let Some(file) = &options.json {
        fs::write(file, &found).with_context(|| format!("write {}", file.display()))?;
    }
    print!("{}{}", Table(&report), targets::of(&report));
    if let Some(baseline) = &baseline {
        print!("{}", baseline::compare(&report, baseline)?);
    }
    Ok(ExitCode::SUCCESS)
}

/// Measures here, and gives the report as JSON.
fn measure(workspace: &Workspace, built: &Built, objects: &Objects, options: &Options) -> Result<String> {
    let mut measure = program(workspace, built, objects);
    if options.quick {
        measure.arg("--quick");
    }
    if let Some(rounds) = options.rounds {
        measure.args(["--rounds", &rounds.to_string()]);
    }
    measure.args(&options.filters).stdin(Stdio::null());
    process::output(&mut measure, "see the message above")
}

/// The measuring program, ready for arguments.
fn program(workspace: &Workspace, built: &Built, objects: &Objects) -> Command {
    let mut program = cargo(workspace);
    program.args([
        "test",
        "--quiet",
        "--package",
        "gre-tests",
        "--test",
        PROGRAM,
        "--target-dir",
    ]);
    program.arg(workspace.target()).arg("--");
    program
        .env("GRE_DECAP_OBJECT", &built.object)
        .env("GRE_DECAP_BINARY", &built.binary)
        .envs(objects.0.iter().map(|(name, path)| (name, path)));
    program
}

/// Counts instructions in a virtual machine, and gives the report as JSON.
fn count(workspace: &Workspace, built: &Built, objects: &Objects, kernel: &str, filters: &[String]) -> Result<String> {
    let arguments = [&["--counting".to_owned()], filters].concat();
    let wanted = [kernel.to_owned()];
    let mut written = Vec::new();
    vm::count(
        workspace,
        built,
        &wanted,
        (PROGRAM, &arguments),
        &objects.0,
        |kernel, counted| {
            written = counted.with_context(|| format!("Linux {kernel}"))?.objects;
            Ok(())
        },
    )?;
    written.into_iter().next().context("no report was written")
}
