//! What the kernel's BPF can do, found out by trying.

use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::bpf::{BPF_OBJ_GET_INFO_BY_FD, BPF_TCX_EGRESS, Info, bpf, number, open};

// `linux/bpf.h`.
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;

/// `return XDP_PASS;`: `BPF_ALU64 | BPF_MOV | BPF_K` of 2 to r0, then `BPF_JMP | BPF_EXIT`.
static PASS: [Instruction; 2] = [
    Instruction {
        code: 0xb7,
        immediate: 2,
        ..EMPTY
    },
    Instruction { code: 0x95, ..EMPTY },
];
const EMPTY: Instruction = Instruction {
    code: 0,
    registers: 0,
    offset: 0,
    immediate: 0,
};

/// `struct bpf_insn`.
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// `union bpf_attr` as BPF_PROG_LOAD takes it, as far as its flags.
#[repr(C)]
struct ProgramLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
}

/// Its index, in every network namespace (`LOOPBACK_IFINDEX` of `net/loopback.c`).
const LOOPBACK: u32 = 1;

/// `union bpf_attr` as BPF_PROG_QUERY takes it for interfaces. All of it: the kernel writes to its end.
#[repr(C)]
#[derive(Default)]
struct ProgramQuery {
    interface_index: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    _padding: u32,
    flags: u64,
    link_ids: u64,
    link_flags: u64,
    revision: u64,
}

/// `struct bpf_prog_info`, as far as its lengths.
#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    program_type: u32,
    id: u32,
    tag: [u8; 8],
    jited_length: u32,
    translated_length: u32,
}

/// What the kernel does with XDP programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bpf {
    /// Nothing: it has no bpf(2).
    Absent,
    /// It refuses to load them from here (EPERM).
    Refused,
    /// It loads them.
    Usable {
        /// Whether it compiles them to machine code.
        jit: bool,
        /// Whether it has programs for frames that lie in several buffers.
        frags: bool,
    },
}

impl Bpf {
    /// Loads programs that do nothing, and lets them go again.
    pub(super) fn probe() -> io::Result<Self> {
        let program = match load(0) {
            Ok(program) => program,
            Err(error) => {
                return match error.raw_os_error() {
                    Some(libc::ENOSYS) => Ok(Self::Absent),
                    Some(libc::EPERM | libc::EACCES) => Ok(Self::Refused),
                    _ => Err(error),
                };
            }
        };
        let frags = match load(BPF_F_XDP_HAS_FRAGS) {
            Ok(_) => true,
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => false,
            Err(error) => return Err(error),
        };
        Ok(Self::Usable {
            jit: is_compiled(&program)?,
            frags,
        })
    }
}

/// Whether the kernel has TCX, by which programs are attached to the ways out of interfaces: whether it can say what is attached
/// so to the loopback interface.
///
/// # Errors
///
/// The kernel's, if it does not tell.
pub fn has_tcx() -> io::Result<bool> {
    let mut query = ProgramQuery {
        interface_index: LOOPBACK,
        attach_type: BPF_TCX_EGRESS,
        ..ProgramQuery::default()
    };
    // SAFETY: the layout of this command; no room for an answer is given.
    match unsafe { bpf(BPF_PROG_QUERY, &mut query) } {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a path, or the nearest folder above it that exists, is in a BPF filesystem.
pub(super) fn is_in_bpffs(path: &Path) -> io::Result<bool> {
    for folder in path.ancestors() {
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        match statfs(folder) {
            Ok(filesystem) => return Ok(filesystem.filesystem_type() == BPF_FS_MAGIC),
            Err(Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

fn load(flags: u32) -> io::Result<OwnedFd> {
    let mut request = ProgramLoad {
        program_type: BPF_PROG_TYPE_XDP,
        instruction_count: PASS.len() as u32,
        instructions: (&raw const PASS) as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags,
    };
    // SAFETY: the request has the layout of this command, which returns a new descriptor, and what it points to is static.
    unsafe { open(BPF_PROG_LOAD, &mut request) }
}

fn is_compiled(program: &OwnedFd) -> io::Result<bool> {
    let mut info = ProgramInfo::default();
    let mut request = Info {
        fd: number(program),
        length: mem::size_of::<ProgramInfo>() as u32,
        address: (&raw mut info) as u64,
    };
    // SAFETY: the request has the layout of this command; `info` is as long as it says and outlives the call.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut request) }?;
    Ok(info.jited_length != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_folder_that_exists_is_what_counts() {
        for path in ["/proc", "/proc/no/such/thing", "no-such-folder/state", ""] {
            assert!(!is_in_bpffs(Path::new(path)).expect("readable"), "{path}");
        }
    }
}
