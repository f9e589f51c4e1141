//! Whole files: the contract's sample field by field, errors by whole lines, and texts of every kind.

mod addresses;
mod errors;
mod sample;
mod texts;

use super::section::Source;
use super::{Config, Tunnel, read};

/// The lines of a valid tunnel, to which tests add a fifth.
pub(super) const TUNNEL: &str = "[[tunnel]]\nname = 'a'\nlocal = '198.51.100.20'\nremote = '203.0.113.10'\n";

/// Reads a text that must be valid.
#[track_caller]
pub(super) fn valid(text: &str) -> Config {
    match read(&Source::file("f.toml", text), |_, _| Ok(())) {
        Ok(config) => config,
        Err(error) => panic!("{error}\n{text}"),
    }
}

/// Reads [`TUNNEL`] with these lines added, which must be valid. Something is protected.
#[track_caller]
pub(super) fn valid_tunnel(lines: &str) -> Tunnel {
    let mut config = valid(&format!("{TUNNEL}{lines}\n[protect]\nprefixes = ['192.0.2.0/24']"));
    config.tunnels.remove(0)
}

/// Checks that each text is refused with its line, which starts at the line number.
#[track_caller]
pub(super) fn assert_errors(cases: &[(&str, &str)]) {
    for (text, line) in cases {
        match read(&Source::file("f.toml", text), |_, _| Ok(())) {
            Ok(_) => panic!("accepted, should be {line}:\n{text}"),
            Err(error) => assert_eq!(error.to_string(), format!("f.toml:{line}"), "{text}"),
        }
    }
}

/// Checks that [`TUNNEL`] with each line added is refused because of that line.
#[track_caller]
pub(super) fn assert_tunnel_errors(cases: &[(&str, &str)]) {
    for (text, line) in cases {
        assert_errors(&[(&format!("{TUNNEL}{text}"), &format!("5: [[tunnel]] \"a\": {line}"))]);
    }
}
