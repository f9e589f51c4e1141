//! Where tunnels deliver: the interfaces, and whom their frames are for.

use std::collections::BTreeSet;
use std::io;

use crate::config::{Config, Deliver, Tunnel};

use super::super::egress::{NoNextHop, Resolved, Transmit, Way};
use super::super::facts::Facts;
use super::super::finding::Finding;
use super::super::interface::Interface;
use super::driver::LIKELY_MAX_MTU;
use super::{known_interfaces, present, unknown};

pub(super) fn judge(config: &Config, facts: &Facts) -> Vec<Finding> {
    let onward = || config.tunnels.iter().filter(|tunnel| tunnel.enabled);
    let mut findings = Vec::new();
    let ways = match &facts.egress.ways {
        Ok(ways) => ways,
        Err(why) => {
            let untold = unknown(
                "deliver",
                "which interfaces take redirected frames",
                why,
                "see what `gre-decap load` says",
            );
            return vec![untold];
        }
    };
    let mut judged = BTreeSet::new();
    for tunnel in onward() {
        if let Deliver::Interface { name, .. } = &tunnel.deliver
            && judged.insert(name.as_str())
        {
            findings.extend(target(name, ways, facts));
        }
    }
    if onward().any(Tunnel::routes) {
        let others = ways.iter().filter(|way| !judged.contains(way.interface.name.as_str()));
        findings.extend(others.filter_map(|way| by_route(way, facts)));
    }
    findings.extend(onward().filter_map(|tunnel| next_hop(tunnel, facts)));
    findings
}

/// An interface that a tunnel names.
fn target(name: &str, ways: &[Way], facts: &Facts) -> Option<Finding> {
    let Some(Way { interface, transmit }) = ways.iter().find(|way| way.interface.name == name) else {
        return Some(Finding::error(
            name,
            "tunnels deliver to it, but there is no such interface in this network namespace",
            format!("set `interface` in `deliver` to {}", known_interfaces(facts)),
        ));
    };
    if !interface.is_up {
        return Some(Finding::error(
            name,
            "tunnels deliver to it, but it is down",
            format!("run `ip link set dev {name} up`"),
        ));
    }
    match transmit {
        Transmit::Yes { frags: false } => large_frames(interface, facts),
        Transmit::Yes { frags: true } | Transmit::AfterProgram => None,
        Transmit::No { why, remedy } => Some(Finding::warning(
            name,
            format!("{why}: the kernel forwards what tunnels deliver there, which is slow"),
            remedy,
        )),
        Transmit::Unknown => Some(Finding::note(
            name,
            "cannot tell whether it takes redirected frames: this kernel does not say",
            "look at `redirect_failed` in `gre-decap stats` once traffic flows; if it counts, name the interface in an \
             `[[interface]]` too, for some drivers want an XDP program first; or boot Linux 6.3 or later",
        )),
    }
}

/// An interface that routes may lead to, though not for XDP, or not for all frames. The loopback interface, which never forwards, has
/// no driver.
fn by_route(Way { interface, transmit }: &Way, facts: &Facts) -> Option<Finding> {
    let is_way_out = interface.is_up && interface.has_carrier && interface.driver.is_some();
    match transmit {
        Transmit::Yes { frags: false } if is_way_out => large_frames(interface, facts),
        Transmit::No { why, remedy } if is_way_out => Some(Finding::note(
            &interface.name,
            format!("{why}: what is routed out of it goes through the kernel"),
            format!("if that is too slow, {remedy}"),
        )),
        _ => None,
    }
}

/// An interface that sends no redirected frames that fill several buffers, if such may come in and are not too long for it: what is
/// is another matter.
fn large_frames(way_out: &Interface, facts: &Facts) -> Option<Finding> {
    let is_large = |interface: &Interface| interface.mtu > LIKELY_MAX_MTU;
    // Without frags the program sees none: the driver refuses it, or it runs after the kernel has put each frame into one buffer.
    let with_frags = present(facts).filter(|found| found.xdp.as_ref().is_ok_and(|features| features.frags));
    let way_in = with_frags
        .map(|found| &found.interface)
        .find(|way_in| is_large(way_in))?;
    is_large(way_out).then(|| {
        Finding::warning(
            &way_out.name,
            format!(
                "its driver sends no redirected frames that fill several buffers, and at MTU {} {} receives such: they are dropped \
                 as `redirect_failed`",
                way_in.mtu, way_in.name
            ),
            format!(
                "run `ip link set dev {} mtu {LIKELY_MAX_MTU}`, or set `deliver` to \"stack\"",
                way_in.name
            ),
        )
    })
}

