//! By how much our program is cheaper than the kernel's own GRE, and by how much it is to be.

use std::fmt::{self, Display};

use anyhow::Result;
use gre_tests::figures::kernel::{Fate, Figures, Receiver, Way};

/// What is compared, in instructions a packet.
struct Line {
    what: &'static str,
    kernel: f64,
    ours: f64,
    /// What a program takes that does no more than cannot be left out, where that was measured.
    floor: Option<f64>,
    /// How many times less ours is to be.
    at_least: f64,
}

/// All comparisons on one kernel.
pub(super) struct Comparison {
    /// Straight into the receiver.
    step: Vec<Line>,
    /// Through the driver of a veth.
    driver: Vec<Line>,
}

impl Comparison {
    pub(super) fn of(figures: &Figures) -> Result<Self> {
        let mut step = of_way(figures, Way::Step)?;
        for (line, floor) in step.iter_mut().zip(floors(figures)?) {
            line.floor = floor;
        }
        Ok(Self {
            step,
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
            floor: None,
            at_least: 15.0,
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
            floor: None,
            at_least,
        });
    }
    Ok(lines)
}

/// What cannot be left out, line by line as in [`of_way`]: one look-up and one counter; to send the packet on; that the frame lived.
fn floors(figures: &Figures) -> Result<[Option<f64>; 5]> {
    let step = |receiver, fate| figures.median(Way::Step, receiver, fate);
    Ok([
        Some(added(figures, Way::Step, Receiver::StripCounted, Fate::Blackhole)?),
        None,
        Some(step(Receiver::Strip, Fate::ToInterface)?),
        Some(step(Receiver::Strip, Fate::ByRoute)?),
        Some(step(Receiver::Nobody, Fate::Untouched)?),
    ])
}

impl Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n  {:<39} {:>6} {:>9} {:>6} {:>8} {:>6} {:>9}",
            "targets", "ip_gre", "gre-decap", "floor", "ratio", "floor", "at least"
        )?;
        for line in &self.step {
            write!(f, "{line}")?;
        }
        writeln!(f, "  through the driver of a veth")?;
        for line in &self.driver {
            write!(f, "{line}")?;
        }
        Ok(())
    }
}

impl Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, at_least, .. } = self;
        let ratio = self.kernel / self.ours;
        let (floor, most) = match self.floor {
            Some(floor) => (floor.to_string(), format!("{:.1}×", self.kernel / floor)),
            None => Default::default(),
        };
        let met = if ratio >= *at_least { "met" } else { "missed" };
        writeln!(
            f,
            "  {what:<39} {:>6} {:>9} {floor:>6} {ratio:>7.1}× {most:>6} {at_least:>8}×  {met}",
            self.kernel, self.ours
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::kernel::tests::complete;

    #[test]
    fn what_is_added_is_compared_and_misses_are_told() {
        let text = Comparison::of(&complete("6.12")).unwrap().to_string();
        let line = |what: &str| {
            let line = text.lines().find(|line| line.contains(what)).unwrap();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        for (what, end) in [
            ("adds, blackhole", "100 250 25.0× 10.0× 15× met"),
            ("adds, UDP", "300 8.0× 15× missed"),
            ("to an interface", "1000 900 6.0× 6.7× 6× met"),
            ("by route", "2020 1500 3.0× 4.0× 6× missed"),
            ("dropped", "200 500 20.0× 8.0× 10× met"),
        ] {
            assert!(line(what).ends_with(end), "{text}");
        }
    }
}
