//! `cargo xtask miri`: the tests of what the kernel and the host share, interpreted by Miri, which sees undefined behaviour that a
//! compiled test may survive.

use std::process::{Command, Stdio};

use anyhow::Result;

use crate::{process, workspace::Workspace};

/// Miri comes with nightly compilers only.
const TOOLCHAIN: &str = "nightly";
/// It is some hundred times slower than compiled code: so many cases of each property are interpreted.
const CASES: &str = "8";

/// Runs the tests, or says that Miri is not to be had.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    if !is_there() && !install() {
        println!(
            "SKIPPED Miri: it is not there, and rustup cannot fetch it: `rustup toolchain install {TOOLCHAIN} --component miri` \
             where there is a network"
        );
        return Ok(());
    }
    let mut miri = miri();
    miri.args(["test", "--locked", "--package", "gre-common", "--lib"]);
    miri.arg("--target-dir").arg(workspace.target().join("miri"));
    miri.current_dir(workspace.root());
    // The standard library, which it builds for itself, else goes into the user's home.
    miri.env("XDG_CACHE_HOME", workspace.tools().join("miri"));
    // Proptest asks for the folder it is in.
    miri.env("MIRIFLAGS", "-Zmiri-disable-isolation");
    miri.env("PROPTEST_CASES", CASES);
    process::run(&mut miri, "Miri says above what is undefined, or which test failed")
}

fn miri() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", TOOLCHAIN, "cargo", "miri"]);
    // What Cargo has set for us names its own toolchain.
    for variable in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(variable);
    }
    command
}

fn is_there() -> bool {
    let asked = miri()
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    asked.is_ok_and(|status| status.success())
}

fn install() -> bool {
    eprintln!("Installing Rust {TOOLCHAIN} with Miri by rustup (a minute)");
    let mut rustup = Command::new("rustup");
    rustup.args([
        "toolchain",
        "install",
        TOOLCHAIN,
        "--profile",
        "minimal",
        "--no-self-update",
    ]);
    rustup.args(["--component", "miri", "--component", "rust-src"]);
    rustup.status().is_ok_and(|status| status.success()) && is_there()
}
