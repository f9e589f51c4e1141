//! The program on an interface's way out: by a TCX link where the kernel has TCX, else as a filter of clsact. Either way it is noted
//! among the pins which interface has it, it is replaced without a moment in which no program is there, and taken away again.

mod filter;
mod plan;
mod record;

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use strum::Display;

pub use self::filter::PinnedFilter;
pub use self::plan::EgressPlan;
use super::{PinnedLink, detach, open_links, pinned_links};
use crate::bpf::{InterfaceLink, open_pinned};
use crate::host::{Interface, has_tcx};
use crate::state::Root;

/// How a program gets on ways out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display)]
#[strum(serialize_all = "lowercase")]
pub enum Means {
    /// By a link (`BPF_TCX_EGRESS`), before the programs of others.
    Tcx,
    /// As a filter of the queueing discipline clsact, before those of others if it can be.
    Clsact,
}

impl Means {
    /// What this kernel has.
    ///
    /// # Errors
    ///
    /// If it cannot be asked.
    pub fn probe() -> Result<Self> {
        match has_tcx().context("whether the kernel has TCX cannot be found out")? {
            true => Ok(Self::Tcx),
            false => Ok(Self::Clsact),
        }
    }
}

/// What has the program on an interface's way out, or had it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Egress {
    /// A link, which is pinned.
    Tcx(PinnedLink),
    /// A filter, of which a record is among the pins.
    Clsact(PinnedFilter),
}

/// All that have, or had, the program on a way out.
///
/// # Errors
///
/// If one cannot be read.
pub fn pinned_egress(root: &Root) -> Result<Vec<Egress>> {
    let (records, links): (Vec<_>, Vec<_>) = root
        .egress_links()?
        .into_iter()
        .partition(|(_, path)| path.is_symlink());
    let filters = filter::read(root, records)?.into_iter().map(Egress::Clsact);
    Ok(open_links(links)?.into_iter().map(Egress::Tcx).chain(filters).collect())
}

/// Checks that all can be taken away from here.
///
/// # Errors
///
/// If one is a filter in another network namespace, where it cannot be reached.
pub fn ensure_within_reach(root: &Root, all: &[Egress]) -> Result<()> {
    let links = pinned_links(root)?;
    for egress in all {
        let Egress::Clsact(filter) = egress else { continue };
        // Its interface has the other program too, by a link, which tells of it wherever it is.
        let lives = links
            .iter()
            .any(|link| link.info.interface_index.is_some() && link.made_for == filter.made_for);
        if lives && filter.is_elsewhere() {
            bail!(
                "interface {}: is in another network namespace, with a filter of ours on its way out; run gre-decap there",
                filter.made_for
            );
        }
    }
    Ok(())
}

impl Egress {
    /// Puts a program on the way out of an interface that has none of ours, and pins what says so. What an operator must know is
    /// added to `warnings`.
    ///
    /// # Errors
    ///
    /// If the kernel refuses; nothing is left then.
    pub fn attach(
        root: &Root,
        program: BorrowedFd<'_>,
        interface: &Interface,
        means: Means,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let name = &interface.name;
        let path = root.egress_link_path(name);
        match means {
            Means::Tcx => {
                let link = attach_link(program, interface)?;
                link.pin(&path)
                    .with_context(|| format!("{}: cannot be pinned", path.display()))?;
                let info = link
                    .info()
                    .with_context(|| format!("interface {name}: the link on its way out cannot be read"))?;
                let made_for = name.clone();
                Ok(Self::Tcx(PinnedLink { made_for, path, info }))
            }
            Means::Clsact => PinnedFilter::attach(root, program, interface, warnings).map(Self::Clsact),
        }
    }

    /// The same for an interface that had it, went away and is back: the pin of what it had gives place to another.
    ///
    /// # Errors
    ///
    /// If the kernel refuses: the old pin then stays, so that it can be tried again.
    pub(super) fn attach_again(
        &self,
        root: &Root,
        program: BorrowedFd<'_>,
        interface: &Interface,
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        match self {
            Self::Tcx(dead) => {
                let link = attach_link(program, interface)?;
                super::again::pin_instead(&dead.path, &link)
            }
            Self::Clsact(dead) => {
                dead.detach(root)?;
                PinnedFilter::attach(root, program, interface, warnings)
                    .map(drop)
                    .or_else(|error| dead.remember(root).and(Err(error)))
            }
        }
    }