fn next_hop(tunnel: &Tunnel, facts: &Facts) -> Option<Finding> {
    let subject = format!("tunnel {}", tunnel.name);
    match facts.egress.next_hop(tunnel)? {
        Ok(Resolved::Mac(_)) => None,
        Ok(Resolved::Unresolved { awaited }) => Some(Finding::warning(
            subject,
            format!("{awaited}: until then the kernel forwards what is delivered to it"),
            "see to it that it is up and on that link, or write another `next_hop` in `deliver`",
        )),
        Err(why) => Some(if let Some(missing) = why.downcast_ref::<NoNextHop>() {
            let what = format!("delivers to {}, but {}", missing.interface, NoNextHop::WHY);
            Finding::error(subject, what, NoNextHop::REMEDY)
        } else {
            let denied = why
                .downcast_ref::<io::Error>()
                .is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
            let remedy = if denied {
                "run as root"
            } else {
                "see what `gre-decap load` says"
            };
            unknown(&subject, "whom its frames are for", why, remedy)
        }),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Result, anyhow};

    use super::super::tests::{Case, assert_found, denied};
    use super::*;
    use crate::config::{InnerType, NextHop};

    const HOP: NextHop = NextHop::Address(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)));

    const TAKES_ALL: Transmit = Transmit::Yes { frags: true };
    const TAKES_SMALL: Transmit = Transmit::Yes { frags: false };

    fn way(case: &mut Case, name: &str, transmit: Transmit) -> Way {
        let interface = Interface {
            name: name.to_owned(),
            ..case.eth0().interface.clone()
        };
        Way { interface, transmit }
    }

    /// A tunnel delivers to eth1.
    fn delivers(case: &mut Case, transmit: Transmit, answer: Result<Resolved>) {
        case.config.tunnels[0].deliver = Deliver::Interface {
            name: "eth1".to_owned(),
            next_hop: Some(HOP),
        };
        case.facts.egress.ways = Ok(vec![way(case, "eth1", transmit)]);
        case.facts.egress.next_hops = [(("eth1".to_owned(), Some(HOP)), answer)].into();
    }

    fn known() -> Result<Resolved> {
        Ok(Resolved::Mac([2, 0, 0, 0, 0, 2]))
    }

    fn deaf() -> Transmit {
        Transmit::No {
            why: "is deaf".to_owned(),
            remedy: "speak up".to_owned(),
        }
    }

    #[test]
    fn an_interface_that_a_tunnel_names() {
        assert_found(|case| delivers(case, TAKES_ALL, known()), &[]);
        assert_found(|case| delivers(case, Transmit::AfterProgram, known()), &[]);
        assert_found(
            |case| delivers(case, deaf(), known()),
            &["warning: eth1: is deaf: the kernel forwards what tunnels deliver there, which is slow; speak up"],
        );
        assert_found(
            |case| delivers(case, Transmit::Unknown, known()),
            &[
                "note: eth1: cannot tell whether it takes redirected frames: this kernel does not say; look at \
                 `redirect_failed` in `gre-decap stats` once traffic flows; if it counts, name the interface in an \
                 `[[interface]]` too, for some drivers want an XDP program first; or boot Linux 6.3 or later",
            ],
        );
        assert_found(
            |case| {
                delivers(case, TAKES_ALL, known());
                case.facts.egress.ways = Ok(Vec::new());
                case.facts.egress.next_hops.clear();
            },
            &[
                "error: eth1: tunnels deliver to it, but there is no such interface in this network namespace; set `interface` \
                 in `deliver` to one of those here: lo, eth0",
            ],
        );
        assert_found(
            |case| {
                delivers(case, deaf(), known());
                let mut down = way(case, "eth1", deaf());
                down.interface.is_up = false;
                case.facts.egress.ways = Ok(vec![down]);
            },
            &["error: eth1: tunnels deliver to it, but it is down; run `ip link set dev eth1 up`"],
        );
        assert_found(
            |case| {
                delivers(case, TAKES_ALL, known());
                case.facts.egress.ways = Err(denied());
            },
            &[
                "note: deliver: cannot tell which interfaces take redirected frames: Operation not permitted (os error 1); see \
                 what `gre-decap load` says",
            ],
        );
        assert_found(
            |case| {
                delivers(case, deaf(), known());
                case.config.tunnels[0].enabled = false;
            },
            &[],
        );
    }

    #[test]
    fn interfaces_that_routes_may_lead_to() {
        assert_found(
            |case| {
                case.config.tunnels[0].deliver = Deliver::Route;
                let mut lo = way(case, "lo", deaf());
                lo.interface.driver = None;
                let mut down = way(case, "eth2", deaf());
                down.interface.is_up = false;
                case.facts.egress.ways = Ok(vec![lo, down, way(case, "eth1", TAKES_ALL), way(case, "br0", deaf())]);
            },
            &["note: br0: is deaf: what is routed out of it goes through the kernel; if that is too slow, speak up"],
        );
    }

    /// By the driver that sends none, wherever a tunnel delivers. `way` copies eth0.
    #[test]
    fn frames_that_fill_several_buffers() {
        const DROPPED: &str = "warning: eth1: its driver sends no redirected frames that fill several buffers, and at MTU 9000 eth0 \
                               receives such: they are dropped as `redirect_failed`; run `ip link set dev eth0 mtu 3498`, or set \
                               `deliver` to \"stack\"";
        let by_interface = |case: &mut Case, transmit| delivers(case, transmit, known());
        let by_route = |case: &mut Case, transmit| {
            case.config.tunnels[0].deliver = Deliver::Route;
            case.facts.egress.ways = Ok(vec![way(case, "eth1", transmit)]);
        };
        let ways: [fn(&mut Case, Transmit); 2] = [by_interface, by_route];
        for deliver in ways {
            let found = |mtu, mtu_out, transmit| {
                let mut case = Case::good();
                case.eth0().interface.mtu = mtu;
                deliver(&mut case, transmit);
                if let Ok(ways) = &mut case.facts.egress.ways {
                    ways[0].interface.mtu = mtu_out;
                }
                case.lines()
            };
            assert_eq!(found(9000, 9000, TAKES_SMALL), [DROPPED]);
            assert_eq!(found(9000, 3499, TAKES_SMALL), [DROPPED]);
            for (mtu, mtu_out, transmit) in [
                (9000, 3498, TAKES_SMALL),
                (3498, 9000, TAKES_SMALL),
                (9000, 9000, TAKES_ALL),
            ] {
                let wrong = format!("{mtu} {mtu_out} {transmit:?}");
                assert!(found(mtu, mtu_out, transmit).is_empty(), "{wrong}");
            }
        }
    }

    #[test]
    fn whom_frames_are_for() {
        let unanswered = || {
            Ok(Resolved::Unresolved {
                awaited: "eth1: next hop 10.0.0.2 has not answered for its MAC address".to_owned(),
            })
        };
        assert_found(
            |case| delivers(case, TAKES_ALL, unanswered()),
            &[
                "warning: tunnel a: eth1: next hop 10.0.0.2 has not answered for its MAC address: until then the kernel forwards \
                 what is delivered to it; see to it that it is up and on that link, or write another `next_hop` in `deliver`",
            ],
        );
        // Such a frame says so itself.
        assert_found(
            |case| {
                delivers(case, TAKES_ALL, unanswered());
                case.config.tunnels[0].inner = [InnerType::Ethernet].into_iter().collect();
            },
            &[],
        );
        let missing = NoNextHop {
            interface: "eth1".to_owned(),
        };
        assert_found(
            |case| delivers(case, TAKES_ALL, Err(missing.into())),
            &[
                "error: tunnel a: delivers to eth1, but no default route with a gateway leaves by it; set `next_hop` in \
                 `deliver` to the IP or MAC address that its frames are for",
            ],
        );
        assert_found(
            |case| delivers(case, TAKES_ALL, Err(denied())),
            &["note: tunnel a: cannot tell whom its frames are for: Operation not permitted (os error 1); run as root"],
        );
        assert_found(
            |case| delivers(case, TAKES_ALL, Err(anyhow!("no"))),
            &["note: tunnel a: cannot tell whom its frames are for: no; see what `gre-decap load` says"],
        );
    }
}
