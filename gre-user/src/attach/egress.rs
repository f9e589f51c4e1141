//! The program on interfaces' ways out, by TCX: planned before anything changes, and applied with what can be undone.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, ensure};
use aya::programs::{SchedClassifier, TcAttachType};

use super::{Applied, PinnedLink, Undo, open_links};
use crate::bpf::InterfaceLink;
use crate::clamps::Clamps;
use crate::host::Interface;
use crate::state::Root;

/// All links to the program on ways out.
///
/// # Errors
///
/// If one cannot be read.
pub fn pinned_egress_links(root: &Root) -> Result<Vec<PinnedLink>> {
    open_links(root.egress_links()?)
}

/// The way from how things are to the program being on the way out of each interface that is to have it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct EgressPlan {
    /// Interfaces without the program.
    new: Vec<Interface>,
    /// Names of the interfaces that have it, with their links.
    kept: Vec<(String, PinnedLink)>,
    /// Links of interfaces that are not to have it any more.
    leaving: Vec<PathBuf>,
    /// Pins of links whose interface has gone.
    dead: Vec<PathBuf>,
}

impl EgressPlan {
    /// Compares what is to be done on the ways out of these interfaces with the links that are pinned.
    ///
    /// # Errors
    ///
    /// If a link belongs to another network namespace.
    pub fn make(interfaces: &[Interface], clamps: &Clamps, links: Vec<PinnedLink>) -> Result<Self> {
        let mut plan = Self::default();
        let mut wanted: BTreeMap<u32, &Interface> = interfaces
            .iter()
            .filter(|interface| clamps.get(interface.index).is_some())
            .map(|interface| (interface.index, interface))
            .collect();
        for link in links {
            let Some(index) = link.info.interface_index else {
                plan.dead.push(link.path);
                continue;
            };
            match wanted.remove(&index) {
                Some(interface) => {
                    // An index alone may be that of an interface in another network namespace.
                    ensure!(
                        is_on(link.info.program_id, &interface.name)?,
                        "{}: attaches the program to an interface of another network namespace; run gre-decap there, or choose \
                         another --root",
                        link.path.display()
                    );
                    plan.kept.push((interface.name.clone(), link));
                }
                None => plan.leaving.push(link.path),
            }
        }
        plan.new = wanted.into_values().cloned().collect();
        Ok(plan)
    }

    /// Whether this program, or none, is on every way out where it should be, and nowhere else.
    pub fn is_done(&self, program_id: Option<u32>) -> bool {
        let in_place = self.new.is_empty() && self.leaving.is_empty() && self.dead.is_empty();
        // A killed load may have replaced some.
        in_place
            && self
                .kept
                .iter()
                .all(|(_, link)| Some(link.info.program_id) == program_id)
    }

    /// Puts `program` on all ways out, and notes from which it is to go. `programs` has where each program that a link may run
    /// is pinned, by its id.
    ///
    /// # Errors
    ///
    /// If the kernel refuses; what was done is noted in `applied`, to be undone.
    pub fn apply(
        self,
        root: &Root,
        program: Option<BorrowedFd<'_>>,
        programs: &BTreeMap<u32, PathBuf>,
        applied: &mut Applied,
    ) -> Result<()> {
        for pin in &self.dead {
            fs::remove_file(pin).with_context(|| format!("{}: cannot be removed", pin.display()))?;
        }
        applied.leaving.extend(self.leaving);
        if self.new.is_empty() && self.kept.is_empty() {
            return Ok(());
        }
        let program = program.context("the program for ways out is not loaded")?;
        for Interface { name, index, .. } in &self.new {
            let link = InterfaceLink::attach_to_egress(program, *index).map_err(|error| refusal(name, &error))?;
            let path = root.egress_link_path(name);
            link.pin(&path)
                .with_context(|| format!("{}: cannot be pinned", path.display()))?;
            applied.done.push(Undo::Detach(path));
        }
        for (name, link) in self.kept {
            let id = link.info.program_id;
            let old = programs.get(&id).cloned().with_context(|| {
                format!("interface {name}: has program {id} on its way out, which is not pinned; run `gre-decap unload` first")
            })?;
            InterfaceLink::open(&link.path)
                .and_then(|link| link.replace(program))
                .with_context(|| format!("interface {name}: the program on its way out cannot be replaced"))?;
            applied.done.push(Undo::GiveBack {
                link: link.path,
                program: old,
            });
        }
        Ok(())
    }
}

/// Whether a program is on the way out of an interface of this network namespace.
fn is_on(program_id: u32, interface: &str) -> Result<bool> {
    let (_, programs) = SchedClassifier::query_tcx(interface, TcAttachType::Egress)
        .with_context(|| format!("interface {interface}: the programs on its way out cannot be listed"))?;
    Ok(programs.iter().any(|program| program.id() == program_id))
}

/// Why the kernel refuses a program on a way out, as far as its error tells.
pub(super) fn refusal(interface: &str, error: &io::Error) -> anyhow::Error {
    match error.raw_os_error() {
        Some(libc::EINVAL) => anyhow!(
            "interface {interface}: this kernel has no TCX, which `clamp_mss` needs; boot Linux 6.6 or later, or set it to \"off\" and \
             have TCP announce less by `advmss` of ip-route(8)"
        ),
        _ => anyhow!("interface {interface}: refuses the program on its way out that `clamp_mss` needs: {error}"),
    }
}
