//! `check`: validates the file, and reports what on this host would make it fail or slow.

use std::path::Path;

use anyhow::anyhow;

use crate::config::Config;
use crate::error::Error;
use crate::host::{Severity, findings};
use crate::output::print;
use crate::state::Root;

/// Checks the file, then the host.
///
/// # Errors
///
/// If the file is wrong, or if something on the host would make `load` fail or keep traffic away.
pub fn execute(file: &Path, root: &Root) -> Result<(), Error> {
    let config = Config::from_file(file)?;
    let findings = findings(&config, root.path());
    let path = file.display();
    let warnings = config
        .warnings()
        .into_iter()
        .map(|warning| format!("warning: {path}: {warning}\n"));
    let lines: String = warnings
        .chain(findings.iter().map(|finding| format!("{finding}\n")))
        .collect();
    print(&format!("{path}: the configuration is valid\n{lines}"))?;
    let errors = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .count();
    match errors {
        0 => Ok(()),
        1 => Err(Error::Failed(anyhow!(
            "this host would not run it; see the error above"
        ))),
        errors => Err(Error::Failed(anyhow!(
            "this host would not run it; see the {errors} errors above"
        ))),
    }
}
