//! How busy each CPU is with the work that XDP programs are part of: the kernel's soft interrupts.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

const STAT: &str = "/proc/stat";
/// Where a CPU's line of proc_stat(5) has the time spent in soft interrupts, after its name.
const SOFTIRQ: usize = 6;
/// How many times there are before those that are counted twice (guests').
const TIMES: usize = 8;

/// What each CPU has done since the machine started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuTimes {
    /// Time in soft interrupts and all time, in ticks, by CPU.
    by_cpu: BTreeMap<u32, (u64, u64)>,
}

impl CpuTimes {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// If the kernel does not say.
    pub fn read() -> Result<Self> {
        let text = fs::read_to_string(STAT).with_context(|| format!("{STAT}: cannot be read"))?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let mut fields = line.split_whitespace();
            let cpu = fields.next()?.strip_prefix("cpu")?.parse().ok()?;
            let times: Vec<u64> = fields.take(TIMES).map_while(|field| field.parse().ok()).collect();
            Some((cpu, (*times.get(SOFTIRQ)?, times.iter().sum())))
        };
        Self {
            by_cpu: text.lines().filter_map(line).collect(),
        }
    }

    /// The share of its time that each CPU has spent in soft interrupts since `before`.
    pub fn load_since(&self, before: &Self) -> Vec<(u32, f64)> {
        let load = |(cpu, now): (&u32, &(u64, u64))| {
            let then = before.by_cpu.get(cpu).copied().unwrap_or_default();
            let all = now.1.saturating_sub(then.1);
            (*cpu, now.0.saturating_sub(then.0) as f64 / all.max(1) as f64)
        };
        self.by_cpu.iter().map(load).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_are_shares_of_the_time_between() {
        let before = CpuTimes::parse(
            "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 10 0 10 80 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 5 0 0 0\nintr 5\n",
        );
        let after =
            CpuTimes::parse("cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 10 0 10 130 0 0 50 0 7 7\ncpu1 0 0 0 100 0 0 5 0 0 0\n");
        assert_eq!(after.load_since(&before), [(0, 0.5), (1, 0.0)]);
        assert!(CpuTimes::read().is_ok_and(|times| !times.by_cpu.is_empty()));
    }
}
