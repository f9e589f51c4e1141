//! The program on an interface's way out as a filter of clsact. It outlives this process by itself; what cannot be read back from the
//! kernel, where to look for it and whether its clsact is ours too, a [`Record`] says.
//!
//! The order of the steps leaves nothing unknown behind, whenever this process is killed: what is to be made is noted first, and what
//! is noted is taken away first.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use aya::programs::{ProgramError, ProgramInfo};

use super::record::{Record, own_namespace};
use super::{refusal, remove};
use crate::host::Interface;
use crate::host::clsact::{self, CLSACT, Filter, Hook, comes_after_others, occupied};
use crate::state::Root;

/// Tells the filter from others of its priority: "gred", which nobody gets by counting.
const HANDLE: u32 = 0x6772_6564;
/// What `tc filter show` calls it.
const NAME: &str = "gre_egress";

/// A filter of ours, of which there is a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedFilter {
    /// The interface it was made for; it may have another name now.
    pub made_for: String,
    /// Where its record is.
    pub path: PathBuf,
    record: Record,
    /// Its priority and the id of its program; none if it has gone, or is in another network namespace.
    here: Option<(u16, u32)>,
    /// Whether it is to be looked for in another network namespace.
    elsewhere: bool,
}

/// The filters that the records at these paths, of interfaces of these names, are about.
pub(super) fn read(root: &Root, records: Vec<(String, PathBuf)>) -> Result<Vec<PinnedFilter>> {
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let (namespace, programs) = (own_namespace()?, own_programs(root)?);
    let read = |(made_for, path): (String, PathBuf)| {
        // Removed since the folder was read.
        let Some(record) = Record::read(&path)? else {
            return Ok(None);
        };
        let elsewhere = record.namespace != namespace;
        let here = match elsewhere {
            true => None,
            false => find(record.interface_index, &programs)
                .with_context(|| format!("interface {made_for}: the filters on its way out cannot be listed"))?,
        };
        Ok(Some(PinnedFilter {
            made_for,
            path,
            record,
            here,
            elsewhere,
        }))
    };
    records
        .into_iter()
        .filter_map(|record| read(record).transpose())
        .collect()
}

/// Ids of the programs for ways out that are pinned, in force or not.
fn own_programs(root: &Root) -> Result<BTreeSet<u32>> {
    let mut ids = BTreeSet::new();
    for generation in root.generations()? {
        let path = generation.egress();
        match ProgramInfo::from_pin(&path) {
            Ok(info) => drop(ids.insert(info.id())),
            Err(ProgramError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("{}: cannot be read", path.display())),
        }
    }
    Ok(ids)
}

/// The priority and program of our filter on an interface's way out. One that has our handle, but none of our programs, is not ours: an
/// interface that has gone may have left its index to another.
fn find(interface_index: u32, programs: &BTreeSet<u32>) -> io::Result<Option<(u16, u32)>> {
    let filters = clsact::filters(interface_index, Hook::Egress)?;
    Ok(filters.into_iter().filter(is_named_ours).find_map(|filter| {
        let id = filter.program_id.filter(|id| programs.contains(id))?;
        Some((filter.priority, id))
    }))
}

fn is_named_ours(filter: &Filter) -> bool {
    filter.is_bpf && filter.chain == 0 && filter.handle == HANDLE && filter.name.as_deref() == Some(NAME)
}

impl PinnedFilter {
    /// Puts a program on the way out of an interface, and notes it.
    pub(super) fn attach(
        root: &Root,
        program: BorrowedFd<'_>,
        interface: &Interface,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let Interface { name, index, .. } = interface;
        let made_clsact = match clsact::standing(*index).map_err(|error| refusal(name, &error))? {
            None => true,
            Some(kind) if kind == CLSACT => false,
            Some(kind) => {
                let (what, remedy) = occupied(name, &kind);
                bail!("interface {name}: {what}; {remedy}");
            }
        };
        let mut attached = Self {
            made_for: name.clone(),
            path: root.egress_link_path(name),
            record: Record {
                namespace: own_namespace()?,
                interface_index: *index,
                made_clsact,
            },
            here: None,
            elsewhere: false,
        };
        attached.remember(root)?;
        match attached.fill(root, program, warnings) {
            Ok(()) => Ok(attached),
            Err(error) => match attached.detach(root) {
                Ok(()) => Err(error),
                Err(failed) => Err(anyhow!("{error:#}; and {failed:#}")),
            },
        }
    }

    /// Notes it.
    pub(super) fn remember(&self, root: &Root) -> Result<()> {
        self.record.write(root, &self.path)
    }

