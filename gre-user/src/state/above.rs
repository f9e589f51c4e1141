//! The folders above the state folder, as far as `load` made them for it: they have the sticky bit, which a folder made by others
//! has not, so that whoever unloads knows them without a record of its own. (On a folder that only its owner may enter it changes
//! nothing. The filesystem's own root has it as well, and cannot be removed.)

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use anyhow::Result;

use super::remove_folder;

const OWN: u32 = 0o700;
const STICKY: u32 = 0o1000;

/// Makes the state folder and those above it, as far as they are not there.
///
/// # Errors
///
/// If one cannot be made; that one was removed meanwhile is `NotFound`.
pub(super) fn make(root: &Path) -> io::Result<()> {
    let mut missing: Vec<_> = root.ancestors().skip(1).take_while(|above| !above.exists()).collect();
    missing.reverse();
    for above in missing {
        make_one(above, OWN | STICKY)?;
    }
    make_one(root, OWN)
}

/// Removes those above the state folder that were made for it or another like it, as far as nothing is in them.
///
/// # Errors
///
/// If one is empty and cannot be removed.
pub(super) fn remove(root: &Path) -> Result<()> {
    let made = |above: &&Path| fs::metadata(above).is_ok_and(|there| there.permissions().mode() & STICKY != 0);
    let mut below = root;
    for above in root.ancestors().skip(1).take_while(made) {
        if below.exists() {
            break;
        }
        remove_folder(above)?;
        below = above;
    }
    Ok(())
}

fn make_one(folder: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        made => made,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_goes_and_what_others_made_or_use_stays() {
        let there = std::env::temp_dir().join(format!("gre-decap-above-{}", std::process::id()));
        fs::create_dir(&there).expect("a new folder");
        let (root, neighbour) = (there.join("a/b/c"), there.join("a/d/e"));
        for folder in [&root, &neighbour] {
            make(folder).expect("made");
            make(folder).expect("there already");
        }
        let unload = |folder: &Path| {
            remove_folder(folder).expect("removed");
            remove(folder).expect("removed");
        };
        // The state folder itself is there: nothing is done.
        remove(&root).expect("nothing to do");
        assert!(root.exists());
        unload(&root);
        assert!(!there.join("a/b").exists() && neighbour.exists());
        unload(&neighbour);
        assert!(!there.join("a").exists() && there.exists());

        fs::create_dir(there.join("theirs")).expect("made");
        let root = there.join("theirs/x/y");
        make(&root).expect("made");
        unload(&root);
        assert!(!there.join("theirs/x").exists());
        fs::remove_dir(there.join("theirs")).expect("it stays");
        fs::remove_dir(&there).expect("it stays");
    }
}
