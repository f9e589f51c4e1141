//! A host and a configuration with nothing to find, for tests to spoil; and the order of what is found.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::Path;

use anyhow::Error;

use super::super::bpf::Bpf;
use super::super::ethtool::Channels;
use super::super::facts::{EgressFacts, Facts, Forwarding, InterfaceFacts, KernelFacts, LockdownFacts, MemoryFacts};
use super::super::gre_device::{GreDevice, Key};
use super::super::interface::Interface;
use super::super::xdp_features::XdpFeatures;
use super::judge;
use crate::config::{Config, Tunnel};

const CONFIG: &str = "
[[interface]]
name = 'eth0'
[[tunnel]]
name = 'a'
local = '198.51.100.20'
remote = '203.0.113.10'
";

/// A configuration and the facts of a host on which it does well.
pub(super) struct Case {
    pub(super) config: Config,
    pub(super) facts: Facts,
}

impl Case {
    pub(super) fn good() -> Self {
        let config = Config::from_str(CONFIG, "f.toml").unwrap_or_else(|error| panic!("{error}"));
        let interface = Interface {
            index: 2,
            name: "eth0".to_owned(),
            mtu: 3000,
            is_up: true,
            has_carrier: true,
            is_ethernet: true,
            mac: Some([2, 0, 0, 0, 0, 1]),
            kind: None,
            driver: Some("ice".to_owned()),
            xdp: Vec::new(),
        };
        let eth0 = InterfaceFacts {
            interface,
            xdp: Ok(XdpFeatures {
                native: true,
                frags: true,
                transmit: true,
                transmit_frags: true,
            }),
            offloads: Ok(BTreeSet::new()),
            channels: Ok(Some(Channels {
                receive: 0,
                combined: 1,
                combined_max: 8,
            })),
            rp_filter: Ok(2),
            logs_martians: Ok(false),
            forwarding: Forwarding {
                ipv4: Ok(true),
                ipv6: Ok(true),
            },
        };
        let facts = Facts {
            kernel: KernelFacts {
                bpf: Ok(Bpf::Usable { jit: true, frags: true }),
                btf: Ok(true),
                missing_capabilities: Ok(Vec::new()),
                root_in_bpffs: Ok(true),
                cpumap_gro: Ok(None),
                cpus: Ok(1),
                tcx: Ok(None),
            },
            memory: MemoryFacts {
                possible_cpus: Ok(2),
                available: Ok(8 << 30),
            },
            interface_names: Ok(vec!["lo".to_owned(), "eth0".to_owned()]),
            interfaces: BTreeMap::from([("eth0".to_owned(), Ok(Some(eth0)))]),
            own_programs: Ok(BTreeSet::new()),
            local: Ok(BTreeSet::from([config.tunnels[0].local])),
            protected_here: Ok(BTreeSet::new()),
            gre_devices: Ok(Vec::new()),
            keepalives: BTreeMap::new(),
            clsact: BTreeMap::new(),
            lockdown: LockdownFacts::none(),
            rules: Ok(Vec::new()),
            egress: EgressFacts {
                ways: Ok(Vec::new()),
                next_hops: HashMap::new(),
            },
        };
        Self { config, facts }
    }

    pub(super) fn eth0(&mut self) -> &mut InterfaceFacts {
        match self.facts.interfaces.get_mut("eth0") {
            Some(Ok(Some(eth0))) => eth0,
            other => panic!("eth0 is {other:?}"),
        }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let root = Path::new("/sys/fs/bpf/gre-decap");
        judge(&self.config, root, &self.facts)
            .iter()
            .map(ToString::to_string)
            .collect()
    }
}

/// A device of the kernel with the tunnel's own end.
pub(super) fn gre1() -> GreDevice {
    GreDevice {
        name: "gre1".to_owned(),
        index: 7,
        is_up: true,
        carries_ethernet: false,
        is_ipv4: true,
        local: Some("198.51.100.20".parse().expect("an address")),
        remote: None,
        key: Key::None,
    }
}

/// Checks what is found once a good host is spoilt.
#[track_caller]
pub(super) fn assert_found(spoil: impl FnOnce(&mut Case), lines: &[&str]) {
    let mut case = Case::good();
    spoil(&mut case);
    assert_eq!(case.lines(), lines);
}

/// Why a fact could not be read.
pub(super) fn denied() -> Error {
    io::Error::from_raw_os_error(libc::EPERM).into()
}

#[test]
fn nothing_is_found_where_all_is_well() {
    assert_found(|_| {}, &[]);
}

#[test]
fn tunnels_that_are_alike_share_a_line() {
    let found = |tunnels: usize| {
        let mut case = Case::good();
        case.facts.local = Ok(BTreeSet::new());
        let tunnel = case.config.tunnels[0].clone();
        case.config.tunnels = (1..=tunnels)
            .map(|number| Tunnel {
                name: format!("t{number}"),
                ..tunnel.clone()
            })
            .collect();
        let lines = case.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines[0].split(": `local`").next().map(str::to_owned)
    };
    for (tunnels, start) in [
        (1, "warning: tunnel t1"),
        (2, "warning: tunnels t1 and t2"),
        (3, "warning: tunnels t1, t2 and t3"),
        (9, "warning: tunnels t1, t2, t3, t4, t5, t6, t7 and 2 more"),
        (2000, "warning: tunnels t1, t2, t3, t4, t5, t6, t7 and 1,993 more"),
    ] {
        assert_eq!(found(tunnels).as_deref(), Some(start));
    }
}

#[test]
fn the_host_comes_first_then_interfaces_then_tunnels_then_the_firewall() {
    assert_found(
        |case| {
            case.facts.rules = Err(denied());
            case.facts.local = Ok(BTreeSet::new());
            case.eth0().interface.is_up = false;
            case.facts.kernel.btf = Ok(false);
        },
        &[
            "note: kernel: shows no BTF: loading does without, but tracing programs need it; boot one that is built with \
             CONFIG_DEBUG_INFO_BTF, and mount sysfs on /sys",
            "error: eth0: is down; run `ip link set dev eth0 up`",
            "warning: tunnel a: `local` 198.51.100.20 is no address of this host: only what a router sends here all the same \
             will arrive; set `local` to the address that the other end sends to, or run `ip address add 198.51.100.20 dev \
             INTERFACE`",
            "note: firewall: cannot tell which rules are about GRE, and will not see what a tunnel takes: Operation not \
             permitted (os error 1); run `nft list ruleset` as root",
        ],
    );
}

#[test]
fn a_disabled_tunnel_concerns_nobody() {
    assert_found(
        |case| {
            case.config.tunnels[0].enabled = false;
            case.facts.rules = Err(denied());
            case.facts.local = Ok(BTreeSet::new());
            case.eth0().rp_filter = Ok(1);
            case.eth0().channels = Ok(Some(Channels {
                receive: 8,
                combined: 0,
                combined_max: 0,
            }));
        },
        &[],
    );
}

#[test]
fn a_finding_in_json() {
    let mut case = Case::good();
    case.eth0().interface.is_up = false;
    let found = judge(&case.config, Path::new("/"), &case.facts);
    assert_eq!(
        serde_json::to_string(&found).expect("JSON"),
        r#"[{"severity":"error","where":"eth0","what":"is down","remedy":"run `ip link set dev eth0 up`"}]"#
    );
}
