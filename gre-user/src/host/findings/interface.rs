//! An interface of the configuration, whatever the mode.

use crate::config::{Config, Deliver, Interface, Keepalive, Mode, Spread, Tunnel};

use super::super::facts::{Facts, InterfaceFacts};
use super::super::finding::Finding;
use super::super::interface::{AttachedXdp, XdpMode};
use super::{forwarding, known_interfaces, native, sources, unknown};

pub(super) fn judge(wanted: &Interface, config: &Config, facts: &Facts) -> Vec<Finding> {
    let name = wanted.name.as_str();
    let found = match facts.interfaces.get(name) {
        Some(Ok(Some(found))) => found,
        Some(Err(why)) => {
            return vec![unknown(
                name,
                "whether it exists",
                why,
                format!("run `ip link show dev {name}`"),
            )];
        }
        Some(Ok(None)) | None => return vec![missing(name, facts)],
    };
    let mut findings = Vec::new();
    findings.extend(state(name, found));
    findings.extend(programs(wanted, found, facts));
    findings.extend(native::judge(wanted, found));
    findings.extend(spread(wanted, found, config));
    findings.extend(veth(name, found));
    findings.extend(queues(name, found, config, facts));
    findings.extend(vlan(name, found, config));
    findings.extend(forwarding::judge(name, found, config));
    findings.extend(forwarding::protected(name, found, config, facts));
    findings.extend(sources::judge(name, found, config));
    findings
}

fn missing(name: &str, facts: &Facts) -> Finding {
    let remedy = format!("set `name` to {}", known_interfaces(facts));
    Finding::error(name, "there is no such interface in this network namespace", remedy)
}

fn state(name: &str, found: &InterfaceFacts) -> Option<Finding> {
    if !found.interface.is_ethernet {
        let remedy = "name the interface at which the GRE packets arrive in Ethernet frames";
        Some(Finding::error(name, "its packets have no Ethernet header", remedy))
    } else if !found.interface.is_up {
        Some(Finding::error(
            name,
            "is down",
            format!("run `ip link set dev {name} up`"),
        ))
    } else if !found.interface.has_carrier {
        Some(Finding::error(
            name,
            "is up but has no carrier",
            "see to the cable, the switch's port or the other end",
        ))
    } else {
        None
    }
}

/// Another's program, or our own in another mode: `load` refuses both.
fn programs(wanted: &Interface, found: &InterfaceFacts, facts: &Facts) -> Vec<Finding> {
    let name = wanted.name.as_str();
    let own = match &facts.own_programs {
        Ok(own) => own,
        Err(why) if !found.interface.xdp.is_empty() => {
            return vec![unknown(
                name,
                "whose XDP program is attached",
                why,
                "run `bpftool net show` as root",
            )];
        }
        Err(_) => return Vec::new(),
    };
    let finding = |&AttachedXdp { mode, program_id: id }: &AttachedXdp| {
        if !own.contains(&id) {
            Some(Finding::error(
                name,
                format!("XDP program {id} is attached already, in {mode} mode"),
                format!(
                    "see whose it is with `bpftool prog show id {id}`, and detach it with the tool that attached it"
                ),
            ))
        } else if matches!(
            (wanted.mode, mode),
            (Mode::Native, XdpMode::Generic) | (Mode::Generic, XdpMode::Native)
        ) {
            Some(Finding::error(
                name,
                format!("the program runs in {mode} mode, which cannot be changed while it is attached"),
                "run `gre-decap unload`, then `gre-decap load`",
            ))
        } else {
            None
        }
    };
    found.interface.xdp.iter().filter_map(finding).collect()
}

/// That "auto" would be generic mode, in which the kernel loses what is spread. Where the file asks for that mode, it is refused.
fn spread(wanted: &Interface, found: &InterfaceFacts, config: &Config) -> Option<Finding> {
    let spreads = config.tunnels.iter().any(|tunnel| tunnel.spread != Spread::Off);
    let is_generic = wanted.mode == Mode::Auto && found.xdp.as_ref().is_ok_and(|features| !features.native);
    (spreads && is_generic).then(|| {
        Finding::error(
            &wanted.name,
            "runs in generic mode, in which the kernel loses packets that are spread over cores",
            "set spread = \"off\", or use a network card whose driver has XDP",
        )
    })
}

fn veth(name: &str, found: &InterfaceFacts) -> Option<Finding> {
    (found.interface.kind.as_deref() == Some("veth")).then(|| {
        Finding::note(
            name,
            "is a veth: what its other end sends may lack checksums, which no network card is there to fill in",
            "run `ethtool -K NAME tx off` at the other end",
        )
    })
}

