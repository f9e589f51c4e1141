//! Puts the eBPF object where `include_bytes_aligned!` finds it, as `$OUT_DIR/gre-ebpf.o`.
//!
//! The environment variable GRE_DECAP_OBJECT holds its absolute path: `cargo xtask build` builds the object and sets it.
//! Without it the file is empty, so that tests and lints of the loader need no BPF toolchain.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

const VARIABLE: &str = "GRE_DECAP_OBJECT";
/// e_machine of an ELF header for eBPF, which stands at this offset in the header.
const EM_BPF: u16 = 247;
const E_MACHINE: usize = 18;

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    match embed() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("cargo::error={message}");
            ExitCode::FAILURE
        }
    }
}

fn embed() -> Result<(), String> {
    let object = match env::var_os(VARIABLE) {
        Some(path) => read(Path::new(&path))?,
        None => Vec::new(),
    };
    let out = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: run this by Cargo")?;
    let embedded = PathBuf::from(out).join("gre-ebpf.o");
    fs::write(&embedded, object).map_err(|error| format!("cannot write {}: {error}", embedded.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let remedy = "build it with `cargo xtask build`, or unset the variable to build without it";
    let complain = |what: &str| Err(format!("{VARIABLE}: {} {what}: {remedy}", path.display()));
    if !path.is_absolute() {
        return complain("is not an absolute path");
    }
    println!("cargo::rerun-if-changed={}", path.display());
    let object = match fs::read(path) {
        Ok(object) => object,
        Err(error) => return complain(&format!("cannot be read ({error})")),
    };
    // A program for this very machine, built from the same package, is easily taken for it.
    let machine = object.get(E_MACHINE..).and_then(|rest| rest.first_chunk().copied());
    if !object.starts_with(b"\x7fELF") || machine.map(u16::from_ne_bytes) != Some(EM_BPF) {
        return complain("is no eBPF object for this machine's byte order");
    }
    Ok(object)
}
