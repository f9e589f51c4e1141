//! How long programs are, and how much work they were for the verifier, as a table.

use std::fmt::{self, Display};

use gre_tests::figures::costs::Program;

pub(super) struct Programs<'a>(pub(super) &'a [Program]);

impl Display for Programs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\n  {:<42} {:<12} {:>9} {:>12} {:>13} {:>10}",
            "programs, as loaded for", "", "verified", "instructions", "machine code", "load"
        )?;
        for program in self.0 {
            writeln!(
                f,
                "  {:<42} {:<12} {:>9} {:>12} {:>7} bytes {:>7.1} ms",
                program.shape,
                program.program,
                program.verified_instructions,
                program.instruction_bytes / 8,
                program.machine_code_bytes,
                program.load_milliseconds
            )?;
        }
        Ok(())
    }
}
