//! Times, and what is made of them.

use std::fs;

use anyhow::{Context, Result, ensure};
use gre_tests::figures::costs::Cost;
use nix::errno::Errno;
use nix::libc;
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

/// Processor and kernel.
pub(crate) fn machine() -> Result<String> {
    let processors = fs::read_to_string("/proc/cpuinfo").context("read /proc/cpuinfo")?;
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let system = nix::sys::utsname::uname()?;
    let release = system.release().to_string_lossy();
    Ok(format!(
        "{}, Linux {release}",
        model.map_or("unknown processor", |(_, model)| model)
    ))
}

/// Refuses to measure programs that the kernel interprets: nobody runs them so.
pub(crate) fn ensure_compiled() -> Result<()> {
    let path = "/proc/sys/net/core/bpf_jit_enable";
    let enabled = fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    ensure!(enabled.trim() == "1", "{path} holds {}, not 1: set it", enabled.trim());
    Ok(())
}

/// Puts this thread on one core, before all that is not real-time. Where that is not allowed it says so: the spread will show it.
pub(crate) fn settle() -> Result<()> {
    let this_thread = Pid::from_raw(0);
    let mut one = CpuSet::new();
    one.set(sched_getcpu().context("the core of this thread")?)?;
    sched_setaffinity(this_thread, &one).context("stay on one core")?;
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: the call reads the parameters and nothing else.
    let set = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
    if let Err(error) = Errno::result(set) {
        eprintln!("no real-time priority ({error}): other programs will be in the way");
    }
    Ok(())
}

/// The nanoseconds that one run took on average, for each batch of a measurement.
pub(crate) struct Times(Vec<f64>);

impl Times {
    /// From the times at which batches of so many runs began.
    pub(crate) fn between(began: &[u64], batch: u64) -> Self {
        let each = began.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / batch as f64);
        Self(each.collect())
    }

    fn median(&self) -> f64 {
        quantile(&self.0, 0.5)
    }

    fn least(&self) -> f64 {
        quantile(&self.0, 0.0)
    }
}

/// The measurements of all rounds.
#[derive(Default)]
pub(crate) struct Series {
    /// Each round's difference of the medians.
    net: Vec<f64>,
    /// What the harness alone takes.
    base: Vec<f64>,
    least: Vec<f64>,
    least_base: Vec<f64>,
}

impl Series {
    /// One round: the harness's own times before and after.
    pub(crate) fn add(&mut self, before: &Times, run: &Times, after: &Times) {
        let base = f64::midpoint(before.median(), after.median());
        self.net.push(run.median() - base);
        self.base.push(base);
        self.least.push(run.least());
        self.least_base.extend([before.least(), after.least()]);
    }

    pub(crate) fn cost(&self) -> Cost {
        let of = |values: &[f64], part| (quantile(values, part) * 100.0).round() / 100.0;
        Cost {
            median: of(&self.net, 0.5),
            low: of(&self.net, 0.25),
            high: of(&self.net, 0.75),
            least: of(&[quantile(&self.least, 0.0) - quantile(&self.least_base, 0.0)], 0.0),
            harness: of(&self.base, 0.5),
        }
    }
}

/// The value that this part of all is not above.
pub(crate) fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted
        .get((last as f64 * part).round() as usize)
        .copied()
        .unwrap_or(f64::NAN)
}
