//! What a packet takes by the kernel's own GRE and by our program, in instructions.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::costs::Program;

/// A line of what the measuring program writes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// A measured case.
    Case(Case),
    /// A program, as this kernel's verifier left it.
    Program(Program),
}

/// How frames come to the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Straight into it.
    Step,
    /// Through the driver of a veth.
    Driver,
}

/// Who takes GRE off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Receiver {
    /// Nobody: inner packets come bare.
    Nobody,
    /// A strip of the outer headers without a check, a look-up or a counter.
    Strip,
    /// The same with one look-up and one counter.
    StripCounted,
    /// The kernel's device.
    Kernel,
    /// Our program.
    Ours,
}

/// What becomes of the inner packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// The frame is dropped by XDP, untouched.
    Untouched,
    /// It meets a blackhole route.
    Blackhole,
    /// It arrives in a socket's queue.
    Socket,
    /// It leaves by another interface, the kernel's stack having found the way.
    Forwarded,
    /// The same by our program, as its tunnel's `deliver` says.
    ToInterface,
    /// The same, found in the kernel's routing table.
    ByRoute,
    /// It is dropped as soon as its headers are off, or in their place.
    Dropped,
}

/// One measured case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Case {
    /// How frames came.
    pub way: Way,
    /// Who received them.
    pub receiver: Receiver,
    /// What became of them.
    pub fate: Fate,
    /// Instructions a frame, of each measurement.
    pub instructions: Vec<u32>,
}

/// All that was measured on one kernel.
#[derive(Debug, Serialize, Deserialize)]
pub struct Figures {
    /// As `uname -r` says.
    pub kernel: String,
    /// What packets took.
    pub cases: Vec<Case>,
    /// What programs there were, and what they took to load: a millisecond is a million instructions.
    pub programs: Vec<Program>,
}

impl Case {
    /// The middle one of the measurements, of an even number the upper one; 0 of none.
    pub fn median(&self) -> u32 {
        let mut sorted = self.instructions.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }

    /// The least and the most.
    pub fn range(&self) -> (u32, u32) {
        let each = || self.instructions.iter().copied();
        (each().min().unwrap_or_default(), each().max().unwrap_or_default())
    }
}

impl Figures {
    /// The median of a case.
    ///
    /// # Errors
    ///
    /// If it was not measured.
    pub fn median(&self, way: Way, receiver: Receiver, fate: Fate) -> Result<f64> {
        let mut cases = self.cases.iter();
        let case = cases
            .find(|case| (case.way, case.receiver, case.fate) == (way, receiver, fate))
            .with_context(|| format!("{way:?}, {receiver:?}, {fate:?} was not measured on {}", self.kernel))?;
        Ok(case.median().into())
    }
}
