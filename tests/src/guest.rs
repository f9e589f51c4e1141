//! What a virtual machine's host and the init inside it tell each other: beforehand a [`Plan`], in a file, and then
//! [`Message`]s, one a line, over a serial port that nobody else writes to.

use serde::{Deserialize, Serialize};

/// Where the init finds its [`Plan`], as JSON.
pub const PLAN: &str = "/plan.json";
/// The port for [`Message`]s. The console is another.
pub const PORT: &str = "/dev/ttyS1";

/// The MAC addresses of the machine's first two network cards, which QEMU joins.
pub const CARDS: [&str; 2] = ["02:00:00:00:ca:00", "02:00:00:00:ca:01"];
/// Those of two more, whose wire leads through the host: the second one has [`QUEUES`] queues, among which the hash of what is
/// received decides.
pub const ROUTED_CARDS: [&str; 2] = ["02:00:00:00:ca:02", "02:00:00:00:ca:03"];
/// As many as the machine has processors.
pub const QUEUES: usize = 2;

/// What the init is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Kernel modules as files, in the order in which they can be loaded.
    pub modules: Vec<String>,
    /// What to run, one after the other.
    pub programs: Vec<Program>,
}

/// A program to run, with nothing in its environment but what stands here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// What messages call it.
    pub name: String,
    /// The file.
    pub path: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its environment.
    pub environment: Vec<(String, String)>,
}

/// What the init tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// The kernel is up, and its modules are loaded.
    Booted {
        /// As `uname -r` says.
        release: String,
    },
    /// A program begins.
    Started {
        /// [`Program::name`].
        program: String,
    },
    /// A program wrote a line, to its standard output or standard error.
    Wrote {
        /// Without its end.
        line: String,
    },
    /// A program has ended.
    Ended {
        /// Its exit status; none if a signal ended it.
        status: Option<i32>,
    },
    /// The init cannot do what it is to.
    Failed {
        /// Why.
        why: String,
    },
    /// All programs have ended; the machine goes down.
    Finished,
}

impl Message {
    /// The message as a line with its end.
    ///
    /// # Errors
    ///
    /// Never, in practice: nothing here is without a JSON form.
    pub fn to_line(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// The message that a line holds.
    ///
    /// # Errors
    ///
    /// When it is none, as when it was cut short.
    pub fn from_line(line: &str) -> serde_json::Result<Self> {
        serde_json::from_str(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_wrote_stays_one_line() {
        let message = Message::Wrote {
            line: "a \"b\"\r\n\t\u{1b}[1m".to_owned(),
        };
        let line = message.to_line().unwrap();
        assert_eq!(line.find('\n'), Some(line.len() - 1));
        assert_eq!(Message::from_line(&line).unwrap(), message);
    }

    #[test]
    fn a_line_cut_short_is_no_message() {
        let line = Message::Ended { status: Some(0) }.to_line().unwrap();
        assert!((0..line.len() - 1).all(|end| Message::from_line(&line[..end]).is_err()));
    }
}
