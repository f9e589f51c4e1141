//! Writes an initramfs: a cpio archive of the kind `newc` (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result, ensure};

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const END: &str = "TRAILER!!!";

/// The archive, in memory.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    folders: BTreeSet<String>,
    files: BTreeSet<String>,
}

impl Archive {
    /// Adds a file at an absolute path, and the folders above it. The first file of a path stays.
    pub(super) fn add(&mut self, path: &str, contents: &[u8]) -> Result<()> {
        let relative = path
            .strip_prefix('/')
            .with_context(|| format!("{path} is no absolute path"))?;
        for (end, _) in relative.match_indices('/') {
            self.add_folder(&relative[..end])?;
        }
        if self.files.insert(relative.to_owned()) {
            self.entry(relative, PROGRAM, contents)?;
        }
        Ok(())
    }

    /// Adds a file of this system at the same path.
    pub(super) fn add_same(&mut self, path: &Path) -> Result<()> {
        let contents = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        self.add(
            path.to_str().with_context(|| format!("{path:?} is no UTF-8"))?,
            &contents,
        )
    }

    fn add_folder(&mut self, path: &str) -> Result<()> {
        if self.folders.insert(path.to_owned()) {
            self.entry(path, FOLDER, &[])?;
        }
        Ok(())
    }

    /// The whole archive.
    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        self.entry(END, 0, &[])?;
        Ok(self.bytes)
    }

    fn entry(&mut self, name: &str, mode: u32, contents: &[u8]) -> Result<()> {
        ensure!(u32::try_from(contents.len()).is_ok(), "{name} has 4 GiB or more");
        self.entries += 1;
        // Inode, mode, user, group, links, time, size, four numbers of devices, name's size, check.
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            contents.len() as u32,
            0,
            0,
            0,
            0,
            name.len() as u32 + 1,
            0,
        ];
        self.write(name, fields, contents).context("a vector takes all bytes")
    }

    fn write(&mut self, name: &str, fields: [u32; 13], contents: &[u8]) -> io::Result<()> {
        self.bytes.write_all(b"070701")?;
        for field in fields {
            write!(self.bytes, "{field:08x}")?;
        }
        self.bytes.write_all(name.as_bytes())?;
        self.bytes.push(0);
        self.align();
        self.bytes.write_all(contents)?;
        self.align();
        Ok(())
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_aligned_and_says_its_sizes() {
        let mut archive = Archive::default();
        archive.add("/a/bc", b"12345").unwrap();
        archive.add("/a/bc", b"another").unwrap();
        let bytes = archive.finish().unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let folder = "07070100000001000041ed0000000000000000000000010000000000000000\
                      00000000000000000000000000000000000000020000000\
                      0a\0";
        assert!(text.starts_with(folder), "{text}");
        let file = text.find("a/bc").unwrap();
        assert_eq!(file % 4, 2, "110 bytes of header");
        assert!(text[file..].starts_with("a/bc\0\0"), "{text}");
        assert_eq!(text.matches("12345\0\0\0").count(), 1);
        assert!(!text.contains("another"));
        assert!(text.contains("TRAILER!!!\0") && text.len().is_multiple_of(4));
    }
}
