//! Texts of every kind: none may panic, and each is either refused in one line or keeps what [`Config`] promises.

use std::collections::HashSet;

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::super::section::Source;
use super::super::{Config, MAX_TUNNELS, read};
use super::sample::SAMPLE;

/// Pieces that bring a text close to what the rules are about.
const PIECES: &[&str] = &[
    "[[tunnel]]\n",
    "[[interface]]\n",
    "[protect]\n",
    "[tunnel]\n",
    "name = 'a'\n",
    "remote = 'any'\n",
    "= ",
    "'",
    "\"",
    "[",
    "]",
    "{",
    "}",
    ",",
    "\n",
    "\r\n",
    "\u{feff}",
    "\u{2028}",
    "\0",
    "-1",
    "0x",
    "1_0",
    "4294967296",
    "1e400",
    "nan",
    "true",
    "'0.0.0.0/0'",
    "'::ffff:1.2.3.4'",
    "'ff02::1'",
    "'/'",
    "'0-4294967295'",
    "'1-0'",
    "'ß'",
    "\"\\u0000\"",
    "2024-01-01",
    "deliver.next_hop = '::'\n",
    "inner = []\n",
    "key = -9223372036854775809\n",
    "max_tunnels = 1\n",
];

fn check(text: &str) -> Result<(), TestCaseError> {
    match read(&Source::file("f.toml", text), |_, _| Ok(())) {
        Ok(config) => check_promises(&config),
        Err(error) => {
            let line = error.to_string();
            prop_assert!(line.starts_with("f.toml:"), "{line}");
            prop_assert!(!line.contains(|c: char| c.is_control() || c == '\u{2028}'), "{line:?}");
            if let Some(number) = line.split(':').nth(1).and_then(|number| number.parse::<usize>().ok()) {
                prop_assert!((1..=1 + text.matches('\n').count()).contains(&number), "{line}");
            }
            prop_assert!(line.chars().count() < 500, "{line}");
            Ok(())
        }
    }
}

fn check_promises(config: &Config) -> Result<(), TestCaseError> {
    prop_assert!((1..=MAX_TUNNELS).contains(&config.max_tunnels));
    let mut names = HashSet::new();
    let mut endpoints = HashSet::new();
    for tunnel in &config.tunnels {
        prop_assert!((1..=63).contains(&tunnel.name.len()));
        prop_assert!(names.insert(&tunnel.name));
        prop_assert!(tunnel.inner.iter().next().is_some());
        prop_assert!(!tunnel.remotes.is_empty());
        for remote in &tunnel.remotes {
            prop_assert_eq!(remote.addr().is_ipv4(), tunnel.local.is_ipv4());
            prop_assert_eq!(*remote, remote.trunc());
            prop_assert!(endpoints.insert((tunnel.local, tunnel.key, *remote)));
        }
    }
    prop_assert!(endpoints.len() <= config.max_tunnels as usize);
    Ok(())
}

/// The sample with stretches replaced; cuts fall between characters.
fn mutated() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        select(PIECES).prop_map(str::to_owned),
        any::<String>(),
        Just(String::new())
    ];
    let edits = prop::collection::vec((any::<Index>(), 0..40_usize, piece), 1..4);
    edits.prop_map(|edits| {
        let mut chars: Vec<char> = SAMPLE.chars().collect();
        for (at, length, piece) in edits {
            let start = at.index(chars.len() + 1);
            let end = (start + length).min(chars.len());
            chars.splice(start..end, piece.chars());
        }
        chars.into_iter().collect()
    })
}

/// The sample with a value replaced, which leaves it valid TOML more often than not.
fn revalued() -> impl Strategy<Value = String> {
    let lines: Vec<&str> = SAMPLE.lines().collect();
    let keys: Vec<usize> = (0..lines.len()).filter(|&line| lines[line].contains(" = ")).collect();
    let value = prop_oneof![
        select(PIECES).prop_map(str::to_owned),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<std::net::IpAddr>().prop_map(|address| format!("'{address}'")),
        (any::<std::net::IpAddr>(), any::<u8>()).prop_map(|(address, length)| format!("['{address}/{length}']")),
        "[a-z0-9,-]{0,8}".prop_map(|word| format!("'{word}'")),
    ];
    (select(keys), value).prop_map(move |(at, value)| {
        let mut lines = lines.clone();
        let key = lines[at].split('=').next().unwrap_or_default();
        let line = format!("{key}= {value}");
        lines[at] = &line;
        lines.join("\n")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_text(text in any::<String>()) {
        check(&text)?;
    }

    #[test]
    fn pieces(pieces in prop::collection::vec(select(PIECES), 0..20)) {
        check(&pieces.concat())?;
    }

    #[test]
    fn edits(text in mutated()) {
        check(&text)?;
    }

    #[test]
    fn values(text in revalued()) {
        check(&text)?;
    }
}

#[test]
fn deep_nesting_is_refused() {
    for text in [
        "a = ".to_owned() + &"[".repeat(100_000),
        vec!["a"; 100_000].join(".") + " = 1",
    ] {
        let error = Config::from_str(&text, "f.toml").expect_err("refused").to_string();
        assert!(error.contains("not valid TOML"), "{error}");
    }
}
