//! The calls to bpf(2) that attach programs to interfaces by links, XDP programs to the way in and by TCX others to the way out, and
//! those that move many elements of a map at a time ([`batch`]).
//!
//! Aya has most of them, but `Xdp::attach` falls back to an attachment without a link where the kernel calls the request
//! invalid, and such an attachment cannot be pinned; it does not tell which interface a link belongs to; and it cannot
//! detach a pinned link at once.

pub mod batch;

use std::ffi::CString;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use strum::Display;

// `enum bpf_cmd`, `enum bpf_attach_type` and `enum bpf_link_type` of linux/bpf.h.
const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_OBJ_GET: libc::c_int = 7;
pub(crate) const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_LINK_UPDATE: libc::c_int = 29;
const BPF_LINK_DETACH: libc::c_int = 34;
// `enum membarrier_cmd` of linux/membarrier.h.
const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
const BPF_XDP: u32 = 37;
pub(crate) const BPF_TCX_EGRESS: u32 = 47;
const BPF_LINK_TYPE_XDP: u32 = 6;
const BPF_LINK_TYPE_TCX: u32 = 11;
/// Before all others that are there.
const BPF_F_BEFORE: u32 = 1 << 3;

// The requests: `union bpf_attr` as each command takes it. The kernel reads zeros past their end.

#[repr(C)]
struct Object {
    path: u64,
    fd: u32,
    file_flags: u32,
}

#[repr(C)]
pub(crate) struct Info {
    pub(crate) fd: u32,
    pub(crate) length: u32,
    pub(crate) address: u64,
}

#[repr(C)]
struct LinkCreate {
    program_fd: u32,
    interface_index: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
struct LinkUpdate {
    link_fd: u32,
    program_fd: u32,
    flags: u32,
    old_program_fd: u32,
}

#[repr(C)]
struct LinkDetach {
    link_fd: u32,
}

/// `struct bpf_link_info`, as far as `xdp` in its union reaches; `tcx` begins alike.
#[repr(C)]
#[derive(Default)]
struct RawLinkInfo {
    kind: u32,
    id: u32,
    program_id: u32,
    /// The union that follows is aligned to 8 bytes.
    _padding: u32,
    interface_index: u32,
    _rest: u32,
}

/// Where an XDP program is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display)]
#[strum(serialize_all = "lowercase")]
pub enum AttachMode {
    /// In the driver: XDP_FLAGS_DRV_MODE of linux/if_link.h.
    Native = 1 << 2,
    /// In the stack: XDP_FLAGS_SKB_MODE.
    Generic = 1 << 1,
}

/// What attaches a program to an interface, by XDP or by TCX, for as long as it is open or pinned.
#[derive(Debug)]
pub struct InterfaceLink(OwnedFd);

/// What the kernel says about a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// The kernel's id for the link.
    pub id: u32,
    /// The id of the program that it attaches.
    pub program_id: u32,
    /// The index, in its own network namespace, of the interface that it attaches to; none if that has gone.
    pub interface_index: Option<u32>,
}

impl InterfaceLink {
    /// Attaches a program to an interface of the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// EOPNOTSUPP if the driver has no native XDP, EBUSY or EEXIST if another program is attached, EINVAL if the interface
    /// has gone, and the driver's own.
    pub fn attach(program: BorrowedFd<'_>, interface_index: u32, mode: AttachMode) -> io::Result<Self> {
        let mut request = LinkCreate {
            program_fd: number(&program),
            interface_index,
            attach_type: BPF_XDP,
            flags: mode as u32,
        };
        // SAFETY: the layout of this command, without pointers.
        unsafe { open(BPF_LINK_CREATE, &mut request) }.map(Self)
    }

    /// Attaches a program to the way out of an interface of the calling thread's network namespace, before those of others, which
    /// stay as they are.
    ///
    /// # Errors
    ///
    /// EINVAL if the kernel has no TCX (before Linux 6.6), ENODEV if the interface has gone.
    pub fn attach_to_egress(program: BorrowedFd<'_>, interface_index: u32) -> io::Result<Self> {
        let mut request = LinkCreate {
            program_fd: number(&program),
            interface_index,
            attach_type: BPF_TCX_EGRESS,
            flags: BPF_F_BEFORE,
        };
        // SAFETY: the layout of this command, without pointers.
        unsafe { open(BPF_LINK_CREATE, &mut request) }.map(Self)
    }

