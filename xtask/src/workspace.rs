//! Where things are in this workspace.

use std::path::{Path, PathBuf};

/// The workspace this xtask was built in. Everything it makes lies under `target/`.
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The workspace whose member this crate is.
    pub(crate) fn here() -> Self {
        let member = Path::new(env!("CARGO_MANIFEST_DIR"));
        Self {
            root: member.parent().unwrap_or(member).to_owned(),
        }
    }

    /// The folder of the workspace's `Cargo.toml`.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Cargo's folder for what is built for this machine.
    pub(crate) fn target(&self) -> PathBuf {
        self.root.join("target")
    }

    /// Build tools of our own, so that nothing is installed into the user's home.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target().join("tools")
    }

    /// Cargo's folder for the eBPF build: with other compiler flags than the rest, it must not share one.
    pub(crate) fn bpf_target(&self) -> PathBuf {
        self.target().join("bpf")
    }

    /// `path` as seen from the workspace's root, for messages.
    pub(crate) fn relative<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}
