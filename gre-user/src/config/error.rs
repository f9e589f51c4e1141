//! The one line that says what is wrong with a configuration.

use std::fmt;
use std::io;
use std::path::Path;

/// Longest piece of the user's text that a message repeats, in characters.
const MAX_REPEATED: usize = 64;

/// Why a configuration was refused. Displayed as one line: file, line, what is wrong, and what is allowed or the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    origin: String,
    line: Option<usize>,
    message: String,
}

impl ConfigError {
    /// An error at a line, counted from 1, or about the whole of `origin`.
    pub(super) fn new(origin: &str, line: Option<usize>, message: impl Into<String>) -> Self {
        Self {
            origin: printable(origin),
            line,
            message: message.into(),
        }
    }

    /// A file that cannot be read.
    pub(super) fn unreadable(path: &Path, error: &io::Error) -> Self {
        let message = match error.kind() {
            io::ErrorKind::NotFound => "no such file; write it, or name another with --config".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied; run as a user who may read it".to_owned(),
            io::ErrorKind::IsADirectory => "is a directory; name a file with --config".to_owned(),
            _ => format!("cannot be read: {error}; name another file with --config"),
        };
        Self::about(path, &message)
    }

    /// Something about a whole file.
    pub(super) fn about(path: &Path, message: &str) -> Self {
        Self::new(&path.display().to_string(), None, message)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for ConfigError {}

/// The text with control characters escaped, so that a message stays on its line and does not steer a terminal.
fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        // Line and paragraph separators are no control characters, but end a line all the same.
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            printable.extend(c.escape_default());
        } else {
            printable.push(c);
        }
    }
    printable
}

/// The user's text as a message repeats it: printable, and cut short if it is long.
pub(super) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(MAX_REPEATED) {
        Some((end, _)) => printable(&text[..end]) + "…",
        None => printable(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_stays_on_one_line() {
        assert_eq!(excerpt("a\nb\u{1b}[2J\u{2028}"), "a\\nb\\u{1b}[2J\\u{2028}");
        let error = ConfigError::new("x\ny.toml", Some(3), "wrong");
        assert_eq!(error.to_string(), "x\\ny.toml:3: wrong");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(excerpt(&"ß".repeat(64)), "ß".repeat(64));
        assert_eq!(excerpt(&"ß".repeat(65)), "ß".repeat(64) + "…");
    }
}
