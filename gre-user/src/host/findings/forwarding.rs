//! Whether the kernel forwards what comes in on an interface, without which `deliver = "route"` and `probes = "route"` lead nowhere.

use ipnet::IpNet;

use crate::config::{Config, Deliver, InnerType};

use super::super::facts::{Facts, InterfaceFacts};
use super::super::finding::{Finding, Severity};
use super::unknown;

pub(super) fn judge(name: &str, found: &InterfaceFacts, config: &Config) -> Vec<Finding> {
    let routed = |kind| {
        let mut tunnels = config.tunnels.iter();
        tunnels.any(|tunnel| tunnel.enabled && tunnel.routes() && tunnel.inner.contains(kind))
    };
    let mut tunnels = config.tunnels.iter();
    let key = if tunnels.any(|tunnel| tunnel.enabled && tunnel.deliver == Deliver::Route) {
        "deliver"
    } else {
        "probes"
    };
    // sysctl(8) takes a slash for a dot within a name.
    let device = name.replace('.', "/");
    let families = [
        (
            "IPv4",
            InnerType::Ipv4,
            &found.forwarding.ipv4,
            format!("net.ipv4.conf.{device}.forwarding=1"),
        ),
        (
            "IPv6",
            InnerType::Ipv6,
            &found.forwarding.ipv6,
            format!("net.ipv6.conf.all.forwarding=1 net.ipv6.conf.{device}.forwarding=1"),
        ),
    ];
    let wanted = || families.iter().filter(|(_, kind, ..)| routed(*kind));
    // Probes are not what the tunnel is for; and it may carry both by default where only one is used.
    let severity = if key == "probes" || wanted().any(|(_, _, forwards, _)| *forwards.as_ref().unwrap_or(&true)) {
        Severity::Warning
    } else {
        Severity::Error
    };
    let finding = |(family, _, forwards, parameters): &(&str, _, &anyhow::Result<bool>, String)| match forwards {
        Ok(true) => None,
        Ok(false) => Some(Finding::new(
            severity,
            name,
            format!("{family} forwarding is off: `{key} = \"route\"` leaves all to the kernel, which drops it"),
            format!("run `sysctl -w {parameters}`"),
        )),
        Err(why) => {
            let question = format!("whether {family} is forwarded");
            let remedy = format!("run `sysctl {}`", parameters.replace("=1", ""));
            Some(unknown(name, &question, why, remedy))
        }
    };
    wanted().filter_map(finding).collect()
}

