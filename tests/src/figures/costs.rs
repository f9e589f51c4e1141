//! What each shape of packet costs, and how long the programs are.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

/// The floor that costs are held against: a strip of IPv4 and GRE after one look-up, with one counter.
pub const COUNTED: &str = "strip, one look-up, one counter";
/// The one below it: no look-up, no counter.
pub const STRIPPED: &str = "strip, no look-up";

const BARE: &str = ", built without what is off";

/// What a shape is called that meets a program without what the configuration could switch on and does not.
pub fn bare(shape: &str) -> String {
    format!("{shape}{BARE}")
}

/// Whether a shape is called so.
pub fn is_bare(shape: &str) -> bool {
    shape.ends_with(BARE)
}

/// One run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// Processor and kernel.
    pub machine: String,
    /// What costs are in.
    pub unit: Unit,
    /// How often everything was measured.
    pub rounds: usize,
    /// What was measured, those next to each other that are compared.
    pub costs: Vec<Row>,
    /// The programs that packets met.
    pub programs: Vec<Program>,
}

/// What costs are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Time.
    Nanoseconds,
    /// Where an instruction takes a nanosecond of the machine's own time.
    Instructions,
}

/// What one shape, or floor, costs.
#[derive(Debug, Serialize, Deserialize)]
pub struct Row {
    /// Where it stands in the table.
    pub group: Group,
    /// What it is called.
    pub name: String,
    /// What was measured.
    #[serde(flatten)]
    pub cost: Cost,
}

/// A part of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// What no decapsulator can be cheaper than.
    Floor,
    /// Decapsulated and given to the stack.
    Stripped,
    /// Found among more or fewer tunnels.
    Tunnels,
    /// Decapsulated and sent on.
    Forwarded,
    /// With rules that protect.
    Protected,
    /// Not ours: passed as it came, uncounted.
    NotOurs,
    /// Dropped or passed as it came, and counted.
    Refused,
}

/// What a run costs, without what the harness costs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Cost {
    /// Median over the rounds.
    pub median: f64,
    /// Between this and `high` lie the middle half of the rounds.
    pub low: f64,
    /// See `low`.
    pub high: f64,
    /// The least batch of all less the harness's least: the cross-check on a machine that does other things too.
    pub least: f64,
    /// What the harness costs with nothing, or with what moves the packet's ends, in the program's place.
    pub harness: f64,
}

/// One program of one configuration.
#[derive(Debug, Serialize, Deserialize)]
pub struct Program {
    /// The shape whose configuration it is.
    pub shape: String,
    /// Its name in the object.
    pub program: String,
    /// Instructions that the verifier walked through.
    pub verified_instructions: u32,
    /// Bytes of those that are left after it, 8 each.
    pub instruction_bytes: u32,
    /// Bytes of machine code.
    pub machine_code_bytes: u32,
    /// How long the loader took for all programs of the configuration together, most of it the verifier.
    pub load_milliseconds: f64,
}

impl Report {
    /// What was measured under this name.
    pub fn find(&self, name: &str) -> Option<&Cost> {
        self.costs.iter().find(|row| row.name == name).map(|row| &row.cost)
    }

    /// All that was measured in a part of the table.
    pub fn group(&self, group: Group) -> impl Iterator<Item = &Row> {
        self.costs.iter().filter(move |row| row.group == group)
    }
}

impl Unit {
    /// As a table writes it behind a number.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Nanoseconds => "ns",
            Self::Instructions => "instructions",
        }
    }
}

impl Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nanoseconds => "nanoseconds",
            Self::Instructions => "instructions",
        })
    }
}

impl Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Floor => "floor",
            Self::Stripped => "stripped",
            Self::Tunnels => "tunnels",
            Self::Forwarded => "forwarded",
            Self::Protected => "protected",
            Self::NotOurs => "not ours",
            Self::Refused => "refused",
        })
    }
}
