//! The folder in the BPF filesystem that holds the running state. The kernel is its only store.
//!
//! ```text
//! ROOT/links/INTERFACE        the XDP link of an interface: while it is pinned, the program stays attached
//! ROOT/pass/INTERFACE         the same of an interface that frames are redirected to, with a program that passes everything
//! ROOT/egress/INTERFACE       the TCX link of the way out of an interface, with the program that lowers the MSS; without TCX a
//!                             symbolic link that says where its filter is
//! ROOT/generation-N/program   a loaded program
//! ROOT/generation-N/egress    the program for ways out, if there is any
//! ROOT/generation-N/MAP       its maps, named as in `gre_common::maps`, and those of `about`
//! ROOT/generation-N/xdp_…     links of the programs that count on tracepoints
//! ROOT/current                symbolic link to the generation that is in force
//! ```
//!
//! A generation is pinned whole before `current` is pointed to it, by a rename: whoever reads sees the old one or the new
//! one. What a killed load leaves behind (a generation that `current` does not name, a link to its program) is found and
//! cleared by the next.

mod above;
mod bpffs;
mod generation;
mod lock;
mod name;

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

pub use self::generation::Generation;
pub use self::lock::{Locked, Residence};

/// Where the state is pinned unless `--root` says otherwise.
pub const DEFAULT_ROOT: &str = "/sys/fs/bpf/gre-decap";

const LINKS: &str = "links";
const PASS: &str = "pass";
const EGRESS: &str = "egress";
const CURRENT: &str = "current";
/// A new symbolic link, before the rename.
const NEXT: &str = "next";

/// A state folder, which may not exist.
#[derive(Clone, Debug)]
pub struct Root {
    path: PathBuf,
}

