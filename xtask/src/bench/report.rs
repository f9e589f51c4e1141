//! What the measuring program found: read, shown, compared.

use std::{
    fmt::{self, Display, Write as _},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// What `tests/bench` writes.
#[derive(Deserialize)]
pub(super) struct Report {
    machine: String,
    /// What costs are in.
    pub(super) unit: String,
    rounds: u32,
    costs: Vec<Cost>,
    programs: Vec<Program>,
}

/// What a run costs, less the harness's.
#[derive(Deserialize)]
pub(super) struct Cost {
    group: String,
    pub(super) name: String,
    pub(super) median: f64,
    low: f64,
    high: f64,
    least: f64,
    harness: f64,
}

#[derive(Deserialize)]
struct Program {
    shape: String,
    program: String,
    verified_instructions: u32,
    instruction_bytes: u32,
    machine_code_bytes: u32,
    load_milliseconds: f64,
}

/// The group of what no decapsulator can be cheaper than.
const FLOOR: &str = "floor";
/// The floor that costs are held against.
pub(super) const COUNTED: &str = "strip, one look-up, one counter";
/// Groups of costs that are not held against it: they strip nothing.
const INTACT: [&str; 2] = ["not_ours", "refused"];
/// What is slower by less is not told from noise.
const NOTICEABLE: f64 = 1.05;

impl Report {
    pub(super) fn parse(text: &str) -> Result<Self> {
        Ok(serde_json::from_str(text)?)
    }

    pub(super) fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        Self::parse(&text).with_context(|| format!("{}: written by no `cargo xtask bench --json`", file.display()))
    }

    /// What was measured under this name.
    pub(super) fn find(&self, name: &str) -> Option<&Cost> {
        self.costs.iter().find(|cost| cost.name == name)
    }

    pub(super) fn group(&self, group: &str) -> impl Iterator<Item = &Cost> {
        self.costs.iter().filter(move |cost| cost.group == group)
    }

    /// Whether anything was measured in both, in the same unit.
    pub(super) fn shares_with(&self, other: &Self) -> bool {
        self.unit == other.unit && self.costs.iter().any(|cost| other.find(&cost.name).is_some())
    }

    /// What got slower since `baseline`. Machines differ, and one machine from hour to hour, so costs are held in units of each
    /// run's own floor where both have it.
    pub(super) fn against(&self, baseline: &Self) -> String {
        let unit = match (self.find(COUNTED), baseline.find(COUNTED)) {
            (Some(now), Some(then)) if now.median > 0.0 && then.median > 0.0 => now.median / then.median,
            _ => 1.0,
        };
        let mut text = format!(
            "\nSlower than the baseline, whose {} count {unit:.2} here:\n",
            baseline.unit
        );
        let before = text.len();
        for now in self.costs.iter().filter(|cost| cost.group != FLOOR) {
            let Some(then) = baseline.find(&now.name) else {
                continue;
            };
            let is_slower = now.median > then.median * unit * NOTICEABLE + 0.5 && now.low > then.high * unit;
            if is_slower {
                let line = writeln!(
                    text,
                    "  {:<45} {:>7.2} {}, was {:.2}",
                    now.name,
                    now.median,
                    self.unit,
                    then.median * unit
                );
                line.expect("a String takes all");
            }
        }
        if text.len() == before {
            text.push_str("  nothing\n");
        }
        text
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let floor = self.find(COUNTED).map(|cost| cost.median);
        writeln!(f, "{}; {} rounds", self.machine, self.rounds)?;
        writeln!(f, "The packet's own {}, without what the harness costs:\n", self.unit)?;
        writeln!(
            f,
            "  {:<45} {:>8} {:>17} {:>8} {:>8} {:>7}",
            "", "median", "middle half", "least", "harness", "floor"
        )?;
        let mut group = "";
        for cost in &self.costs {
            if cost.group != group {
                group = &cost.group;
                writeln!(f, "{}", group.replace('_', " "))?;
            }
            let spread = format!("{:.2}–{:.2}", cost.low, cost.high);
            write!(
                f,
                "  {:<45} {:>8.2} {spread:>17} {:>8.2} {:>8.2}",
                cost.name, cost.median, cost.least, cost.harness
            )?;
            match floor {
                Some(floor) if !INTACT.contains(&group) => writeln!(f, " {:>6.2}×", cost.median / floor)?,
                _ => writeln!(f)?,
            }
        }
        writeln!(
            f,
            "\n  {:<30} {:<12} {:>9} {:>12} {:>13} {:>9}",
            "programs, as loaded for", "", "verified", "instructions", "machine code", "load"
        )?;
        for program in &self.programs {
            writeln!(
                f,
                "  {:<30} {:<12} {:>9} {:>12} {:>7} bytes {:>6.1} ms",
                program.shape,
                program.program,
                program.verified_instructions,
                program.instruction_bytes / 8,
                program.machine_code_bytes,
                program.load_milliseconds
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two costs, in nanoseconds, and the floor's.
    fn report(floor: f64, plain: f64, key: f64) -> Report {
        let cost = |group: &str, name: &str, median: f64| Cost {
            group: group.into(),
            name: name.into(),
            median,
            low: median - 0.1,
            high: median + 0.1,
            least: median,
            harness: 9.0,
        };
        Report {
            machine: "a machine".into(),
            unit: "nanoseconds".into(),
            rounds: 3,
            costs: vec![
                cost(FLOOR, COUNTED, floor),
                cost("stripped", "plain", plain),
                cost("stripped", "key", key),
            ],
            programs: Vec::new(),
        }
    }

    #[test]
    fn slower_is_what_grew_more_than_the_floor() {
        let then = report(10.0, 12.0, 20.0);
        assert!(report(20.0, 24.0, 40.0).against(&then).ends_with("nothing\n"));
        let text = report(20.0, 24.0, 50.0).against(&then);
        assert!(text.contains("key") && !text.contains("plain"), "{text}");
    }

    #[test]
    fn baselines_of_other_packets_are_told() {
        let mut other = report(10.0, 12.0, 20.0);
        other.costs.retain(|cost| cost.name == "key");
        assert!(report(1.0, 1.0, 1.0).shares_with(&other));
        other.costs.clear();
        assert!(!report(1.0, 1.0, 1.0).shares_with(&other));
    }

    #[test]
    fn costs_are_shown_against_the_floor() {
        let text = report(10.0, 12.5, 20.0).to_string();
        assert!(
            text.lines()
                .any(|line| line.contains("plain") && line.ends_with("1.25×")),
            "{text}"
        );
    }
}
