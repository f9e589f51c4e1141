//! The findings on this host that concern a configuration: first the facts are read, then judged.

mod clsact;
mod driver;
mod egress;
mod firewall;
mod forwarding;
mod interface;
mod kernel;
mod lockdown;
mod memory;
mod native;
mod sources;
#[cfg(test)]
mod tests;
mod tunnel;

use std::collections::HashMap;
use std::iter;
use std::path::Path;

use crate::config::Config;
use crate::table::count;

use super::facts::{Facts, InterfaceFacts, LockdownFacts};
use super::finding::Finding;

/// What a tunnel's name follows in a finding's subject.
const TUNNEL: &str = "tunnel ";

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
    findings.extend(memory::judge(&facts.memory, config));
    for interface in &config.interfaces {
        findings.extend(interface::judge(interface, config, facts));
        findings.extend(clsact::judge(&interface.name, facts));
    }
    let tunnels = config.tunnels.iter().filter(|tunnel| tunnel.enabled);
    findings.extend(merged(tunnels.flat_map(|tunnel| tunnel::judge(tunnel, facts))));
    findings.extend(merged(egress::judge(config, facts).into_iter()));
    findings.extend(lockdown::judge(config, &facts.lockdown));
    findings.extend(firewall::judge(config, facts));
    findings
}

/// Tunnels with the same finding have it together, where the first of them has it: of many tunnels, most are alike.
fn merged(findings: impl Iterator<Item = Finding>) -> Vec<Finding> {
    let mut merged: Vec<(Finding, Vec<String>)> = Vec::new();
    let mut places = HashMap::new();
    for finding in findings {
        let other = (!finding.subject.starts_with(TUNNEL)).then(|| finding.subject.clone());
        let alike = (finding.severity, finding.what.clone(), finding.remedy.clone(), other);
        let place = *places.entry(alike).or_insert(merged.len());
        match merged.get_mut(place) {
            Some((_, others)) => others.push(finding.subject),
            None => merged.push((finding, Vec::new())),
        }
    }
    let together = |(mut finding, others): (Finding, Vec<String>)| {
        if let Some(last) = others.len().checked_sub(1) {
            let shown = &others[..last.min(MAX_NAMED - 2)];
            let named = iter::once(&finding.subject)
                .chain(shown)
                .map(|subject| name_of(subject));
            let named: Vec<_> = named.collect();
            let rest = match others.len() - shown.len() {
                1 => name_of(&others[last]).to_owned(),
                more => format!("{} more", count(more as u64)),
            };
            finding.subject = format!("tunnels {} and {rest}", named.join(", "));
        }
        finding
    };
    merged.into_iter().map(together).collect()
}

/// A tunnel's name in a finding's subject.
fn name_of(subject: &str) -> &str {
    subject.strip_prefix(TUNNEL).unwrap_or(subject)
}

/// Those of [`findings`] about whom lockdown would cut off. Without lockdown nothing is read.
pub fn lockdown_findings(config: &Config) -> Vec<Finding> {
    lockdown::judge(config, &LockdownFacts::read(config))
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