    /// Makes what is noted.
    fn fill(&mut self, root: &Root, program: BorrowedFd<'_>, warnings: &mut Vec<String>) -> Result<()> {
        let (name, index) = (&self.made_for, self.record.interface_index);
        if self.record.made_clsact {
            match clsact::add(index) {
                Ok(()) => {}
                // Somebody else was faster.
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                    self.record.made_clsact = false;
                    self.record.write(root, &self.path)?;
                }
                Err(error) => return Err(lacking(name, "clsact", "sch_ingress", &error)),
            }
        }
        let others = clsact::filters(index, Hook::Egress).map_err(|error| refusal(name, &error))?;
        let priority = clsact::free_priority(&others)
            .with_context(|| format!("interface {name}: filters of others have all priorities on its way out"))?;
        if others
            .iter()
            .any(|filter| filter.handle == HANDLE && !is_named_ours(filter) && filter.priority == priority)
        {
            bail!(
                "interface {name}: another filter on its way out has the handle {HANDLE:#x}, which is that of gre-decap; remove it by \
                 `tc filter delete dev {name} egress prio {priority} handle {HANDLE:#x} bpf`"
            );
        }
        clsact::put(index, Hook::Egress, (priority, HANDLE), NAME, program)
            .map_err(|error| lacking(name, "BPF filters", "cls_bpf", &error))?;
        let late = comes_after_others(name, &others);
        warnings.extend(late.map(|(what, remedy)| format!("interface {name}: {what}; {remedy}")));
        let after = clsact::filters(index, Hook::Egress).map_err(|error| refusal(name, &error))?;
        let ours = after
            .iter()
            .find(|filter| is_named_ours(filter) && filter.priority == priority);
        let id = ours.and_then(|filter| filter.program_id);
        let id =
            id.with_context(|| format!("interface {name}: our filter is not on its way out although it was taken"))?;
        self.here = Some((priority, id));
        Ok(())
    }

    /// Puts another program in its place.
    pub(super) fn replace(&self, program: BorrowedFd<'_>) -> Result<()> {
        let Some((priority, _)) = self.here else {
            bail!("it has gone");
        };
        let index = self.record.interface_index;
        Ok(clsact::put(index, Hook::Egress, (priority, HANDLE), NAME, program)?)
    }

    /// Takes it away, and its clsact if that was made for it and nobody else has anything in it; forgets it.
    pub(super) fn detach(&self, root: &Root) -> Result<()> {
        if !self.elsewhere {
            let index = self.record.interface_index;
            // As it is now: since it was looked for, it may have come or gone.
            let ours = match self.here {
                Some((priority, _)) => Some(priority),
                None => find(index, &own_programs(root)?)?.map(|(priority, _)| priority),
            };
            if let Some(priority) = ours {
                gone_is_done(clsact::take(index, Hook::Egress, (priority, HANDLE)))?;
            }
            if self.record.made_clsact && is_empty(index)? {
                gone_is_done(clsact::remove(index))?;
            }
        }
        remove(&self.path)
    }

    /// The same, with its record at another path since its interface was renamed.
    pub(super) fn renamed(self, made_for: String, path: PathBuf) -> Self {
        Self { made_for, path, ..self }
    }

    /// Whether it was made in another network namespace, where it may be or not.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.elsewhere
    }

    pub(super) fn was_on(&self, interface_index: u32) -> bool {
        !self.elsewhere && self.record.interface_index == interface_index
    }

    pub(super) fn interface_index(&self) -> Option<u32> {
        self.here.map(|_| self.record.interface_index)
    }

    pub(super) fn program_id(&self) -> Option<u32> {
        self.here.map(|(_, id)| id)
    }
}

/// Whether an interface has clsact, and no filters in it.
fn is_empty(interface_index: u32) -> io::Result<bool> {
    if clsact::standing(interface_index)?.as_deref() != Some(CLSACT) {
        return Ok(false);
    }
    for hook in [Hook::Ingress, Hook::Egress] {
        if !clsact::filters(interface_index, hook)?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What is to be taken away may have gone by itself, or with its interface.
fn gone_is_done(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOENT | libc::EINVAL)) => Ok(()),
        result => result,
    }
}

/// What a kernel without TCX lacks besides, as far as its error tells.
fn lacking(interface: &str, what: &str, module: &str, error: &io::Error) -> anyhow::Error {
    match error.raw_os_error() {
        Some(libc::ENOENT) => anyhow!(
            "interface {interface}: this kernel has neither TCX nor {what}, by which `clamp_mss` could be done; load its module {module}, or \
             boot Linux 6.6 or later"
        ),
        _ => refusal(interface, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_we_put_there_is_ours() {
        let ours = Filter {
            handle: HANDLE,
            name: Some(NAME.to_owned()),
            ..Filter::place(1, true)
        };
        assert!(is_named_ours(&ours));
        for other in [
            Filter {
                handle: 1,
                ..ours.clone()
            },
            Filter {
                name: None,
                ..ours.clone()
            },
            Filter {
                is_bpf: false,
                ..ours.clone()
            },
            Filter { chain: 1, ..ours },
        ] {
            assert!(!is_named_ours(&other), "{other:?}");
        }
    }
}
