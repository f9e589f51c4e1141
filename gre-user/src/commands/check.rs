//! `check`: validates the file, and reports what on this host would make it fail or slow.

use std::path::Path;

use anyhow::anyhow;
use serde::Serialize;

use crate::config::Config;
use crate::error::Error;
use crate::host::cpus::online_cpus;
use crate::host::{Finding, Severity, findings};
use crate::output::{print, print_json};
use crate::state::Root;

/// The JSON of `check --json`.
#[derive(Serialize)]
struct Report {
    /// The file's path.
    file: String,
    /// Whether it is a valid configuration.
    valid: bool,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// What is to be known about a valid one: about itself, then about this host.
    findings: Vec<Finding>,
}

/// Checks the file, then the host.
///
/// # Errors
///
/// If the file is wrong, or if something on the host would make `load` fail or keep traffic away.
pub fn execute(file: &Path, root: &Root, json: bool) -> Result<(), Error> {
    let path = file.display().to_string();
    let config = match Config::from_file(file, &online_cpus()?) {
        Ok(config) => config,
        Err(error) => {
            if json {
                print_json(&Report {
                    file: path,
                    valid: false,
                    error: Some(error.to_string()),
                    findings: Vec::new(),
                })?;
            }
            return Err(error.into());
        }
    };
    let warnings = config.warnings().into_iter();
    let warnings = warnings.map(|warning| Finding::warning(path.as_str(), warning.what, warning.remedy));
    let findings: Vec<_> = warnings.chain(findings(&config, root.path())).collect();
    let failed = failure(&findings);
    if json {
        print_json(&Report {
            file: path,
            valid: true,
            error: None,
            findings,
        })?;
    } else {
        let lines: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
        print(&format!("{path}: the configuration is valid\n{lines}"))?;
    }
    failed.map_or(Ok(()), |error| Err(Error::Failed(error)))
}

/// The first of the findings that are errors.
fn failure(findings: &[Finding]) -> Option<anyhow::Error> {
    let mut errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
    let Finding {
        subject, what, remedy, ..
    } = errors.next()?;
    let more = match errors.count() {
        0 => String::new(),
        more => format!(" (and {more} more above)"),
    };
    Some(anyhow!("{subject}: {what}; {remedy}{more}"))
}
