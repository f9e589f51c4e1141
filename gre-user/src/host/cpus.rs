//! The CPUs of this host.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};

const ONLINE: &str = "/sys/devices/system/cpu/online";
const POSSIBLE: &str = "/sys/devices/system/cpu/possible";

/// The numbers of the CPUs that are online, ascending: those that a CPUMAP takes.
///
/// # Errors
///
/// If sysfs does not tell.
pub fn online_cpus() -> Result<Vec<u32>> {
    Ok(read(ONLINE)?.into_iter().collect())
}

/// How many numbers of CPUs there are: one more than the highest that this kernel can ever have online. There may be
/// gaps below it.
///
/// # Errors
///
/// If sysfs does not tell.
pub fn possible_cpus() -> Result<u32> {
    let last = read(POSSIBLE)?.pop_last();
    last.and_then(|last| last.checked_add(1))
        .with_context(|| format!("{POSSIBLE}: lists no CPU"))
}

fn read(path: &str) -> Result<BTreeSet<u32>> {
    let list = fs::read_to_string(path).with_context(|| format!("{path}: cannot be read"))?;
    parse(&list).with_context(|| format!("{path}: no list of CPUs: {:?}", list.trim_end()))
}

/// The kernel's list format (`bitmap_print_to_pagebuf()`): "0-3,6", and nothing at all for an empty list.
fn parse(list: &str) -> Option<BTreeSet<u32>> {
    let mut cpus = BTreeSet::new();
    for part in list.trim_end().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lists() {
        for (list, cpus) in [
            ("0\n", &[0][..]),
            ("0-1\n", &[0, 1]),
            ("0-2,5,8-9\n", &[0, 1, 2, 5, 8, 9]),
            ("\n", &[]),
        ] {
            assert_eq!(parse(list), Some(cpus.iter().copied().collect()), "{list:?}");
        }
        for list in ["x\n", "0-\n", "0-1-2\n", "-1\n"] {
            assert_eq!(parse(list), None, "{list:?}");
        }
    }

    #[test]
    fn online_ones_are_possible() {
        let (online, possible) = (online_cpus().expect("sysfs"), possible_cpus().expect("sysfs"));
        assert!(!online.is_empty());
        assert!(online.iter().all(|&cpu| cpu < possible), "{online:?}, {possible}");
    }
}
