//! What the demo tells: claims, each with a figure, and at the end whether all of them held.

use std::io::{Write, stdout};

use anyhow::{Context, Result, bail};

/// The claims so far. Errors of its methods are those of writing to stdout.
#[derive(Default)]
pub(super) struct Report {
    claims: usize,
    failed: usize,
}

impl Report {
    /// States a claim: what was found, if it holds, or why it does not. Returns whether it does.
    pub(super) fn claim(&mut self, what: &str, outcome: Result<String>) -> Result<bool> {
        let holds = outcome.is_ok();
        self.claims += 1;
        self.failed += usize::from(!holds);
        let (mark, found) = outcome.map_or_else(|error| ("✗", format!("{error:#}")), |found| ("✓", found));
        self.line(&format!("  {mark} {what:<38} {found}"))?;
        Ok(holds)
    }

    /// Shows a command that is run, as one would type it.
    pub(super) fn command(&self, line: &str) -> Result<()> {
        self.line(&format!("\n$ {line}"))
    }

    pub(super) fn line(&self, text: &str) -> Result<()> {
        writeln!(stdout(), "{text}").context("write to stdout")
    }

    /// Ends with `proven` if every claim held, and with an error otherwise.
    pub(super) fn conclude(self, proven: &str) -> Result<()> {
        if self.failed > 0 {
            bail!(
                "{} of {} claims do not hold; see the lines marked ✗ above",
                self.failed,
                self.claims
            );
        }
        self.line(&format!("\nAll {} claims hold. {proven}", self.claims))
    }
}
