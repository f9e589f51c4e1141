//! What goes to standard output and standard error.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use anyhow::Context;
use serde::Serialize;

use crate::error::Error;

/// Writes to standard output, at once.
///
/// # Errors
///
/// [`Error::ClosedPipe`] if the reader has gone, as `head` does.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Error::ClosedPipe),
        Err(error) => Err(Error::Failed(
            anyhow::Error::new(error).context("standard output: cannot be written"),
        )),
    }
}

/// Writes a value as one line of JSON.
///
/// # Errors
///
/// Those of [`print`].
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Error> {
    let mut text = serde_json::to_string(value).context("JSON cannot be made")?;
    text.push('\n');
    print(&text)
}

/// Writes one line to standard error: `kind` ("error", "warning") and the message.
pub(crate) fn report(kind: &str, message: impl Display) {
    let line = format!("{kind}: {}\n", one_line(&message.to_string()));
    // Nothing is left that could be told if even this cannot be written.
    io::stderr().lock().write_all(line.as_bytes()).ok();
}

/// The text with line breaks turned into blanks and other control characters escaped: it stays on its line and does not
/// steer a terminal.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for part in text
        .split(['\n', '\r', '\u{2028}', '\u{2029}'])
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        if !line.is_empty() {
            line.push(' ');
        }
        for c in part.chars() {
            if c.is_control() {
                line.extend(c.escape_default())
            } else {
                line.push(c)
            }
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_stays_on_its_line() {
        assert_eq!(one_line("a\n  b\r\n\nc"), "a b c");
        assert_eq!(one_line("\u{1b}[2J\tx"), "\\u{1b}[2J\\tx");
    }
}
