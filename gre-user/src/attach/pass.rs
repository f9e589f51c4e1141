//! The program that passes everything, on interfaces whose drivers take redirected frames only from then on.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;

use anyhow::{Context, Result};

use super::{Applied, Undo, pinned_pass_links};
use crate::bpf::{AttachMode, InterfaceLink};
use crate::host::Interface;
use crate::state::Root;

/// Attaches the program to interfaces, which have none, and notes which it is to leave because frames are redirected to
/// `devices` only.
///
/// # Errors
///
/// If an interface refuses.
pub fn attach_pass(
    root: &Root,
    program: Option<BorrowedFd<'_>>,
    interfaces: &[Interface],
    devices: &BTreeSet<u32>,
    applied: &mut Applied,
) -> Result<()> {
    let leaving = pinned_pass_links(root)?.into_iter().filter(|link| {
        let index = link.info.interface_index;
        index.is_none_or(|index| !devices.contains(&index))
    });
    applied.leaving.extend(leaving.map(|link| link.path));
    let Some(program) = program else {
        return Ok(());
    };
    for Interface { name, index, .. } in interfaces {
        let context = || format!("interface {name}: takes redirected frames only with an XDP program, and refuses one");
        let link = InterfaceLink::attach(program, *index, AttachMode::Native).with_context(context)?;
        let path = root.pass_link_path(name);
        link.pin(&path)
            .with_context(|| format!("{}: cannot be pinned", path.display()))?;
        applied.done.push(Undo::Detach(path));
        applied.warnings.push(format!(
            "{name}: has got an XDP program that passes everything, without which its driver takes no redirected frames"
        ));
    }
    Ok(())
}
