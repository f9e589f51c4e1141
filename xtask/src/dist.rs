//! `cargo xtask dist`: packs what goes onto other hosts into one archive, the same for the same files.

use std::{
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use object::{Endianness, elf::FileHeader64, read::elf::FileHeader as _};

use crate::{build::Built, process, workspace::Workspace};

/// What is packed beside the binary, as it lies in the workspace.
const FILES: [&str; 6] = [
    "README.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "dist/gre-decap.service",
    "dist/grafana-dashboard.json",
    "dist/prometheus-rules.yml",
];

/// Packs the archive, and says where it is and which hosts it is for.
pub(crate) fn run(workspace: &Workspace, built: &Built) -> Result<()> {
    let archive = pack(workspace, &built.binary, &workspace.target().join("dist"))?;
    let needs = glibc(&built.binary)?.map_or_else(String::new, |version| format!(" with glibc {version} or newer"));
    println!("{}: for {ARCH} hosts{needs}", workspace.relative(&archive));
    Ok(())
}

/// Packs the files of the workspace and `binary` into an archive in `folder`, whose content is one folder.
fn pack(workspace: &Workspace, binary: &Path, folder: &Path) -> Result<PathBuf> {
    let name = format!("gre-decap-{}-{ARCH}", env!("CARGO_PKG_VERSION"));
    let content = folder.join(&name);
    // What an earlier run has left.
    match fs::remove_dir_all(&content) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}: remove it by hand", content.display()));
        }
        _ => {}
    }
    fs::create_dir_all(&content).with_context(|| format!("cannot make {}", content.display()))?;
    let files = FILES.map(|file| workspace.root().join(file));
    for file in files.iter().map(PathBuf::as_path).chain([binary]) {
        let name = file.file_name().context("a file without a name")?;
        fs::copy(file, content.join(name)).with_context(|| format!("cannot copy {}", file.display()))?;
    }

    let path = folder.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    // Neither who packs it nor when shows in it.
    tar.args([
        "--create",
        "--sort=name",
        "--owner=root:0",
        "--group=root:0",
        "--mtime=@0",
    ])
    .args(["--mode=u=rwX,go=rX", "--use-compress-program=gzip -n", "--directory"])
    .arg(folder)
    .arg("--file")
    .arg(&path)
    .arg(&name);
    process::run(&mut tar, "install GNU tar and gzip")?;
    fs::remove_dir_all(&content).with_context(|| format!("cannot remove {}", content.display()))?;
    Ok(path)
}

/// The newest version of glibc that a binary asks for; none if it asks for none.
fn glibc(binary: &Path) -> Result<Option<String>> {
    let data = fs::read(binary).with_context(|| format!("cannot read {}", binary.display()))?;
    let newest = newest_glibc(&data).with_context(|| format!("{}: cannot be read as 64-bit ELF", binary.display()))?;
    let newest = newest.map(|numbers| numbers.iter().map(u32::to_string).collect::<Vec<_>>().join("."));
    Ok(newest)
}

/// From the versions of symbols that a binary needs.
fn newest_glibc(data: &[u8]) -> object::Result<Option<Vec<u32>>> {
    let header = FileHeader64::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, data)?;
    let Some((mut needs, strings)) = sections.gnu_verneed(endian, data)? else {
        return Ok(None);
    };
    let strings = sections.strings(endian, data, strings)?;
    let mut newest = None;
    while let Some((_, mut versions)) = needs.next()? {
        while let Some(version) = versions.next()? {
            newest = newest.max(numbers(version.name(endian, strings)?));
        }
    }
    Ok(newest)
}

/// "GLIBC_2.34" as numbers, which compare as versions do.
fn numbers(name: &[u8]) -> Option<Vec<u32>> {
    let version = str::from_utf8(name).ok()?.strip_prefix("GLIBC_")?;
    version.split('.').map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::{env, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn an_archive_has_the_files_and_is_the_same_again() {
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("gre-decap");
        fs::write(&binary, "the binary").unwrap();
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o700)).unwrap();
        let workspace = Workspace::here();
        let archive = pack(&workspace, &binary, folder.path()).unwrap();
        let first = fs::read(&archive).unwrap();
        assert_eq!(pack(&workspace, &binary, folder.path()).unwrap(), archive);
        assert_eq!(fs::read(&archive).unwrap(), first);

        let mut unpack = Command::new("tar");
        unpack
            .arg("--extract")
            .arg("--file")
            .arg(&archive)
            .arg("--directory")
            .arg(folder.path());
        process::run(&mut unpack, "install tar").unwrap();
        let unpacked = archive.with_extension("").with_extension("");
        let mut names: Vec<_> = fs::read_dir(&unpacked)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        let expected = [
            "LICENSE-APACHE",
            "LICENSE-MIT",
            "README.md",
            "grafana-dashboard.json",
            "gre-decap",
            "gre-decap.service",
            "prometheus-rules.yml",
        ];
        assert_eq!(names, expected);
        let installed = unpacked.join("gre-decap");
        assert_eq!(fs::read(&installed).unwrap(), b"the binary");
        assert_eq!(fs::metadata(installed).unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn the_glibc_that_is_needed() {
        let this = glibc(&env::current_exe().unwrap()).unwrap();
        assert!(this.is_none_or(|version| version.starts_with("2.")));
        assert!(glibc(&Workspace::here().root().join("README.md")).is_err());
        assert!(numbers(b"GLIBC_2.34") > numbers(b"GLIBC_2.4") && numbers(b"GLIBC_2.4") > numbers(b"GCC_3.0"));
    }
}
