//! `load`: brings the kernel to what the file says.

use std::path::Path;

use crate::apply::{Outcome, apply};
use crate::config::{self, Config};
use crate::error::Error;
use crate::host::cpus::online_cpus;
use crate::output::{print, report};
use crate::settings::LogLevel;
use crate::state::Root;

/// Loads the file and says what was done.
///
/// # Errors
///
/// If the file is wrong, and those of [`apply`].
pub fn execute(file: &Path, root: &Root) -> Result<(), Error> {
    tell(&load(file, root, LogLevel::Off)?.outcome)
}

/// A file that is in force.
pub(super) struct Loaded {
    /// What was done.
    pub(super) outcome: Outcome,
    /// The interfaces that it names.
    pub(super) interfaces: Vec<config::Interface>,
}

/// Loads the file.
pub(super) fn load(file: &Path, root: &Root, log_level: LogLevel) -> Result<Loaded, Error> {
    let config = Config::from_file(file, &online_cpus()?)?;
    let mut outcome = apply(&config, root, log_level)?;
    let path = file.display();
    outcome.warnings.extend(
        config
            .warnings()
            .into_iter()
            .map(|warning| format!("{path}: {warning}")),
    );
    Ok(Loaded {
        outcome,
        interfaces: config.interfaces,
    })
}

/// Says what was done, and on standard error what to know about it.
pub(super) fn tell(outcome: &Outcome) -> Result<(), Error> {
    for warning in &outcome.warnings {
        report("warning", warning);
    }
    match in_force(outcome) {
        Some(what) => print(&format!("loaded {what}\n")),
        None if outcome.updated => print("updated interfaces and next hops\n"),
        None => print("nothing changed\n"),
    }
}

/// What is in force, if that has changed: "2 tunnels on eth0 (native)".
pub(super) fn in_force(outcome: &Outcome) -> Option<String> {
    let interfaces = outcome.interfaces.as_ref()?;
    let on: Vec<_> = interfaces
        .iter()
        .map(|attached| format!("{} ({})", attached.name, attached.mode))
        .collect();
    let on = if on.is_empty() {
        "no interface".to_owned()
    } else {
        on.join(", ")
    };
    let tunnels = match outcome.tunnels {
        1 => "1 tunnel".to_owned(),
        tunnels => format!("{tunnels} tunnels"),
    };
    Some(format!("{tunnels} on {on}"))
}
