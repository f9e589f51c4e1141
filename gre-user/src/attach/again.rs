//! The program on an interface that had it, went away, and has come back.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{Attached, PinnedLink, egress, link_to, mode_of};
use crate::bpf::{InterfaceLink, open_pinned};
use crate::config::Mode;
use crate::host::Interface;
use crate::state::{Generation, Root};

/// Puts a generation's program on an interface whose earlier link is dead, in the mode that is configured for it. What an
/// operator must know is added to `warnings`.
///
/// # Errors
///
/// If the interface refuses: the dead link's pin then stays, so that it can be tried again.
pub fn attach_again(
    root: &Root,
    generation: &Generation,
    dead: &PinnedLink,
    interface: &Interface,
    mode: Mode,
    warnings: &mut Vec<String>,
) -> Result<Attached> {
    let program = open(&generation.program())?;
    ensure_same_name(dead, &root.link_path(&interface.name), interface)?;
    let link = link_to(interface, program.as_fd(), mode, warnings)?;
    pin_instead(dead, &link)?;
    let name = interface.name.clone();
    let mode = mode_of(&link, &name, &Interface::by_name)?;
    Ok(Attached { name, mode })
}

/// Puts a generation's program for ways out on that of an interface whose earlier link is dead.
///
/// # Errors
///
/// As [`attach_again`].
pub fn attach_egress_again(
    root: &Root,
    generation: &Generation,
    dead: &PinnedLink,
    interface: &Interface,
) -> Result<()> {
    let program = open(&generation.egress())?;
    ensure_same_name(dead, &root.egress_link_path(&interface.name), interface)?;
    let link = InterfaceLink::attach_to_egress(program.as_fd(), interface.index)
        .map_err(|error| egress::refusal(&interface.name, &error))?;
    pin_instead(dead, &link)
}

fn open(program: &Path) -> Result<OwnedFd> {
    open_pinned(program).with_context(|| format!("{}: cannot be opened", program.display()))
}

fn ensure_same_name(dead: &PinnedLink, path: &Path, interface: &Interface) -> Result<()> {
    ensure!(
        path == dead.path,
        "interface {}: is waited for under another name; run `gre-decap load`",
        interface.name
    );
    Ok(())
}

fn pin_instead(dead: &PinnedLink, link: &InterfaceLink) -> Result<()> {
    let path = &dead.path;
    fs::remove_file(path).with_context(|| format!("{}: cannot be removed", path.display()))?;
    link.pin(path)
        .with_context(|| format!("{}: cannot be pinned", path.display()))
}
