//! The kernel's memory that the maps take.

use crate::config::Config;
use crate::memory::Demand;
use crate::table::unit;

use super::super::facts::MemoryFacts;
use super::super::finding::{Finding, Severity};
use super::unknown;

const MEMORY: &str = "memory";

/// Less than this is not worth a word.
const WORTH_A_NOTE: u64 = 64 << 20;

pub(super) fn judge(facts: &MemoryFacts, config: &Config) -> Option<Finding> {
    let (cpus, available) = match (&facts.possible_cpus, &facts.available) {
        (Ok(cpus), Ok(available)) => (*cpus, *available),
        (Err(why), _) | (_, Err(why)) => {
            let question = "whether there is enough for the maps";
            return Some(unknown(MEMORY, question, why, "run `free`"));
        }
    };
    let demand = Demand::of(config);
    let needed = demand.bytes(cpus);
    let severity = match needed {
        _ if needed > available => Severity::Error,
        _ if needed > available / 4 => Severity::Warning,
        _ if needed > WORTH_A_NOTE => Severity::Note,
        _ => return None,
    };
    let unit = |bytes| unit(bytes as f64, "B");
    Some(Finding::new(
        severity,
        MEMORY,
        format!(
            "`max_tunnels` = {} takes {} of {} available: {} for each, most of them for counters of each of {cpus} CPUs",
            config.max_tunnels,
            unit(needed),
            unit(available),
            unit(demand.bytes_per_tunnel(cpus)),
        ),
        format!(
            "set `max_tunnels` to what you need; the remotes in the file are {}",
            config.tunnels.iter().map(|tunnel| tunnel.remotes.len()).sum::<usize>()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_found, denied};
    use super::*;

    #[test]
    fn memory_is_told_by_how_much_there_is() {
        let case = |max_tunnels, available| {
            move |case: &mut super::super::tests::Case| {
                case.config.max_tunnels = max_tunnels;
                case.facts.memory.available = Ok(available);
            }
        };
        assert_found(case(1024, 1 << 30), &[]);
        let found = |max_tunnels, available: u64| {
            let mut judged = super::super::tests::Case::good();
            case(max_tunnels, available)(&mut judged);
            judge(&judged.facts.memory, &judged.config).map(|finding| finding.severity)
        };
        assert_eq!(found(100_000, 1 << 40), Some(Severity::Note));
        assert_eq!(found(100_000, 400 << 20), Some(Severity::Warning));
        assert_eq!(found(100_000, 50 << 20), Some(Severity::Error));
    }

    #[test]
    fn the_line_says_what_it_is_for() {
        let mut case = super::super::tests::Case::good();
        case.config.max_tunnels = 100_000;
        case.facts.memory.available = Ok(8_000_000_000);
        let line = judge(&case.facts.memory, &case.config).map(|finding| finding.to_string());
        let line = line.unwrap_or_default();
        assert!(
            line.starts_with("note: memory: `max_tunnels` = 100000 takes 1"),
            "{line}"
        );
        assert!(line.contains("MB of 8 GB available"), "{line}");
        assert!(
            line.ends_with(
                "for counters of each of 2 CPUs; set `max_tunnels` to what you need; the remotes in the file are 1"
            ),
            "{line}"
        );
    }

    #[test]
    fn what_is_not_known_is_said() {
        assert_found(
            |case| case.facts.memory.available = Err(denied()),
            &[
                "note: memory: cannot tell whether there is enough for the maps: Operation not permitted (os error 1); run `free`",
            ],
        );
    }
}
