//! By how much our program is cheaper than the kernel's own GRE, and by how much it is to be.

use std::fmt::{self, Display};

use anyhow::Result;
use gre_tests::figures::kernel::{Fate, Figures, Receiver, Way};

/// What is compared, in instructions a packet.
struct Line {
    what: &'static str,
    kernel: f64,
    ours: f64,
    /// How many times less ours is to be.
    at_least: Option<f64>,
}

/// All comparisons on one kernel.
pub(super) struct Comparison {
    /// Straight into the receiver.
    step: Vec<Line>,
    /// What no decapsulator can be cheaper than there.
    floor: Line,
    /// Through the driver of a veth.
    driver: Vec<Line>,
}

impl Comparison {
    pub(super) fn of(figures: &Figures) -> Result<Self> {
        Ok(Self {
            step: of_way(figures, Way::Step)?,
            floor: Line {
                what: "floor: strip, one look-up, one counter",
                kernel: added(figures, Way::Step, Receiver::Kernel, Fate::Blackhole)?,
                ours: added(figures, Way::Step, Receiver::StripCounted, Fate::Blackhole)?,
                at_least: None,
            },
            driver: of_way(figures, Way::Driver)?,
        })
    }
}

/// What a receiver adds to a bare inner packet's way.
pub(super) fn added(figures: &Figures, way: Way, receiver: Receiver, fate: Fate) -> Result<f64> {
    Ok(figures.median(way, receiver, fate)? - figures.median(way, Receiver::Nobody, fate)?)
}

fn of_way(figures: &Figures, way: Way) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (what, fate) in [
        ("decapsulation adds, blackhole route", Fate::Blackhole),
        ("decapsulation adds, UDP socket", Fate::Socket),
    ] {
        lines.push(Line {
            what,
            kernel: added(figures, way, Receiver::Kernel, fate)?,
            ours: added(figures, way, Receiver::Ours, fate)?,
            at_least: Some(15.0),
        });
    }
    for (what, kernels, ours, at_least) in [
        (
            "forwarded, in all, to an interface",
            Fate::Forwarded,
            Fate::ToInterface,
            6.0,
        ),
        ("forwarded, in all, by route", Fate::Forwarded, Fate::ByRoute, 6.0),
        ("dropped, in all", Fate::Dropped, Fate::Dropped, 10.0),
    ] {
        lines.push(Line {
            what,
            kernel: figures.median(way, Receiver::Kernel, kernels)?,
            ours: figures.median(way, Receiver::Ours, ours)?,
            at_least: Some(at_least),
        });
    }
    Ok(lines)
}

impl Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n  {:<43} {:>6} {:>9} {:>8} {:>9}",
            "targets", "ip_gre", "gre-decap", "ratio", "at least"
        )?;
        for line in &self.step {
            write!(f, "{line}")?;
        }
        writeln!(f, "{}  through the driver of a veth", self.floor)?;
        for line in &self.driver {
            write!(f, "{line}")?;
        }
        Ok(())
    }
}

impl Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ratio = self.kernel / self.ours;
        write!(
            f,
            "  {:<43} {:>6} {:>9} {ratio:>7.1}×",
            self.what, self.kernel, self.ours
        )?;
        match self.at_least {
            Some(wanted) if ratio >= wanted => writeln!(f, " {wanted:>8}×  met"),
            Some(wanted) => writeln!(f, " {wanted:>8}×  missed"),
            None => writeln!(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::kernel::tests::complete;

    #[test]
    fn what_is_added_is_compared_and_misses_are_told() {
        let text = Comparison::of(&complete("6.12")).unwrap().to_string();
        let line = |what: &str| text.lines().find(|line| line.contains(what)).unwrap().trim_end();
        assert!(line("adds, blackhole").ends_with("25.0×       15×  met"), "{text}");
        assert!(line("adds, UDP").ends_with("8.0×       15×  missed"), "{text}");
        assert!(line("floor").ends_with("10.0×"), "{text}");
        assert!(line("to an interface").ends_with("6.0×        6×  met"), "{text}");
        assert!(line("by route").ends_with("3.0×        6×  missed"), "{text}");
        assert!(line("dropped").ends_with("20.0×       10×  met"), "{text}");
    }
}
