//! Runs every test of the workspace, against what was built.

use std::{
    env, io,
    process::{ExitCode, ExitStatus, Stdio},
    thread,
};

use anyhow::{Context as _, Result, anyhow};
use gre_tests::lab::Lab;

use crate::{
    build::Built,
    process::{self, cargo},
    summary::Summary,
    workspace::Workspace,
};

/// Runs the tests whose names contain one of `filters`, or all if there is none. The output is Cargo's and libtest's
/// own, and last a line with the sums.
pub(crate) fn run(workspace: &Workspace, built: &Built, filters: &[String]) -> Result<ExitCode> {
    // Where nobody reads along, a test that cannot run fails.
    let must_run = env::var_os("CI").is_some_and(|ci| ci == "true");
    let missing = Lab::available().err().map(|missing| {
        let fate = if must_run { "FAIL, as CI=true" } else { "are SKIPPED" };
        format!("NOT ALL TESTS CAN RUN: those on real interfaces and of the loaded program {fate}: missing {missing}")
    });
    if let Some(missing) = &missing {
        eprintln!("{missing}");
    }
    let mut test = cargo(workspace);
    // A failing test program does not stop the others: the sums are over all.
    test.args(["test", "--workspace", "--no-fail-fast", "--target-dir"])
        .arg(workspace.target());
    test.arg("--").args(filters);
    test.env("GRE_DECAP_OBJECT", &built.object)
        .env("GRE_DECAP_BINARY", &built.binary);
    if must_run {
        test.env("GRE_TESTS_MUST_RUN", "1");
    }
    let mut child = test
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| process::not_started(&test, &error, "install Rust by rustup (https://rustup.rs)"))?;
    let out = child.stdout.take().context("the tests' standard output is not there")?;
    let err = child.stderr.take().context("the tests' standard error is not there")?;
    let err = thread::spawn(move || Summary::of(err, io::stderr()));
    let out = Summary::of(out, io::stdout());
    let err = err
        .join()
        .map_err(|_| anyhow!("the reader of the tests' standard error panicked"))?;
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for `{}`", process::line(&test)))?;
    let summary = out.context("cannot pass on the tests' standard output")?
        + err.context("cannot pass on the tests' standard error")?;

    let problem = problem(status, &summary, filters);
    if let Some(problem) = &problem {
        eprintln!("error: {problem}");
    }
    if let Some(missing) = &missing {
        eprintln!("{missing}");
    }
    println!("{summary}");
    Ok(if problem.is_none() && status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What is wrong that the sums do not tell.
fn problem(status: ExitStatus, summary: &Summary, filters: &[String]) -> Option<String> {
    if !status.success() && !summary.has_failures() {
        return Some(format!(
            "`cargo test` ended with {status} though no test failed: see above for one that does not compile or was killed"
        ));
    }
    (status.success() && summary.is_empty()).then(|| {
        format!(
            "no test's name contains `{}`: `cargo test --workspace -- --list` names them all",
            filters.join("` or `")
        )
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn problem_of(exit: i32, output: &str) -> Option<String> {
        let summary = Summary::of(output.as_bytes(), io::sink()).unwrap();
        problem(ExitStatus::from_raw(exit << 8), &summary, &["tcp".into()])
    }

    #[test]
    fn failed_tests_speak_for_themselves() {
        assert_eq!(problem_of(0, "test result: ok. 1 passed; 0 failed"), None);
        assert_eq!(problem_of(101, "test result: FAILED. 1 passed; 1 failed"), None);
    }

    #[test]
    fn a_failure_that_is_no_tests_is_told() {
        assert!(
            problem_of(101, "")
                .unwrap()
                .contains("exit status: 101 though no test failed")
        );
        assert!(
            problem_of(101, "test result: ok. 1 passed; 0 failed")
                .unwrap()
                .contains("killed")
        );
    }

    #[test]
    fn a_filter_that_names_no_test_is_told() {
        assert!(
            problem_of(0, "test result: ok. 0 passed; 0 failed")
                .unwrap()
                .starts_with("no test's name contains `tcp`")
        );
    }
}
