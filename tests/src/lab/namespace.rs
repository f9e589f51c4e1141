//! A network namespace without a name, and ways to run code and commands in it.

use std::ffi::{CStr, CString};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{chdir, getpid, getppid};

use super::{BPFFS, End, Lab, in_own_thread, mount_fresh, open_own, working_folder};

/// A network namespace of a [`Lab`], with a `/sys` that shows its interfaces and the lab's `/sys/fs/bpf`.
///
/// It lives until the last clone, and the last socket, interface reference or process inside, is gone.
#[derive(Clone, Debug)]
pub struct Namespace {
    name: String,
    handles: Arc<Handles>,
}

#[derive(Debug)]
struct Handles {
    network: OwnedFd,
    mounts: OwnedFd,
}

impl Handles {
    /// Moves the calling thread inside. Allocates nothing, so that a forked child may call it.
    fn enter(&self, folder: &CStr) -> nix::Result<()> {
        // A thread that shares its root and working folder with others may not change mount namespaces.
        unshare(CloneFlags::CLONE_FS)?;
        setns(&self.mounts, CloneFlags::CLONE_NEWNS)?;
        setns(&self.network, CloneFlags::CLONE_NEWNET)?;
        chdir(folder)
    }
}

impl Namespace {
    pub(super) fn new(lab: &Lab, name: &str) -> Result<Self> {
        let handles = in_own_thread(|| {
            lab.enter()?;
            unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
            unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
            // sysfs shows the interfaces of the namespace it was mounted in, so each needs its own; the lab's BPF
            // filesystem, which that hides, comes back on top.
            let bpffs = OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_PATH)
                .open(BPFFS)
                .context(BPFFS)?;
            mount_fresh("sysfs", "/sys")?;
            let source = format!("/proc/thread-self/fd/{}", bpffs.as_raw_fd());
            mount(
                Some(source.as_str()),
                BPFFS,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
            .with_context(|| format!("bind the lab's BPF filesystem to {BPFFS}"))?;
            anyhow::Ok(Handles {
                network: open_own("net")?,
                mounts: open_own("mnt")?,
            })
        })
        .with_context(|| format!("namespace {name}"))?;

        let namespace = Self {
            name: name.to_owned(),
            handles: Arc::new(handles),
        };
        for scope in ["all", "default"] {
            // A new namespace may take these from the host.
            namespace.sysctl(&format!("net.ipv4.conf.{scope}.forwarding"), "0")?;
            namespace.sysctl(&format!("net.ipv4.conf.{scope}.rp_filter"), "0")?;
            namespace.sysctl(&format!("net.ipv6.conf.{scope}.forwarding"), "0")?;
            namespace.sysctl(&format!("net.ipv6.conf.{scope}.accept_dad"), "0")?;
            // Router solicitations would be strangers on the tests' wires.
            namespace.sysctl(&format!("net.ipv6.conf.{scope}.router_solicitations"), "0")?;
            // So would be multicast reports: the first comes with an address, and the rest, at random within so many milliseconds
            // (RFC 3810 section 9.11), not while any test runs.
            namespace.sysctl(
                &format!("net.ipv6.conf.{scope}.mldv2_unsolicited_report_interval"),
                "1000000000",
            )?;
        }
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// The name given to it, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `f` inside, in a thread made for it. Sockets and files that it opens stay inside wherever they are used.
    ///
    /// # Errors
    ///
    /// Those of `f`, and when the namespace cannot be entered. A panic in `f` goes on in the caller.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let folder = working_folder().context("working folder")?;
        in_own_thread(|| {
            self.handles
                .enter(&folder)
                .with_context(|| format!("enter namespace {}", self.name))?;
            f()
        })
    }

    /// A command that will run inside, in the caller's working folder.
    ///
    /// It is killed when the thread that spawned it ends: keep that thread for as long as the command is needed.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let handles = Arc::clone(&self.handles);
        // A folder that is gone cannot be gone back to: the root can.
        let folder = working_folder().unwrap_or_else(|_| CString::from(c"/"));
        let parent = getpid();
        let mut command = Command::new(program.as_ref());
        let enter = move || -> io::Result<()> {
            set_pdeathsig(Signal::SIGKILL)?;
            if getppid() != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH)); // The parent died before the line above.
            }
            handles.enter(&folder).map_err(io::Error::from)
        };
        // SAFETY: between fork and exec only system calls may be made: `enter` allocates nothing and takes no lock.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// Runs iproute2's `ip` inside with the arguments in `arguments`, separated by blanks, and returns its output.
    ///
    /// # Errors
    ///
    /// When `ip` cannot be run, or fails: the namespace, the arguments and what it said.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        let output = self
            .command("ip")
            .args(arguments.split_whitespace())
            .output()
            .with_context(|| {
                format!(
                    "run `ip {arguments}` in namespace {} (iproute2 must be installed)",
                    self.name
                )
            })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("`ip {arguments}` in namespace {}: {}", self.name, said.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Sets a kernel parameter of the namespace, named as by sysctl(8) (`net.ipv4.ip_forward`). With a `/` in it the
    /// name is taken as a path below `/proc/sys`, for interfaces whose names hold dots.
    ///
    /// # Errors
    ///
    /// When there is no such parameter, or the kernel refuses the value.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let relative = if name.contains('/') {
            name.to_owned()
        } else {
            name.replace('.', "/")
        };
        let path = Path::new("/proc/sys").join(relative);
        self.run(|| {
            fs::write(&path, value)
                .with_context(|| format!("set {} to {value} in namespace {}", path.display(), self.name))
        })
    }

    /// A counter of an interface, named as in `/sys/class/net/…/statistics` (`tx_dropped`: a veth counts there what it loses
    /// because its other end does not keep up).
    ///
    /// # Errors
    ///
    /// When there is no such interface or counter.
    pub fn statistic(&self, interface: &str, counter: &str) -> Result<u64> {
        let path = format!("/sys/class/net/{interface}/statistics/{counter}");
        let text =
            self.run(|| fs::read_to_string(&path).with_context(|| format!("{path} in namespace {}", self.name)))?;
        let number = text.trim().parse();
        number.with_context(|| format!("{path} holds `{}`", text.trim()))
    }

    /// One end of a veth pair to be, for [`Lab::veth`].
    pub fn end<'a>(&'a self, interface: &'a str) -> End<'a> {
        End::from((self, interface))
    }

    /// The network namespace as a path that processes with the same rights can open while `self` lives.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", getpid(), self.handles.network.as_raw_fd())
    }
}
