//! `tunnel`: shows the tunnels that run, and changes them at once. The file stays as it is.

use serde::Serialize;

use super::status::tunnels::{TunnelStatus, text};
use crate::config::{Config, Tunnel};
use crate::error::Error;
use crate::host::cpus::online_cpus;
use crate::interfaces::attached;
use crate::live::change;
use crate::output::{print, print_json, report};
use crate::running::Running;
use crate::state::Root;
use crate::stats::{Stats, TunnelStats};
use crate::table::{ago, count, unit};

/// Most names of tunnels that an error lists.
const MAX_NAMED: usize = 8;

/// `tunnel show --json`.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    status: TunnelStatus,
    /// Its counters, as in `stats`.
    stats: TunnelStats,
}

/// Shows the tunnels that run.
///
/// # Errors
///
/// If nothing is loaded, or it cannot be read.
pub fn list(root: &Root, json: bool) -> Result<(), Error> {
    let tunnels = Running::current(root)?.tables.tunnels()?;
    let tunnels: Vec<_> = tunnels.into_iter().map(TunnelStatus::of).collect();
    if json {
        print_json(&tunnels)
    } else {
        print(&text(&tunnels))
    }
}

/// Shows one tunnel, as a section of the file, and its counters.
///
/// # Errors
///
/// If nothing is loaded, there is no such tunnel, or it cannot be read.
pub fn show(root: &Root, name: &str, json: bool) -> Result<(), Error> {
    let running = Running::current(root)?;
    let views = running.tables.tunnels()?;
    let names = || views.iter().map(|view| view.name.as_str());
    let view = views.iter().find(|view| view.name == name);
    let view = view.ok_or_else(|| unknown(name, names()))?.clone();
    let stats = Stats::read(root)?
        .tunnels
        .into_iter()
        .find(|tunnel| tunnel.name == name);
    // It has gone since.
    let stats = stats.ok_or_else(|| unknown(name, names().filter(|other| *other != name)))?;
    if json {
        let status = TunnelStatus::of(view);
        return print_json(&Shown { status, stats });
    }
    print(&format!("{}\n{}", view.to_config().to_text(), counters(&stats)))
}

fn counters(stats: &TunnelStats) -> String {
    let last = stats.last_seen_seconds.map_or_else(|| "never".to_owned(), ago);
    let bytes = unit(stats.bytes as f64, "B");
    let mut text = format!(
        "# delivered {} packets, {bytes}, the last {last}\n",
        count(stats.packets)
    );
    for (reason, packets) in &stats.reasons {
        text.push_str(&format!("# {reason} {}\n", count(*packets)));
    }
    text
}

/// Adds the tunnel `name`, of which `section` is the section that a file would have.
///
/// # Errors
///
/// If it is wrong or goes with no other that runs, and those of [`change`].
pub fn add(root: &Root, name: &str, section: &str) -> Result<(), Error> {
    let cores = online_cpus()?;
    let warnings = change(root, |config| Ok(Some(config.with_tunnel(name, section, &cores)?)))?;
    tell("added", name, warnings)
}

/// Removes a tunnel.
///
/// # Errors
///
/// If there is none, and those of [`change`].
pub fn remove(root: &Root, name: &str) -> Result<(), Error> {
    let warnings = change(root, |mut config| {
        find(&mut config, name)?;
        config.tunnels.retain(|tunnel| tunnel.name != name);
        Ok(Some(config))
    })?;
    tell("removed", name, warnings)
}

/// Has a tunnel decapsulate, or not.
///
/// # Errors
///
/// If there is none, and those of [`change`].
pub fn enable(root: &Root, name: &str, enabled: bool) -> Result<(), Error> {
    let warnings = change(root, |mut config| {
        let tunnel = find(&mut config, name)?;
        let changes = tunnel.enabled != enabled;
        tunnel.enabled = enabled;
        Ok(changes.then_some(config))
    })?;
    tell(if enabled { "enabled" } else { "disabled" }, name, warnings)
}

/// Prints what runs as a configuration file.
///
/// # Errors
///
/// If nothing is loaded, or it cannot be read.
pub fn export(root: &Root) -> Result<(), Error> {
    let config = Running::current(root)?.config(&attached(root)?)?;
    print(&config.to_text())
}

fn find<'a>(config: &'a mut Config, name: &str) -> Result<&'a mut Tunnel, Error> {
    match config.tunnels.iter().position(|tunnel| tunnel.name == name) {
        Some(position) => Ok(&mut config.tunnels[position]),
        None => Err(unknown(name, config.tunnels.iter().map(|tunnel| tunnel.name.as_str())).into()),
    }
}

fn unknown<'a>(name: &str, others: impl Iterator<Item = &'a str>) -> anyhow::Error {
    let others: Vec<_> = others.collect();
    let remedy = match others.len() {
        0 => "none does; `gre-decap tunnel add` adds one".to_owned(),
        1..=MAX_NAMED => format!("these do: {}", others.join(", ")),
        _ => "`gre-decap tunnel list` shows those that do".to_owned(),
    };
    anyhow::anyhow!("tunnel {name}: does not run; {remedy}")
}

/// Says what was done, and on standard error what to know about it.
fn tell(done: &str, name: &str, warnings: Option<Vec<String>>) -> Result<(), Error> {
    let Some(warnings) = warnings else {
        return print(&format!("tunnel {name}: is {done} already\n"));
    };
    for warning in warnings {
        report("warning", warning);
    }
    print(&format!(
        "{done} tunnel {name}; `gre-decap load` brings back what the file says\n"
    ))
}
