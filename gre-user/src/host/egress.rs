//! Whether an interface takes what XDP redirects to it, and whom its frames are for.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::config::NextHop;

use super::interface::{Interface, XdpMode, interfaces};
use super::neighbours;
use super::routes::gateway_via;
use super::veth::{VETH, peer_mac};
use super::xdp_features::{self, XdpFeatures};

/// The kind of TUN and TAP devices, the only virtual ones besides veth that have ever taken redirected frames.
const TUN: &str = "tun";
/// The kind of a bond, which announces what its members can do but sends no redirected frame (no `ndo_xdp_xmit`).
const BOND: &str = "bond";

/// How long next hops may take to answer for their MAC addresses, all together: the kernel asks once a second
/// (`retrans_time_ms`), and one question and its answer are to fall into that time whenever it has begun.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// An interface, and whether it takes redirected frames.
#[derive(Clone, Debug)]
pub struct Way {
    /// The interface.
    pub interface: Interface,
    /// Whether it takes them.
    pub transmit: Transmit,
}

/// Whether an interface sends frames that XDP redirects to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// It does, as it is set up now.
    Yes {
        /// Also those that fill several buffers. The kernel drops others, and we count them as `redirect_failed`.
        frags: bool,
    },
    /// It may once it has an XDP program itself: some drivers (ixgbe, i40e, ice, ena, bnxt_en, virtio_net) make queues for
    /// it only then. With the program attached, ask again.
    AfterProgram,
    /// It does not.
    No {
        /// What is in the way, to follow its name: "is a VLAN device, …".
        why: String,
        /// What to do about it.
        remedy: String,
    },
    /// This kernel does not tell (before Linux 6.3).
    Unknown,
}

/// Whom frames are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// The owner of this MAC address.
    Mac([u8; 6]),
    /// Nobody yet.
    Unresolved {
        /// What is waited for: "eth1: next hop 10.0.0.2 has not answered for its MAC address".
        awaited: String,
    },
}

/// There is nobody that frames could be for, unless the configuration says who.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoNextHop {
    /// The interface's name.
    pub interface: String,
}

impl NoNextHop {
    pub(super) const WHY: &str = "no default route with a gateway leaves by it";
    pub(super) const REMEDY: &str = "set `next_hop` in `deliver` to the IP or MAC address that its frames are for";
}

impl fmt::Display for NoNextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.interface, Self::WHY, Self::REMEDY)
    }
}

impl Error for NoNextHop {}

/// All interfaces.
///
/// # Errors
///
/// If the kernel cannot be asked.
pub fn ways() -> Result<Vec<Way>> {
    let features = features().context("XDP features: cannot be listed over generic netlink")?;
    let way = |interface: Interface| {
        // What a kernel that tells does not list has appeared just now, or announces nothing.
        let of = |features: &BTreeMap<_, _>| features.get(&interface.index).copied().unwrap_or_default();
        let transmit = takes_redirects(&interface, features.as_ref().map(of));
        Way { interface, transmit }
    };
    Ok(interfaces()?.into_iter().map(way).collect())
}