    /// Opens a pinned link.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn open(path: &Path) -> io::Result<Self> {
        open_pinned(path).map(Self)
    }

    /// Pins it: it then outlives this process.
    ///
    /// # Errors
    ///
    /// The kernel's: EEXIST if something is there.
    pub fn pin(&self, path: &Path) -> io::Result<()> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let mut request = Object {
            path: path.as_ptr() as u64,
            fd: number(&self.0),
            file_flags: 0,
        };
        // SAFETY: the layout of this command; the path outlives the call.
        unsafe { bpf(BPF_OBJ_PIN, &mut request) }.map(drop)
    }

    /// What the kernel says about it.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`] if it is neither an XDP nor a TCX link, and the kernel's.
    pub fn info(&self) -> io::Result<LinkInfo> {
        let mut info = RawLinkInfo::default();
        let length = mem::size_of::<RawLinkInfo>() as u32;
        let mut request = Info {
            fd: number(&self.0),
            length,
            address: (&raw mut info) as u64,
        };
        // SAFETY: the layout of this command; `info` is as long as it says and outlives the call.
        unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut request) }?;
        if !matches!(info.kind, BPF_LINK_TYPE_XDP | BPF_LINK_TYPE_TCX) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "neither an XDP nor a TCX link",
            ));
        }
        let interface_index = Some(info.interface_index).filter(|&index| index != 0);
        Ok(LinkInfo {
            id: info.id,
            program_id: info.program_id,
            interface_index,
        })
    }

    /// Puts another program in the place of its own: no packet meets none.
    ///
    /// # Errors
    ///
    /// The kernel's; ENOLINK if the interface has gone. The link then has its old program.
    pub fn replace(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        let mut request = LinkUpdate {
            link_fd: number(&self.0),
            program_fd: number(&program),
            flags: 0,
            old_program_fd: 0,
        };
        // SAFETY: the layout of this command, without pointers.
        unsafe { bpf(BPF_LINK_UPDATE, &mut request) }.map(drop)
    }

    /// Detaches the program at once. Closing the link and removing its pin detaches too, but may take a while.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn detach(&self) -> io::Result<()> {
        let mut request = LinkDetach {
            link_fd: number(&self.0),
        };
        // SAFETY: the layout of this command, without pointers.
        unsafe { bpf(BPF_LINK_DETACH, &mut request) }.map(drop)
    }
}

/// How long a packet is in a program at the very most, where the kernel does not tell.
const LONGEST_RUN: Duration = Duration::from_millis(100);

/// Waits until every packet that is in a program now has left it.
///
/// # Errors
///
/// The kernel's.
pub fn wait_for_programs() -> io::Result<()> {
    // Waits as synchronize_rcu() does, which programs are run under (`kernel/sched/membarrier.c`).
    // SAFETY: no pointers.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        // Not where cores run without a tick, or built without it.
        error if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => {
            thread::sleep(LONGEST_RUN);
            Ok(())
        }
        error => Err(error),
    }
}

/// Opens a pinned program, map or link.
///
/// # Errors
///
/// The kernel's.
pub fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut request = Object {
        path: path.as_ptr() as u64,
        fd: 0,
        file_flags: 0,
    };
    // SAFETY: the layout of this command; the path outlives the call.
    unsafe { open(BPF_OBJ_GET, &mut request) }
}

/// A descriptor as the kernel takes it; one that is open is not negative.
pub(crate) fn number(fd: &impl AsRawFd) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// A command that opens something.
///
/// # Safety
///
/// As for [`bpf`]; the command must return a new descriptor.
pub(crate) unsafe fn open<T>(command: libc::c_int, request: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { bpf(command, request) }?;
    // SAFETY: the kernel has just opened it for this call alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// bpf(2); a request shorter than `union bpf_attr` has zeros after it.
///
/// # Safety
///
/// The request must have the layout that the command takes, and what it points to must be valid during the call.
pub(crate) unsafe fn bpf<T>(command: libc::c_int, request: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: the caller's promise; the size is the request's own.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *request, mem::size_of::<T>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as libc::c_int)
    }
}
