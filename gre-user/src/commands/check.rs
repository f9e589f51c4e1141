//! `check`: validates the file, and reports what on this host would make it fail or slow.

use std::path::Path;

use anyhow::anyhow;

use crate::config::Config;
use crate::error::Error;
use crate::host::cpus::online_cpus;
use crate::host::{Finding, Severity, findings};
use crate::output::print;
use crate::state::Root;

/// Checks the file, then the host.
///
/// # Errors
///
/// If the file is wrong, or if something on the host would make `load` fail or keep traffic away.
pub fn execute(file: &Path, root: &Root) -> Result<(), Error> {
    let config = Config::from_file(file, &online_cpus()?)?;
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
    let mut errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
    let Some(Finding {
        subject, what, remedy, ..
    }) = errors.next()
    else {
        return Ok(());
    };
    let more = match errors.count() {
        0 => String::new(),
        more => format!(" (and {more} more above)"),
    };
    Err(Error::Failed(anyhow!("{subject}: {what}; {remedy}{more}")))
}
