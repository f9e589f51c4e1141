//! What the program is to reach, as ratios and differences within one run.

use std::fmt::{self, Display};

use gre_tests::figures::costs::{self, COUNTED, Cost, Group, Report, STRIPPED, Unit};

/// What to take of a cost.
type Figure = fn(&Cost) -> f64;

/// A target.
struct Target {
    what: String,
    at_most: f64,
    unit: &'static str,
    /// By the medians; none if it was not measured.
    reached: Option<f64>,
    /// By the least batches.
    by_least: Option<f64>,
}

/// All targets, with what a run has reached.
pub(super) struct Targets(Vec<Target>);

/// Holds a run against the targets.
pub(super) fn of(report: &Report) -> Targets {
    let by_median = Reached::of(report, |cost| cost.median);
    let by_least = Reached::of(report, |cost| cost.least);
    let targets = by_median.0.into_iter().zip(by_least.0).map(|(median, least)| Target {
        reached: median.reached,
        by_least: least.reached,
        ..median
    });
    Targets(targets.collect())
}

/// The targets by one figure of each cost.
struct Reached(Vec<Target>);

impl Reached {
    fn of(report: &Report, figure: Figure) -> Self {
        let cost = |name: &str| report.find(name).map(figure);
        let mut all = Self(Vec::new());
        let plain = cost("plain");
        all.ratio("plain, to one look-up and one counter", plain, cost(COUNTED), 1.25);
        // In nanoseconds: what counts in them says nothing in instructions.
        if report.unit == Unit::Nanoseconds {
            // One look-up more, which is what the two floors differ by.
            let look_up = difference(cost(COUNTED), cost(STRIPPED)).unwrap_or_default();
            let not_ours = report.group(Group::NotOurs);
            for row in not_ours.filter(|row| !costs::is_bare(&row.name)) {
                let more = if row.name.starts_with("GRE") { look_up } else { 0.0 };
                let what = format!("{}, over an empty program", row.name);
                all.add(what, Some(figure(&row.cost)), 2.0 + more, "ns");
            }
            for name in [
                "outer IPv6",
                "one VLAN tag",
                "two VLAN tags",
                "key",
                "sequence, ignored",
                "sequence, ordered",
            ] {
                all.add(format!("{name}, over plain"), difference(cost(name), plain), 5.0, "ns");
            }
        }
        for name in ["plain", "IPv4 TCP"] {
            all.what_is_off(report, name, figure);
        }
        all.ratio(
            "100,000 tunnels, to one",
            cost("100,000 tunnels"),
            cost("1 tunnel"),
            1.5,
        );
        let checksum = difference(cost("checksum, 1500 bytes"), cost("plain, 1500 bytes"));
        let alone = cost("bpf_csum_diff for wrong checksum, 1500 bytes");
        all.ratio("checksum of 1,500 bytes, to bpf_csum_diff", checksum, alone, 1.5);
        all
    }

    /// What is off is not to be told from noise: the middle halves of both series overlap, or lie no farther apart than they are
    /// wide. Instructions have no noise.
    fn what_is_off(&mut self, report: &Report, name: &str, figure: Figure) {
        let (with, without) = (report.find(name), report.find(&costs::bare(name)));
        let noise = with.zip(without).map_or(0.0, |(with, without)| {
            (with.high - with.low).max(without.high - without.low)
        });
        self.add(
            format!("what is off, for {name}"),
            difference(with.map(figure), without.map(figure)),
            noise,
            match report.unit {
                Unit::Nanoseconds => "ns",
                Unit::Instructions => "",
            },
        );
    }

    fn ratio(&mut self, what: &str, a: Option<f64>, b: Option<f64>, at_most: f64) {
        let ratio = || Some(a? / b?);
        self.add(what.to_owned(), ratio(), at_most, "×");
    }

    fn add(&mut self, what: String, reached: Option<f64>, at_most: f64, unit: &'static str) {
        self.0.push(Target {
            what,
            at_most,
            unit,
            reached: reached.filter(|reached| reached.is_finite()),
            by_least: None,
        });
    }
}

fn difference(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    Some(a? - b?)
}

impl Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let measured = self
            .0
            .iter()
            .filter_map(|target| Some((target, target.reached?, target.by_least?)));
        writeln!(
            f,
            "\n  {:<50} {:>9} {:>9} {:>9}",
            "targets", "median", "by least", "at most"
        )?;
        for (target, reached, by_least) in measured {
            let verdict = if reached <= target.at_most { "met" } else { "missed" };
            let unit = target.unit;
            writeln!(
                f,
                "  {:<50} {reached:>6.2} {unit:<2} {by_least:>6.2} {unit:<2} {:>6.2} {unit:<2}  {verdict}",
                target.what, target.at_most
            )?;
        }
        for target in self.0.iter().filter(|target| target.reached.is_none()) {
            writeln!(f, "  {:<50} not measured", target.what)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::report;

    /// Costs of which some reach what they are to.
    fn measured() -> Report {
        report(&[
            (Group::Floor, STRIPPED, 6.0),
            (Group::Floor, COUNTED, 10.0),
            (Group::Stripped, "plain", 13.0),
            (Group::Stripped, "plain, built without what is off", 12.9),
            (Group::Stripped, "key", 17.5),
            (Group::Tunnels, "1 tunnel", 13.0),
            (Group::Tunnels, "100,000 tunnels", 18.0),
            (Group::NotOurs, "ARP", 2.5),
            (Group::NotOurs, "IPv4 TCP", 1.5),
            (Group::NotOurs, "IPv4 TCP, built without what is off", 1.0),
            (Group::NotOurs, "GRE to another host", 5.5),
        ])
    }

    #[test]
    fn each_target_is_met_missed_or_not_measured() {
        let mut run = measured();
        run.costs[2].cost.least = 11.0;
        let text = of(&run).to_string();
        let line = |what: &str| text.lines().find(|line| line.contains(what)).unwrap();
        assert!(
            line("plain, to one look-up").ends_with("1.30 ×    1.10 ×    1.25 ×   missed"),
            "{text}"
        );
        assert!(line("100,000").ends_with("1.38 ×    1.38 ×    1.50 ×   met"), "{text}");
        assert!(line("ARP").ends_with("2.50 ns   2.50 ns   2.00 ns  missed"), "{text}");
        assert!(
            line("GRE to another").ends_with("5.50 ns   5.50 ns   6.00 ns  met"),
            "{text}"
        );
        assert!(line("key").ends_with("met"), "{text}");
        assert!(
            line("is off, for plain").ends_with("0.10 ns  -1.90 ns   0.20 ns  met"),
            "{text}"
        );
        assert!(
            line("is off, for IPv4 TCP").ends_with("0.50 ns   0.50 ns   0.20 ns  missed"),
            "{text}"
        );
        assert!(!text.contains("what is off, over"), "{text}");
        assert!(line("outer IPv6").ends_with("not measured"), "{text}");
        assert!(line("bpf_csum_diff").ends_with("not measured"), "{text}");
    }

    #[test]
    fn nanoseconds_are_not_held_against_instructions() {
        let run = Report {
            unit: Unit::Instructions,
            ..measured()
        };
        let text = of(&run).to_string();
        assert!(!text.contains("ns") && text.contains("100,000 tunnels"), "{text}");
    }
}