/// What all drivers announce; none if the kernel does not tell.
fn features() -> io::Result<Option<BTreeMap<u32, XdpFeatures>>> {
    match xdp_features::all() {
        Ok(features) => Ok(Some(features)),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether an interface sends frames that XDP redirects to it; `features` are its driver's, none if the kernel does not
/// tell.
pub fn takes_redirects(interface: &Interface, features: Option<XdpFeatures>) -> Transmit {
    let kind = interface.kind.as_deref();
    if !interface.is_ethernet {
        return elsewhere("has no Ethernet frames".to_owned());
    }
    if kind == Some(BOND) {
        return elsewhere("is a bond, which sends no redirected frames whatever its members do".to_owned());
    }
    // What has neither a kind nor a driver is the loopback interface.
    let may = kind.map_or(interface.driver.is_some(), |kind| [VETH, TUN].contains(&kind));
    match features {
        Some(features) if features.transmit => Transmit::Yes {
            frags: features.transmit_frags,
        },
        Some(features) if kind == Some(VETH) => deaf_veth(&interface.name, features),
        Some(features) if kind.is_none() && features.native => after_program(interface),
        None if may => Transmit::Unknown,
        Some(_) | None => elsewhere(match (kind, &interface.driver) {
            (Some("vlan"), _) => "is a VLAN device, which sends no redirected frames".to_owned(),
            (Some(kind), _) => format!("is of kind {kind}, which sends no redirected frames"),
            (None, Some(driver)) => format!("its driver ({driver}) sends no redirected frames"),
            (None, None) => "sends no redirected frames".to_owned(),
        }),
    }
}

fn elsewhere(why: String) -> Transmit {
    Transmit::No {
        why,
        remedy:
            "have it deliver to a network card whose driver does, or set `deliver = \"route\"`, which leaves to the \
                 kernel what XDP cannot send"
                .to_owned(),
    }
}

/// A veth hands redirected frames to NAPI at its other end (`veth_xdp_xmit()`), which does not always run there.
fn deaf_veth(name: &str, features: XdpFeatures) -> Transmit {
    if features.native {
        return Transmit::No {
            why: "is a veth whose other end takes no redirected frames: it has neither GRO nor an XDP program"
                .to_owned(),
            remedy:
                "run `ethtool -K PEER gro on` for its other end PEER, in that one's network namespace (off first if it \
                     was on before both were up), or attach an XDP program there, which may be one that passes all"
                    .to_owned(),
        };
    }
    Transmit::No {
        why: "is a veth with fewer receive queues than its other end has transmit queues, with which XDP is off"
            .to_owned(),
        remedy: format!("run `ethtool -L PEER tx 1` for its other end PEER, or `ethtool -L {name} rx N` with as many"),
    }
}

fn after_program(interface: &Interface) -> Transmit {
    if !interface.xdp.iter().any(|xdp| xdp.mode == XdpMode::Native) {
        return Transmit::AfterProgram;
    }
    let driver = interface.driver.as_deref().unwrap_or("unknown");
    elsewhere(format!(
        "its driver ({driver}) sends no redirected frames, although it has an XDP program"
    ))
}

/// Whom frames that leave by an interface are for: `next_hop` if given, else a veth's other end, else the gateway.
///
/// A next hop that the kernel does not know yet is asked for, and waited for until the deadline.
///
/// # Errors
///
/// [`NoNextHop`], which names the key to set, if there is nobody to ask for. And if the kernel cannot be asked.
pub fn next_hop(interface: &Interface, next_hop: Option<NextHop>, deadline: Instant) -> Result<Resolved> {
    match next_hop {
        Some(NextHop::Mac(mac)) => return Ok(Resolved::Mac(mac.octets())),
        Some(NextHop::Address(address)) => return neighbour(interface, "next hop", address, deadline),
        None => {}
    }
    if let Some(mac) = peer_mac(interface)? {
        return Ok(Resolved::Mac(mac));
    }
    if let Some(gateway) = gateway_via(interface.index)? {
        return neighbour(interface, "gateway", gateway, deadline);
    }
    let interface = interface.name.clone();
    Err(NoNextHop { interface }.into())
}

fn neighbour(interface: &Interface, role: &str, address: IpAddr, deadline: Instant) -> Result<Resolved> {
    Ok(match neighbours::resolve(interface.index, address, deadline)? {
        Some(mac) => Resolved::Mac(mac),
        None => Resolved::Unresolved {
            awaited: format!(
                "{}: {role} {address} has not answered for its MAC address",
                interface.name
            ),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::super::interface::AttachedXdp;
    use super::*;

    const NONE: XdpFeatures = XdpFeatures {
        native: false,
        frags: false,
        transmit: false,
        transmit_frags: false,
    };
    const NATIVE: XdpFeatures = XdpFeatures { native: true, ..NONE };
    const SINGLE: XdpFeatures = XdpFeatures {
        transmit: true,
        ..NATIVE
    };
    const ALL: XdpFeatures = XdpFeatures {
        transmit_frags: true,
        ..SINGLE
    };

    fn interface(kind: Option<&str>, driver: Option<&str>) -> Interface {
        Interface {
            index: 2,
            name: "eth1".to_owned(),
            mtu: 1500,
            is_up: true,
            has_carrier: true,
            is_ethernet: true,
            mac: Some([2, 0, 0, 0, 0, 1]),
            kind: kind.map(str::to_owned),
            driver: driver.map(str::to_owned),
            xdp: Vec::new(),
        }
    }

    #[track_caller]
    fn assert_no(interface: &Interface, features: Option<XdpFeatures>, expected: &str) {
        match takes_redirects(interface, features) {
            Transmit::No { why, .. } => assert_eq!(why, expected),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_a_driver_announces_is_so() {
        for interface in [
            interface(None, Some("mlx5_core")),
            interface(Some("veth"), Some("veth")),
            interface(Some("tun"), Some("tun")),
        ] {
            assert_eq!(takes_redirects(&interface, Some(ALL)), Transmit::Yes { frags: true });
            assert_eq!(
                takes_redirects(&interface, Some(SINGLE)),
                Transmit::Yes { frags: false }
            );
            assert_eq!(takes_redirects(&interface, None), Transmit::Unknown);
        }
    }

    #[test]
    fn a_network_card_may_want_a_program_first() {
        let mut card = interface(None, Some("ice"));
        assert_eq!(takes_redirects(&card, Some(NATIVE)), Transmit::AfterProgram);
        assert_no(&card, Some(NONE), "its driver (ice) sends no redirected frames");
        let attach = |mode| vec![AttachedXdp { mode, program_id: 1 }];
        card.xdp = attach(XdpMode::Generic);
        assert_eq!(takes_redirects(&card, Some(NATIVE)), Transmit::AfterProgram);
        card.xdp = attach(XdpMode::Native);
        assert_no(
            &card,
            Some(NATIVE),
            "its driver (ice) sends no redirected frames, although it has an XDP program",
        );
    }

    #[test]
    fn a_veth_takes_what_its_other_end_does() {
        let veth = interface(Some("veth"), Some("veth"));
        assert_no(
            &veth,
            Some(NATIVE),
            "is a veth whose other end takes no redirected frames: it has neither GRO nor an XDP program",
        );
        assert_no(
            &veth,
            Some(NONE),
            "is a veth with fewer receive queues than its other end has transmit queues, with which XDP is off",
        );
    }

    #[test]
    fn what_lies_above_others_takes_none() {
        let vlan = interface(Some("vlan"), Some("802.1Q VLAN Support"));
        let bridge = interface(Some("bridge"), Some("bridge"));
        let lo = interface(None, None);
        for features in [Some(NONE), None] {
            assert_no(&vlan, features, "is a VLAN device, which sends no redirected frames");
            assert_no(&bridge, features, "is of kind bridge, which sends no redirected frames");
            assert_no(&lo, features, "sends no redirected frames");
        }
        let bond = interface(Some("bond"), Some("bonding"));
        let tun = Interface {
            is_ethernet: false,
            ..interface(Some("tun"), Some("tun"))
        };
        for features in [Some(ALL), Some(NONE), None] {
            assert_no(
                &bond,
                features,
                "is a bond, which sends no redirected frames whatever its members do",
            );
            assert_no(&tun, features, "has no Ethernet frames");
        }
    }
}
