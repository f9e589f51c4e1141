//! What a process uses until it ends.

use std::{
    fs,
    process::Child,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// How often a process is looked at: what it allocates after the last look is missed.
const PAUSE: Duration = Duration::from_micros(500);

/// What a process has used.
pub(super) struct Usage {
    pub(super) seconds: f64,
    /// None if it ended before the first look.
    pub(super) peak_memory_bytes: Option<u64>,
    pub(super) succeeded: bool,
}

/// Waits for the end of a process that was started at this time.
///
/// (getrusage(2) knows the memory as well, but counts what this process had when it forked.)
pub(super) fn wait(child: &mut Child, started: Instant) -> Result<Usage> {
    let status = format!("/proc/{}/status", child.id());
    let mut peak_memory_bytes = None;
    loop {
        // A process that ends has no memory any more.
        let peak = fs::read_to_string(&status).ok().and_then(|status| peak(&status));
        peak_memory_bytes = peak_memory_bytes.max(peak);
        if let Some(status) = child.try_wait().context("wait for gre-decap")? {
            return Ok(Usage {
                seconds: started.elapsed().as_secs_f64(),
                peak_memory_bytes,
                succeeded: status.success(),
            });
        }
        thread::sleep(PAUSE);
    }
}

/// VmHWM of proc_pid_status(5), in bytes.
fn peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(1024 * kilobytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_as_the_kernel_writes_it() {
        let status = "Name:\tgre-decap\nVmPeak:\t   99 kB\nVmHWM:\t    5096 kB\nThreads:\t1\n";
        assert_eq!(peak(status), Some(5096 * 1024));
        assert_eq!(peak("Name:\tgre-decap\nState:\tZ (zombie)\n"), None);
    }
}
