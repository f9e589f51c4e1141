//! The program on an interface that had it, went away, and has come back.

use std::fs;
use std::os::fd::AsFd;

use anyhow::{Context, Result, ensure};

use super::{Attached, PinnedLink, link_to, mode_of};
use crate::bpf::open_pinned;
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
    let name = &interface.name;
    let program = generation.program();
    let program = open_pinned(&program).with_context(|| format!("{}: cannot be opened", program.display()))?;
    let path = root.link_path(name);
    ensure!(
        path == dead.path,
        "interface {name}: is waited for under another name; run `gre-decap load`"
    );
    let link = link_to(interface, program.as_fd(), mode, warnings)?;
    fs::remove_file(&path).with_context(|| format!("{}: cannot be removed", path.display()))?;
    link.pin(&path)
        .with_context(|| format!("{}: cannot be pinned", path.display()))?;
    let name = name.clone();
    let mode = mode_of(&link, &name, &Interface::by_name)?;
    Ok(Attached { name, mode })
}
