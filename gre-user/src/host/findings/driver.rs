//! What drivers want before they take an XDP program.

use super::super::ethtool::Channels;
use super::super::facts::InterfaceFacts;
use super::super::finding::Finding;
use super::unknown;

/// The largest MTU at which a driver takes XDP programs, as long as it has no frags for them: a frame must fit into a page
/// with what XDP puts around it. From `ena_netdev.h` (ENA_XDP_MAX_MTU), `bnxt.h` (BNXT_MAX_PAGE_MODE_MTU) and
/// `virtio_net.c` (virtnet_xdp_set()), each for pages of 4096 bytes.
const MAX_MTU: [(&str, u32); 3] = [("ena", 3498), ("bnxt_en", 3502), ("virtio_net", 3506)];
/// What is likely for others.
pub(super) const LIKELY_MAX_MTU: u32 = 3498;

pub(super) fn judge(name: &str, found: &InterfaceFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(mtu(name, found));
    findings.extend(merging(name, found));
    findings.extend(ena_queues(name, found));
    findings
}

fn mtu(name: &str, found: &InterfaceFacts) -> Option<Finding> {
    if found.xdp.as_ref().is_ok_and(|features| features.frags) {
        return None;
    }
    let mtu = found.interface.mtu;
    let driver = found.interface.driver.as_deref();
    let known = MAX_MTU
        .iter()
        .find(|(known, _)| driver == Some(known))
        .map(|&(_, max)| max);
    let max = known.unwrap_or(LIKELY_MAX_MTU);
    if mtu <= max {
        return None;
    }
    let remedy = format!("run `ip link set dev {name} mtu {max}`");
    Some(match (known, driver) {
        (Some(_), Some(driver)) => {
            let what = format!("MTU {mtu} is more than {max}, the most that driver {driver} takes with XDP");
            Finding::error(name, what, remedy)
        }
        _ => {
            let what = format!("at MTU {mtu} a frame fills several buffers, with which its driver may refuse XDP");
            Finding::warning(name, what, format!("if it does, {remedy}"))
        }
    })
}

/// Merging by the card: what arrives is no single frame any more.
fn merging(name: &str, found: &InterfaceFacts) -> Vec<Finding> {
    let offloads = match &found.offloads {
        Ok(offloads) => offloads,
        Err(why) => {
            return vec![unknown(
                name,
                "whether the card merges packets",
                why,
                format!("run `ethtool -k {name}`"),
            )];
        }
    };
    [("rx-lro", "LRO", "lro"), ("rx-gro-hw", "hardware GRO", "rx-gro-hw")]
        .into_iter()
        .filter(|(feature, ..)| offloads.contains(*feature))
        .map(|(_, title, option)| {
            Finding::warning(
                name,
                format!("{title} is on: the driver may refuse XDP, or hand over merged packets"),
                format!("run `ethtool -K {name} {option} off`"),
            )
        })
        .collect()
}

/// The ena driver gives each queue a second for what XDP sends (`ena_xdp_legal_queue_count()`).
fn ena_queues(name: &str, found: &InterfaceFacts) -> Option<Finding> {
    let Ok(Some(Channels {
        combined, combined_max, ..
    })) = found.channels
    else {
        return None;
    };
    let half = combined_max / 2;
    (found.interface.driver.as_deref() == Some("ena") && combined > half).then(|| {
        Finding::error(
            name,
            format!("uses {combined} of {combined_max} queues, and driver ena takes XDP with half of them at most"),
            format!("run `ethtool -L {name} combined {half}`"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::xdp_features::XdpFeatures;
    use super::super::tests::{Case, assert_found, denied};
    use super::*;

    const NO_FRAGS: XdpFeatures = XdpFeatures {
        native: true,
        frags: false,
        transmit: true,
        transmit_frags: false,
    };

    #[test]
    fn mtu() {
        for (driver, max) in MAX_MTU {
            let spoil = |case: &mut Case, mtu| {
                case.eth0().xdp = Ok(NO_FRAGS);
                case.eth0().interface.driver = Some(driver.to_owned());
                case.eth0().interface.mtu = mtu;
            };
            assert_found(|case| spoil(case, max), &[]);
            assert_found(
                |case| spoil(case, 9000),
                &[&format!(
                    "error: eth0: MTU 9000 is more than {max}, the most that driver {driver} takes with XDP; run `ip link set \
                     dev eth0 mtu {max}`"
                )],
            );
        }
        let spoil = |case: &mut Case, features, mtu| {
            case.eth0().xdp = Ok(features);
            case.eth0().interface.mtu = mtu;
        };
        assert_found(|case| spoil(case, NO_FRAGS, 3498), &[]);
        assert_found(
            |case| spoil(case, NO_FRAGS, 3499),
            &[
                "warning: eth0: at MTU 3499 a frame fills several buffers, with which its driver may refuse XDP; if it does, run \
               `ip link set dev eth0 mtu 3498`",
            ],
        );
        assert_found(
            |case| {
                spoil(
                    case,
                    XdpFeatures {
                        frags: true,
                        ..NO_FRAGS
                    },
                    9000,
                )
            },
            &[],
        );
    }

    #[test]
    fn merging() {
        assert_found(
            |case| case.eth0().offloads = Ok(["rx-lro".to_owned(), "rx-gro-hw".to_owned(), "rx-gro".to_owned()].into()),
            &[
                "warning: eth0: LRO is on: the driver may refuse XDP, or hand over merged packets; run `ethtool -K eth0 lro \
                 off`",
                "warning: eth0: hardware GRO is on: the driver may refuse XDP, or hand over merged packets; run `ethtool -K \
                 eth0 rx-gro-hw off`",
            ],
        );
        assert_found(
            |case| case.eth0().offloads = Err(denied()),
            &[
                "note: eth0: cannot tell whether the card merges packets: Operation not permitted (os error 1); run `ethtool -k \
               eth0`",
            ],
        );
    }

    #[test]
    fn ena_queues() {
        let spoil = |case: &mut Case, combined| {
            case.eth0().interface.driver = Some("ena".to_owned());
            case.eth0().channels = Ok(Some(Channels {
                receive: 0,
                combined,
                combined_max: 2,
            }));
        };
        assert_found(|case| spoil(case, 1), &[]);
        let mut case = Case::good();
        spoil(&mut case, 2);
        assert_eq!(
            case.lines()[0],
            "error: eth0: uses 2 of 2 queues, and driver ena takes XDP with half of them at most; run `ethtool -L eth0 \
             combined 1`"
        );
    }
}
