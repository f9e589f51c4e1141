//! One process at a time changes a state folder, and one at a time stays with it.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{major, minor};

use super::{Root, above, bpffs};

/// How often the folder may be removed by another process between opening and locking it.
const TRIES: usize = 16;
/// How long another process may change the folder before this one gives up: a load takes a second or a few, and whoever
/// detaches at a signal must not leave the program behind because of it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the process that stays may take to end, before the next one gives up.
const HANDING_OVER: Duration = Duration::from_secs(2);
/// How often to look in that time.
const PAUSE: Duration = Duration::from_millis(20);

/// The right to change a state folder, until dropped. Reading needs none.
#[derive(Debug)]
pub struct Locked {
    _folder: Flock<File>,
    root: Root,
}

impl Locked {
    /// The folder that may be changed.
    pub fn root(&self) -> &Root {
        &self.root
    }
}

/// The right to stay with what is loaded under a state folder, as one `run` does, until dropped. Others may change it meanwhile.
#[derive(Debug)]
pub struct Residence {
    links: Flock<File>,
}

impl Root {
    /// Takes the right to stay, or keeps the one that was taken `before`; none while nothing is loaded.
    ///
    /// # Errors
    ///
    /// If another process has the right: its id and name are given; or if the folder cannot be read.
    pub fn reside(&self, before: Option<Residence>) -> Result<Option<Residence>> {
        // It stays for as long as anything is loaded, and is no matter of those who only change that.
        let path = self.links_folder();
        if let Some(before) = before
            && self.is_same(&path, &before.links)?
        {
            return Ok(Some(before));
        }
        let folder = match File::open(&path) {
            Ok(folder) => folder,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.unusable(&error)),
        };
        match lock_within(folder, HANDING_OVER) {
            Ok(links) => Ok(Some(Residence { links })),
            Err((folder, Errno::EWOULDBLOCK)) => {
                let by = holder(&folder).unwrap_or_else(|| "another process".to_owned());
                bail!(
                    "{}: `gre-decap run` stays with it already, as {by}; stop that one first, or choose another --root",
                    self.path().display()
                )
            }
            Err((_, errno)) => Err(self.unusable(&errno.into())),
        }
    }

    /// Takes the right to change the folder, which is made if it is not there. Waits a while for another process that has it.
    ///
    /// # Errors
    ///
    /// If no BPF filesystem is mounted there, or one for reading only, if the folder cannot be made, or if another process keeps the
    /// right: its id and name are given.
    pub fn lock(&self) -> Result<Locked> {
        bpffs::check_writable(self.path())?;
        for _ in 0..TRIES {
            match above::make(self.path()) {
                // Another process has removed a folder above meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                made => made.map_err(|error| self.unusable(&error))?,
            }
            if let Some(locked) = self.try_lock()? {
                return Ok(locked);
            }
        }
        bail!(
            "{}: is removed again and again by another process; try later",
            self.path().display()
        )
    }

    /// The same for a folder that is there, else nothing.
    ///
    /// # Errors
    ///
    /// As [`Root::lock`].
    pub fn lock_existing(&self) -> Result<Option<Locked>> {
        for _ in 0..TRIES {
            if !self.exists()? {
                return Ok(None);
            }
            bpffs::check_writable(self.path())?;
            if let Some(locked) = self.try_lock()? {
                return Ok(Some(locked));
            }
        }
        Ok(None)
    }

    /// `None` if the folder went away meanwhile.
    fn try_lock(&self) -> Result<Option<Locked>> {
        let folder = match File::open(self.path()) {
            Ok(folder) => folder,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.unusable(&error)),
        };
        match lock_within(folder, PATIENCE) {
            Ok(folder) => Ok(self.is_same(self.path(), &folder)?.then(|| Locked {
                _folder: folder,
                root: self.clone(),
            })),
            Err((folder, Errno::EWOULDBLOCK)) => {
                let by = holder(&folder).unwrap_or_else(|| "another process".to_owned());
                bail!(
                    "{}: is being changed by {by}; try again when that is done",
                    self.path().display()
                )
            }
            Err((_, errno)) => Err(self.unusable(&errno.into())),
        }
    }

    /// Whether the path still leads to the folder that was locked.
    fn is_same(&self, path: &Path, folder: &File) -> Result<bool> {
        let locked = folder.metadata().map_err(|error| self.unusable(&error))?;
        match fs::metadata(path) {
            Ok(there) => Ok((there.dev(), there.ino()) == (locked.dev(), locked.ino())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.unusable(&error)),
        }
    }
}

/// Locks a folder, as soon as no other process has it locked.
fn lock_within(mut folder: File, patience: Duration) -> Result<Flock<File>, (File, Errno)> {
    let deadline = Instant::now() + patience;
    loop {
        match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
            Err((back, Errno::EWOULDBLOCK)) if Instant::now() < deadline => folder = back,
            result => return result,
        }
        thread::sleep(PAUSE);
    }
}

/// Who has locked the folder, if the kernel says so in a way that this process understands.
fn holder(folder: &File) -> Option<String> {
    let folder = folder.metadata().ok()?;
    // As lock_get_status() of the kernel writes it.
    let inode = format!(
        "{:02x}:{:02x}:{}",
        major(folder.dev()),
        minor(folder.dev()),
        folder.ino()
    );
    let id = process_with_lock(&fs::read_to_string("/proc/locks").ok()?, &inode)?;
    let name = read_trimmed(Path::new(&format!("/proc/{id}/comm")));
    Some(name.map_or_else(|_| format!("process {id}"), |name| format!("process {id} ({name})")))
}

fn read_trimmed(path: &Path) -> io::Result<String> {
    fs::read_to_string(path).map(|text| text.trim().to_owned())
}

/// The process that holds the flock on an inode, from lines such as
/// `1: FLOCK  ADVISORY  WRITE 1234 00:2a:10412 0 EOF` (proc_locks(5)). Those that wait
/// have an arrow after the number.
fn process_with_lock(locks: &str, inode: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (kind, process) = (fields.next()?, fields.nth(2)?);
        // A process of a pid namespace that this one does not see has id 0 or -1.
        (kind == "FLOCK" && fields.next() == Some(inode)).then(|| process.parse().ok().filter(|&id| id != 0))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holder_is_found_among_the_locks() {
        let locks = "1: POSIX  ADVISORY  WRITE 9 00:19:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 1234 00:2a:77 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 5678 00:2a:77 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 0 00:2a:78 0 EOF\n";
        assert_eq!(process_with_lock(locks, "00:2a:77"), Some(1234));
        assert_eq!(process_with_lock(locks, "00:19:77"), None);
        assert_eq!(process_with_lock(locks, "00:2a:7"), None);
        assert_eq!(process_with_lock(locks, "00:2a:78"), None);
        assert_eq!(process_with_lock("", "00:2a:77"), None);
    }
}
