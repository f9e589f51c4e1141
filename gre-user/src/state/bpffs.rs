//! Whether a path lies in a BPF filesystem, the only kind that maps, programs and links can be pinned to.

use std::path::Path;

use anyhow::{Result, anyhow, bail};
use nix::errno::Errno;
use nix::sys::statfs::{BPF_FS_MAGIC, FsType, statfs};
use nix::sys::statvfs::{FsFlags, statvfs};

/// Checks the path, or as much of it as exists.
///
/// # Errors
///
/// If it lies elsewhere, if its name is one that the filesystem does not take, or if the caller may not look.
pub(super) fn check(path: &Path) -> Result<()> {
    let place = path.display();
    // A pin outlives the process, and with it the working folder that a relative path is meant from.
    if !path.is_absolute() {
        bail!("--root {place}: is not an absolute path; write it from / on");
    }
    let (existing, kind) = nearest(path)?;
    if kind != BPF_FS_MAGIC {
        bail!(
            "--root {place}: no BPF filesystem is mounted there; run `mount -t bpf bpf /sys/fs/bpf` (`ip netns exec` hides \
             it by a /sys of its own: enter a network namespace with `nsenter --net=/run/netns/NAME` instead)"
        );
    }
    if path.strip_prefix(existing).is_ok_and(has_dot) {
        bail!("--root {place}: a BPF filesystem takes no names with a dot; choose another name");
    }
    Ok(())
}

/// The same for whoever is going to change what is pinned there.
///
/// # Errors
///
/// Those of [`check`], or if the filesystem is mounted for reading only.
pub(super) fn check_writable(path: &Path) -> Result<()> {
    check(path)?;
    for folder in path.ancestors() {
        if let Ok(filesystem) = statvfs(folder) {
            if filesystem.flags().contains(FsFlags::ST_RDONLY) {
                bail!(
                    "--root {}: the BPF filesystem is mounted for reading only; run `mount -o remount,rw /sys/fs/bpf`",
                    path.display()
                );
            }
            break;
        }
    }
    Ok(())
}

/// The last folder on the way to the path that is there, and the kind of its filesystem.
fn nearest(path: &Path) -> Result<(&Path, FsType)> {
    for folder in path.ancestors() {
        match statfs(folder) {
            Ok(filesystem) => return Ok((folder, filesystem.filesystem_type())),
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            // A BPF filesystem's answer to a name with a dot (`bpf_lookup()`).
            Err(Errno::EPERM) if has_dot(folder) => {}
            Err(Errno::EACCES) => bail!("--root {}: {DENIED}", path.display()),
            Err(errno) => bail!(
                "--root {}: {} cannot be looked at: {errno}; choose another folder",
                path.display(),
                folder.display()
            ),
        }
    }
    Err(anyhow!("--root {}: not even / is there", path.display()))
}

/// What to do about a folder that the caller may not look into.
pub(super) const DENIED: &str = "permission denied; run as root, or as the user who has loaded";

fn has_dot(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().contains(&b'.')
}
