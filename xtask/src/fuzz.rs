//! `cargo xtask fuzz`: runs all fuzz targets for a while, side by side. They are a crate of their own, outside of the workspace.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    process::{self, cargo},
    tools,
    workspace::Workspace,
};

/// The crate's folder. Below it is one file for each target, and inputs to begin with.
const FOLDER: &str = "tests/fuzz";
/// Lines that are shown of what a target wrote before it failed.
const LAST_LINES: usize = 40;

/// Runs each target for so many seconds. The first input that makes one panic ends it, and is named.
pub(crate) fn run(workspace: &Workspace, seconds: u32) -> Result<()> {
    let fuzzer = Fuzzer {
        workspace,
        cargo_fuzz: tools::ensure_cargo_fuzz(workspace)?,
        folder: workspace.root().join(FOLDER),
    };
    process::run(&mut fuzzer.command("build")?, "see the compiler's message above")?;
    let targets = targets(&fuzzer.folder)?;
    eprintln!("Fuzzing {} for {seconds} seconds", targets.join(", "));
    let running = targets
        .iter()
        .map(|target| fuzzer.start(target, seconds))
        .collect::<Result<Vec<_>>>()?;
    let mut failed = Vec::new();
    for mut target in running {
        let status = target.child.wait().context("wait for a fuzz target")?;
        let written = fs::read(&target.log).with_context(|| format!("read {}", target.log.display()))?;
        let written = String::from_utf8_lossy(&written);
        let lines: Vec<&str> = written.lines().collect();
        if status.success() {
            println!("{}: {}", target.name, lines.last().unwrap_or(&""));
        } else {
            let first = lines.len().saturating_sub(LAST_LINES);
            eprintln!("{}\n{} ended with {status}", lines[first..].join("\n"), target.name);
            failed.push(target.name);
        }
    }
    if !failed.is_empty() {
        bail!(
            "{} failed: the input is in the file named above: make it a test",
            failed.join(", ")
        );
    }
    println!("no target failed");
    Ok(())
}

struct Fuzzer<'a> {
    workspace: &'a Workspace,
    cargo_fuzz: PathBuf,
    folder: PathBuf,
}

/// A target that runs, killed when this is dropped.
struct Target<'a> {
    name: &'a str,
    child: Child,
    log: PathBuf,
}

impl Fuzzer<'_> {
    fn command(&self, command: &str) -> Result<Command> {
        let mut fuzz = cargo(self.workspace);
        fuzz.args(["fuzz", command, "--release", "--sanitizer", "none", "--fuzz-dir"])
            .arg(&self.folder);
        fuzz.arg("--target-dir").arg(self.workspace.target().join("fuzz-build"));
        fuzz.env("PATH", tools::path_with(&self.cargo_fuzz)?);
        // Coverage is asked of the compiler by flags that are not stable.
        fuzz.env("RUSTC_BOOTSTRAP", "1");
        Ok(fuzz)
    }

    fn start<'a>(&self, name: &'a str, seconds: u32) -> Result<Target<'a>> {
        // What is found to be new is kept, but not in the tree.
        let found = self.workspace.target().join("fuzz").join(name);
        fs::create_dir_all(&found).with_context(|| format!("make {}", found.display()))?;
        let log = found.with_extension("log");
        let file = File::create(&log).with_context(|| format!("make {}", log.display()))?;
        let mut fuzz = self.command("run")?;
        fuzz.arg(name).arg(&found).arg(self.folder.join("seeds").join(name));
        fuzz.arg("--").arg(format!("-max_total_time={seconds}"));
        fuzz.arg(format!("-artifact_prefix={}-", found.display()));
        fuzz.stdout(file.try_clone().context("duplicate a file")?).stderr(file);
        let child = fuzz
            .spawn()
            .map_err(|error| process::not_started(&fuzz, &error, "install Rust by rustup (https://rustup.rs)"))?;
        Ok(Target { name, child, log })
    }
}

impl Drop for Target<'_> {
    fn drop(&mut self) {
        // Most have ended.
        let _killed = self.child.kill();
    }
}

/// The names of the targets.
fn targets(folder: &Path) -> Result<Vec<String>> {
    let folder: PathBuf = folder.join("targets");
    let entries = fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}