fn queues(name: &str, found: &InterfaceFacts, config: &Config, facts: &Facts) -> Option<Finding> {
    match &found.channels {
        Ok(Some(channels)) => {
            let queues = channels.receive.saturating_add(channels.combined);
            let unspread = config
                .tunnels
                .iter()
                .any(|tunnel| tunnel.enabled && tunnel.spread == Spread::Off);
            let cores = *facts.kernel.cpus.as_ref().unwrap_or(&1);
            if queues == 1 && unspread && cores > 1 && found.interface.kind.is_none() {
                let remedy = match channels.combined_max.min(u32::try_from(cores).unwrap_or(u32::MAX)) {
                    most @ 2.. => format!(
                        "if that is too much for one, run `ethtool -L {name} combined {most}`, or set `spread = \"all\"` in \
                         the tunnels"
                    ),
                    _ => "if that is too much for one, set `spread = \"all\"` in the tunnels".to_owned(),
                };
                let what =
                    format!("has 1 receive queue: all that arrives is the work of one of this host's {cores} cores");
                return Some(Finding::note(name, what, remedy));
            }
            (queues > 1 && unspread).then(|| {
                Finding::note(
                    name,
                    format!(
                        "has {queues} receive queues, but most cards choose one by the outer addresses: all that one \
                         remote address sends is then the work of one core"
                    ),
                    "if that is too much for one, set `spread = \"all\"` in the tunnels",
                )
            })
        }
        Ok(None) => None,
        Err(why) => Some(unknown(
            name,
            "how many receive queues it has",
            why,
            format!("run `ethtool -l {name}`"),
        )),
    }
}

