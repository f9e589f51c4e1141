//! What a test does where something is missing that it cannot do without.

use std::io::Write;
use std::path::PathBuf;

/// Set to 1 where tests must not be skipped (CI): what is missing then fails the test.
const MUST_RUN: &str = "GRE_TESTS_MUST_RUN";
/// The path of the `gre-decap` to test.
const BINARY: &str = "GRE_DECAP_BINARY";

/// Says loudly that the test `name` is skipped for lack of `missing`.
///
/// # Panics
///
/// When the environment variable `GRE_TESTS_MUST_RUN` is 1.
pub fn skip(name: &str, missing: &str) {
    if std::env::var(MUST_RUN).is_ok_and(|value| value == "1") {
        panic!("{name} must run ({MUST_RUN}=1), but here is missing: {missing}");
    }
    say(&format!("SKIPPED {name}: missing {missing}"));
}

/// Says loudly that the test `name` is skipped because this kernel lacks `missing`. Other than [`skip`] it does so also where
/// tests must run: each kernel is tested on what it has.
///
/// # Panics
///
/// As [`say`].
pub fn skip_on_this_kernel(name: &str, missing: &str) {
    say(&format!("SKIPPED {name}: this kernel lacks {missing}"));
}

/// Writes a line past libtest, which shows what `eprintln!` says only when a test fails.
///
/// # Panics
///
/// When standard error takes no line.
pub fn say(line: &str) {
    if let Err(error) = writeln!(std::io::stderr(), "{line}") {
        panic!("standard error does not take `{line}`: {error}");
    }
}

/// The `gre-decap` to test, or none, loudly, if the environment names none.
///
/// # Panics
///
/// As [`skip`].
pub fn binary_or_skip(name: &str) -> Option<PathBuf> {
    let binary = std::env::var_os(BINARY).map(PathBuf::from);
    if binary.is_none() {
        skip(name, &format!("{BINARY} (run `cargo xtask test`)"));
    }
    binary
}
