//! `spread`: over which cores a tunnel's flows are spread.

use std::collections::BTreeSet;
use std::fmt;

use super::error::ConfigError;
use super::item::Item;

/// The highest core number that any Linux can have: `NR_CPUS` is 8192 at most.
const MAX_CPU: u32 = 8191;

/// The cores over which a tunnel's inner flows are spread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spread {
    /// None: packets stay on the core that received them.
    Off,
    /// Every core that is online.
    All,
    /// These cores, ascending, none twice, at least one.
    Cpus(Vec<u32>),
}

impl Spread {
    pub(super) fn read(item: &Item<'_>) -> Result<Self, ConfigError> {
        match item.string() {
            Some("off") => Ok(Self::Off),
            Some("all") => Ok(Self::All),
            Some(list) => cpus(list).map(Self::Cpus).map_err(|message| item.error(message)),
            None => Err(item.expected("\"off\", \"all\" or a list of cores such as \"0-3,6\"")),
        }
    }
}

/// Parses the kernel's list format (`cpuset(7)`, List format) without its strides.
fn cpus(list: &str) -> Result<Vec<u32>, String> {
    let mut cpus = BTreeSet::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Some(first), Some(last)) = (cpu(first), cpu(last)) else {
            let list = super::error::excerpt(list);
            return Err(format!(
                "expected \"off\", \"all\" or a list of cores from 0 to {MAX_CPU} such as \"0-3,6\", found \"{list}\""
            ));
        };
        if first > last {
            return Err(format!("the range {first}-{last} runs backward; write {last}-{first}"));
        }
        for cpu in first..=last {
            if !cpus.insert(cpu) {
                return Err(format!("core {cpu} is listed twice; remove one"));
            }
        }
    }
    Ok(cpus.into_iter().collect())
}

fn cpu(number: &str) -> Option<u32> {
    // `parse` alone would take a plus sign.
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse().ok().filter(|&cpu| digits && cpu <= MAX_CPU)
}

/// The value as the file has it, with neighbouring cores as ranges.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpus = match self {
            Self::Off => return f.write_str("off"),
            Self::All => return f.write_str("all"),
            Self::Cpus(cpus) => cpus,
        };
        let runs = cpus.chunk_by(|cpu, next| cpu.checked_add(1) == Some(*next));
        for (index, run) in runs.enumerate() {
            let separator = if index == 0 { "" } else { "," };
            match run {
                [first, .., last] => write!(f, "{separator}{first}-{last}")?,
                [cpu] => write!(f, "{separator}{cpu}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_tunnel_errors, valid_tunnel};
    use super::*;

    #[test]
    fn values() {
        for (text, cpus, shown) in [
            ("0", vec![0], "0"),
            ("0-3,6", vec![0, 1, 2, 3, 6], "0-3,6"),
            // By number, not by spelling.
            ("10,9,2", vec![2, 9, 10], "2,9-10"),
            ("8191,5-5", vec![5, 8191], "5,8191"),
        ] {
            let spread = valid_tunnel(&format!("spread = '{text}'")).spread;
            assert_eq!(spread.to_string(), shown);
            assert_eq!(spread, Spread::Cpus(cpus));
        }
        assert_eq!(valid_tunnel("spread = 'all'").spread, Spread::All);
        assert_eq!(valid_tunnel("spread = 'off'").spread.to_string(), "off");
    }

    #[test]
    fn errors() {
        const LIST: &str =
            "key `spread`: expected \"off\", \"all\" or a list of cores from 0 to 8191 such as \"0-3,6\", found";
        assert_tunnel_errors(&[
            (
                "spread = 4",
                "key `spread`: expected \"off\", \"all\" or a list of cores such as \"0-3,6\", found 4",
            ),
            ("spread = ''", &format!("{LIST} \"\"")),
            ("spread = '0-'", &format!("{LIST} \"0-\"")),
            ("spread = '-3'", &format!("{LIST} \"-3\"")),
            ("spread = '0,,1'", &format!("{LIST} \"0,,1\"")),
            ("spread = '+1'", &format!("{LIST} \"+1\"")),
            ("spread = '0-2-4'", &format!("{LIST} \"0-2-4\"")),
            ("spread = '8192'", &format!("{LIST} \"8192\"")),
            ("spread = '0-4294967295'", &format!("{LIST} \"0-4294967295\"")),
            ("spread = '3-1'", "key `spread`: the range 3-1 runs backward; write 1-3"),
            ("spread = '0-3,2'", "key `spread`: core 2 is listed twice; remove one"),
        ]);
    }
}
