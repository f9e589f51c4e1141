//! Running other programs: a failure names the command and the remedy in one line.

use std::{
    env,
    ffi::OsStr,
    io,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::workspace::Workspace;

/// The Cargo that runs us, in the workspace's root.
pub(crate) fn cargo(workspace: &Workspace) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace.root());
    command
}

/// Runs `command` to its end with its output shown, and fails unless it succeeds. `remedy` is what the user can do then.
pub(crate) fn run(command: &mut Command, remedy: &str) -> Result<()> {
    let status = command.status().map_err(|error| not_started(command, &error, remedy))?;
    if !status.success() {
        bail!("`{}` failed ({status}): {remedy}", line(command));
    }
    Ok(())
}

/// Runs `command` with its standard error shown and returns what it wrote to standard output.
pub(crate) fn output(command: &mut Command, remedy: &str) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| not_started(command, &error, remedy))?;
    if !output.status.success() {
        bail!("`{}` failed ({}): {remedy}", line(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{}` wrote something else than text", line(command)))
}

/// Whether `program` can be started at all.
pub(crate) fn is_installed(program: &str) -> bool {
    let started = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    !matches!(started, Err(error) if error.kind() == io::ErrorKind::NotFound)
}

/// `command` as a user would type it.
pub(crate) fn line(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or(command.get_program());
    std::iter::once(program)
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

pub(crate) fn not_started(command: &Command, error: &io::Error, remedy: &str) -> anyhow::Error {
    anyhow!("`{}` could not be started ({error}): {remedy}", line(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_the_remedy() {
        let error = run(Command::new("no-such-program-here").arg("-x"), "install it").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`no-such-program-here -x` could not be started (No such file or directory (os error 2)): install it"
        );
        assert!(!is_installed("no-such-program-here"));
    }

    #[test]
    fn a_failing_command_is_named_without_its_folder() {
        let error = run(Command::new("/bin/sh").args(["-c", "exit 3"]), "try again").unwrap_err();
        assert_eq!(error.to_string(), "`sh -c exit 3` failed (exit status: 3): try again");
    }

    #[test]
    fn output_is_returned() {
        assert_eq!(
            output(Command::new("sh").args(["-c", "echo yes"]), "").unwrap(),
            "yes\n"
        );
    }
}
