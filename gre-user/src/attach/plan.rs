//! What must be attached, replaced and detached, found out before anything changes.

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use anyhow::{Result, anyhow, ensure};

use super::{PinnedLink, refusal};
use crate::config::{self, Mode};
use crate::host::{AttachedXdp, Interface, XdpMode};
use crate::state::Root;

/// The way from how things are to what a configuration asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AttachPlan {
    /// Interfaces without the program.
    pub(super) new: Vec<NewInterface>,
    /// Interfaces that have it.
    pub(super) kept: Vec<KeptInterface>,
    /// Links of interfaces that the configuration does not name.
    pub(super) leaving: Vec<PathBuf>,
    /// Pins of links whose interface has gone, and that nobody waits for.
    pub(super) dead: Vec<PathBuf>,
    /// Configured interfaces that had the program and have gone. The pin of each stays: it is what says so.
    pub(super) gone: Vec<String>,
    /// Pins of kept links whose interface was renamed: old and new path.
    pub(super) renamed: Vec<(PathBuf, PathBuf)>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct NewInterface {
    /// Its place in the configuration.
    pub(super) position: usize,
    pub(super) interface: Interface,
    /// The configured mode.
    pub(super) mode: Mode,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct KeptInterface {
    /// Its place in the configuration.
    pub(super) position: usize,
    pub(super) name: String,
    /// Where the program runs.
    pub(super) mode: XdpMode,
    /// The program that it runs now.
    pub(super) program_id: u32,
    /// Where its link is pinned (after renaming).
    pub(super) link: PathBuf,
}

impl AttachPlan {
    /// Compares the configured interfaces with the links that are pinned, the interfaces that are `here`, and those that
    /// `look_up` finds by name.
    ///
    /// # Errors
    ///
    /// If an interface is not there and never had the program, carries another one, or runs in a mode that the configuration
    /// does not allow; if a link belongs to another network namespace.
    pub fn make(
        configured: &[config::Interface],
        links: Vec<PinnedLink>,
        here: &[Interface],
        root: &Root,
        look_up: impl Fn(&str) -> Result<Option<Interface>>,
    ) -> Result<Self> {
        let mut plan = Self::default();
        let mut alive = plan.living(links, here)?;
        let mut seen: Vec<u32> = Vec::new();
        for (position, config::Interface { name, mode, .. }) in configured.iter().enumerate() {
            let Some(interface) = look_up(name)? else {
                // An operator who changes something else must not wait for it.
                let pin = root.link_path(name);
                let dead = plan.dead.iter().position(|dead| *dead == pin);
                plan.dead.remove(dead.ok_or_else(|| missing(name, here))?);
                plan.gone.push(name.clone());
                continue;
            };
            ensure!(
                !seen.contains(&interface.index),
                "interface {name}: is {} under another name, which is configured too; remove one",
                interface.name
            );
            seen.push(interface.index);
            let ours = alive
                .iter()
                .position(|(link, _)| link.info.interface_index == Some(interface.index));
            let Some(ours) = ours else {
                if let Some(xdp) = interface.xdp.first() {
                    return Err(refusal::foreign(&interface, *xdp));
                }
                plan.new.push(NewInterface {
                    position,
                    interface,
                    mode: *mode,
                });
                continue;
            };
            let (link, xdp) = alive.swap_remove(ours);
            let allowed = match mode {
                Mode::Native => xdp.mode == XdpMode::Native,
                Mode::Generic => xdp.mode == XdpMode::Generic,
                Mode::Auto => true,
            };
            if !allowed {
                return Err(refusal::other_mode(&interface, xdp.mode, *mode));
            }
            let path = root.link_path(&interface.name);
            if path != link.path {
                plan.renamed.push((link.path, path.clone()));
            }
            plan.kept.push(KeptInterface {
                position,
                name: interface.name,
                mode: xdp.mode,
                program_id: link.info.program_id,
                link: path,
            });
        }
        plan.leaving = alive.into_iter().map(|(link, _)| link.path).collect();
        plan.paths_are_free(root)?;
        Ok(plan)
    }

    /// Whether this program is everywhere it should be, and nowhere else.
    pub fn is_done(&self, program_id: u32) -> bool {
        let in_place =
            self.new.is_empty() && self.leaving.is_empty() && self.dead.is_empty() && self.renamed.is_empty();
        // A killed load may have replaced some.
        in_place && self.kept.iter().all(|kept| kept.program_id == program_id)
    }

    /// What an operator must know about interfaces that have the program, or had it, a line each.
    pub fn warnings(&self) -> Vec<String> {
        let slow = self.kept.iter().filter(|kept| kept.mode == XdpMode::Generic);
        let slow = slow.map(|kept| refusal::slow(&kept.name));
        slow.chain(self.gone.iter().map(|name| refusal::gone(name))).collect()
    }

    /// The links that attach a program to an interface here, with what the interface says about it.
    fn living(&mut self, links: Vec<PinnedLink>, here: &[Interface]) -> Result<Vec<(PinnedLink, AttachedXdp)>> {
        let mut alive = Vec::with_capacity(links.len());
        for link in links {
            let Some(index) = link.info.interface_index else {
                self.dead.push(link.path);
                continue;
            };
            // An index alone may be that of an interface in another network namespace.
            let xdp = here
                .iter()
                .filter(|interface| interface.index == index)
                .flat_map(|interface| &interface.xdp)
                .find(|xdp| xdp.program_id == link.info.program_id);
            let Some(xdp) = xdp else {
                return Err(anyhow!(
                    "{}: attaches the program to an interface of another network namespace; run gre-decap there, or choose \
                     another --root",
                    link.path.display()
                ));
            };
            alive.push((link, *xdp));
        }
        Ok(alive)
    }

    /// Whether no pin that is to be made or renamed meets one that stays for now.
    fn paths_are_free(&self, root: &Root) -> Result<()> {
        let made = self.new.iter().map(|new| root.link_path(&new.interface.name));
        let mut wanted = self.renamed.iter().map(|(_, to)| to.clone()).chain(made);
        let taken =
            wanted.find(|path| self.leaving.contains(path) || self.renamed.iter().any(|(from, _)| from == path));
        match taken {
            Some(path) => Err(anyhow!(
                "{}: belongs to an interface that was renamed since; run `gre-decap unload`, then `gre-decap load`",
                path.display()
            )),
            None => Ok(()),
        }
    }
}

fn missing(name: &str, here: &[Interface]) -> anyhow::Error {
    let names: Vec<_> = here.iter().map(|interface| interface.name.as_str()).collect();
    anyhow!(
        "interface {name}: is not on this host (in this network namespace); it has: {}",
        names.join(", ")
    )
}
