//! What a virtual machine finds in its memory when it starts. It has no disk.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use gre_tests::guest::{PLAN, Plan, Program};

use super::{cpio::Archive, libraries, modules, programs::Programs};

/// What the tests' networks are made of. Where a kernel has one of them built in, that is as good.
const MODULES: [&str; 11] = [
    "tun",
    "veth",
    "8021q",
    "bridge",
    "macvlan",
    "ip_gre",
    "ip6_gre",
    "virtio_pci",
    "virtio_net",
    "sch_ingress",
    "cls_bpf",
];
/// Where programs lie inside.
const BIN: &str = "/usr/bin";

/// Programs of this system that the tests run.
const TOOLS: [&str; 8] = ["find", "ip", "readlink", "setpriv", "sh", "sleep", "tc", "unshare"];

/// What goes into it, beside the modules of a kernel.
#[derive(Clone, Copy)]
pub(super) struct Contents<'a> {
    pub(super) gre_decap: &'a Path,
    pub(super) programs: &'a Programs,
    /// Variables of the programs' environment.
    pub(super) variables: &'a [(String, String)],
    /// Files, which programs find by variables of these names.
    pub(super) files: &'a [(&'a str, PathBuf)],
}

/// Packs `contents`, the modules of a kernel, and a plan to run all programs with `arguments`.
pub(super) fn pack(kernel_modules: &Path, contents: &Contents<'_>, arguments: &[String]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    let mut plan = Plan::default();
    for module in modules::in_order(kernel_modules, &MODULES)? {
        let path = format!("/modules/{}.ko", module.name);
        archive.add(&path, &module.contents)?;
        plan.modules.push(path);
    }
    add_program(&mut archive, &contents.programs.init, "/init")?;
    for tool in TOOLS {
        add_program(&mut archive, &find(tool)?, &format!("{BIN}/{tool}"))?;
    }
    let inside = format!("{BIN}/gre-decap");
    add_program(&mut archive, contents.gre_decap, &inside)?;
    let mut environment = environment(&inside, contents.variables);
    for (variable, file) in contents.files {
        let path = format!("/files/{variable}");
        let bytes = fs::read(file).with_context(|| format!("read {}", file.display()))?;
        archive.add(&path, &bytes)?;
        environment.push(((*variable).to_owned(), path));
    }
    for (name, file) in &contents.programs.tests {
        let path = format!("/tests/{name}");
        add_program(&mut archive, file, &path)?;
        plan.programs.push(Program {
            name: name.clone(),
            path,
            arguments: arguments.to_vec(),
            environment: environment.clone(),
        });
    }
    archive.add(PLAN, &serde_json::to_vec(&plan).context("the plan as JSON")?)?;
    archive.finish()
}

/// What the tests are told.
fn environment(gre_decap: &str, more: &[(String, String)]) -> Vec<(String, String)> {
    let own = [
        ("PATH", BIN),
        ("GRE_DECAP_BINARY", gre_decap),
        ("GRE_TESTS_MUST_RUN", "1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    own.into_iter().chain(more.iter().cloned()).collect()
}

/// Adds a program, and the libraries that it links to.
fn add_program(archive: &mut Archive, file: &Path, inside: &str) -> Result<()> {
    archive.add(
        inside,
        &fs::read(file).with_context(|| format!("read {}", file.display()))?,
    )?;
    for library in libraries::of(file)? {
        archive.add_same(&library)?;
    }
    Ok(())
}

/// Where this system has a program.
fn find(program: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // A user's path may lack the administrator's folders.
    let folders = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .with_context(|| format!("`{program}` is missing: install it"))
}
