//! A tunnel's checks: the configuration's words and the datapath's bits.

use gre_common::tunnel::{ChecksumPolicy, Deliver, InnerTypes, Policy};

use crate::config::{self, Checksum, InnerType, Keepalive, Mss, Probes, Sequence};

const INNER: [(InnerType, InnerTypes); 4] = [
    (InnerType::Ipv4, InnerTypes::IPV4),
    (InnerType::Ipv6, InnerTypes::IPV6),
    (InnerType::Ethernet, InnerTypes::ETHERNET),
    (InnerType::Mpls, InnerTypes::MPLS),
];

/// The bits of a configured tunnel.
pub(super) fn of(tunnel: &config::Tunnel) -> Policy {
    let checksum = match tunnel.checksum {
        Checksum::Optional => ChecksumPolicy::Optional,
        Checksum::Required => ChecksumPolicy::Required,
        Checksum::Forbidden => ChecksumPolicy::Forbidden,
        Checksum::Ignore => ChecksumPolicy::Ignore,
    };
    let inner = INNER
        .into_iter()
        .filter(|(kind, _)| tunnel.inner.contains(*kind))
        .fold(InnerTypes::NONE, |types, (_, kind)| types.union(kind));
    let deliver = match tunnel.deliver {
        config::Deliver::Stack => Deliver::Stack,
        config::Deliver::Route => Deliver::Route,
        config::Deliver::Interface { .. } => Deliver::Interface,
    };
    let mss = match tunnel.mss {
        Mss::Off => 0,
        Mss::Bytes(bytes) => bytes,
    };
    let policy = Policy::new(checksum, tunnel.sequence == Sequence::Ordered, inner, tunnel.enabled)
        .delivering(deliver)
        .with_mss(mss);
    let policy = if tunnel.bypass.is_empty() {
        policy
    } else {
        policy.bypassing()
    };
    let policy = match tunnel.keepalive {
        Keepalive::Ignore => policy,
        Keepalive::Reply => policy.answering(),
    };
    match tunnel.probes {
        Probes::Off => policy,
        Probes::Route => policy.routing_probes(),
    }
}

/// The configuration's word for what becomes of replies to health probes.
pub(super) fn probes(policy: Policy) -> Probes {
    if policy.routes_probes() {
        Probes::Route
    } else {
        Probes::Off
    }
}

/// The configuration's word for what is done to the MSS.
pub(super) fn mss(policy: Policy) -> Mss {
    match policy.mss() {
        0 => Mss::Off,
        bytes => Mss::Bytes(bytes),
    }
}

/// The configuration's word for how checksums are treated.
pub(super) fn checksum(policy: Policy) -> Checksum {
    match policy.checksum() {
        ChecksumPolicy::Optional => Checksum::Optional,
        ChecksumPolicy::Required => Checksum::Required,
        ChecksumPolicy::Forbidden => Checksum::Forbidden,
        ChecksumPolicy::Ignore => Checksum::Ignore,
    }
}

/// The configuration's word for how sequence numbers are treated.
pub(super) fn sequence(policy: Policy) -> Sequence {
    if policy.ordered() {
        Sequence::Ordered
    } else {
        Sequence::Ignore
    }
}

/// The configuration's words for what may be inside.
pub(super) fn inner(policy: Policy) -> config::InnerTypes {
    INNER
        .into_iter()
        .filter(|(_, bit)| policy.inner().contains(*bit))
        .map(|(kind, _)| kind)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn words_survive() {
        for checksum_word in ["optional", "required", "forbidden", "ignore"] {
            for sequence_word in ["ignore", "ordered"] {
                for inner_words in [
                    r#"["ipv4"]"#,
                    r#"["ipv6", "mpls"]"#,
                    r#"["ipv4", "ipv6", "ethernet", "mpls"]"#,
                ] {
                    let text = format!(
                        "[[tunnel]]\nname = 'a'\nlocal = '198.51.100.20'\nremote = 'any'\nchecksum = '{checksum_word}'\n\
                         sequence = '{sequence_word}'\ninner = {inner_words}\nenabled = false"
                    );
                    let policy = of(&Config::from_str(&text, "test").unwrap().tunnels[0]);
                    assert_eq!(mss(policy), Mss::Off);
                    for bytes in [88, 1436, 9216] {
                        let text = format!("{text}\nmss = {bytes}");
                        let clamping = of(&Config::from_str(&text, "test").unwrap().tunnels[0]);
                        assert_eq!(mss(clamping), Mss::Bytes(bytes));
                        assert_eq!(clamping.with_mss(0), policy, "the checks are the same");
                    }
                    assert_eq!(checksum(policy).to_string(), checksum_word);
                    assert_eq!(sequence(policy).to_string(), sequence_word);
                    assert_eq!(inner(policy).to_string(), inner_words);
                    assert!(!policy.enabled());
                }
            }
        }
    }
}
