//! `cargo xtask vm-test`: the tests on Debian's kernels, in virtual machines, where the kernel has GRE of its own.
//!
//! Kernels and QEMU come as packages and are unpacked under `target/vm`, not installed. What a machine runs is packed into an
//! initramfs; what it tells comes out over a serial line.

mod archive;
mod cpio;
mod initramfs;
mod kernel;
mod libraries;
mod machine;
mod modules;
mod programs;
mod qemu;

use std::{env, fs, io, path::Path, process::ExitCode, time::Instant};

use anyhow::{Context as _, Result, bail};
use gre_tests::guest::Message;

use self::{
    archive::Mirrors,
    kernel::{Kernels, NEWEST, Version},
    machine::Files,
    programs::Programs,
    qemu::Qemu,
};
use crate::{build::Built, summary::Summary, workspace::Workspace};

/// The kernels to test on: those that Debian's releases run, and the newest.
const KERNELS: [&str; 5] = ["5.10", "6.1", "6.12", "6.18", NEWEST];
/// The first that can load the program, by its series.
const OLDEST_SUPPORTED: [u32; 2] = [5, 18];
/// Test programs of the package gre-tests.
const TESTS: [&str; 4] = ["loader", "program", "vm", "wire"];
/// Tests on kernels that are too old have this in their names, others not.
const UNSUPPORTED: &str = "unsupported::";

/// Runs the tests whose names contain one of `filters`, or all, on each of `kernels`, or on all.
pub(crate) fn run(workspace: &Workspace, built: &Built, kernels: &[String], filters: &[String]) -> Result<ExitCode> {
    kernel::ensure_architecture()?;
    let folder = workspace.target().join("vm");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let mirrors = Mirrors::of_system()?;
    let qemu = Qemu::fetch(&mirrors, &folder)?;
    let available = Kernels::of(&mirrors, &folder)?;
    let (versions, missing) = choose(&available, kernels)?;
    let programs = programs::build(workspace, built, &TESTS)?;

    let mut sum = Summary::default();
    let mut results = Vec::new();
    for version in &versions {
        let started = Instant::now();
        let outcome = test(&folder, &qemu, &available, version, built, &programs, filters);
        let took = started.elapsed().as_secs();
        let (summary, result) = match outcome {
            Ok(summary) => (summary, format!("{summary}, in {took} s")),
            Err(error) => (Summary::failure(), format!("FAILED after {took} s: {error:#}")),
        };
        println!("Linux {version}: {result}");
        results.push(format!(
            "Linux {version}: {}",
            result.lines().next().unwrap_or_default()
        ));
        sum = sum + summary;
    }
    for missing in missing {
        let line = format!("SKIPPED Linux {missing}: no suite that can be reached has it");
        results.push(line.clone());
        sum = sum + Summary::of(line.as_bytes(), io::sink()).context("sum up")?;
        // Where nobody reads along, what is missing fails.
        if env::var_os("CI").is_some_and(|ci| ci == "true") {
            sum = sum + Summary::failure();
        }
    }
    println!("\n{}\n{sum}", results.join("\n"));
    if sum.is_empty() {
        bail!("no test's name contains `{}`", filters.join("` or `"));
    }
    Ok(if sum.has_failures() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// The versions for what is wanted, and what of the default there is none for.
fn choose<'a>(available: &'a Kernels, wanted: &'a [String]) -> Result<(Vec<&'a Version>, Vec<&'static str>)> {
    let (mut versions, mut missing) = (Vec::new(), Vec::new());
    for wanted in wanted {
        let version = available
            .find(wanted)
            .with_context(|| format!("no kernel {wanted} can be had: there are {}", available.series()))?;
        versions.push(version);
    }
    if wanted.is_empty() {
        for wanted in KERNELS {
            match available.find(wanted) {
                Some(version) => versions.push(version),
                None => missing.push(wanted),
            }
        }
    }
    versions.dedup();
    Ok((versions, missing))
}

/// Runs the tests on one kernel, and sums them up.
fn test(
    folder: &Path,
    qemu: &Qemu,
    kernels: &Kernels,
    version: &Version,
    built: &Built,
    programs: &Programs,
    filters: &[String],
) -> Result<Summary> {
    println!("\n== Linux {version}");
    let kernel = kernels.fetch(version)?;
    let run = folder.join("run");
    fs::create_dir_all(&run).with_context(|| format!("make {}", run.display()))?;
    let initramfs = run.join(format!("{version}.cpio"));
    let packed = initramfs::pack(&kernel.modules, &built.binary, programs, &arguments(version, filters))?;
    fs::write(&initramfs, packed).with_context(|| format!("write {}", initramfs.display()))?;
    let console = run.join(format!("{version}.console"));
    let files = Files {
        kernel: &kernel.image,
        initramfs: &initramfs,
        console: &console,
    };
    let mut report = Report::default();
    let done = machine::run(qemu, &files, |message| report.take(message));
    fs::remove_file(&initramfs).with_context(|| format!("remove {}", initramfs.display()))?;
    done?;
    report.sum_up()
}

/// For libtest.
fn arguments(version: &Version, filters: &[String]) -> Vec<String> {
    let mut arguments = vec!["--test-threads=1".to_owned()];
    if version.is_before(OLDEST_SUPPORTED) {
        arguments.push(UNSUPPORTED.to_owned());
    } else {
        arguments.extend(["--skip".to_owned(), UNSUPPORTED.to_owned()]);
        arguments.extend(filters.iter().cloned());
    }
    arguments
}

/// What the programs of one machine wrote, shown as it comes.
#[derive(Default)]
struct Report {
    written: String,
    program: String,
    /// Programs that ended otherwise than libtest's do.
    broken: Vec<String>,
}

impl Report {
    fn take(&mut self, message: &Message) {
        match message {
            Message::Booted { release } => println!("booted {release}"),
            Message::Started { program } => {
                println!("-- {program}");
                program.clone_into(&mut self.program);
            }
            Message::Wrote { line } => {
                println!("{line}");
                self.written.push_str(line);
                self.written.push('\n');
            }
            // libtest's own for failed tests, which it has counted.
            Message::Ended { status: Some(0 | 101) } | Message::Failed { .. } | Message::Finished => {}
            Message::Ended { status } => {
                let how = status.map_or("by a signal".to_owned(), |status| format!("with status {status}"));
                self.broken.push(format!("{} ended {how}", self.program));
            }
        }
    }

    fn sum_up(self) -> Result<Summary> {
        if !self.broken.is_empty() {
            bail!("{}", self.broken.join(", "));
        }
        Summary::of(self.written.as_bytes(), io::sink()).context("sum up")
    }
}
