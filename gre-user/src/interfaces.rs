//! The interfaces that the program is on, as the kernel has them.

use anyhow::Result;

use crate::attach::{Means, PinnedLink, pinned_egress, pinned_links};
use crate::host::{self, AttachedXdp, Interface};
use crate::state::Root;

/// An interface that gre-decap has attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceView {
    /// Its name now, or the one it had if it is not here any more.
    pub name: String,
    /// The id of the program that its link attaches.
    pub program_id: u32,
    /// The kernel's id for the link.
    pub link_id: u32,
    /// The interface and where the program runs on it; none if it is not (or not any more) in this network namespace.
    pub here: Option<(Interface, AttachedXdp)>,
    /// The program on its way out, if there is one.
    pub egress: Option<EgressView>,
}

/// A program on an interface's way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EgressView {
    /// The id of the program.
    pub program_id: u32,
    /// How it got there.
    pub means: Means,
    /// The kernel's id for the link that attaches it, if one does.
    pub link_id: Option<u32>,
}

impl InterfaceView {
    /// The mode for people and JSON: "native", "generic", "offload", or "gone".
    pub fn mode(&self) -> String {
        self.here
            .as_ref()
            .map_or_else(|| "gone".to_owned(), |(_, xdp)| xdp.mode.to_string())
    }
}

/// All interfaces with a pinned link, in the order of their names.
///
/// # Errors
///
/// If the links or the interfaces cannot be read.
pub fn attached(root: &Root) -> Result<Vec<InterfaceView>> {
    let here = host::interfaces()?;
    let mut views: Vec<_> = pinned_links(root)?.into_iter().map(|link| view(link, &here)).collect();
    for egress in pinned_egress(root)? {
        let (Some(index), Some(program_id)) = (egress.interface_index(), egress.program_id()) else {
            continue;
        };
        // As a load has it, one is only where the other is.
        let on = |view: &&mut InterfaceView| matches!(&view.here, Some((interface, _)) if interface.index == index);
        if let Some(view) = views.iter_mut().find(on) {
            view.egress = Some(EgressView {
                program_id,
                means: egress.means(),
                link_id: egress.link_id(),
            });
        }
    }
    views.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(views)
}

fn view(link: PinnedLink, here: &[Interface]) -> InterfaceView {
    let program_id = link.info.program_id;
    // An index alone may be that of an interface in another network namespace.
    let here = here
        .iter()
        .filter(|interface| Some(interface.index) == link.info.interface_index)
        .find_map(|interface| {
            let xdp = interface.xdp.iter().find(|xdp| xdp.program_id == program_id)?;
            Some((interface.clone(), *xdp))
        });
    let name = here
        .as_ref()
        .map_or(link.made_for, |(interface, _)| interface.name.clone());
    InterfaceView {
        name,
        program_id,
        link_id: link.info.id,
        here,
        egress: None,
    }
}
