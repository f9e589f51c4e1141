//! Why the kernel did not take the program, in one line with the remedy.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::{ProgramError, ProgramType};
use aya::sys::{BpfHelper, is_helper_supported, is_program_supported};
use aya::util::KernelVersion;

use crate::settings::Settings;

/// Helpers that the program calls and old kernels lack.
const HELPERS: [(BpfHelper, &str); 2] = [
    (BpfHelper::BPF_FUNC_xdp_get_buff_len, "bpf_xdp_get_buff_len"),
    (BpfHelper::BPF_FUNC_ktime_get_coarse_ns, "bpf_ktime_get_coarse_ns"),
];
/// The first kernel with all of them, and with XDP programs that take packets in several buffers.
const FIRST_KERNEL: &str = "5.18";

/// The object's maps or its type information were refused.
pub(super) fn of_object(error: EbpfError, settings: &Settings) -> anyhow::Error {
    if let Some(line) = general(&error) {
        return line;
    }
    match error {
        EbpfError::MapError(MapError::CreateError { name, io_error }) => match io_error.raw_os_error() {
            Some(libc::ENOMEM | libc::E2BIG) => anyhow!(
                "map {name}: the kernel has no room for it ({io_error}); lower `max_tunnels`, which is {}",
                settings.max_tunnels
            ),
            _ => too_old_or(|| anyhow!("map {name}: cannot be made: {io_error}")),
        },
        error => too_old_or(|| anyhow!("the eBPF object cannot be loaded: {}", chain(&error))),
    }
}

/// The program was refused.
pub(super) fn of_program(error: ProgramError) -> anyhow::Error {
    if let Some(line) = general(&error) {
        return line;
    }
    match error {
        ProgramError::LoadError { io_error, verifier_log } => too_old_or(|| {
            let log = verifier_log.to_string();
            let last = last_words(&log).unwrap_or("it gave no reason").to_owned();
            let place = match write_log(&log) {
                Ok(path) => format!("its log is in {}", path.display()),
                Err(error) => format!("its log cannot be written: {error}"),
            };
            anyhow!(
                "the kernel's verifier refused the eBPF program ({io_error}): {last}; please report it with the kernel's \
                 version ({}): {place}",
                running_kernel()
            )
        }),
        error => too_old_or(|| anyhow!("the eBPF program cannot be loaded: {}", chain(&error))),
    }
}

/// What any of the calls may have failed for.
fn general(error: &(dyn Error + 'static)) -> Option<anyhow::Error> {
    match os_error(error)?.raw_os_error()? {
        libc::ENOSYS => Some(anyhow!(
            "this kernel has no BPF: bpf(2) is not there; use a kernel with CONFIG_BPF_SYSCALL, {FIRST_KERNEL} or newer"
        )),
        libc::EPERM | libc::EACCES if !is_verifier(error) => Some(anyhow!(
            "the kernel forbids bpf(2) although the capabilities are there: look for kernel lockdown \
             (/sys/kernel/security/lockdown) or a container's seccomp profile, and allow it"
        )),
        _ => None,
    }
}

/// The verifier, too, refuses with EACCES, but it says why.
fn is_verifier(error: &(dyn Error + 'static)) -> bool {
    matches!(
        error.downcast_ref(),
        Some(ProgramError::LoadError { verifier_log, .. }) if !verifier_log.to_string().is_empty()
    )
}

/// That the kernel is too old, if probing shows it, else the line given.
fn too_old_or(otherwise: impl FnOnce() -> anyhow::Error) -> anyhow::Error {
    let too_old = |lacks: &str| {
        anyhow!(
            "kernel {} is too old: it lacks {lacks}; use Linux {FIRST_KERNEL} or newer (or, if it is newer, one built with it)",
            running_kernel()
        )
    };
    if matches!(is_program_supported(ProgramType::Xdp), Ok(false)) {
        return too_old("XDP programs");
    }
    for (helper, name) in HELPERS {
        if matches!(is_helper_supported(ProgramType::Xdp, helper), Ok(false)) {
            return too_old(name);
        }
    }
    otherwise()
}

fn running_kernel() -> String {
    KernelVersion::current().map_or_else(|_| "of unknown version".to_owned(), |version| version.to_string())
}

/// The innermost error number.
fn os_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let mut found = None;
    let mut next = Some(error);
    while let Some(error) = next {
        found = error.downcast_ref::<io::Error>().or(found);
        next = error.source();
    }
    found
}

/// An error and its causes; what a cause only repeats is left out.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !line.ends_with(&words) {
            line = format!("{line}: {words}");
        }
        next = cause.source();
    }
    line
}

/// The line in which the verifier says what it refuses: the last before its statistics.
fn last_words(log: &str) -> Option<&str> {
    let statistics = [
        "processed ",
        "verification time",
        "stack depth",
        "max_states",
        "mark_read",
    ];
    // Linux 7.3 has a line for each function, too, after this one.
    let said = log.rsplit_once("verification time").map_or(log, |(said, _)| said);
    said.lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty() && !statistics.iter().any(|word| line.starts_with(word)))
}

/// Writes the log into a new file that only its owner may read.
fn write_log(log: &str) -> Result<PathBuf> {
    let mut file = tempfile::Builder::new()
        .prefix("gre-decap-verifier-")
        .suffix(".log")
        .tempfile()?;
    file.write_all(log.as_bytes())?;
    Ok(file.keep()?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifiers_last_words_come_before_its_statistics() {
        let log = "0: R1=ctx()\n; let x\n12: (71) r1 = *(u8 *)(r2 +0)\ninvalid access to packet, off=0 size=1, R2(id=0,off=0,r=0)\n\
                   R2 offset is outside of the packet\nverification time 42 usec\nstack depth 8\n\
                   processed 12 insns (limit 1000000) max_states_per_insn 0 total_states 0\n\n";
        assert_eq!(last_words(log), Some("R2 offset is outside of the packet"));
        let of_7_3 = log.replace("stack depth 8\n", "subprog 13 (refuse) insns_total 0 stack 0\n");
        assert_eq!(last_words(&of_7_3), Some("R2 offset is outside of the packet"));
        assert_eq!(last_words("processed 0 insns\n"), None);
        assert_eq!(last_words(""), None);
    }

    #[test]
    fn an_error_is_told_once() {
        let io_error = || io::Error::from_raw_os_error(libc::EINVAL);
        let error = EbpfError::MapError(MapError::CreateError {
            name: "X".into(),
            io_error: io_error(),
        });
        assert_eq!(
            chain(&error),
            "map error: failed to create map `X`: Invalid argument (os error 22)"
        );
        assert_eq!(os_error(&error).and_then(io::Error::raw_os_error), Some(libc::EINVAL));
    }

    #[test]
    fn no_bpf_is_told_plainly() {
        let error = MapError::CreateError {
            name: "X".into(),
            io_error: io::Error::from_raw_os_error(libc::ENOSYS),
        };
        let line = general(&error).unwrap().to_string();
        assert!(line.starts_with("this kernel has no BPF: "), "{line}");
    }
}