/// A tag that the card has taken out stays with a packet that the stack gets, and is lost with one that is redirected.
fn vlan(name: &str, found: &InterfaceFacts, config: &Config) -> Option<Finding> {
    let sends = |tunnel: &Tunnel| {
        tunnel.deliver != Deliver::Stack
            || tunnel.routes()
            || tunnel.spread != Spread::Off
            || tunnel.keepalive != Keepalive::Ignore
    };
    let redirects = config.tunnels.iter().any(|tunnel| tunnel.enabled && sends(tunnel));
    // What the offloads are if they cannot be read is told with the other offloads.
    let strips = found
        .offloads
        .as_ref()
        .is_ok_and(|offloads| offloads.contains("rx-vlan-hw-parse"));
    (redirects && strips).then(|| {
        Finding::note(
            name,
            "takes VLAN tags out of frames, which are then lost on the way to other cores and from answered keepalives, and the \
             program cannot tell VLANs apart when it delivers elsewhere than to the stack",
            format!("if GRE arrives in VLANs, run `ethtool -K {name} rxvlan off`"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::ethtool::Channels;
    use super::super::super::xdp_features::XdpFeatures;
    use super::super::tests::{Case, assert_found, denied};
    use super::*;

    #[test]
    fn missing() {
        let absent = |case: &mut Case| case.facts.interfaces.insert("eth0".to_owned(), Ok(None));
        let none = "error: eth0: there is no such interface in this network namespace;";
        assert_found(
            |case| drop(absent(case)),
            &[&format!("{none} set `name` to one of those here: lo, eth0")],
        );
        assert_found(
            |case| {
                absent(case);
                case.facts.interface_names = Ok((0..9).map(|number| format!("eth{number}")).collect());
            },
            &[&format!("{none} set `name` to one that `ip link` shows")],
        );
        assert_found(
            |case| drop(case.facts.interfaces.insert("eth0".to_owned(), Err(denied()))),
            &[
                "note: eth0: cannot tell whether it exists: Operation not permitted (os error 1); run `ip link show dev \
               eth0`",
            ],
        );
    }

    #[test]
    fn state() {
        assert_found(
            |case| case.eth0().interface.is_ethernet = false,
            &[
                "error: eth0: its packets have no Ethernet header; name the interface at which the GRE packets arrive in \
               Ethernet frames",
            ],
        );
        assert_found(
            |case| case.eth0().interface.is_up = false,
            &["error: eth0: is down; run `ip link set dev eth0 up`"],
        );
        assert_found(
            |case| case.eth0().interface.has_carrier = false,
            &["error: eth0: is up but has no carrier; see to the cable, the switch's port or the other end"],
        );
    }

    #[test]
    fn programs() {
        let attach = |case: &mut Case, mode| case.eth0().interface.xdp = vec![AttachedXdp { mode, program_id: 42 }];
        for mode in [XdpMode::Native, XdpMode::Generic, XdpMode::Offload] {
            assert_found(
                |case| attach(case, mode),
                &[&format!(
                    "error: eth0: XDP program 42 is attached already, in {mode} mode; see whose it is with `bpftool prog show \
                     id 42`, and detach it with the tool that attached it"
                )],
            );
        }
        let own = |case: &mut Case| case.facts.own_programs = Ok([42].into());
        assert_found(
            |case| {
                attach(case, XdpMode::Native);
                own(case);
            },
            &[],
        );
        assert_found(
            |case| {
                attach(case, XdpMode::Generic);
                own(case);
            },
            &[
                "error: eth0: the program runs in generic mode, which cannot be changed while it is attached; run `gre-decap \
               unload`, then `gre-decap load`",
            ],
        );
        assert_found(|case| case.facts.own_programs = Err(denied()), &[]);
        assert_found(
            |case| {
                attach(case, XdpMode::Native);
                case.facts.own_programs = Err(denied());
            },
            &[
                "note: eth0: cannot tell whose XDP program is attached: Operation not permitted (os error 1); run `bpftool net \
               show` as root",
            ],
        );
    }

    #[test]
    fn veth() {
        assert_found(
            |case| case.eth0().interface.kind = Some("veth".to_owned()),
            &[
                "note: eth0: is a veth: what its other end sends may lack checksums, which no network card is there to fill in; \
               run `ethtool -K NAME tx off` at the other end",
            ],
        );
    }

    #[test]
    fn queues() {
        let eight = Ok(Some(Channels {
            receive: 2,
            combined: 6,
            combined_max: 6,
        }));
        assert_found(
            |case| case.eth0().channels = eight,
            &[
                "note: eth0: has 8 receive queues, but most cards choose one by the outer addresses: all that one remote address \
               sends is then the work of one core; if that is too much for one, set `spread = \"all\"` in the tunnels",
            ],
        );
        let eight = Ok(Some(Channels {
            receive: 8,
            combined: 0,
            combined_max: 0,
        }));
        assert_found(
            |case| {
                case.eth0().channels = eight;
                case.config.tunnels[0].spread = Spread::All;
            },
            &[],
        );
        assert_found(|case| case.eth0().channels = Ok(None), &[]);
        let cores = |case: &mut Case, cores, combined_max| {
            case.facts.kernel.cpus = Ok(cores);
            if let Ok(Some(channels)) = &mut case.eth0().channels {
                channels.combined_max = combined_max;
            }
        };
        let one = "note: eth0: has 1 receive queue: all that arrives is the work of one of this host's 4 cores; if that is too \
                   much for one,";
        for (most, queues) in [(8, 4), (2, 2)] {
            assert_found(
                |case| cores(case, 4, most),
                &[&format!(
                    "{one} run `ethtool -L eth0 combined {queues}`, or set `spread = \"all\"` in the tunnels"
                )],
            );
        }
        assert_found(
            |case| cores(case, 4, 1),
            &[&format!("{one} set `spread = \"all\"` in the tunnels")],
        );
        assert_found(|case| cores(case, 1, 8), &[]);
        assert_found(
            |case| {
                cores(case, 4, 8);
                case.config.tunnels[0].spread = Spread::All;
            },
            &[],
        );
        // A device without a driver's queues.
        assert_found(
            |case| {
                cores(case, 4, 8);
                case.eth0().interface.kind = Some("tun".to_owned());
            },
            &[],
        );
        assert_found(
            |case| case.eth0().channels = Err(denied()),
            &[
                "note: eth0: cannot tell how many receive queues it has: Operation not permitted (os error 1); run `ethtool -l \
               eth0`",
            ],
        );
    }

    #[test]
    fn spread_in_generic_mode() {
        let spreads = |case: &mut Case| {
            case.config.interfaces[0].mode = Mode::Auto;
            case.config.tunnels[0].spread = Spread::All;
        };
        assert_found(spreads, &[]);
        assert_found(
            |case| {
                spreads(case);
                case.eth0().xdp = Ok(XdpFeatures::default());
            },
            &[
                "warning: eth0: its driver (ice) has no native XDP, so \"auto\" is generic mode, which is slow; use a network card \
               whose driver has XDP",
                "error: eth0: runs in generic mode, in which the kernel loses packets that are spread over cores; set spread = \
               \"off\", or use a network card whose driver has XDP",
            ],
        );
    }

    #[test]
    fn vlan() {
        let strips = |case: &mut Case| case.eth0().offloads = Ok(["rx-vlan-hw-parse".to_owned()].into());
        assert_found(strips, &[]);
        let sends: [fn(&mut Tunnel); 2] = [
            |tunnel| tunnel.deliver = Deliver::Route,
            |tunnel| tunnel.keepalive = Keepalive::Reply,
        ];
        for send in sends {
            assert_found(
                |case| {
                    strips(case);
                    send(&mut case.config.tunnels[0]);
                },
                &[
                    "note: eth0: takes VLAN tags out of frames, which are then lost on the way to other cores and from answered \
                   keepalives, and the program cannot tell VLANs apart when it delivers elsewhere than to the stack; if GRE \
                   arrives in VLANs, run `ethtool -K eth0 rxvlan off`",
                ],
            );
        }
    }
}
