//! `cargo xtask fuzz`: runs every fuzz target for a while. They are a crate of their own, outside of the workspace.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{
    process::{self, cargo},
    tools,
    workspace::Workspace,
};

/// The crate's folder. Below it is one file for each target, and inputs to begin with.
const FOLDER: &str = "tests/fuzz";

/// Runs each target for so many seconds. The first input that makes one panic ends it, and is named.
pub(crate) fn run(workspace: &Workspace, seconds: u32) -> Result<()> {
    let cargo_fuzz = tools::ensure_cargo_fuzz(workspace)?;
    let folder = workspace.root().join(FOLDER);
    for target in targets(&folder)? {
        // What is found to be new is kept, but not in the tree.
        let found = workspace.target().join("fuzz").join(&target);
        fs::create_dir_all(&found).with_context(|| format!("make {}", found.display()))?;
        let mut fuzz = cargo(workspace);
        fuzz.args(["fuzz", "run", "--release", "--sanitizer", "none", "--fuzz-dir"])
            .arg(&folder);
        fuzz.arg("--target-dir").arg(workspace.target().join("fuzz-build"));
        fuzz.arg(&target).arg(&found).arg(folder.join("seeds").join(&target));
        fuzz.arg("--").arg(format!("-max_total_time={seconds}"));
        fuzz.arg(format!("-artifact_prefix={}-", found.display()));
        fuzz.env("PATH", tools::path_with(&cargo_fuzz)?);
        // Coverage is asked of the compiler by flags that are not stable.
        fuzz.env("RUSTC_BOOTSTRAP", "1");
        eprintln!("Fuzzing {target} for {seconds} seconds");
        process::run(&mut fuzz, "the input is in the file named above: make it a test")?;
    }
    println!("no target failed");
    Ok(())
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
