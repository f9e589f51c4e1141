//! Whom `lockdown` would cut off who uses this host now.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::config::{Config, Guard, Tunnel};

use super::super::connections::{Connection, Resolver};
use super::super::facts::{Closed, LockdownFacts};
use super::super::finding::Finding;
use super::unknown;

const SUBJECT: &str = "lockdown";

/// How many addresses a line names.
const MAX_NAMED: usize = 4;

pub(super) fn judge(config: &Config, facts: &LockdownFacts) -> Vec<Finding> {
    let Some(rule) = Rule::of(config) else {
        return Vec::new();
    };
    let mut findings = rule.connections(facts);
    findings.extend(rule.resolvers(facts));
    findings.extend(config.tunnels.iter().filter_map(|tunnel| rule.tunnel(tunnel)));
    findings
}

/// The rule as it is configured.
struct Rule {
    closed: Closed,
    /// What becomes of what breaks it.
    would: &'static str,
}

impl Rule {
    /// The configuration's, if there is one.
    fn of(config: &Config) -> Option<Self> {
        let would = match config.protect.lockdown {
            Guard::Off => return None,
            Guard::Monitor => "counts, and once enforced drops,",
            Guard::Enforce => "drops",
        };
        Some(Self {
            closed: Closed::of(&config.protect),
            would,
        })
    }

    fn connections(&self, facts: &LockdownFacts) -> Vec<Finding> {
        let connections = match &facts.connections {
            Ok(connections) => connections.as_slice(),
            Err(why) => {
                return vec![unknown(
                    SUBJECT,
                    "which connections it would cut off",
                    why,
                    "run `ss --tcp`",
                )];
            }
        };
        let is_own = |connection: &Connection| Some(*connection) == facts.login;
        let broken = |connection: &&Connection| self.closed.has(connection);
        let all: Vec<_> = connections.iter().filter(broken).collect();
        let select = |wanted: &dyn Fn(&Connection) -> bool| -> BTreeSet<IpAddr> {
            let selected = all.iter().filter(|connection| wanted(connection));
            selected.map(|connection| connection.remote.ip()).collect()
        };
        let own = facts
            .login
            .iter()
            .filter(broken)
            .map(|login| login.remote.ip())
            .collect();
        let ssh = select(&|connection| connection.is_ssh() && !is_own(connection));
        let bgp = select(&|connection| connection.is_bgp());
        let others = select(&|connection| !connection.is_ssh() && !connection.is_bgp() && !is_own(connection));
        let warn = |what: &str, from: &BTreeSet<IpAddr>| {
            let names = named(from);
            (!from.is_empty()).then(|| {
                Finding::warning(
                    SUBJECT,
                    format!(
                        "{} packets of {what} from {names}, unless they come by a tunnel",
                        self.would
                    ),
                    format!("add {names} to `allow` in [protect]"),
                )
            })
        };
        let mut findings = Vec::new();
        findings.extend(warn("the SSH session that runs this,", &own));
        findings.extend(warn("SSH sessions", &ssh));
        findings.extend(warn("BGP sessions", &bgp));
        if !others.is_empty() {
            findings.push(Finding::note(
                SUBJECT,
                format!(
                    "{} packets of TCP connections from {}, unless they come by a tunnel, as clients' do",
                    self.would,
                    named(&others)
                ),
                "add those that come by none to `allow` in [protect]",
            ));
        }
        findings
    }

    fn resolvers(&self, facts: &LockdownFacts) -> Option<Finding> {
        match &facts.resolvers {
            Ok(resolvers) => {
                let broken = |resolver: &&Resolver| self.closed.is_broken(resolver.address, resolver.asked_from);
                let from: BTreeSet<_> = resolvers
                    .iter()
                    .filter(broken)
                    .map(|resolver| resolver.address)
                    .collect();
                let names = named(&from);
                (!from.is_empty()).then(|| {
                    Finding::warning(
                        SUBJECT,
                        format!(
                            "{} answers of the DNS resolvers {names}, unless they come by a tunnel",
                            self.would
                        ),
                        format!("add {names} to `allow` in [protect]"),
                    )
                })
            }
            Err(why) => Some(unknown(
                SUBJECT,
                "whether it drops answers of DNS resolvers",
                why,
                "look at /etc/resolv.conf",
            )),
        }
    }

    /// What cannot be told to be a tunnel's came by none.
    fn tunnel(&self, tunnel: &Tunnel) -> Option<Finding> {
        let is_allowed = |remote: &ipnet::IpNet| self.closed.allows(*remote);
        if !self.closed.protects(tunnel.local) || tunnel.remotes.iter().all(is_allowed) {
            return None;
        }
        Some(Finding::warning(
            format!("tunnel {}", tunnel.name),
            format!(
                "`local` {} is within `prefixes` in [protect], so lockdown {} outer fragments to it, which cannot be told to be the tunnel's \
                 before the kernel has put them together",
                tunnel.local, self.would
            ),
            "add its remotes to `allow` in [protect], or give it a `local` outside",
        ))
    }
}

