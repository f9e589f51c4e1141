//! The findings on this host that concern a configuration: first the facts are read, then judged.

mod driver;
mod egress;
mod firewall;
mod forwarding;
mod interface;
mod kernel;
mod native;
mod sources;
#[cfg(test)]
mod tests;
mod tunnel;

use std::path::Path;

use crate::config::Config;

use super::facts::{Facts, InterfaceFacts};
use super::finding::Finding;

/// How many interfaces are named to somebody who named one that is not there.
const MAX_NAMED: usize = 8;

/// What on this host would make a configuration fail or slow, or will surprise: first about the host, then about
/// interface by interface and tunnel by tunnel, in the configuration's order, then about where tunnels deliver and the firewall.
///
/// `root` is the folder that the state is pinned in, or will be.
///
/// Nothing is changed. A fact that cannot be read is a finding as well, which says why.
pub fn findings(config: &Config, root: &Path) -> Vec<Finding> {
    judge(config, root, &Facts::read(config, root))
}

fn judge(config: &Config, root: &Path, facts: &Facts) -> Vec<Finding> {
    let mut findings = kernel::judge(&facts.kernel, config, root);
    for interface in &config.interfaces {
        findings.extend(interface::judge(interface, config, facts));
    }
    for tunnel in config.tunnels.iter().filter(|tunnel| tunnel.enabled) {
        findings.extend(tunnel::judge(tunnel, facts));
    }
    findings.extend(egress::judge(config, facts));
    findings.extend(firewall::judge(config, facts));
    findings
}

/// The note on a fact that could not be read: what it would have told, why, and how to find out.
fn unknown(subject: &str, question: &str, why: &anyhow::Error, remedy: impl Into<String>) -> Finding {
    Finding::note(subject, format!("cannot tell {question}: {why:#}"), remedy)
}

/// The interfaces that there are, for somebody who named one that is not: "one of those here: lo, eth0".
fn known_interfaces(facts: &Facts) -> String {
    match &facts.interface_names {
        Ok(names) if names.len() <= MAX_NAMED => format!("one of those here: {}", names.join(", ")),
        _ => "one that `ip link` shows".to_owned(),
    }
}

/// The interfaces of the configuration that are there.
fn present(facts: &Facts) -> impl Iterator<Item = &InterfaceFacts> {
    facts
        .interfaces
        .values()
        .filter_map(|interface| interface.as_ref().ok()?.as_ref())
}
