//! What the eBPF build needs beyond a Rust compiler: the standard library's source, and bpf-linker.
//! Both are installed when they are missing, which is said beforehand.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    process::{self, cargo},
    workspace::Workspace,
};

/// The version that is built and used. Its default features load the LLVM of the Rust compiler itself.
const BPF_LINKER: &str = "0.10.3";
/// The version that runs the fuzz targets.
const CARGO_FUZZ: &str = "0.13.2";
/// The LLVM whose bitcode that version reads. The compiler must write the same.
const LLVM_MAJOR: u32 = 22;
/// Where Debian's `llvm-22-dev` has its library: Debian's compiler does not carry LLVM in its own folder.
const DEBIAN_LLVM: &str = "/usr/lib/llvm-22/lib";

const DEBIAN: &str = "or, on Debian, `apt install rustc-web cargo-web rust-web-src llvm-22-dev` and \
                      `PATH=/usr/bin:$PATH cargo xtask build`";

/// The Rust compiler in use.
pub(crate) struct Rustc {
    sysroot: PathBuf,
}

impl Rustc {
    /// Asks the compiler that Cargo would use in this workspace. One whose LLVM is not bpf-linker's is refused.
    pub(crate) fn find(workspace: &Workspace) -> Result<Self> {
        let remedy = format!("install Rust by rustup (https://rustup.rs), {DEBIAN}");
        let mut command = Command::new("rustc");
        let version = process::output(command.arg("-vV").current_dir(workspace.root()), &remedy)?;
        let llvm = llvm_major(&version).context("`rustc -vV` names no LLVM version: use rustup's Rust")?;
        if llvm != LLVM_MAJOR {
            bail!(
                "{} carries LLVM {llvm}, and bpf-linker {BPF_LINKER} reads that of LLVM {LLVM_MAJOR} only: use the \
                 toolchain of rust-toolchain.toml (no `cargo +…`, no RUSTUP_TOOLCHAIN, no `rustup override`)",
                version.lines().next().unwrap_or("rustc"),
            );
        }
        let mut command = Command::new("rustc");
        let sysroot = process::output(
            command.args(["--print", "sysroot"]).current_dir(workspace.root()),
            &remedy,
        )?;
        Ok(Self {
            sysroot: sysroot.trim_end().into(),
        })
    }

    /// The folder that holds the compiler's LLVM library, for bpf-linker to load; `None` leaves the search to it.
    pub(crate) fn llvm_folder(&self) -> Option<PathBuf> {
        [self.sysroot.join("lib"), DEBIAN_LLVM.into()]
            .into_iter()
            .find(|folder| holds_llvm(folder))
    }

    /// Makes sure of the standard library's source: no compiled `core` exists for eBPF.
    pub(crate) fn ensure_source(&self, workspace: &Workspace) -> Result<()> {
        let source = self.sysroot.join("lib/rustlib/src/rust/library");
        if source.is_dir() {
            return Ok(());
        }
        eprintln!("Installing rust-src, the standard library's source (some 3 MB: seconds)");
        let remedy = format!(
            "the source of Rust's standard library is needed in {}: run `rustup component add rust-src` where there \
             is a network, {DEBIAN}",
            source.display(),
        );
        let mut rustup = Command::new("rustup");
        process::run(
            rustup
                .args(["component", "add", "rust-src"])
                .current_dir(workspace.root()),
            &remedy,
        )?;
        if !source.is_dir() {
            bail!(
                "rustup takes rust-src for installed, but there is no {}: run `rustup component remove rust-src` and \
                 build again",
                source.display()
            );
        }
        Ok(())
    }
}

