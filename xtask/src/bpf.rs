//! Builds the eBPF object.
//!
//! The compiler is the pinned stable one. RUSTC_BOOTSTRAP, set for this one call of Cargo, lets it build `core` for a
//! target that has none compiled. aya-build is not used: it overwrites the compiler flags, so it cannot set the CPU.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    process::{self, cargo},
    tools::{self, Rustc},
    workspace::Workspace,
};

const PACKAGE: &str = "gre-ebpf";
/// Of the workspace's Cargo.toml.
const PROFILE: &str = "bpf";
/// eBPF has the byte order of the machine it runs on.
const TARGET: &str = if cfg!(target_endian = "big") {
    "bpfeb-unknown-none"
} else {
    "bpfel-unknown-none"
};

/// The programs around the measured one, see `gre-ebpf/bench`.
const BENCH: &str = "gre-bench";

/// The feature of a build without what a configuration can switch on.
const BARE: &str = "bare";

/// Makes sure of the tools, builds the object for machines like this one, and returns its absolute path.
pub(crate) fn build(workspace: &Workspace) -> Result<PathBuf> {
    build_object(workspace, PACKAGE, &[], &workspace.bpf_target())
}

/// The same for what the benchmark needs beside it.
pub(crate) fn build_bench(workspace: &Workspace) -> Result<PathBuf> {
    build_object(workspace, BENCH, &[], &workspace.bpf_target())
}

/// The same for the program that the benchmark holds against the one with switches. It has the name of that one, so another folder.
pub(crate) fn build_bare(workspace: &Workspace) -> Result<PathBuf> {
    build_object(
        workspace,
        PACKAGE,
        &["--features", BARE],
        &workspace.bpf_target().join(BARE),
    )
}

/// Builds a program of the package into the folder `target`.
fn build_object(workspace: &Workspace, name: &str, features: &[&str], target: &Path) -> Result<PathBuf> {
    let rustc = Rustc::find(workspace)?;
    rustc.ensure_source(workspace)?;
    let linker = tools::ensure_bpf_linker(workspace)?;

    let mut build = cargo(workspace);
    build.args([
        "build",
        "--package",
        PACKAGE,
        "--bin",
        name,
        "--profile",
        PROFILE,
        "--target",
        TARGET,
        "-Z",
        "build-std=core",
    ]);
    build.args(features).arg("--target-dir").arg(target);
    build
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags(&linker));
    if let Some(llvm) = rustc.llvm_folder() {
        build.env("LD_LIBRARY_PATH", first(llvm, env::var_os("LD_LIBRARY_PATH"))?);
    }
    process::run(&mut build, "see the compiler's message above")?;

    let object = target.join(TARGET).join(PROFILE).join(name);
    if !object.is_file() {
        bail!(
            "`{}` made no {}: see Cargo's message above",
            process::line(&build),
            object.display()
        );
    }
    Ok(object)
}

/// The compiler's flags, in the encoding of CARGO_ENCODED_RUSTFLAGS, which allows blanks in a path.
fn flags(linker: &Path) -> OsString {
    let mut flags = OsString::from("-Clinker=");
    flags.push(linker);
    // 32-bit arithmetic and jumps, which kernels know from 5.1 on.
    flags.push("\x1f-Ctarget-cpu=v3\x1f-Clink-arg=--btf");
    // Where HAVE_EFFICIENT_UNALIGNED_ACCESS is set, the verifier allows misaligned access to packets: headers are read
    // by the word. Elsewhere it wants them read by the byte.
    if cfg!(any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "s390x",
        target_arch = "powerpc64"
    )) {
        flags.push("\x1f-Clink-arg=--cpu-features=+allows-misaligned-mem-access");
    }
    flags.push(format!("\x1f--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH));
    flags
}

/// A search path that begins with `folder`.
fn first(folder: PathBuf, then: Option<OsString>) -> Result<OsString> {
    let then = then.unwrap_or_default();
    let rest = env::split_paths(&then).filter(|path| !path.as_os_str().is_empty());
    env::join_paths(std::iter::once(folder.clone()).chain(rest))
        .with_context(|| format!("{} cannot stand in a search path: move the toolchain", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_keep_a_path_with_blanks_whole() {
        let flags = flags(Path::new("/a folder/bpf-linker"));
        let flags: Vec<&str> = flags.to_str().unwrap().split('\x1f').collect();
        assert_eq!(flags[0], "-Clinker=/a folder/bpf-linker");
        assert!(flags.iter().all(|flag| flag.starts_with('-')), "{flags:?}");
        assert!(flags.contains(&"-Ctarget-cpu=v3"));
    }

    #[test]
    fn search_path_begins_with_the_folder() {
        assert_eq!(first("/llvm".into(), None).unwrap(), "/llvm");
        assert_eq!(first("/llvm".into(), Some("/a:/b".into())).unwrap(), "/llvm:/a:/b");
        assert_eq!(first("/llvm".into(), Some("".into())).unwrap(), "/llvm");
        assert!(first("/ll:vm".into(), None).is_err());
    }
}
