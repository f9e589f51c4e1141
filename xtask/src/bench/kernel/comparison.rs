//! By how much our program is cheaper than the kernel's own GRE, and by how much it is to be.

use std::fmt::{self, Display};

use anyhow::Result;

use super::{Fate, Figures, Receiver, Way};

/// What is compared, in instructions a packet.
struct Line {
    what: &'static str,
    kernel: f64,
    ours: f64,
    /// How many times less ours is to be.
    at_least: Option<f64>,
}

/// All comparisons on one kernel.
pub(super) struct Comparison(Vec<Line>);

impl Comparison {
    pub(super) fn of(figures: &Figures) -> Result<Self> {
        let mut lines = Vec::new();
        for way in [Way::Step, Way::Driver] {
            let is_step = way == Way::Step;
            let median = |receiver, fate| figures.median(way, receiver, fate);
            let added =
                |receiver, fate| Ok::<_, anyhow::Error>(median(receiver, fate)? - median(Receiver::Nobody, fate)?);
            let mut add = |what: [&'static str; 2], kernel, ours, at_least| {
                lines.push(Line {
                    what: what[usize::from(!is_step)],
                    kernel,
                    ours,
                    at_least: Some(at_least).filter(|_| is_step),
                });
            };
            add(
                ["decapsulation adds, blackhole route", "the same, through the driver"],
                added(Receiver::Kernel, Fate::Blackhole)?,
                added(Receiver::Ours, Fate::Blackhole)?,
                15.0,
            );
            add(
                ["decapsulation adds, UDP socket", "the same, through the driver"],
                added(Receiver::Kernel, Fate::Socket)?,
                added(Receiver::Ours, Fate::Socket)?,
                15.0,
            );
            add(
                ["forwarded, in all, to an interface", "the same, through the driver"],
                median(Receiver::Kernel, Fate::Forwarded)?,
                median(Receiver::Ours, Fate::ToInterface)?,
                6.0,
            );
            add(
                ["forwarded, in all, by route", "the same, through the driver"],
                median(Receiver::Kernel, Fate::Forwarded)?,
                median(Receiver::Ours, Fate::ByRoute)?,
                6.0,
            );
            add(
                ["dropped, in all", "the same, through the driver"],
                median(Receiver::Kernel, Fate::Dropped)?,
                median(Receiver::Ours, Fate::Dropped)?,
                10.0,
            );
        }
        Ok(Self(lines))
    }
}

impl Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n  {:<39} {:>9} {:>9} {:>8} {:>9}",
            "comparison", "ip_gre", "gre-decap", "ratio", "at least"
        )?;
        for line in &self.0 {
            let ratio = line.kernel / line.ours;
            write!(
                f,
                "  {:<39} {:>9} {:>9} {ratio:>7.1}×",
                line.what, line.kernel, line.ours
            )?;
            match line.at_least {
                Some(wanted) if ratio < wanted => writeln!(f, " {wanted:>8}×  missed")?,
                Some(wanted) => writeln!(f, " {wanted:>8}×")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}
