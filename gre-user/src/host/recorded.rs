//! What kernels answered, for tests of its decoding on any host.

use super::netlink::Message;

/// Interfaces, each with its name.
pub(super) const LINKS: &str = include_str!("recorded/links.txt");
/// Neighbours, each with its address.
pub(super) const NEIGHBOURS: &str = include_str!("recorded/neighbours.txt");
/// Routes, each with its family.
pub(super) const ROUTES: &str = include_str!("recorded/routes.txt");
/// What drivers can do with XDP, each with its interface's name.
pub(super) const FEATURES: &str = include_str!("recorded/features.txt");
/// Chains ("chain") and rules ("rule") of nftables.
pub(super) const NFTABLES: &str = include_str!("recorded/nftables.txt");

/// The messages of a recording whose line starts with `word`.
pub(super) fn messages(recording: &str, word: &str) -> Vec<Message> {
    let message = |line: &str| {
        let (first, bytes) = line.split_once(' ')?;
        let byte = |at: usize| u8::from_str_radix(&bytes[at..at + 2], 16).expect("two hexadecimal digits");
        (first == word).then(|| Message {
            kind: 0,
            payload: (0..bytes.len()).step_by(2).map(byte).collect(),
        })
    };
    recording.lines().filter_map(message).collect()
}

/// The only message of a recording whose line starts with `word`.
#[track_caller]
pub(super) fn message(recording: &str, word: &str) -> Message {
    let mut messages = messages(recording, word);
    assert_eq!(messages.len(), 1, "messages {word}");
    messages.remove(0)
}
