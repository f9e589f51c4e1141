//! What `gre-decap check` tells about this host.

use std::fmt::{self, Write};

use serde::Serialize;
use strum::Display;

/// Something about this host that concerns a configuration, with its remedy.
///
/// Displayed as one line: `error: eth0: is down; run ip link set dev eth0 up`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What it is about, in JSON `where`: an interface's name, `tunnel NAME`, `tunnels NAME, NAME and …`, `kernel`, `memory`,
    /// `capabilities`, `--root DIR`, `firewall`, the configuration file.
    #[serde(rename = "where")]
    pub subject: String,
    /// What is so.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Display, Serialize)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Severity {
    /// Loading fails, or no traffic will flow.
    Error,
    /// It works, but slowly, or not as one would think.
    Warning,
    /// It is good to know.
    Note,
}

impl Finding {
    pub(super) fn error(subject: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Severity::Error, subject, what, remedy)
    }

    pub(crate) fn warning(subject: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Severity::Warning, subject, what, remedy)
    }

    pub(super) fn note(subject: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Severity::Note, subject, what, remedy)
    }

    pub(super) fn new(
        severity: Severity,
        subject: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            subject: subject.into(),
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            severity,
            subject,
            what,
            remedy,
        } = self;
        for c in format!("{severity}: {subject}: {what}; {remedy}").chars() {
            // The kernel takes names of interfaces that would steer a terminal.
            if c.is_control() {
                c.escape_default().fmt(f)?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_does_not_steer_a_terminal() {
        let finding = Finding::note("a\u{1b}[2J", "b\nc", "d");
        assert_eq!(finding.to_string(), "note: a\\u{1b}[2J: b\\nc; d");
    }
}
