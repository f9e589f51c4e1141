//! Debian's kernels: which there are, and where their parts lie once unpacked.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::archive::{Archive, Installed, Mirrors};

/// Suites with kernels that old or new systems run. One that is not there is left out, and said so.
const SUITES: [&str; 5] = [
    "bullseye-security",
    "bookworm-security",
    "trixie-security",
    "bookworm-backports",
    "trixie-backports",
];
const PREFIX: &str = "linux-image-";
/// Small, and with all that a virtual machine needs.
const FLAVOUR: &str = "-cloud-amd64";

/// Packages with parts of a kernel.
const PARTS: [&str; 3] = ["linux-base-", "linux-binary-", "linux-modules-"];
/// With what the names of all of them begin.
const ALL_PARTS: &str = "linux-";

/// What asks for the newest of all.
pub(super) const NEWEST: &str = "newest";

/// The kernels that can be had.
pub(super) struct Kernels {
    archive: Archive,
    folder: PathBuf,
    /// From the oldest to the newest.
    versions: Vec<Version>,
}

impl Kernels {
    pub(super) fn of(mirrors: &Mirrors, folder: &Path) -> Result<Self> {
        let archive = Archive::open(folder.join("kernels.apt"), mirrors, &SUITES, Installed::None)?;
        let names = archive.names(PREFIX)?;
        let mut versions: Vec<Version> = names.iter().filter_map(|name| Version::of_package(name)).collect();
        versions.sort();
        Ok(Self {
            archive,
            folder: folder.join("kernels"),
            versions,
        })
    }

    /// The newest kernel whose version begins with `wanted` (`6.12`), or the newest of all for `newest`.
    pub(super) fn find(&self, wanted: &str) -> Option<&Version> {
        let mut newest_first = self.versions.iter().rev();
        newest_first.find(|version| wanted == NEWEST || version.begins_with(wanted))
    }

    /// The series there are, for messages: `5.10, 6.1, …`.
    pub(super) fn series(&self) -> String {
        let mut series: Vec<String> = self.versions.iter().map(Version::series).collect();
        series.dedup();
        series.join(", ")
    }

    /// Fetches a kernel unless it is there already.
    pub(super) fn fetch(&self, version: &Version) -> Result<Kernel> {
        let image = version.package();
        let folder = self.folder.join(&version.text);
        fs::create_dir_all(&self.folder).with_context(|| format!("make {}", self.folder.display()))?;
        if !folder.is_dir() {
            // From 6.19 on the image's package is empty, and names those with its parts.
            let mut parts = self.archive.depends(&image)?;
            let there = self.archive.names(ALL_PARTS)?;
            // An image may outlive packages beside it, and be whole all the same: what it lacks shows once it is unpacked.
            parts.retain(|name| PARTS.iter().any(|part| name.starts_with(part)) && there.contains(name));
            parts.push(image.clone());
            self.archive.unpack(&parts, &folder)?;
        }
        Kernel::in_folder(&folder, &format!("{}{FLAVOUR}", version.text))
            .with_context(|| format!("package {image}: remove {} and try again", folder.display()))
    }
}

/// A kernel on disk.
pub(super) struct Kernel {
    /// The compressed image, as boot loaders take it.
    pub(super) image: PathBuf,
    /// The folder of its modules.
    pub(super) modules: PathBuf,
}

impl Kernel {
    fn in_folder(folder: &Path, release: &str) -> Result<Self> {
        let first = |candidates: [PathBuf; 2]| {
            let tried = candidates.clone();
            candidates
                .into_iter()
                .find(|path| path.exists())
                .with_context(|| format!("holds neither {} nor {}", tried[0].display(), tried[1].display()))
        };
        Ok(Self {
            image: first([
                folder.join(format!("boot/vmlinuz-{release}")),
                folder.join(format!("usr/lib/modules/{release}/vmlinuz")),
            ])?,
            modules: first([
                folder.join(format!("usr/lib/modules/{release}")),
                folder.join(format!("lib/modules/{release}")),
            ])?,
        })
    }
}

/// A kernel's version, as in its package's name: `6.12.117+deb13`. The order is that of their age.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    /// All numbers in it.
    numbers: Vec<u32>,
    text: String,
}

impl Version {
    fn of_package(name: &str) -> Option<Self> {
        let text = name.strip_prefix(PREFIX)?.strip_suffix(FLAVOUR)?;
        let numbers: Vec<u32> = text
            .split(|letter: char| !letter.is_ascii_digit())
            .filter_map(|number| number.parse().ok())
            .collect();
        // A shorter one ("6.12") is a metapackage.
        let begins_right = text.starts_with(|first: char| first.is_ascii_digit());
        (begins_right && numbers.len() >= 3).then(|| Self {
            numbers,
            text: text.to_owned(),
        })
    }

    fn package(&self) -> String {
        format!("{PREFIX}{}{FLAVOUR}", self.text)
    }

    /// Whether it is of this series or release: 6.1.5 is a 6.1, and 6.12 is none.
    fn begins_with(&self, wanted: &str) -> bool {
        let rest = self.text.strip_prefix(wanted);
        rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
    }

    /// Its first two numbers.
    pub(super) fn series(&self) -> String {
        format!("{}.{}", self.numbers[0], self.numbers[1])
    }

    /// Whether it is older than the series with these first two numbers.
    pub(super) fn is_before(&self, series: [u32; 2]) -> bool {
        self.numbers[..2] < series[..]
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether kernels of this architecture are at hand.
pub(super) fn ensure_architecture() -> Result<()> {
    if !cfg!(target_arch = "x86_64") {
        bail!("virtual machines are x86-64 only: run this on such a machine");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::of_package(&format!("linux-image-{text}-cloud-amd64")).unwrap()
    }

    #[test]
    fn versions_are_those_of_packages_with_a_kernel() {
        for other in [
            "linux-image-6.12-cloud-amd64",
            "linux-image-6.12.9+deb13-amd64",
            "linux-image-6.12.9+deb13-cloud-amd64-dbg",
            "linux-image-6.12.9+deb13-cloud-amd64-unsigned",
            "linux-image-cloud-amd64",
        ] {
            assert_eq!(Version::of_package(other), None, "{other}");
        }
        assert_eq!(version("6.1.0-56").package(), "linux-image-6.1.0-56-cloud-amd64");
    }

    #[test]
    fn versions_are_ordered_by_their_numbers() {
        let order = [
            "5.10.0-46",
            "6.1.0-9",
            "6.1.0-56",
            "6.12.9+deb12",
            "6.12.117+deb13",
            "7.3.4+deb13",
        ];
        assert!(order.map(version).is_sorted());
    }

    #[test]
    fn a_series_is_no_prefix_of_digits() {
        assert!(version("6.1.0-56").begins_with("6.1"));
        assert!(!version("6.12.117+deb13").begins_with("6.1"));
        assert!(version("6.12.117+deb13").begins_with("6.12.117+deb13"));
        assert_eq!(version("6.12.117+deb13").series(), "6.12");
        assert!(version("5.10.0-46").is_before([5, 18]) && !version("6.1.0-56").is_before([5, 18]));
    }
}
