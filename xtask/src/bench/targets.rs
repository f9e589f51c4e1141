//! What the program is to reach, as ratios within one run.

use std::fmt::{self, Display};

use super::report::{COUNTED, Report};

/// A target and what was measured.
struct Target {
    what: String,
    reached: f64,
    at_most: f64,
    unit: &'static str,
}

/// All targets that the run has the figures for.
pub(super) struct Targets(Vec<Target>);

/// Holds a run against the targets.
pub(super) fn of(report: &Report) -> Targets {
    let median = |name: &str| report.find(name).map(|cost| cost.median);
    let mut targets = Vec::new();
    let mut add = |what: &str, reached: Option<f64>, at_most, unit| {
        targets.extend(reached.filter(|reached| reached.is_finite()).map(|reached| Target {
            what: what.to_owned(),
            reached,
            at_most,
            unit,
        }));
    };
    let ratio = |a: Option<f64>, b: Option<f64>| Some(a? / b?);
    let over = |a: Option<f64>, b: Option<f64>| Some(a? - b?);
    let plain = median("plain");
    add(
        "plain, to one look-up and one counter",
        ratio(plain, median(COUNTED)),
        1.25,
        "×",
    );
    for cost in report.group("not_ours") {
        // One look-up more, which is what the two floors differ by.
        let look_up = if cost.name.starts_with("GRE") {
            over(median(COUNTED), median("strip, no look-up")).unwrap_or_default()
        } else {
            0.0
        };
        add(
            &format!("{}, over an empty program", cost.name),
            Some(cost.median),
            2.0 + look_up,
            "ns",
        );
    }
    for name in [
        "outer IPv6",
        "one VLAN tag",
        "two VLAN tags",
        "key",
        "sequence, ignored",
        "sequence, ordered",
    ] {
        add(&format!("{name}, over plain"), over(median(name), plain), 5.0, "ns");
    }
    add(
        "100,000 tunnels, to one",
        ratio(median("100,000 tunnels"), median("1 tunnel")),
        1.5,
        "×",
    );
    for len in [512, 1500] {
        let checksum = over(
            median(&format!("checksum, {len} bytes")),
            median(&format!("plain, {len} bytes")),
        );
        let alone = median(&format!("bpf_csum_diff for wrong checksum, {len} bytes"));
        add(
            &format!("checksum of {len} bytes, to bpf_csum_diff"),
            ratio(checksum, alone),
            1.5,
            "×",
        );
    }
    Targets(targets)
}

impl Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.is_empty() {
            writeln!(f, "\n  {:<50} {:>9} {:>9}", "targets", "reached", "at most")?;
        }
        for target in &self.0 {
            let verdict = if target.reached <= target.at_most {
                ""
            } else {
                "  missed"
            };
            writeln!(
                f,
                "  {:<50} {:>6.2} {:<2} {:>6.2} {:<2}{verdict}",
                target.what, target.reached, target.unit, target.at_most, target.unit
            )?;
        }
        Ok(())
    }
}
