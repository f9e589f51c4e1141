//! The mode that the program will run in: native, if the driver has that.

use std::iter;

use crate::config::{Interface, Mode};

use super::super::facts::InterfaceFacts;
use super::super::finding::Finding;
use super::{driver, unknown};

pub(super) fn judge(wanted: &Interface, found: &InterfaceFacts) -> Vec<Finding> {
    let name = wanted.name.as_str();
    match (wanted.mode, &found.xdp) {
        (Mode::Generic, _) => iter::once(generic_by_choice(name, found))
            .chain(gro(name, found))
            .collect(),
        (Mode::Native | Mode::Auto, Ok(features)) if features.native => driver::judge(name, found),
        (Mode::Native, Ok(_)) => vec![Finding::error(name, no_native(found), remedy_without_native(found))],
        (Mode::Auto, Ok(_)) => {
            let what = format!("{}, so \"auto\" is generic mode, which is slow", no_native(found));
            let slow = Finding::warning(name, what, "use a network card whose driver has XDP");
            iter::once(slow).chain(gro(name, found)).collect()
        }
        (Mode::Native | Mode::Auto, Err(why)) => {
            let question = format!("whether its driver{} has native XDP", title(found));
            let untold = unknown(name, &question, why, "see what `gre-decap load` says");
            iter::once(untold).chain(driver::judge(name, found)).collect()
        }
    }
}

fn title(found: &InterfaceFacts) -> String {
    found
        .interface
        .driver
        .as_ref()
        .map_or_else(String::new, |driver| format!(" ({driver})"))
}

fn no_native(found: &InterfaceFacts) -> String {
    format!("its driver{} has no native XDP", title(found))
}

fn remedy_without_native(found: &InterfaceFacts) -> String {
    if found.interface.kind.as_deref() == Some("vlan") {
        "name the interface below it instead: the program looks into VLANs by itself".to_owned()
    } else {
        "use a network card whose driver has XDP, or set `mode = \"generic\"`, which is slow".to_owned()
    }
}

fn generic_by_choice(name: &str, found: &InterfaceFacts) -> Finding {
    let what = "generic mode is slow: the kernel has built an skb for each packet before the program sees it";
    let remedy = match &found.xdp {
        Ok(features) if !features.native => {
            format!("use a network card whose driver has XDP; that{} has none", title(found))
        }
        _ => "set `mode = \"native\"`".to_owned(),
    };
    Finding::warning(name, what, remedy)
}

/// Generic mode comes after GRO.
fn gro(name: &str, found: &InterfaceFacts) -> Option<Finding> {
    match &found.offloads {
        Ok(offloads) if offloads.contains("rx-gro") => Some(Finding::warning(
            name,
            "generic mode sees packets that GRO has merged, and their marks are wrong once they are decapsulated",
            format!("run `ethtool -K {name} gro off`"),
        )),
        Ok(_) => None,
        Err(why) => Some(unknown(
            name,
            "whether GRO merges packets",
            why,
            format!("run `ethtool -k {name}`"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::xdp_features::XdpFeatures;
    use super::super::tests::{Case, assert_found, denied};
    use super::*;

    const NONE: XdpFeatures = XdpFeatures {
        native: false,
        frags: false,
        transmit: false,
        transmit_frags: false,
    };

    fn spoilt(mode: Mode, features: XdpFeatures) -> impl FnOnce(&mut Case) {
        move |case| {
            case.config.interfaces[0].mode = mode;
            case.eth0().xdp = Ok(features);
            // What else is wrong with native mode is then no matter.
            case.eth0().offloads = Ok(["rx-lro".to_owned()].into());
        }
    }

    #[test]
    fn a_driver_without_xdp() {
        assert_found(
            spoilt(Mode::Native, NONE),
            &[
                "error: eth0: its driver (ice) has no native XDP; use a network card whose driver has XDP, or set `mode = \
               \"generic\"`, which is slow",
            ],
        );
        assert_found(
            spoilt(Mode::Auto, NONE),
            &[
                "warning: eth0: its driver (ice) has no native XDP, so \"auto\" is generic mode, which is slow; use a network \
               card whose driver has XDP",
            ],
        );
        assert_found(
            spoilt(Mode::Generic, NONE),
            &[
                "warning: eth0: generic mode is slow: the kernel has built an skb for each packet before the program sees it; \
               use a network card whose driver has XDP; that (ice) has none",
            ],
        );
        assert_found(
            |case| {
                case.eth0().xdp = Ok(NONE);
                case.eth0().interface.driver = None;
                case.eth0().interface.kind = Some("vlan".to_owned());
            },
            &[
                "error: eth0: its driver has no native XDP; name the interface below it instead: the program looks into VLANs by \
               itself",
            ],
        );
    }

    #[test]
    fn a_driver_that_does_not_tell() {
        let mut case = Case::good();
        case.eth0().xdp = Err(denied());
        case.eth0().interface.mtu = 9000;
        assert_eq!(
            case.lines(),
            [
                "note: eth0: cannot tell whether its driver (ice) has native XDP: Operation not permitted (os error 1); see \
                 what `gre-decap load` says",
                "warning: eth0: at MTU 9000 a frame fills several buffers, with which its driver may refuse XDP; if it does, \
                 run `ip link set dev eth0 mtu 3498`",
            ]
        );
        case.config.interfaces[0].mode = Mode::Generic;
        assert_eq!(
            case.lines(),
            [
                "warning: eth0: generic mode is slow: the kernel has built an skb for each packet before the program sees it; set \
              `mode = \"native\"`"
            ]
        );
    }

    #[test]
    fn generic_by_choice() {
        let slow = "warning: eth0: generic mode is slow: the kernel has built an skb for each packet before the program sees \
                    it; set `mode = \"native\"`";
        assert_found(|case| case.config.interfaces[0].mode = Mode::Generic, &[slow]);
        assert_found(
            |case| {
                case.config.interfaces[0].mode = Mode::Generic;
                case.eth0().offloads = Ok(["rx-gro".to_owned()].into());
            },
            &[
                slow,
                "warning: eth0: generic mode sees packets that GRO has merged, and their marks are wrong once they are \
                 decapsulated; run `ethtool -K eth0 gro off`",
            ],
        );
        assert_found(
            |case| {
                case.config.interfaces[0].mode = Mode::Generic;
                case.eth0().offloads = Err(denied());
            },
            &[
                slow,
                "note: eth0: cannot tell whether GRO merges packets: Operation not permitted (os error 1); run `ethtool -k \
                 eth0`",
            ],
        );
    }
}
