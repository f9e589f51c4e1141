//! `cargo xtask miri`: the tests of what the kernel and the host share, interpreted by Miri, which sees undefined behaviour that a
//! compiled test may survive.

use std::process::{Command, Stdio};

use anyhow::Result;

use crate::{process, workspace::Workspace};

/// Miri comes with nightly compilers only, and not with each. Always the same one, so that a failure is this project's.
const TOOLCHAIN: &str = "nightly-2026-05-20";
/// What is needed of it, as `rustup component list` begins their names: Miri compiles the standard library for itself.
const COMPONENTS: [&str; 2] = ["miri", "rust-src"];
/// It is some hundred times slower than compiled code: so many cases of each property are interpreted.
const CASES: &str = "4";

/// Runs the tests, or says that Miri is not to be had.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    if !is_there() && !install() {
        println!(
            "SKIPPED Miri: rustup cannot fetch {TOOLCHAIN} with the components {}: run `{}` where there is a network",
            COMPONENTS.join(" and "),
            process::line(&installation()),
        );
        return Ok(());
    }
    let mut miri = rustup();
    miri.args(["run", TOOLCHAIN, "cargo", "miri", "test"]);
    miri.args(["--locked", "--package", "gre-common", "--lib"]);
    miri.arg("--target-dir").arg(workspace.target().join("miri"));
    miri.current_dir(workspace.root());
    // The standard library, which it builds for itself, else goes into the user's home.
    miri.env("XDG_CACHE_HOME", workspace.tools().join("miri"));
    // Proptest asks for the folder it is in.
    miri.env("MIRIFLAGS", "-Zmiri-disable-isolation");
    miri.env("PROPTEST_CASES", CASES);
    process::run(&mut miri, "Miri says above what is undefined, or which test failed")
}

fn rustup() -> Command {
    let mut command = Command::new("rustup");
    // What Cargo has set for us names its own toolchain.
    for variable in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(variable);
    }
    command
}

fn is_there() -> bool {
    let mut list = rustup();
    list.args(["component", "list", "--installed", "--toolchain", TOOLCHAIN]);
    // Where the toolchain is not there it is an error, and where rustup is not, too.
    let Ok(listed) = list.stderr(Stdio::null()).output() else {
        return false;
    };
    let listed = String::from_utf8_lossy(&listed.stdout);
    COMPONENTS
        .iter()
        .all(|component| listed.lines().any(|name| name.starts_with(component)))
}

fn installation() -> Command {
    let mut install = rustup();
    install.args(["toolchain", "install", TOOLCHAIN, "--profile", "minimal"]);
    install.arg("--no-self-update");
    for component in COMPONENTS {
        install.args(["--component", component]);
    }
    install
}

fn install() -> bool {
    eprintln!("Installing Rust {TOOLCHAIN} with Miri by rustup (a minute)");
    installation().status().is_ok_and(|status| status.success()) && is_there()
}