    /// Puts another program in the place of its own: no packet meets none.
    ///
    /// # Errors
    ///
    /// If the kernel refuses; it then has its old program.
    pub fn replace(&self, program: BorrowedFd<'_>) -> Result<()> {
        match self {
            Self::Tcx(link) => InterfaceLink::open(&link.path)
                .and_then(|link| link.replace(program))
                .with_context(|| self.cannot("replaced")),
            Self::Clsact(filter) => filter.replace(program).with_context(|| self.cannot("replaced")),
        }
    }

    /// Gives it back the program that is pinned at `path`.
    pub(super) fn give_back(&self, program: &Path) -> Result<()> {
        let program = open_pinned(program).with_context(|| format!("{}: cannot be opened", program.display()))?;
        self.replace(program.as_fd())
    }

    /// Takes the program away, if it is still there, and removes the pin.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn detach(&self, root: &Root) -> Result<()> {
        match self {
            Self::Tcx(link) if link.info.interface_index.is_none() => remove(&link.path),
            Self::Tcx(link) => detach(&link.path),
            Self::Clsact(filter) => filter.detach(root).with_context(|| self.cannot("taken away")),
        }
    }

    /// Gives its pin the name of an interface that was renamed.
    fn rename(self, root: &Root, name: &str) -> Result<Self> {
        let to = root.egress_link_path(name);
        let from = self.path();
        fs::rename(from, &to).with_context(|| format!("{}: cannot be renamed", from.display()))?;
        let made_for = name.to_owned();
        Ok(match self {
            Self::Tcx(link) => Self::Tcx(PinnedLink {
                made_for,
                path: to,
                ..link
            }),
            Self::Clsact(filter) => Self::Clsact(filter.renamed(made_for, to)),
        })
    }

    fn cannot(&self, what: &str) -> String {
        format!(
            "interface {}: the program on its way out cannot be {what}",
            self.made_for()
        )
    }

    /// The name of the interface that it was made for, which may have another now.
    pub fn made_for(&self) -> &str {
        match self {
            Self::Tcx(link) => &link.made_for,
            Self::Clsact(filter) => &filter.made_for,
        }
    }

    /// Where the pin is.
    pub fn path(&self) -> &PathBuf {
        match self {
            Self::Tcx(link) => &link.path,
            Self::Clsact(filter) => &filter.path,
        }
    }

    /// The index, in its own network namespace, of the interface whose way out has the program; none if that has gone, or others
    /// have taken the program away.
    pub fn interface_index(&self) -> Option<u32> {
        match self {
            Self::Tcx(link) => link.info.interface_index,
            Self::Clsact(filter) => filter.interface_index(),
        }
    }

    /// Whether it was made for this very interface, and not for one that had its name before.
    pub fn was_on(&self, interface: &Interface) -> bool {
        match self {
            // What a link was on it does not tell once that has gone.
            Self::Tcx(link) => link.info.interface_index == Some(interface.index),
            Self::Clsact(filter) => filter.was_on(interface.index),
        }
    }

    /// The id of the program; none if it has gone with its filter.
    pub fn program_id(&self) -> Option<u32> {
        match self {
            Self::Tcx(link) => Some(link.info.program_id),
            Self::Clsact(filter) => filter.program_id(),
        }
    }

    /// The kernel's id for the link, if it is one.
    pub fn link_id(&self) -> Option<u32> {
        match self {
            Self::Tcx(link) => Some(link.info.id),
            Self::Clsact(_) => None,
        }
    }

    /// How the program got there.
    pub fn means(&self) -> Means {
        match self {
            Self::Tcx(_) => Means::Tcx,
            Self::Clsact(_) => Means::Clsact,
        }
    }
}

fn attach_link(program: BorrowedFd<'_>, interface: &Interface) -> Result<InterfaceLink> {
    InterfaceLink::attach_to_egress(program, interface.index).map_err(|error| refusal(&interface.name, &error))
}

fn remove(pin: &Path) -> Result<()> {
    fs::remove_file(pin).with_context(|| format!("{}: cannot be removed", pin.display()))
}

/// Why the kernel refuses a program on a way out.
fn refusal(interface: &str, error: &io::Error) -> anyhow::Error {
    anyhow!(
        "interface {interface}: refuses the program on its way out that `clamp_mss` needs: {error}; see to that, or set it to \"off\" and \
         have TCP announce less by `advmss` of ip-route(8)"
    )
}