/// Makes sure of bpf-linker at its pinned version and returns its absolute path.
pub(crate) fn ensure_bpf_linker(workspace: &Workspace) -> Result<PathBuf> {
    let tools = workspace.tools();
    let linker = tools.join("bin/bpf-linker");
    if is_pinned(&linker) {
        return Ok(linker);
    }
    eprintln!(
        "Installing bpf-linker {BPF_LINKER} into {} (one to three minutes)",
        workspace.relative(&tools)
    );
    // Cargo does not see that the linker changes: what another one made must not be taken for up to date.
    remove(&workspace.bpf_target())?;
    install(workspace, "bpf-linker", BPF_LINKER)?;
    if !is_pinned(&linker) {
        bail!(
            "{} does not run as bpf-linker {BPF_LINKER}: remove it and build again",
            linker.display()
        );
    }
    Ok(linker)
}

/// Makes sure of cargo-fuzz at its pinned version and returns the folder it is in.
pub(crate) fn ensure_cargo_fuzz(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.tools().join("bin");
    let installed = folder.join("cargo-fuzz");
    if !is_version(&installed, CARGO_FUZZ) {
        eprintln!(
            "Installing cargo-fuzz {CARGO_FUZZ} into {} (a minute)",
            workspace.relative(&workspace.tools())
        );
        install(workspace, "cargo-fuzz", CARGO_FUZZ)?;
    }
    Ok(folder)
}

/// The search path for programs, with `folder` first.
pub(crate) fn path_with(folder: &Path) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.to_owned()).chain(env::split_paths(&path));
    env::join_paths(folders).with_context(|| format!("{} cannot stand in a search path", folder.display()))
}

/// Builds a tool and puts it among our own.
fn install(workspace: &Workspace, tool: &str, version: &str) -> Result<()> {
    let tools = workspace.tools();
    let building = tools.join("build");
    let mut install = cargo(workspace);
    install.args(["install", tool, "--version", version, "--locked", "--force", "--root"]);
    install.arg(&tools).arg("--target-dir").arg(&building);
    process::run(
        &mut install,
        "it is built once, with a C compiler and a network: build again with both",
    )?;
    remove(&building)
}

fn is_pinned(linker: &Path) -> bool {
    is_version(linker, BPF_LINKER)
}

fn is_version(tool: &Path, version: &str) -> bool {
    let asked = Command::new(tool).arg("--version").stderr(Stdio::null()).output();
    asked.is_ok_and(|answer| tool_version(&String::from_utf8_lossy(&answer.stdout)) == Some(version))
}

fn holds_llvm(folder: &Path) -> bool {
    let Ok(mut entries) = fs::read_dir(folder) else {
        return false;
    };
    entries.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("libLLVM")))
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}: remove it by hand", folder.display()))
        }
        _ => Ok(()),
    }
}

/// The version in what a tool answers to `--version`: "name version …".
fn tool_version(answer: &str) -> Option<&str> {
    answer.split_whitespace().nth(1)
}

/// The major version in the line "LLVM version: 22.1.2" of `rustc -vV`.
fn llvm_major(version: &str) -> Option<u32> {
    let llvm = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    llvm.split('.').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_of_a_tool() {
        assert_eq!(tool_version("bpf-linker 0.10.3\n"), Some("0.10.3"));
        assert_eq!(tool_version("bpf-linker 0.10.30 (abcdef)"), Some("0.10.30"));
        assert_eq!(tool_version("bpf-linker"), None);
        assert_eq!(tool_version(""), None);
    }

    #[test]
    fn llvm_of_the_compiler() {
        let rustc = "rustc 1.95.0 (59807616e 2026-04-14)\nbinary: rustc\nrelease: 1.95.0\nLLVM version: 22.1.2\n";
        assert_eq!(llvm_major(rustc), Some(22));
        assert_eq!(llvm_major("LLVM version: 23\n"), Some(23));
        assert_eq!(llvm_major("rustc 1.95.0\n"), None);
        assert_eq!(llvm_major("LLVM version: unknown\n"), None);
    }

    #[test]
    fn a_missing_linker_is_not_the_pinned_one() {
        assert!(!is_pinned(Path::new("/nonexistent/bpf-linker")));
    }
}
