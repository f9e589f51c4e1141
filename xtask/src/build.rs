//! Builds the release binary with the eBPF object inside. What is up to date is left alone: that is Cargo's to know.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::{
    bpf,
    process::{self, cargo},
    workspace::Workspace,
};

/// What a build makes. The paths are absolute.
pub(crate) struct Built {
    /// The eBPF program, an ELF object.
    pub(crate) object: PathBuf,
    /// `gre-decap` with the object inside.
    pub(crate) binary: PathBuf,
}

/// Builds the object and the binary, with the tools they need.
pub(crate) fn build(workspace: &Workspace) -> Result<Built> {
    let object = bpf::build(workspace)?;
    let target = workspace.target();
    let mut build = cargo(workspace);
    build
        .args([
            "build",
            "--package",
            "gre-user",
            "--bin",
            "gre-decap",
            "--release",
            "--target-dir",
        ])
        .arg(&target);
    process::run(
        build.env("GRE_DECAP_OBJECT", &object),
        "see the compiler's message above",
    )?;

    let binary = target.join("release/gre-decap");
    if !binary.is_file() {
        bail!(
            "Cargo put gre-decap elsewhere than {}: unset CARGO_BUILD_TARGET and `build.target`",
            binary.display()
        );
    }
    Ok(Built { object, binary })
}
