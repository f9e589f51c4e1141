//! Sums up what libtest says at the end of each test program.

use std::{
    fmt,
    io::{self, Read, Write},
    ops::Add,
};

/// Numbers of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Of libtest. It counts a test among them that found it cannot run here, said so, and returned.
    succeeded: u64,
    failed: u64,
    ignored: u64,
    /// "SKIPPED name: why" on lines of their own or behind the test's name, one for each test that cannot run here.
    skipped: u64,
}

impl Summary {
    /// Copies `from` to `to` as it comes, and counts in its lines.
    ///
    /// # Errors
    ///
    /// When `from` cannot be read or `to` not written.
    pub(crate) fn of(mut from: impl Read, mut to: impl Write) -> io::Result<Self> {
        let mut summary = Self::default();
        let mut chunk = [0; 8192];
        let mut pending = Vec::new();
        loop {
            let length = match from.read(&mut chunk) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            to.write_all(&chunk[..length])?;
            to.flush()?;
            pending.extend_from_slice(&chunk[..length]);
            while let Some(end) = pending.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                summary.count(&String::from_utf8_lossy(&line));
            }
        }
        summary.count(&String::from_utf8_lossy(&pending));
        Ok(summary)
    }

    /// That of something that failed as a whole.
    pub(crate) fn failure() -> Self {
        Self {
            failed: 1,
            ..Self::default()
        }
    }

    /// Whether a test failed.
    pub(crate) fn has_failures(&self) -> bool {
        self.failed > 0
    }

    /// Whether there was no test at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.succeeded + self.failed + self.ignored == 0
    }

    /// Counts one line: "test result: ok. 5 passed; 0 failed; 1 ignored; …", "SKIPPED …", or any other.
    fn count(&mut self, line: &str) {
        // libtest with one thread has begun the line: "test name ... ".
        let begun = line.strip_prefix("test ").and_then(|line| line.split_once(" ... "));
        if begun.map_or(line, |(_, rest)| rest).starts_with("SKIPPED ") {
            self.skipped += 1;
        }
        // What a test writes past libtest's capture may stand before it on the same line.
        let Some((_, result)) = line.split_once("test result: ") else {
            return;
        };
        let Some((_, counts)) = result.split_once(". ") else {
            return;
        };
        for count in counts.split(';') {
            let Some((number, what)) = count.trim().split_once(' ') else {
                continue;
            };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.succeeded += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

impl Add for Summary {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            succeeded: self.succeeded + other.succeeded,
            failed: self.failed + other.failed,
            ignored: self.ignored + other.ignored,
            skipped: self.skipped + other.skipped,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed",
            self.succeeded.saturating_sub(self.skipped),
            self.failed
        )?;
        match self.ignored + self.skipped {
            0 => Ok(()),
            skipped => write!(f, ", {skipped} skipped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_PROGRAMS: &str = "\
running 3 tests
test a ... ok
test b ... FAILED
test c ... ok

test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s


running 40 tests
test result: ok. 39 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 12.34s
";

    fn of(text: &str) -> Summary {
        Summary::of(text.as_bytes(), io::sink()).unwrap()
    }

    #[test]
    fn sums_over_test_programs() {
        let summary = of(TWO_PROGRAMS);
        assert_eq!(
            summary,
            Summary {
                succeeded: 41,
                failed: 1,
                ignored: 1,
                skipped: 0
            }
        );
        assert!(summary.has_failures());
        assert_eq!(summary.to_string(), "41 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn a_skipped_test_did_not_pass() {
        let errors = of("   Compiling x v0.1.0\nSKIPPED wire::tcp: needs root\nSKIPPED wire::udp: needs root\n");
        let summary = of("test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out") + errors;
        assert!(!summary.has_failures());
        assert_eq!(summary.to_string(), "3 passed, 0 failed, 2 skipped");
    }

    #[test]
    fn a_skipped_test_whose_line_has_begun_did_not_pass_either() {
        let summary = of(
            "test wire::tcp ... SKIPPED wire::tcp: needs root\nok\ntest result: ok. 2 passed; 0 failed; 0 ignored\n",
        );
        assert_eq!(summary.to_string(), "1 passed, 0 failed, 1 skipped");
    }

    #[test]
    fn other_lines_count_nothing() {
        let summary =
            of("test result\ntest result: \ntest result: ok\ntest result: ok. x passed;;\nnot SKIPPED here\n");
        assert!(summary.is_empty());
        assert_eq!(summary.to_string(), "0 passed, 0 failed");
    }

    #[test]
    fn a_result_behind_unfinished_output_counts() {
        assert_eq!(
            of("progress 99 %test result: ok. 2 passed; 0 failed; 0 ignored").succeeded,
            2
        );
    }

    /// Gives one byte a read, as a slow pipe might.
    struct Dribble<'a>(&'a [u8]);

    impl Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = buffer.len().min(1);
            self.0.read(&mut buffer[..length])
        }
    }

    #[test]
    fn output_is_passed_on_unchanged_however_it_arrives() {
        let text = [TWO_PROGRAMS.as_bytes(), b"\xff\xfe no UTF-8, no end of line"].concat();
        let mut seen = Vec::new();
        assert_eq!(Summary::of(Dribble(&text), &mut seen).unwrap(), of(TWO_PROGRAMS));
        assert_eq!(seen, text);
    }
}
