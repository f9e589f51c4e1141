//! What the kernel thinks of the inner packets' sources, which arrive on the interface now.

use crate::config::{Config, Deliver, InnerType, InnerTypes};

use super::super::facts::InterfaceFacts;
use super::super::finding::Finding;
use super::unknown;

pub(super) fn judge(name: &str, found: &InterfaceFacts, config: &Config) -> Vec<Finding> {
    let mut to_stack = config
        .tunnels
        .iter()
        .filter(|tunnel| tunnel.enabled && tunnel.deliver == Deliver::Stack);
    let has_ipv4 = |inner: InnerTypes| inner.contains(InnerType::Ipv4) || inner.contains(InnerType::Ethernet);
    if !to_stack.any(|tunnel| has_ipv4(tunnel.inner)) {
        return Vec::new();
    }
    // sysctl(8) takes a slash for a dot within a name.
    let parameter = |parameter| format!("net.ipv4.conf.{}.{parameter}", name.replace('.', "/"));
    let rp_filter = match &found.rp_filter {
        Ok(1) => Some(Finding::warning(
            name,
            "strict reverse path filtering (rp_filter = 1) drops inner IPv4 packets whose source this host would answer by \
             another interface",
            format!(
                "run `sysctl -w {}=2` (`nstat -az TcpExtIPReversePathFilter` counts the drops)",
                parameter("rp_filter")
            ),
        )),
        Ok(_) => None,
        Err(why) => Some(unknown(
            name,
            "what reverse path filtering drops",
            why,
            format!("run `sysctl {}`", parameter("rp_filter")),
        )),
    };
    let martians = match &found.logs_martians {
        Ok(true) => Some(Finding::note(
            name,
            "log_martians is on: inner packets with forged sources, as in an attack, fill the kernel's log",
            format!(
                "run `sysctl -w {}=0`, and the same for `all`",
                parameter("log_martians")
            ),
        )),
        Ok(false) => None,
        Err(why) => {
            let remedy = format!("run `sysctl {}`", parameter("log_martians"));
            Some(unknown(
                name,
                "whether packets with forged sources are logged",
                why,
                remedy,
            ))
        }
    };
    rp_filter.into_iter().chain(martians).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Case, assert_found, denied};
    use super::*;

    #[test]
    fn rp_filter_and_martians() {
        let strict = "warning: eth0: strict reverse path filtering (rp_filter = 1) drops inner IPv4 packets whose source this \
                      host would answer by another interface; run `sysctl -w net.ipv4.conf.eth0.rp_filter=2` (`nstat -az \
                      TcpExtIPReversePathFilter` counts the drops)";
        let martians = "note: eth0: log_martians is on: inner packets with forged sources, as in an attack, fill the kernel's \
                        log; run `sysctl -w net.ipv4.conf.eth0.log_martians=0`, and the same for `all`";
        let spoil = |case: &mut Case| {
            case.eth0().rp_filter = Ok(1);
            case.eth0().logs_martians = Ok(true);
        };
        assert_found(spoil, &[strict, martians]);
        assert_found(|case| case.eth0().rp_filter = Ok(0), &[]);
        let carries = |case: &mut Case, kind| case.config.tunnels[0].inner = [kind].into_iter().collect();
        for (kind, found) in [
            (InnerType::Ipv4, true),
            (InnerType::Ipv6, false),
            (InnerType::Ethernet, true),
            (InnerType::Mpls, false),
        ] {
            let lines: &[&str] = if found { &[strict, martians] } else { &[] };
            assert_found(
                |case| {
                    spoil(case);
                    carries(case, kind);
                },
                lines,
            );
        }
        assert_found(
            |case| {
                spoil(case);
                case.config.tunnels[0].deliver = Deliver::Route;
            },
            &[],
        );
        assert_found(
            |case| {
                case.eth0().rp_filter = Err(denied());
                case.eth0().logs_martians = Err(denied());
            },
            &[
                "note: eth0: cannot tell what reverse path filtering drops: Operation not permitted (os error 1); run `sysctl \
                 net.ipv4.conf.eth0.rp_filter`",
                "note: eth0: cannot tell whether packets with forged sources are logged: Operation not permitted (os error \
                 1); run `sysctl net.ipv4.conf.eth0.log_martians`",
            ],
        );
    }

    #[test]
    fn a_dot_in_a_name_is_a_slash_to_sysctl() {
        let mut case = Case::good();
        case.eth0().rp_filter = Ok(1);
        case.config.interfaces[0].name = "eth0.100".to_owned();
        let eth0 = case.facts.interfaces.remove("eth0").expect("eth0");
        case.facts.interfaces.insert("eth0.100".to_owned(), eth0);
        let lines = case.lines();
        assert!(
            lines[0].contains("sysctl -w net.ipv4.conf.eth0/100.rp_filter=2"),
            "{lines:?}"
        );
    }
}
