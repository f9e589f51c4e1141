//! What was measured on one kernel, as a table.

use std::fmt::{self, Display};

use gre_tests::figures::kernel::{Case, Fate, Figures, Receiver, Way};

use crate::bench::programs::Programs;

pub(super) struct Table<'a>(pub(super) &'a Figures);

impl Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(figures) = self;
        for (way, title) in [
            (Way::Step, "straight into the receiver"),
            (Way::Driver, "through the driver of a veth"),
        ] {
            let head = format!("Linux {}, {title}", figures.kernel);
            writeln!(
                f,
                "\n{head}\n  {:<43} {:>6} {:>13}",
                "instructions a packet", "median", "range"
            )?;
            for case in figures.cases.iter().filter(|case| case.way == way) {
                let (receiver, fate) = words(case);
                let (least, most) = case.range();
                let range = format!("{least}–{most}");
                writeln!(f, "  {receiver:<10} {fate:<32} {:>6} {range:>13}", case.median())?;
            }
        }
        write!(f, "{}", Programs(&figures.programs))
    }
}

/// Who received, and what became of the packet.
fn words(case: &Case) -> (&'static str, &'static str) {
    let receiver = match case.receiver {
        Receiver::Nobody => "no GRE",
        Receiver::Strip | Receiver::StripCounted => "floor",
        Receiver::Kernel => "ip_gre",
        Receiver::Ours => "gre-decap",
    };
    let fate = match (case.fate, case.receiver) {
        (Fate::ToInterface, Receiver::Strip) => "strip, no check, redirect",
        (Fate::ByRoute, Receiver::Strip) => "strip, no check, by route",
        (_, Receiver::Strip) => "strip, no check, blackhole route",
        (_, Receiver::StripCounted) => "one look-up, one counter, strip",
        (Fate::Untouched, _) => "dropped untouched by XDP",
        (Fate::Blackhole, _) => "blackhole route",
        (Fate::Socket, _) => "UDP socket",
        (Fate::Forwarded, _) => "forwarded by the kernel",
        (Fate::ToInterface, _) => "to an interface",
        (Fate::ByRoute, _) => "by route",
        (Fate::Dropped, Receiver::Ours) => "dropped: inner_destination",
        (Fate::Dropped, _) => "dropped by TC at the device",
    };
    (receiver, fate)
}
