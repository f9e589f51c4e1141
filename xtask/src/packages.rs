//! Programs of the distribution that the tests and the demo run.

use std::process::Command;

use anyhow::{Result, bail};

use crate::process;

/// Makes sure of `ip`, which sets up the interfaces in network namespaces. Only root can do either, so only for root is
/// it installed, and only where Debian's tools are.
pub(crate) fn ensure_iproute2() -> Result<()> {
    if process::is_installed("ip") || !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    if !process::is_installed("apt-get") {
        bail!("`ip` is missing: install your distribution's iproute2");
    }
    eprintln!("Installing the Debian package iproute2 (some 3 MB: seconds)");
    let remedy = "`ip` is missing: install the package iproute2 by hand";
    process::run(Command::new("apt-get").args(["-qq", "update"]), remedy)?;
    let mut install = Command::new("apt-get");
    install.args(["-qq", "install", "--yes", "--no-install-recommends", "iproute2"]);
    process::run(install.env("DEBIAN_FRONTEND", "noninteractive"), remedy)
}
