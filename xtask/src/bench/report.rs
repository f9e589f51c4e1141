//! What the measuring program found, read and shown.

use std::{
    fmt::{self, Display},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result};
use gre_tests::figures::costs::{COUNTED, Group, Report};

use super::programs::Programs;

/// Groups of costs that are not held against the floor: they strip nothing.
const INTACT: [Group; 2] = [Group::NotOurs, Group::Refused];

/// Reads what `--json` has written.
pub(super) fn read(file: &Path) -> Result<Report> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{}: written by no `cargo xtask bench --json`", file.display()))
}

pub(super) struct Table<'a>(pub(super) &'a Report);

impl Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(report) = self;
        let floor = report.find(COUNTED).map(|cost| cost.median);
        writeln!(f, "{}; {} rounds", report.machine, report.rounds)?;
        writeln!(f, "The packet's own {}, without what the harness costs:\n", report.unit)?;
        writeln!(
            f,
            "  {:<45} {:>8} {:>17} {:>8} {:>8} {:>7}",
            "", "median", "middle half", "least", "harness", "floor"
        )?;
        let mut group = None;
        for row in &report.costs {
            if group != Some(row.group) {
                group = Some(row.group);
                writeln!(f, "{}", row.group)?;
            }
            let cost = &row.cost;
            let spread = format!("{:.2}–{:.2}", cost.low, cost.high);
            write!(
                f,
                "  {:<45} {:>8.2} {spread:>17} {:>8.2} {:>8.2}",
                row.name, cost.median, cost.least, cost.harness
            )?;
            match floor {
                Some(floor) if !INTACT.contains(&row.group) => writeln!(f, " {:>6.2}×", cost.median / floor)?,
                _ => writeln!(f)?,
            }
        }
        write!(f, "{}", Programs(&report.programs))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use gre_tests::figures::costs::{Cost, Row, Unit};

    use super::*;

    /// These costs, in nanoseconds, each with rounds that differ little.
    pub(in crate::bench) fn report(rows: &[(Group, &str, f64)]) -> Report {
        let costs = rows.iter().map(|(group, name, median)| Row {
            group: *group,
            name: (*name).to_owned(),
            cost: Cost {
                median: *median,
                low: median - 0.1,
                high: median + 0.1,
                least: *median,
                harness: 9.0,
            },
        });
        Report {
            machine: "a machine".into(),
            unit: Unit::Nanoseconds,
            rounds: 3,
            costs: costs.collect(),
            programs: Vec::new(),
        }
    }

    #[test]
    fn costs_are_shown_against_the_floor() {
        let report = report(&[
            (Group::Floor, COUNTED, 10.0),
            (Group::Stripped, "plain", 12.5),
            (Group::NotOurs, "ARP", 1.25),
        ]);
        let text = Table(&report).to_string();
        let line = |what: &str| text.lines().find(|line| line.contains(what)).unwrap();
        assert!(line("plain").ends_with("1.25×"), "{text}");
        assert!(line("ARP").ends_with("9.00"), "{text}");
        assert!(text.lines().any(|line| line == "not ours"), "{text}");
    }
}