/// Some of the addresses, and how many more there are.
fn named(addresses: &BTreeSet<IpAddr>) -> String {
    let some: Vec<_> = addresses.iter().take(MAX_NAMED).map(IpAddr::to_string).collect();
    match addresses.len() {
        length if length > MAX_NAMED => format!("{} and {} more", some.join(", "), length - MAX_NAMED),
        _ => some.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Case, assert_found, denied};
    use super::*;

    fn locked(guard: Guard) -> impl Fn(&mut Case) {
        move |case| {
            let protect = &mut case.config.protect;
            protect.prefixes = ["192.0.2.0/24", "2001:db8:2::/48"].map(net).into();
            protect.allow = ["198.18.5.0/24"].map(net).into();
            protect.lockdown = guard;
        }
    }

    fn net(text: &str) -> ipnet::IpNet {
        text.parse().expect(text)
    }

    fn connection(remote: &str, local: &str) -> Connection {
        Connection {
            local: local.parse().expect(local),
            remote: remote.parse().expect(remote),
        }
    }

    fn busy(case: &mut Case) {
        let login = connection("203.0.113.7:50022", "192.0.2.80:22");
        let facts = &mut case.facts.lockdown;
        facts.login = Some(login);
        facts.connections = Ok(vec![
            login,
            connection("203.0.113.8:50000", "192.0.2.80:22"),
            connection("198.18.5.7:50000", "192.0.2.80:22"),
            connection("203.0.113.9:179", "192.0.2.80:40000"),
            connection("[2001:db8:9::9]:40000", "[2001:db8:2::80]:179"),
            connection("203.0.113.9:443", "198.51.100.20:40000"),
        ]);
        facts.resolvers = Ok(vec![
            Resolver {
                address: [203, 0, 113, 53].into(),
                asked_from: [192, 0, 2, 80].into(),
            },
            Resolver {
                address: [203, 0, 113, 54].into(),
                asked_from: [198, 51, 100, 20].into(),
            },
        ]);
    }

    #[test]
    fn who_would_be_cut_off() {
        let expected = |drops: &str| {
            [
                ("packets of the SSH session that runs this, from", "203.0.113.7"),
                ("packets of SSH sessions from", "203.0.113.8"),
                ("packets of BGP sessions from", "203.0.113.9, 2001:db8:9::9"),
                ("answers of the DNS resolvers", "203.0.113.53"),
            ]
            .map(|(what, names)| {
                format!(
                    "warning: lockdown: {drops} {what} {names}, unless they come by a tunnel; add {names} to `allow` in [protect]"
                )
            })
        };
        for (guard, drops) in [
            (Guard::Monitor, "counts, and once enforced drops,"),
            (Guard::Enforce, "drops"),
        ] {
            let lines = expected(drops);
            let lines: Vec<_> = lines.iter().map(String::as_str).collect();
            assert_found(
                |case| {
                    locked(guard)(case);
                    busy(case);
                },
                &lines,
            );
        }
        assert_found(
            |case| {
                locked(Guard::Off)(case);
                busy(case);
            },
            &[],
        );
        assert_found(
            |case| {
                locked(Guard::Enforce)(case);
                busy(case);
                case.config.protect.allow = ["203.0.113.0/24", "2001:db8:9::9/128", "198.18.5.7/32"].map(net).into();
            },
            &[],
        );
    }

    #[test]
    fn clients_are_only_noted() {
        assert_found(
            |case| {
                locked(Guard::Enforce)(case);
                let client = |last: u8| connection(&format!("198.18.7.{last}:4000"), "192.0.2.80:443");
                case.facts.lockdown.connections = Ok((1..=9).chain(1..=9).map(client).collect());
            },
            &[
                "note: lockdown: drops packets of TCP connections from 198.18.7.1, 198.18.7.2, 198.18.7.3, 198.18.7.4 and 5 more, \
               unless they come by a tunnel, as clients' do; add those that come by none to `allow` in [protect]",
            ],
        );
    }

    #[test]
    fn tunnels_that_end_within() {
        let within = |case: &mut Case| {
            locked(Guard::Enforce)(case);
            case.config.protect.prefixes.push(net("198.51.100.0/24"));
        };
        assert_found(
            within,
            &[
                "warning: tunnel a: `local` 198.51.100.20 is within `prefixes` in [protect], so lockdown drops outer fragments to \
               it, which cannot be told to be the tunnel's before the kernel has put them together; add its remotes to `allow` in \
               [protect], or give it a `local` outside",
            ],
        );
        assert_found(
            |case| {
                within(case);
                case.config.protect.allow.push(net("203.0.113.0/28"));
            },
            &[],
        );
    }

    #[test]
    fn what_cannot_be_read() {
        assert_found(
            |case| {
                locked(Guard::Enforce)(case);
                case.facts.lockdown.connections = Err(denied());
                case.facts.lockdown.resolvers = Err(denied());
            },
            &[
                "note: lockdown: cannot tell which connections it would cut off: Operation not permitted (os error 1); run `ss --tcp`",
                "note: lockdown: cannot tell whether it drops answers of DNS resolvers: Operation not permitted (os error 1); look at \
               /etc/resolv.conf",
            ],
        );
    }
}
