//! What a test does where something is missing that it cannot do without.

use std::io::Write;

/// Says loudly that the test `name` is skipped for lack of `missing`.
///
/// # Panics
/// When the environment variable `GRE_TESTS_MUST_RUN` is 1.
pub(crate) fn skip(name: &str, missing: &str) {
    if std::env::var("GRE_TESTS_MUST_RUN").is_ok_and(|value| value == "1") {
        panic!("{name} must run (GRE_TESTS_MUST_RUN=1), but here is missing: {missing}");
    }
    say(&format!("SKIPPED {name}: missing {missing}"));
}

/// Writes a line past libtest, which shows what `eprintln!` says only when a test fails.
pub(crate) fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("standard error takes a line");
}