/// What is protected must be served here, or be forwarded: the stack drops the rest.
pub(super) fn protected(name: &str, found: &InterfaceFacts, config: &Config, facts: &Facts) -> Vec<Finding> {
    let to_stack = |kind| {
        let mut tunnels = config.tunnels.iter();
        tunnels.any(|tunnel| tunnel.enabled && tunnel.deliver == Deliver::Stack && tunnel.inner.contains(kind))
    };
    let here = match &facts.protected_here {
        Ok(here) => here,
        Err(why) => {
            let question = "in which of the protected prefixes this host has addresses";
            return vec![unknown("protect", question, why, "run `ip address show`")];
        }
    };
    let device = name.replace('.', "/");
    let finding = |prefix: &IpNet| {
        let (family, kind, forwards, parameters) = match prefix {
            IpNet::V4(_) => (
                "IPv4",
                InnerType::Ipv4,
                &found.forwarding.ipv4,
                format!("net.ipv4.conf.{device}.forwarding=1"),
            ),
            IpNet::V6(_) => (
                "IPv6",
                InnerType::Ipv6,
                &found.forwarding.ipv6,
                format!("net.ipv6.conf.all.forwarding=1 net.ipv6.conf.{device}.forwarding=1"),
            ),
        };
        // What forwarding is if it cannot be read is told where tunnels need it for sure.
        let is_off = forwards.as_ref().is_ok_and(|forwards| !forwards);
        (is_off && to_stack(kind) && !here.contains(prefix)).then(|| {
            Finding::warning(
                name,
                format!(
                    "{family} forwarding is off, and this host has no address in protected prefix {prefix}: the stack drops \
                     what tunnels deliver to it there"
                ),
                format!("run `ip address add ADDRESS dev lo` for what is served here, or `sysctl -w {parameters}`"),
            )
        })
    };
    config.protect.prefixes.iter().filter_map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Case, assert_found, denied};
    use super::*;
    use crate::config::Probes;

    #[test]
    fn protected_prefixes_that_nobody_serves() {
        let protect = |case: &mut Case, prefix: &str| {
            case.config.protect.prefixes = vec![prefix.parse().expect("a prefix")];
            case.eth0().forwarding.ipv4 = Ok(false);
            case.eth0().forwarding.ipv6 = Ok(false);
        };
        let dropped = |family, prefix, parameters| {
            format!(
                "warning: eth0: {family} forwarding is off, and this host has no address in protected prefix {prefix}: the stack \
                 drops what tunnels deliver to it there; run `ip address add ADDRESS dev lo` for what is served here, or \
                 `sysctl -w {parameters}`"
            )
        };
        let (v4, v6) = ("192.0.2.0/24", "2001:db8:2::/48");
        let parameters6 = "net.ipv6.conf.all.forwarding=1 net.ipv6.conf.eth0.forwarding=1";
        assert_found(
            |case| protect(case, v4),
            &[&dropped("IPv4", v4, "net.ipv4.conf.eth0.forwarding=1")],
        );
        assert_found(|case| protect(case, v6), &[&dropped("IPv6", v6, parameters6)]);
        let cures: [fn(&mut Case); 3] = [
            |case| case.facts.protected_here = Ok(case.config.protect.prefixes.iter().copied().collect()),
            |case| case.eth0().forwarding.ipv4 = Ok(true),
            |case| case.config.tunnels[0].inner = [InnerType::Ipv6].into_iter().collect(),
        ];
        for cure in cures {
            assert_found(
                |case| {
                    protect(case, v4);
                    cure(case);
                },
                &[],
            );
        }
        assert_found(
            |case| {
                protect(case, v4);
                case.facts.protected_here = Err(denied());
            },
            &[
                "note: protect: cannot tell in which of the protected prefixes this host has addresses: Operation not permitted \
                 (os error 1); run `ip address show`",
            ],
        );
    }

    const OFF4: &str = "eth0: IPv4 forwarding is off: `deliver = \"route\"` leaves all to the kernel, which drops it; run `sysctl \
                        -w net.ipv4.conf.eth0.forwarding=1`";
    const OFF6: &str = "eth0: IPv6 forwarding is off: `deliver = \"route\"` leaves all to the kernel, which drops it; run `sysctl \
                        -w net.ipv6.conf.all.forwarding=1 net.ipv6.conf.eth0.forwarding=1`";

    fn routed(ipv4: bool, ipv6: bool) -> impl Fn(&mut Case) {
        move |case| {
            case.config.tunnels[0].deliver = Deliver::Route;
            case.eth0().forwarding.ipv4 = Ok(ipv4);
            case.eth0().forwarding.ipv6 = Ok(ipv6);
        }
    }

    #[test]
    fn forwarding_of_the_families_that_are_routed() {
        assert_found(routed(true, true), &[]);
        assert_found(routed(true, false), &[&format!("warning: {OFF6}")]);
        assert_found(routed(false, true), &[&format!("warning: {OFF4}")]);
        assert_found(
            routed(false, false),
            &[&format!("error: {OFF4}"), &format!("error: {OFF6}")],
        );
        assert_found(
            |case| {
                routed(false, true)(case);
                case.config.tunnels[0].inner = [InnerType::Ipv4].into_iter().collect();
            },
            &[&format!("error: {OFF4}")],
        );
        assert_found(
            |case| {
                routed(false, false)(case);
                case.config.tunnels[0].deliver = Deliver::Stack;
            },
            &[],
        );
    }

    #[test]
    fn forwarding_of_probes() {
        let probing = |case: &mut Case| {
            routed(false, false)(case);
            case.config.tunnels[0].deliver = Deliver::Stack;
            case.config.tunnels[0].probes = Probes::Route;
        };
        let [v4, v6] = [OFF4, OFF6].map(|line| format!("warning: {}", line.replace("deliver =", "probes =")));
        assert_found(probing, &[&v4, &v6]);
    }

    #[test]
    fn what_cannot_be_read() {
        assert_found(
            |case| {
                routed(true, true)(case);
                case.eth0().forwarding.ipv6 = Err(denied());
            },
            &[
                "note: eth0: cannot tell whether IPv6 is forwarded: Operation not permitted (os error 1); run `sysctl \
                 net.ipv6.conf.all.forwarding net.ipv6.conf.eth0.forwarding`",
            ],
        );
    }
}
