//! What a packet takes by the kernel's own GRE and by our program, counted in instructions on Debian's kernels.

mod chart;
mod comparison;

use std::{
    fmt::{self, Display},
    fs,
    path::Path,
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use self::comparison::Comparison;
use super::{OBJECT, PROGRAM};
use crate::{bpf, build::Built, vm, workspace::Workspace};

/// How frames come to the receiver. What these stand for is said in tests/bench/live/kernel.rs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Way {
    Step,
    Driver,
}

/// Who takes GRE off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Receiver {
    Nobody,
    Strip,
    StripCounted,
    Kernel,
    Ours,
}

/// What becomes of the inner packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Fate {
    Untouched,
    Blackhole,
    Socket,
    Forwarded,
    ToInterface,
    ByRoute,
    Dropped,
}

/// One measured case.
#[derive(Serialize, Deserialize)]
struct Case {
    way: Way,
    receiver: Receiver,
    fate: Fate,
    /// Instructions a packet, of each measurement.
    instructions: Vec<u32>,
}

/// All cases on one kernel.
#[derive(Serialize)]
struct Figures {
    /// As `uname -r` says.
    kernel: String,
    cases: Vec<Case>,
}

/// Measures on each of the kernels `wanted`, and shows the result, also in the files `json` and `chart`.
pub(super) fn run(
    workspace: &Workspace,
    built: &Built,
    wanted: &[String],
    json: Option<&Path>,
    chart: Option<&Path>,
) -> Result<ExitCode> {
    let object = bpf::build_bench(workspace)?;
    let program = (PROGRAM, &["kernel".to_owned()][..]);
    let found = vm::count(workspace, built, wanted, program, &[(OBJECT, &object)])?;
    let figures = found.into_iter().map(Figures::of).collect::<Result<Vec<_>>>()?;
    if let Some(file) = json {
        let text = serde_json::to_string_pretty(&figures)? + "\n";
        fs::write(file, text).with_context(|| format!("write {}", file.display()))?;
    }
    if let Some(file) = chart {
        let drawn = chart::draw(&figures)?;
        fs::write(file, drawn).with_context(|| format!("write {}", file.display()))?;
    }
    for figures in &figures {
        print!("{figures}");
        print!("{}", Comparison::of(figures)?);
    }
    Ok(ExitCode::SUCCESS)
}

impl Figures {
    fn of(counted: vm::Counted) -> Result<Self> {
        let cases = counted.objects.iter().map(|line| {
            let case: Case = serde_json::from_str(line).with_context(|| format!("understand {line}"))?;
            anyhow::ensure!(!case.instructions.is_empty(), "no measurement in {line}");
            Ok(case)
        });
        Ok(Self {
            kernel: counted.release,
            cases: cases.collect::<Result<_>>()?,
        })
    }

    fn find(&self, way: Way, receiver: Receiver, fate: Fate) -> Result<&Case> {
        let mut cases = self.cases.iter();
        cases
            .find(|case| (case.way, case.receiver, case.fate) == (way, receiver, fate))
            .with_context(|| format!("{way:?}, {receiver:?}, {fate:?} was not measured on {}", self.kernel))
    }

    fn median(&self, way: Way, receiver: Receiver, fate: Fate) -> Result<f64> {
        Ok(self.find(way, receiver, fate)?.median())
    }
}

impl Case {
    fn median(&self) -> f64 {
        let mut sorted = self.instructions.clone();
        sorted.sort_unstable();
        f64::from(sorted[sorted.len() / 2])
    }

    /// The least and the most.
    fn range(&self) -> (u32, u32) {
        let each = || self.instructions.iter().copied();
        (each().min().unwrap_or_default(), each().max().unwrap_or_default())
    }
}

impl Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let receiver = match self.receiver {
            Receiver::Nobody => "no GRE",
            Receiver::Strip | Receiver::StripCounted => "floor",
            Receiver::Kernel => "ip_gre",
            Receiver::Ours => "gre-decap",
        };
        let fate = match (self.fate, self.receiver) {
            (_, Receiver::Strip) => "strip, no check, blackhole route",
            (_, Receiver::StripCounted) => "and one look-up, one counter",
            (Fate::Untouched, _) => "dropped untouched by XDP",
            (Fate::Blackhole, _) => "blackhole route",
            (Fate::Socket, _) => "UDP socket",
            (Fate::Forwarded, _) => "forwarded by the kernel",
            (Fate::ToInterface, _) => "to an interface",
            (Fate::ByRoute, _) => "by route",
            (Fate::Dropped, Receiver::Ours) => "dropped: inner_destination",
            (Fate::Dropped, _) => "dropped by TC at the device",
        };
        let (least, most) = self.range();
        let range = format!("{least}–{most}");
        write!(f, "  {receiver:<10} {fate:<32} {:>6} {range:>13}", self.median())
    }
}

impl Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (way, title) in [
            (Way::Step, "straight into the receiver"),
            (Way::Driver, "through the driver of a veth"),
        ] {
            let head = format!("Linux {}, {title}", self.kernel);
            writeln!(
                f,
                "\n{head}\n  {:<43} {:>6} {:>13}",
                "instructions a packet", "median", "range"
            )?;
            for case in self.cases.iter().filter(|case| case.way == way) {
                writeln!(f, "{case}")?;
            }
        }
        Ok(())
    }
}
