//! What is noted of a filter, for it has no link that could be pinned: a symbolic link in the BPF filesystem, whose target says it.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::state::Root;

/// Where a filter of ours is, or may be: it is noted before the filter is there, and until it has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// The network namespace of the interface: its inode, as `readlink /proc/self/ns/net` has it.
    pub(super) namespace: u64,
    /// The interface's index there.
    pub(super) interface_index: u32,
    /// Whether the clsact that it is in was made for it.
    pub(super) made_clsact: bool,
}

const MADE: &str = "made";
const FOUND: &str = "found";

impl Record {
    /// The one at a path; none if there is none (any more).
    ///
    /// # Errors
    ///
    /// If it cannot be read, or no record is what is there.
    pub(super) fn read(path: &Path) -> Result<Option<Self>> {
        match fs::read_link(path) {
            Ok(target) => Self::parse(target.as_os_str()).map(Some).with_context(|| {
                format!(
                    "{}: points to {}, which gre-decap never makes; remove it",
                    path.display(),
                    target.display()
                )
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("{}: cannot be read", path.display())),
        }
    }

    /// Notes it at a path, in the place of what was noted there.
    ///
    /// # Errors
    ///
    /// If that cannot be written.
    pub(super) fn write(self, root: &Root, path: &Path) -> Result<()> {
        root.put_symlink(Path::new(&self.to_string()), path)
    }

    fn parse(target: &OsStr) -> Option<Self> {
        let mut fields = target.to_str()?.split(':');
        let record = Self {
            namespace: fields.next()?.parse().ok()?,
            interface_index: fields.next()?.parse().ok()?,
            made_clsact: match fields.next()? {
                MADE => true,
                FOUND => false,
                _ => return None,
            },
        };
        fields.next().is_none().then_some(record)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            namespace,
            interface_index,
            made_clsact,
        } = self;
        let clsact = if *made_clsact { MADE } else { FOUND };
        write!(f, "{namespace}:{interface_index}:{clsact}")
    }
}

/// The network namespace of the calling thread.
///
/// # Errors
///
/// If /proc does not tell.
pub(super) fn own_namespace() -> Result<u64> {
    const PATH: &str = "/proc/thread-self/ns/net";
    Ok(fs::metadata(PATH)
        .with_context(|| format!("{PATH}: cannot be read"))?
        .ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_read_again() {
        for made_clsact in [false, true] {
            let record = Record {
                namespace: 4_026_531_840,
                interface_index: 7,
                made_clsact,
            };
            assert_eq!(Record::parse(OsStr::new(&record.to_string())), Some(record));
        }
    }

    #[test]
    fn what_was_never_noted_is_none() {
        for target in [
            "",
            "generation-1",
            "1:2",
            "1:2:maybe",
            "1:-2:made",
            "1:2:made:",
            "x:2:made",
        ] {
            assert_eq!(Record::parse(OsStr::new(target)), None, "{target}");
        }
    }
}
