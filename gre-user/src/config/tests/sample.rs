//! Every field of a complete file, and every default.

use super::super::*;
use super::{TUNNEL, valid};
use ipnet::IpNet;

/// A file with every key, in the spelling that the documentation of the format uses.
pub(super) const SAMPLE: &str = r#"
unknown = "drop"                  # GRE that no tunnel matches: "pass" | "drop"
max_tunnels = 2048                # map capacity; at most 1_048_576
spread_queue = 512                # packets that the queue of a core holds; at most 16_384

[[interface]]
name = "eth0"
mode = "auto"                     # "native" (default: an error where the driver has no XDP) | "generic" | "auto"
clamp_mss = "auto"                # "off" | "auto" | bytes: TCP MSS of what leaves from protected prefixes

[[tunnel]]
name     = "scrub-fra"
local    = "198.51.100.20"        # IPv4 or IPv6; remote must be of the same family
remote   = ["203.0.113.10", "203.0.113.128/25"]   # one or many addresses or prefixes, or "any"
key      = 4200                   # 0..=4294967295; absent: packets must carry no key
checksum = "required"
sequence = "ordered"
inner    = ["ipv6", "ipv4", "ethernet"]
deliver  = { interface = "eth1", next_hop = "10.0.0.2" }
spread   = "0-3,6"
mss      = 1400
bypass   = ["10.0.0.0/30"]
keepalive = "reply"
keepalive_rate = 20
probes   = "route"
enabled  = false

[[tunnel]]
name     = "scrub-ams"
local    = "2001:db8::20"
remote   = "any"

[protect]
prefixes = ["192.0.2.0/24", "2001:db8:2::/48"]
inner_destinations = "monitor"
lockdown = "enforce"
allow    = ["198.18.5.0/24", "198.18.6.1"]
"#;

fn net(text: &str) -> IpNet {
    text.parse().expect(text)
}

#[test]
fn every_field() {
    let config = valid(SAMPLE);
    let fra = Tunnel {
        name: "scrub-fra".to_owned(),
        local: [198, 51, 100, 20].into(),
        remotes: vec![net("203.0.113.10/32"), net("203.0.113.128/25")],
        key: Some(4200),
        checksum: Checksum::Required,
        sequence: Sequence::Ordered,
        inner: [InnerType::Ipv4, InnerType::Ipv6, InnerType::Ethernet]
            .into_iter()
            .collect(),
        deliver: Deliver::Interface {
            name: "eth1".to_owned(),
            next_hop: Some(NextHop::Address([10, 0, 0, 2].into())),
        },
        spread: Spread::Cpus(vec![0, 1, 2, 3, 6]),
        mss: Mss::Bytes(1400),
        bypass: vec![net("10.0.0.0/30")],
        keepalive: Keepalive::Reply,
        keepalive_rate: 20,
        probes: Probes::Route,
        enabled: false,
    };
    let ams = Tunnel {
        name: "scrub-ams".to_owned(),
        local: [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x20].into(),
        remotes: vec![net("::/0")],
        key: None,
        checksum: Checksum::Optional,
        sequence: Sequence::Ignore,
        inner: [InnerType::Ipv4, InnerType::Ipv6].into_iter().collect(),
        deliver: Deliver::Stack,
        spread: Spread::Off,
        mss: Mss::Off,
        bypass: vec![],
        keepalive: Keepalive::Ignore,
        keepalive_rate: 10,
        probes: Probes::Off,
        enabled: true,
    };
    let expected = Config {
        unknown: Unknown::Drop,
        max_tunnels: 2048,
        spread_queue: 512,
        interfaces: vec![Interface {
            name: "eth0".to_owned(),
            mode: Mode::Auto,
            clamp_mss: ClampMss::Auto,
        }],
        tunnels: vec![fra, ams],
        protect: Protect {
            prefixes: vec![net("192.0.2.0/24"), net("2001:db8:2::/48")],
            inner_destinations: Guard::Monitor,
            lockdown: Guard::Enforce,
            allow: vec![net("198.18.5.0/24"), net("198.18.6.1/32")],
        },
    };
    assert_eq!(config, expected);
    assert!(config.warnings().is_empty());
}

/// The contract has the rule on inner destinations come before probes.
#[test]
fn probes_that_are_never_sent_on_are_warned_of() {
    let warnings = |lines: &str, guard: &str| -> Vec<String> {
        let text = format!(
            "[[interface]]\nname = 'eth0'\n{TUNNEL}{lines}\n[protect]\nprefixes = ['192.0.2.0/24']\ninner_destinations = '{guard}'"
        );
        let config = Config::from_str(&text, "f.toml").expect("valid");
        config.warnings().iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        warnings("probes = 'route'", "enforce"),
        [
            "`probes = \"route\"` sends nothing on: `inner_destinations = \"enforce\"` in [protect], which comes first, drops all that \
             is not for `prefixes`; add the addresses that the probes go to to `prefixes`, so that `deliver` takes them, or to the \
             tunnel's `bypass`; or set `inner_destinations` to \"monitor\""
        ]
    );
    for (lines, guard) in [
        ("probes = 'route'", "monitor"),
        ("probes = 'route'", "off"),
        ("probes = 'off'", "enforce"),
    ] {
        assert_eq!(warnings(lines, guard), [""; 0], "{lines}, {guard}");
    }
}

#[test]
fn an_empty_file_is_valid_and_warned_of() {
    let config = Config::from_str("", "f.toml").expect("valid");
    assert_eq!(config, Config::default());
    let warnings: Vec<_> = config.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "no [[interface]]: nothing to attach to; add one for each interface that receives GRE",
            "no [[tunnel]]: nothing to decapsulate; add one for each GRE tunnel that ends on this host",
        ]
    );
}

#[test]
fn words_are_shown_as_the_file_has_them() {
    let config = valid(SAMPLE);
    let tunnel = &config.tunnels[0];
    assert_eq!(config.unknown.to_string(), "drop");
    assert_eq!(config.interfaces[0].mode.to_string(), "auto");
    assert_eq!(config.protect.lockdown.to_string(), "enforce");
    assert_eq!(tunnel.checksum.to_string(), "required");
    assert_eq!(tunnel.sequence.to_string(), "ordered");
    assert_eq!(tunnel.keepalive.to_string(), "reply");
    assert_eq!(tunnel.probes.to_string(), "route");
    let word: &'static str = tunnel.checksum.into();
    assert_eq!(word, "required");
}

#[test]
fn dos_line_ends_and_a_byte_order_mark_change_nothing() {
    assert_eq!(valid(&SAMPLE.replace('\n', "\r\n")), valid(SAMPLE));
    assert_eq!(valid(&format!("\u{feff}{SAMPLE}")), valid(SAMPLE));
}
