//! The programs that run in the virtual machine: built like the product, since emulation makes slow ones slower.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{
    build::Built,
    process::{self, cargo},
    workspace::Workspace,
};

/// The package with the tests and the init.
const PACKAGE: &str = "gre-tests";
/// The init's name there.
const INIT: &str = "guest-init";

/// Where they were built.
pub(super) struct Programs {
    /// The first process.
    pub(super) init: PathBuf,
    /// Test programs by name.
    pub(super) tests: BTreeMap<String, PathBuf>,
}

/// Builds the init and the test programs `tests`.
pub(super) fn build(workspace: &Workspace, built: &Built, tests: &[&str]) -> Result<Programs> {
    let mut build = cargo(workspace);
    build.args([
        "test",
        "--no-run",
        "--release",
        "--package",
        PACKAGE,
        "--message-format=json-render-diagnostics",
    ]);
    for test in tests {
        build.args(["--test", test]);
    }
    build.arg("--target-dir").arg(workspace.target());
    build.env("GRE_DECAP_OBJECT", &built.object);
    let mut made = artifacts(&mut build)?;
    let mut take = |name: &str| {
        made.remove(name)
            .with_context(|| format!("Cargo made no program {name}"))
    };
    let tests = tests
        .iter()
        .map(|name| Ok(((*name).to_owned(), take(name)?)))
        .collect::<Result<_>>()?;
    // Cargo builds a package's binaries for its integration tests to run, and does not tell of them.
    let init = workspace.target().join("release").join(INIT);
    if !init.is_file() {
        bail!(
            "Cargo put {INIT} elsewhere than {}: unset CARGO_BUILD_TARGET and `build.target`",
            init.display()
        );
    }
    Ok(Programs { init, tests })
}

/// A line of Cargo's that tells of a program.
#[derive(Deserialize)]
struct Artifact {
    target: Target,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Runs Cargo, and gives the programs that it made or found up to date.
fn artifacts(build: &mut Command) -> Result<BTreeMap<String, PathBuf>> {
    let lines = process::output(build.stdin(Stdio::null()), "see the compiler's message above")?;
    // Other lines tell of something else.
    let artifacts = lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Artifact>(line).ok());
    Ok(artifacts
        .filter_map(|artifact| Some((artifact.target.name, artifact.executable?)))
        .collect())
}