impl Root {
    /// The folder at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether anything is there: a generation in force, or what a killed load has left.
    ///
    /// # Errors
    ///
    /// If no BPF filesystem is mounted there, or the caller may not look.
    pub fn exists(&self) -> Result<bool> {
        bpffs::check(&self.path)?;
        match fs::read_dir(&self.path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.unusable(&error)),
        }
    }

    /// The generation in force, if there is one.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read, or `current` is none of ours.
    pub fn current(&self) -> Result<Option<Generation>> {
        let link = self.path.join(CURRENT);
        match fs::read_link(&link) {
            Ok(target) => Generation::named(&self.path, &target).map(Some).with_context(|| {
                format!(
                    "{}: points to {}, which gre-decap never makes; remove it, or choose another --root",
                    link.display(),
                    target.display()
                )
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("{}: cannot be read", link.display())),
        }
    }

    /// The interfaces that have a pinned link, with its path, in the order of their names.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn links(&self) -> Result<Vec<(String, PathBuf)>> {
        self.links_in(LINKS)
    }

    /// The folder that the links are pinned in. It stays for as long as anything is loaded.
    pub fn links_folder(&self) -> PathBuf {
        self.path.join(LINKS)
    }

    /// Where the link of an interface is pinned.
    pub fn link_path(&self, interface: &str) -> PathBuf {
        self.path.join(LINKS).join(name::encode(interface))
    }

    /// The same as [`Root::links`] of the program that passes everything.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn pass_links(&self) -> Result<Vec<(String, PathBuf)>> {
        self.links_in(PASS)
    }

    /// Where the link of an interface to the program that passes everything is pinned.
    pub fn pass_link_path(&self, interface: &str) -> PathBuf {
        self.path.join(PASS).join(name::encode(interface))
    }

    /// The same as [`Root::links`] of the program for ways out, with the symbolic links that stand for filters.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn egress_links(&self) -> Result<Vec<(String, PathBuf)>> {
        self.links_in(EGRESS)
    }

    /// Where the link of an interface's way out is pinned.
    pub fn egress_link_path(&self, interface: &str) -> PathBuf {
        self.path.join(EGRESS).join(name::encode(interface))
    }

    fn links_in(&self, folder: &str) -> Result<Vec<(String, PathBuf)>> {
        let mut links = Vec::new();
        for file in entries(&self.path.join(folder))? {
            if let Some(interface) = file.to_str().and_then(name::decode) {
                links.push((interface, self.path.join(folder).join(file)));
            }
        }
        links.sort();
        Ok(links)
    }

    /// All generations, in force or left behind, in the order of their numbers.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn generations(&self) -> Result<Vec<Generation>> {
        let files = entries(&self.path)?;
        let mut generations: Vec<_> = files
            .iter()
            .filter_map(|file| Generation::named(&self.path, Path::new(file)))
            .collect();
        generations.sort_by_key(Generation::number);
        Ok(generations)
    }

    /// A new, empty generation, which is not in force yet.
    ///
    /// # Errors
    ///
    /// If its folder cannot be made.
    pub fn create_generation(&self) -> Result<Generation> {
        let number = self.generations()?.last().map_or(1, |last| last.number() + 1);
        let generation = Generation::new(&self.path, number);
        make_folder(&self.path.join(LINKS))?;
        make_folder(&self.path.join(PASS))?;
        make_folder(&self.path.join(EGRESS))?;
        make_folder(generation.path())?;
        Ok(generation)
    }

    /// Puts a generation in force.
    ///
    /// # Errors
    ///
    /// If the link cannot be made or renamed; the old one is then still in force.
    pub fn put_in_force(&self, generation: &Generation) -> Result<()> {
        self.put_symlink(&generation.folder(), &self.path.join(CURRENT))
    }

    /// Makes a symbolic link below the folder, in the place of a file that may be there, at once.
    ///
    /// # Errors
    ///
    /// If the link cannot be made or renamed; what was there is then still there.
    pub fn put_symlink(&self, target: &Path, path: &Path) -> Result<()> {
        let next = self.path.join(NEXT);
        remove_if_there(&next)?;
        symlink(target, &next).with_context(|| format!("{}: cannot be made", next.display()))?;
        fs::rename(&next, path).with_context(|| format!("{}: cannot be replaced", path.display()))
    }

    /// Removes all that is pinned; links must be detached before. Files that are not ours stay, and with them the folder.
    ///
    /// # Errors
    ///
    /// If something cannot be removed.
    pub fn remove(&self) -> Result<()> {
        let links = [self.links()?, self.pass_links()?, self.egress_links()?];
        for (_, link) in links.into_iter().flatten() {
            remove_if_there(&link)?;
        }
        // First, so that nobody reads a generation that is half gone.
        remove_if_there(&self.path.join(CURRENT))?;
        remove_if_there(&self.path.join(NEXT))?;
        for generation in self.generations()? {
            generation.remove()?;
        }
        self.remove_if_empty()
    }

    /// Removes the folder if nothing is in it, as after a first load that failed, and those above that were made for it.
    ///
    /// # Errors
    ///
    /// If it is empty and cannot be removed.
    pub fn remove_if_empty(&self) -> Result<()> {
        remove_folder(&self.path.join(LINKS))?;
        remove_folder(&self.path.join(PASS))?;
        remove_folder(&self.path.join(EGRESS))?;
        remove_folder(&self.path)?;
        above::remove(&self.path)
    }

    /// The folder cannot be made, looked into or locked.
    fn unusable(&self, error: &io::Error) -> anyhow::Error {
        let root = self.path.display();
        match error.kind() {
            ErrorKind::PermissionDenied => anyhow!("--root {root}: {}", bpffs::DENIED),
            _ => anyhow!("--root {root}: cannot be used: {error}; choose another folder"),
        }
    }
}

/// File names in a folder; none if it is not there.
fn entries(folder: &Path) -> Result<Vec<std::ffi::OsString>> {
    let context = || format!("{}: cannot be read", folder.display());
    match fs::read_dir(folder) {
        Ok(entries) => entries
            .map(|entry| Ok(entry?.file_name()))
            .collect::<io::Result<_>>()
            .with_context(context),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(context),
    }
}

/// Makes a folder that only its owner may look into, unless it is there.
fn make_folder(folder: &Path) -> Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("{}: cannot be made", folder.display()))
        }
        _ => Ok(()),
    }
}

fn remove_if_there(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{}: cannot be removed", file.display()))
        }
        _ => Ok(()),
    }
}

/// Removes a folder, unless something is in it or mounted on it.
fn remove_folder(folder: &Path) -> Result<()> {
    use ErrorKind::{DirectoryNotEmpty, NotFound, ResourceBusy};
    match fs::remove_dir(folder) {
        Err(error) if !matches!(error.kind(), NotFound | DirectoryNotEmpty | ResourceBusy) => {
            Err(error).with_context(|| format!("{}: cannot be removed", folder.display()))
        }
        _ => Ok(()),
    }
}
