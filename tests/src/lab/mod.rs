//! A network laboratory that leaves nothing behind.
//!
//! A [`Lab`] makes network namespaces that have no name, and mounts that nobody else sees: both live only as long as
//! something holds them open. They are gone when the lab's values are dropped, and when the process ends, be it by
//! SIGKILL. Labs share nothing, so tests run in parallel.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use gre_tests::lab::{Lab, Wire};
//!
//! let lab = Lab::new()?;
//! let (scrub, origin) = (lab.namespace("scrub")?, lab.namespace("origin")?);
//! lab.veth(scrub.end("wan").address("203.0.113.10/24"), origin.end("wan0").address("203.0.113.20/24"))?;
//! let wire = Wire::open(&origin, "wan0")?;
//! scrub.ping("203.0.113.20".parse()?, 56)?;
//! wire.expect("an ICMP packet", |frame| frame.bytes.get(23) == Some(&1))?;
//! # Ok(())
//! # }
//! ```

mod available;
mod ethtool;
mod namespace;
mod ping;
mod scrubber;
mod tun;
mod tunnel;
mod veth;
mod wire;

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU8;
use std::thread;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

pub use namespace::Namespace;
pub use ping::Ping;
pub use scrubber::{Counts, Scrubber};
pub use tun::Tun;
pub use tunnel::Tunnel;
pub use veth::{End, Interface};
pub use wire::{Captured, PATIENCE, Wire};

/// Where every lab has a BPF filesystem of its own: pinned objects go with the lab.
const BPFFS: &str = "/sys/fs/bpf";
/// Where every lab has a tmpfs of its own. Of the folders that every Linux has it is the one that no tool needs.
const SCRATCH: &str = "/dev/shm";

/// A private set of mounts, in which [`Namespace`]s are made.
///
/// The calling thread stays where it is; what is to run inside does so by [`Namespace::run`] and
/// [`Namespace::command`].
#[derive(Debug)]
pub struct Lab {
    mounts: OwnedFd,
    /// Number of the next veth pair, which its MAC addresses show.
    next_pair: AtomicU8,
}

impl Lab {
    /// Makes a lab with a BPF filesystem of its own at `/sys/fs/bpf`, and an empty `/dev/shm`.
    ///
    /// # Errors
    ///
    /// When the caller may not make or mount these; [`Lab::available`] says in plain words what is missing.
    pub fn new() -> Result<Self> {
        let mounts = in_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
            // What is mounted here must not reach the host.
            mount(
                None::<&str>,
                "/",
                None::<&str>,
                MsFlags::MS_REC | MsFlags::MS_PRIVATE,
                None::<&str>,
            )
            .context("make all mounts private")?;
            mount_fresh("bpf", BPFFS)?;
            mount_fresh("tmpfs", SCRATCH)?;
            open_own("mnt")
        })?;
        Ok(Self {
            mounts,
            next_pair: AtomicU8::new(0),
        })
    }

    /// Makes a network namespace with its loopback interface up. `name` serves messages only.
    ///
    /// Forwarding and reverse path filtering are off whatever the host has, and IPv6 addresses can be used at
    /// once (no duplicate address detection).
    ///
    /// # Errors
    ///
    /// When the kernel refuses the namespace or a setting.
    pub fn namespace(&self, name: &str) -> Result<Namespace> {
        Namespace::new(self, name)
    }

    /// Joins two namespaces by a veth pair, both ends up. See [`End`] for what can be set.
    ///
    /// # Errors
    ///
    /// When `ip` refuses: its own words, with the namespace and the arguments.
    pub fn veth<'a>(&self, a: impl Into<End<'a>>, b: impl Into<End<'a>>) -> Result<(Interface, Interface)> {
        veth::create(self, &a.into(), &b.into())
    }

    /// Writes a file into the lab's own `/dev/shm`; the path returned is good inside the lab's namespaces.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn write_file(&self, name: &str, contents: &str) -> Result<PathBuf> {
        let path = Path::new(SCRATCH).join(name);
        in_own_thread(|| {
            self.enter()?;
            std::fs::write(&path, contents).with_context(|| format!("write {} in the lab", path.display()))
        })?;
        Ok(path)
    }

    /// Moves the calling thread, which must be one made for it, into the lab's mounts.
    fn enter(&self) -> Result<()> {
        // A thread that shares its root and working folder with others may not change mount namespaces.
        unshare(CloneFlags::CLONE_FS).context("unshare the file system attributes")?;
        setns(&self.mounts, CloneFlags::CLONE_NEWNS).context("enter the lab's mount namespace")
    }
}

/// Runs `f` in a thread that ends with it, for what changes a thread for good. A panic in `f` goes on in the caller.
fn in_own_thread<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(f).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn mount_fresh(kind: &str, target: &str) -> Result<()> {
    mount(Some(kind), target, Some(kind), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("mount a fresh {kind} on {target}"))
}

/// Opens the calling thread's namespace of a kind (`net`, `mnt`), which keeps it alive.
fn open_own(kind: &str) -> Result<OwnedFd> {
    let path = format!("/proc/thread-self/ns/{kind}");
    Ok(File::open(&path).with_context(|| format!("open {path}"))?.into())
}

/// The working folder, which entering a mount namespace resets to the root.
fn working_folder() -> io::Result<CString> {
    Ok(CString::new(std::env::current_dir()?.into_os_string().into_vec())?)
}
