//! The program on interfaces' ways out: planned before anything changes, and applied with what can be undone.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use aya::programs::{SchedClassifier, TcAttachType};

use super::{Egress, Means};
use crate::attach::{Applied, Undo};
use crate::clamps::Clamps;
use crate::config::{self, ClampMss};
use crate::host::Interface;
use crate::state::Root;

/// The way from how things are to the program being on the way out of each interface that is to have it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct EgressPlan {
    /// Interfaces without the program.
    new: Vec<Interface>,
    /// Names of the interfaces that have it.
    kept: Vec<(String, Egress)>,
    /// Those of interfaces that are not to have it any more.
    leaving: Vec<Egress>,
    /// What is left of those whose interface has gone, and that nobody waits for.
    dead: Vec<Egress>,
    /// Whether an interface is waited for that had it and has gone. The pin stays: it is what says so.
    awaited: bool,
}

impl EgressPlan {
    /// Compares what is to be done on the ways out of the interfaces that are here, of those configured, with what is pinned.
    ///
    /// # Errors
    ///
    /// If a link belongs to another network namespace.
    pub fn make(
        configured: &[config::Interface],
        interfaces: &[Interface],
        clamps: &Clamps,
        pinned: Vec<Egress>,
    ) -> Result<Self> {
        let mut plan = Self::default();
        let mut wanted: BTreeMap<u32, &Interface> = interfaces
            .iter()
            .filter(|interface| clamps.get(interface.index).is_some())
            .map(|interface| (interface.index, interface))
            .collect();
        let is_awaited = |name: &str| {
            let clamped = |configured: &config::Interface| configured.clamp_mss != ClampMss::Off;
            configured
                .iter()
                .any(|configured| configured.name == name && clamped(configured))
                && interfaces.iter().all(|interface| interface.name != name)
        };
        for egress in pinned {
            let Some(index) = egress.interface_index() else {
                match is_awaited(egress.made_for()) {
                    true => plan.awaited = true,
                    false => plan.dead.push(egress),
                }
                continue;
            };
            match wanted.remove(&index) {
                Some(interface) => {
                    // An index alone may be that of an interface in another network namespace.
                    ensure!(
                        egress.is_on(&interface.name)?,
                        "{}: attaches the program to an interface of another network namespace; run gre-decap there, or choose \
                         another --root",
                        egress.path().display()
                    );
                    plan.kept.push((interface.name.clone(), egress));
                }
                None => plan.leaving.push(egress),
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
                .all(|(name, egress)| egress.program_id() == program_id && egress.made_for() == name)
    }

    /// Whether the program is needed: on an interface that is here, or for one that may come back.
    pub fn needs_program(&self) -> bool {
        !self.new.is_empty() || !self.kept.is_empty() || self.awaited
    }

    /// Puts `program` on all ways out, by these means where it is new, and notes from which it is to go. `programs` has where each
    /// program that is on a way out may be pinned, by its id.
    ///
    /// # Errors
    ///
    /// If the kernel refuses; what was done is noted in `applied`, to be undone.
    pub fn apply(
        self,
        root: &Root,
        program: Option<BorrowedFd<'_>>,
        means: Means,
        programs: &BTreeMap<u32, PathBuf>,
        applied: &mut Applied,
    ) -> Result<()> {
        for egress in &self.dead {
            egress.detach(root)?;
        }
        applied.leaving_egress.extend(self.leaving);
        if self.new.is_empty() && self.kept.is_empty() {
            return Ok(());
        }
        let program = program.context("the program for ways out is not loaded")?;
        let mut kept = Vec::with_capacity(self.kept.len());
        for (name, egress) in self.kept {
            kept.push(match egress.made_for() == name {
                true => egress,
                false => egress.rename(root, &name)?,
            });
        }
        for interface in &self.new {
            let egress = Egress::attach(root, program, interface, means, &mut applied.warnings)?;
            applied.done.push(Undo::TakeFromEgress(root.clone(), egress));
        }
        for egress in kept {
            let id = egress.program_id();
            let old = id.and_then(|id| programs.get(&id)).cloned().with_context(|| {
                let (name, id) = (egress.made_for(), id.unwrap_or_default());
                format!("interface {name}: has program {id} on its way out, which is not pinned; run `gre-decap unload` first")
            })?;
            egress.replace(program)?;
            applied.done.push(Undo::GiveBackToEgress { egress, program: old });
        }
        Ok(())
    }
}

impl Egress {
    /// Whether its program is on the way out of an interface of this network namespace.
    fn is_on(&self, interface: &str) -> Result<bool> {
        match self {
            Self::Tcx(link) => {
                let (_, programs) = SchedClassifier::query_tcx(interface, TcAttachType::Egress)
                    .with_context(|| format!("interface {interface}: the programs on its way out cannot be listed"))?;
                Ok(programs.iter().any(|program| program.id() == link.info.program_id))
            }
            // It was found here.
            Self::Clsact(_) => Ok(true),
        }
    }
}
