//! `unload`: detaches the program from all interfaces and removes the pinned state.

use anyhow::Result;

use crate::attach::{detach, ensure_within_reach, pinned_egress, pinned_links, pinned_pass_links};
use crate::error::Error;
use crate::output::print;
use crate::state::Root;

/// Unloads and says so. That nothing is loaded is no error: what was asked for is so.
///
/// # Errors
///
/// Those of [`unload`].
pub fn execute(root: &Root) -> Result<(), Error> {
    match unload(root)? {
        Some(interfaces) if interfaces.is_empty() => print("unloaded\n"),
        Some(interfaces) => print(&format!("unloaded from {}\n", interfaces.join(", "))),
        None => print(&format!("{}: nothing is loaded\n", root.path().display())),
    }
}

/// Detaches and removes everything, whatever version has pinned it. Returns the interfaces, or none if nothing was there.
///
/// # Errors
///
/// If the folder is being changed by another process, or the kernel refuses.
pub fn unload(root: &Root) -> Result<Option<Vec<String>>> {
    let Some(locked) = root.lock_existing()? else {
        return Ok(None);
    };
    let root = locked.root();
    let was_loaded = root.current()?.is_some();
    let egress = pinned_egress(root)?;
    ensure_within_reach(root, &egress)?;
    let mut interfaces = Vec::new();
    for link in pinned_links(root)? {
        detach(&link.path)?;
        interfaces.push(link.made_for);
    }
    for link in pinned_pass_links(root)? {
        detach(&link.path)?;
    }
    for egress in egress {
        egress.detach(root)?;
    }
    root.remove()?;
    Ok((was_loaded || !interfaces.is_empty()).then_some(interfaces))
}
