//! One loaded program with its maps, as a folder of pins.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{entries, remove_folder, remove_if_there};

const PREFIX: &str = "generation-";
const PROGRAM: &str = "program";
const EGRESS: &str = "egress";

/// The folder of one generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    number: u64,
    path: PathBuf,
}

impl Generation {
    pub(super) fn new(root: &Path, number: u64) -> Self {
        Self {
            number,
            path: root.join(format!("{PREFIX}{number}")),
        }
    }

    /// The generation of a file name; `None` for a name that [`Generation::new`] does not make, or of which there could be no next.
    pub(super) fn named(root: &Path, file: &Path) -> Option<Self> {
        let number: u64 = file.to_str()?.strip_prefix(PREFIX)?.parse().ok()?;
        number.checked_add(1)?;
        let generation = Self::new(root, number);
        (generation.folder() == file).then_some(generation)
    }

    /// Its number: the higher, the newer.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder's name without the root.
    pub(super) fn folder(&self) -> PathBuf {
        format!("{PREFIX}{}", self.number).into()
    }

    /// Where its program is pinned.
    pub fn program(&self) -> PathBuf {
        self.path.join(PROGRAM)
    }

    /// Where its program for ways out is pinned, if it has one.
    pub fn egress(&self) -> PathBuf {
        self.path.join(EGRESS)
    }

    /// Where its map of this name is pinned.
    pub fn map(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where the link to a tracepoint of this name is pinned. Maps' names are in capitals.
    pub fn link(&self, tracepoint: &str) -> PathBuf {
        self.path.join(tracepoint)
    }

    /// Removes its pins. What is attached stays so.
    ///
    /// # Errors
    ///
    /// If something cannot be removed.
    pub fn remove(&self) -> Result<()> {
        for file in entries(&self.path)? {
            remove_if_there(&self.path.join(file))?;
        }
        remove_folder(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_generations() {
        let root = Path::new("/r");
        let generation = Generation::named(root, Path::new("generation-7")).unwrap();
        assert_eq!(generation, Generation::new(root, 7));
        assert_eq!(generation.map("NAMES"), Path::new("/r/generation-7/NAMES"));
        for name in [
            "generation-",
            "generation-07",
            "generation-+7",
            "generation-x",
            "generation-18446744073709551615",
            "gen-7",
            "/generation-7",
            "links",
        ] {
            assert_eq!(Generation::named(root, Path::new(name)), None, "{name}");
        }
    }
}
