//! Why an interface does not take the program, in one line with the remedy.

use std::io;

use anyhow::anyhow;

use crate::config;
use crate::host::{AttachedXdp, Interface, XdpMode};

/// What generic mode costs.
const COST: &str = "several times slower: the kernel builds an skb for every packet first, and merges them (GRO) before \
                    the program sees them";

/// Whether another program has come in between.
pub(super) fn is_occupied(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST))
}

/// Native mode was asked for and refused.
pub(super) fn native(interface: &Interface, error: &io::Error) -> anyhow::Error {
    if is_occupied(error) {
        return anyhow!(
            "interface {}: another XDP program has just been attached to it; detach it",
            interface.name
        );
    }
    anyhow!(
        "{}; use a network card or setting that has it, or set `mode = \"generic\"`, which is {COST}",
        why(interface, error)
    )
}

/// Why the driver does not run the program.
pub(super) fn why(interface: &Interface, error: &io::Error) -> String {
    let Interface { name, mtu, .. } = interface;
    let driver = interface
        .driver
        .as_deref()
        .map_or_else(|| "its driver".to_owned(), |driver| format!("its driver {driver}"));
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => format!("interface {name}: {driver} has no native XDP (at the MTU of {mtu})"),
        _ => format!("interface {name}: {driver} refuses native XDP at the MTU of {mtu}: {error}"),
    }
}

/// Generic mode was refused.
pub(super) fn generic(interface: &Interface, error: &io::Error) -> anyhow::Error {
    if is_occupied(error) {
        return anyhow!(
            "interface {}: another XDP program has just been attached to it; detach it",
            interface.name
        );
    }
    anyhow!(
        "interface {}: the kernel refuses generic XDP: {error}; choose another interface",
        interface.name
    )
}

/// That the program runs in generic mode.
pub(super) fn slow(interface: &str) -> String {
    format!("interface {interface}: runs in GENERIC mode, which is {COST}; native mode needs a driver with XDP")
}

/// That an interface that had the program is not there any more.
pub(crate) fn gone(interface: &str) -> String {
    format!(
        "interface {interface}: has gone; `gre-decap run` attaches again when it is back, and so does `gre-decap load`"
    )
}

/// Another program was there first.
pub(super) fn foreign(interface: &Interface, xdp: AttachedXdp) -> anyhow::Error {
    let name = &interface.name;
    let flag = match xdp.mode {
        XdpMode::Native => "xdpdrv",
        XdpMode::Generic => "xdpgeneric",
        XdpMode::Offload => "xdpoffload",
    };
    anyhow!(
        "interface {name}: XDP program {} is attached in {} mode already, and is not replaced; detach it with the tool that \
         attached it, or with `ip link set dev {name} {flag} off`",
        xdp.program_id,
        xdp.mode
    )
}

/// The mode of a running program cannot be changed.
pub(super) fn other_mode(interface: &Interface, runs: XdpMode, wanted: config::Mode) -> anyhow::Error {
    anyhow!(
        "interface {}: runs in {runs} mode, which cannot be changed to {wanted} while it is attached; run `gre-decap unload`, \
         then `gre-decap load` (packets stay encapsulated in between)",
        interface.name
    )
}
