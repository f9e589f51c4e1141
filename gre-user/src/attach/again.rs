//! The program on an interface that had it, went away, and has come back.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{Attached, Egress, PinnedLink, link_to, mode_of};
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
    ensure_same_name(&dead.path, &root.link_path(&interface.name), interface)?;
    let link = link_to(interface, program.as_fd(), mode, warnings)?;
    pin_instead(&dead.path, &link)?;
    let name = interface.name.clone();
    let mode = mode_of(&link, &name, &Interface::by_name)?;
    Ok(Attached { name, mode })
}

/// Puts a generation's program for ways out on that of an interface which had it and has gone, or from which others took it.
///
/// # Errors
///
/// As [`attach_again`].
pub fn attach_egress_again(
    root: &Root,
    generation: &Generation,
    dead: &Egress,
    interface: &Interface,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let program = open(&generation.egress())?;
    ensure_same_name(dead.path(), &root.egress_link_path(&interface.name), interface)?;
    dead.attach_again(root, program.as_fd(), interface, warnings)
}

fn open(program: &Path) -> Result<OwnedFd> {
    open_pinned(program).with_context(|| format!("{}: cannot be opened", program.display()))
}

fn ensure_same_name(dead: &Path, path: &Path, interface: &Interface) -> Result<()> {
    ensure!(
        path == dead,
        "interface {}: is waited for under another name; run `gre-decap load`",
        interface.name
    );
    Ok(())
}

pub(super) fn pin_instead(path: &Path, link: &InterfaceLink) -> Result<()> {
    fs::remove_file(path).with_context(|| format!("{}: cannot be removed", path.display()))?;
    link.pin(path)
        .with_context(|| format!("{}: cannot be pinned", path.display()))
}
