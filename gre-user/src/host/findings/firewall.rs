//! Firewall rules that will no longer see what they are about.

use crate::config::Config;

use super::super::facts::Facts;
use super::super::finding::Finding;
use super::super::firewall::About;
use super::super::gre_device::GreDevice;
use super::unknown;

const FIREWALL: &str = "firewall";

pub(super) fn judge(config: &Config, facts: &Facts) -> Vec<Finding> {
    let tunnels: Vec<_> = config.tunnels.iter().filter(|tunnel| tunnel.enabled).collect();
    if tunnels.is_empty() {
        return Vec::new();
    }
    let rules = match &facts.rules {
        Ok(rules) => rules,
        Err(why) => {
            let question = "which rules are about GRE, and will not see what a tunnel takes";
            return vec![unknown(FIREWALL, question, why, "run `nft list ruleset` as root")];
        }
    };
    // That they could not be read is told with each tunnel.
    let devices = facts.gre_devices.as_deref().unwrap_or_default();
    let emptied: Vec<&GreDevice> = devices
        .iter()
        .filter(|device| tunnels.iter().any(|tunnel| device.shares_packets_with(tunnel)))
        .collect();
    let mut findings = Vec::new();
    for rule in rules {
        let place = format!("table {}, chain {}", rule.table, rule.chain);
        if rule.about == About::Gre {
            findings.push(Finding::warning(
                FIREWALL,
                format!("{place}: a rule for IP protocol 47 sees no packet that a tunnel takes, for XDP comes first"),
                "let `remote` name the senders to be trusted, and have a rule for the inner packets",
            ));
        }
        for device in emptied.iter().filter(|device| is_about(&rule.about, device)) {
            findings.push(Finding::warning(
                FIREWALL,
                format!(
                    "{place}: a rule for {} sees no packet of the tunnel any more",
                    device.name
                ),
                "have a rule for the interface that receives the GRE packets: the inner packets arrive there",
            ));
        }
    }
    findings
}

fn is_about(about: &About, device: &GreDevice) -> bool {
    match about {
        About::Gre => false,
        About::Index(index) => *index == device.index,
        About::Name(name) => match name.strip_suffix('*') {
            Some(start) => device.name.starts_with(start),
            None => *name == device.name,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::firewall::Rule;
    use super::super::tests::{Case, assert_found, gre1};
    use super::*;

    fn with_rules(case: &mut Case, abouts: &[About]) {
        let rule = |about: &About| Rule {
            table: "inet filter".to_owned(),
            chain: "input".to_owned(),
            about: about.clone(),
        };
        case.facts.rules = Ok(abouts.iter().map(rule).collect());
    }

    #[test]
    fn rules_for_the_protocol() {
        assert_found(
            |case| with_rules(case, &[About::Gre]),
            &[
                "warning: firewall: table inet filter, chain input: a rule for IP protocol 47 sees no packet that a tunnel takes, \
               for XDP comes first; let `remote` name the senders to be trusted, and have a rule for the inner packets",
            ],
        );
    }

    #[test]
    fn rules_for_a_device_that_loses_its_packets() {
        let rule = "warning: firewall: table inet filter, chain input: a rule for gre1 sees no packet of the tunnel any more; \
                    have a rule for the interface that receives the GRE packets: the inner packets arrive there";
        for (about, is_found) in [
            (About::Index(7), true),
            (About::Index(8), false),
            (About::Name("gre1".to_owned()), true),
            (About::Name("gre".to_owned()), false),
            (About::Name("gre*".to_owned()), true),
            (About::Name("eth*".to_owned()), false),
        ] {
            let mut case = Case::good();
            case.facts.gre_devices = Ok(vec![GreDevice { local: None, ..gre1() }]);
            with_rules(&mut case, std::slice::from_ref(&about));
            // The first line is the tunnel's, on the device itself.
            assert_eq!(case.lines()[1..].iter().any(|line| line == rule), is_found, "{about:?}");
            case.config.tunnels[0].key = Some(1);
            assert!(case.lines().is_empty(), "{about:?}");
        }
    }
}
