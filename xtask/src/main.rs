//! Developer commands: `cargo xtask COMMAND`. Each one first installs and builds what it needs.

mod bench;
mod bpf;
mod build;
mod demo;
mod dist;
mod fuzz;
mod miri;
mod packages;
mod process;
mod summary;
mod test;
mod tools;
mod vm;
mod workspace;

use std::{
    ffi::OsString,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::{build::Built, workspace::Workspace};

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "Builds, tests and runs gre-decap")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install the build tools that are missing, build the eBPF object, and the release binary with it inside
    Build,
    /// Build, then show real traffic through GRE into the program, in network namespaces, and clean up; as root
    Demo,
    /// Build, then run every test, or those whose name contains a FILTER; as root also those on real interfaces
    Test {
        /// Parts of test names
        #[arg(value_name = "FILTER")]
        filters: Vec<String>,
    },
    /// Build, then measure what the program costs per packet, beside floors that nothing can be cheaper than; as root
    Bench(bench::Options),
    /// Build, then pack the binary and what belongs to it into an archive for other hosts
    Dist,
    /// Run every fuzz target for a while
    Fuzz {
        /// How long each runs
        #[arg(long, value_name = "N", default_value_t = 60)]
        seconds: u32,
    },
    /// Interpret the tests of what the kernel and the host share by Miri, which sees undefined behaviour
    Miri,
    /// Build, then run the tests on Debian's kernels in virtual machines, with the kernel's own GRE as the peer
    VmTest(vm::Options),
    /// Build, then `gre-decap check`: validate the configuration file and examine this host
    Check(GreDecap),
    /// Build, then `gre-decap load`: attach as the configuration file says, and exit
    Load(GreDecap),
    /// Build, then `gre-decap run`: load, and stay until stopped
    Run(GreDecap),
    /// Build, then `gre-decap unload`: detach, and remove the pinned state
    Unload(GreDecap),
    /// Build, then `gre-decap status`: show what is attached and configured
    Status(GreDecap),
    /// Build, then `gre-decap stats`: show the counters
    Stats(GreDecap),
}

/// Arguments for `gre-decap`, `--help` among them.
#[derive(Args)]
#[command(disable_help_flag = true)]
struct GreDecap {
    /// Passed on to gre-decap as they are
    #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    let workspace = Workspace::here();
    // Before the build, which takes longer than to find out that this is not to be had.
    if matches!(task, Task::Bench(_) | Task::Demo | Task::Test { .. } | Task::VmTest(_)) {
        packages::ensure_iproute2()?;
    }
    // Fuzzing is of host code alone.
    if let Task::Fuzz { seconds } = task {
        return fuzz::run(&workspace, seconds).map(|()| ExitCode::SUCCESS);
    }
    if let Task::Miri = task {
        return miri::run(&workspace).map(|()| ExitCode::SUCCESS);
    }
    let built = build::build(&workspace)?;
    match task {
        Task::Fuzz { .. } | Task::Miri => Ok(ExitCode::SUCCESS),
        Task::Build => {
            eprintln!(
                "Built {} with {} inside",
                workspace.relative(&built.binary),
                workspace.relative(&built.object)
            );
            Ok(ExitCode::SUCCESS)
        }
        Task::Dist => dist::run(&workspace, &built).map(|()| ExitCode::SUCCESS),
        Task::Demo => demo::run(&built.binary).map(|()| ExitCode::SUCCESS),
        Task::Bench(options) => bench::run(&workspace, &built, &options),
        Task::Test { filters } => test::run(&workspace, &built, &filters),
        Task::VmTest(options) => vm::run(&workspace, &built, &options),
        Task::Check(passed) => become_gre_decap(&built, "check", &passed),
        Task::Load(passed) => become_gre_decap(&built, "load", &passed),
        Task::Run(passed) => become_gre_decap(&built, "run", &passed),
        Task::Unload(passed) => become_gre_decap(&built, "unload", &passed),
        Task::Status(passed) => become_gre_decap(&built, "status", &passed),
        Task::Stats(passed) => become_gre_decap(&built, "stats", &passed),
    }
}

/// Replaces this process, so that signals and the exit status are gre-decap's own. Returns only an error.
fn become_gre_decap(built: &Built, command: &str, passed: &GreDecap) -> Result<ExitCode> {
    let mut gre_decap = Command::new(&built.binary);
    gre_decap.arg(command).args(&passed.arguments);
    let error = gre_decap.exec();
    Err(process::not_started(
        &gre_decap,
        &error,
        "build it again with `cargo xtask build`",
    ))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn passed_on(line: &[&str]) -> Vec<OsString> {
        match Cli::try_parse_from(line).map(|cli| cli.task) {
            Ok(Task::Load(passed) | Task::Stats(passed)) => passed.arguments,
            _ => panic!("{line:?} is not understood"),
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn arguments_are_passed_on_as_they_are() {
        assert_eq!(passed_on(&["xtask", "load", "--config", "x"]), ["--config", "x"]);
        assert_eq!(
            passed_on(&["xtask", "stats", "--json", "--watch", "2"]),
            ["--json", "--watch", "2"]
        );
        assert_eq!(passed_on(&["xtask", "load", "--help"]), ["--help"]);
        assert!(passed_on(&["xtask", "load"]).is_empty());
    }
}
