//! The program on its interfaces: planned before anything changes, applied so that it can be undone.

mod again;
mod egress;
mod pass;
mod plan;
mod refusal;

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use crate::bpf::{AttachMode, InterfaceLink, LinkInfo, open_pinned};
use crate::config::Mode;
use crate::host::{Interface, XdpMode};
use crate::state::Root;

pub use self::again::{attach_again, attach_egress_again};
pub use self::egress::{Egress, EgressPlan, Means, PinnedFilter, ensure_within_reach, pinned_egress};
pub use self::pass::attach_pass;
pub use self::plan::AttachPlan;
use self::plan::{KeptInterface, NewInterface};
pub(crate) use self::refusal::gone;

/// A link that gre-decap has pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedLink {
    /// The interface it was made for; it may have another name now.
    pub made_for: String,
    /// Where it is pinned.
    pub path: PathBuf,
    /// What the kernel says about it.
    pub info: LinkInfo,
}

/// An interface with the program on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Its name.
    pub name: String,
    /// Where the program runs.
    pub mode: XdpMode,
}

/// What must be done to get back to how things were.
enum Undo {
    /// A new link: detach it.
    Detach(PathBuf),
    /// A link with a new program: give it the old one, which is pinned here.
    GiveBack { link: PathBuf, program: PathBuf },
    /// A new program on a way out: take it away.
    TakeFromEgress(Root, Egress),
    /// A way out with a new program: give it the old one, which is pinned here.
    GiveBackToEgress { egress: Egress, program: PathBuf },
}

/// What was attached and replaced, until it is final.
#[derive(Default)]
pub struct Applied {
    done: Vec<Undo>,
    leaving: Vec<PathBuf>,
    leaving_egress: Vec<Egress>,
    interfaces: Vec<Attached>,
    /// What an operator must know about interfaces that are new, a line each.
    pub warnings: Vec<String>,
}

/// Why everything was put back.
#[derive(Debug)]
pub struct Undone {
    /// What failed, with what could not be put back.
    pub error: anyhow::Error,
    /// Whether everything is as it was.
    pub complete: bool,
}

/// All links that are pinned.
///
/// # Errors
///
/// If one cannot be read.
pub fn pinned_links(root: &Root) -> Result<Vec<PinnedLink>> {
    open_links(root.links()?)
}

/// All links to the program that passes everything.
///
/// # Errors
///
/// If one cannot be read.
pub fn pinned_pass_links(root: &Root) -> Result<Vec<PinnedLink>> {
    open_links(root.pass_links()?)
}

fn open_links(links: Vec<(String, PathBuf)>) -> Result<Vec<PinnedLink>> {
    let open = |(made_for, path): (String, PathBuf)| match InterfaceLink::open(&path).and_then(|link| link.info()) {
        Ok(info) => Some(Ok(PinnedLink { made_for, path, info })),
        // Removed since the folder was read.
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => {
            let line = format!("{}: cannot be read as a link to an interface", path.display());
            Some(Err(anyhow::Error::new(error).context(line)))
        }
    };
    links.into_iter().filter_map(open).collect()
}

/// Detaches the program from the link's interface and removes the pin.
///
/// # Errors
///
/// If the kernel refuses.
pub fn detach(link: &Path) -> Result<()> {
    let context = || format!("{}: cannot be detached", link.display());
    InterfaceLink::open(link)
        .and_then(|link| link.detach())
        .with_context(context)?;
    fs::remove_file(link).with_context(context)
}

impl AttachPlan {
    /// The interfaces that have the program already, in the configuration's order.
    pub fn kept(&self) -> Vec<Attached> {
        let attached = |kept: &KeptInterface| Attached {
            name: kept.name.clone(),
            mode: kept.mode,
        };
        self.kept.iter().map(attached).collect()
    }

    /// Puts `program` on all interfaces. New ones come first, since they are what may fail. `programs` has where each
    /// program that a link may run is pinned, by its id.
    ///
    /// # Errors
    ///
    /// If an interface refuses: then all is as it was, or the line says what is not.
    pub fn apply(
        self,
        root: &Root,
        program: BorrowedFd<'_>,
        programs: &BTreeMap<u32, PathBuf>,
        look_up: impl Fn(&str) -> Result<Option<Interface>>,
    ) -> Result<Applied, Undone> {
        let mut applied = Applied::default();
        match self.try_apply(root, program, programs, look_up, &mut applied) {
            Ok(()) => Ok(applied),
            Err(error) => Err(applied.undo(error)),
        }
    }

    fn try_apply(
        self,
        root: &Root,
        program: BorrowedFd<'_>,
        programs: &BTreeMap<u32, PathBuf>,
        look_up: impl Fn(&str) -> Result<Option<Interface>>,
        applied: &mut Applied,
    ) -> Result<()> {
        let old = |kept: &KeptInterface| {
            programs.get(&kept.program_id).cloned().with_context(|| {
                let KeptInterface { name, program_id, .. } = kept;
                format!("interface {name}: has program {program_id}, which is not pinned; run `gre-decap unload` first")
            })
        };
        let old: Vec<_> = self.kept.iter().map(old).collect::<Result<_>>()?;
        for pin in &self.dead {
            fs::remove_file(pin).with_context(|| format!("{}: cannot be removed", pin.display()))?;
        }
        for (from, to) in &self.renamed {
            fs::rename(from, to).with_context(|| format!("{}: cannot be renamed", from.display()))?;
        }
        let mut interfaces = BTreeMap::new();
        for new in &self.new {
            let mode = attach(root, program, new, &look_up, applied)?;
            let name = new.interface.name.clone();
            interfaces.insert(new.position, Attached { name, mode });
        }
        for (kept, old) in self.kept.into_iter().zip(old) {
            InterfaceLink::open(&kept.link)
                .and_then(|link| link.replace(program))
                .with_context(|| format!("interface {}: its program cannot be replaced", kept.name))?;
            let (link, name, mode) = (kept.link, kept.name, kept.mode);
            applied.done.push(Undo::GiveBack { link, program: old });
            interfaces.insert(kept.position, Attached { name, mode });
        }
        applied.interfaces = interfaces.into_values().collect();
        applied.leaving = self.leaving;
        Ok(())
    }
}

/// Attaches to one interface, pins the link, and reads back in which mode the program runs.
fn attach(
    root: &Root,
    program: BorrowedFd<'_>,
    new: &NewInterface,
    look_up: &impl Fn(&str) -> Result<Option<Interface>>,
    applied: &mut Applied,
) -> Result<XdpMode> {
    let name = &new.interface.name;
    let link = link_to(&new.interface, program, new.mode, &mut applied.warnings)?;
    let path = root.link_path(name);
    link.pin(&path)
        .with_context(|| format!("{}: cannot be pinned", path.display()))?;
    applied.done.push(Undo::Detach(path));
    mode_of(&link, name, look_up)
}

/// Attaches in the configured mode.
fn link_to(
    interface: &Interface,
    program: BorrowedFd<'_>,
    mode: Mode,
    warnings: &mut Vec<String>,
) -> Result<InterfaceLink> {
    let name = &interface.name;
    let native = || InterfaceLink::attach(program, interface.index, AttachMode::Native);
    let generic = || {
        InterfaceLink::attach(program, interface.index, AttachMode::Generic)
            .map_err(|error| refusal::generic(interface, &error))
    };
    match mode {
        Mode::Native => native().map_err(|error| refusal::native(interface, &error)),
        Mode::Generic => {
            warnings.push(refusal::slow(name));
            generic()
        }
        Mode::Auto => match native() {
            Err(error) if !refusal::is_occupied(&error) => {
                warnings.push(format!("{}; {}", refusal::why(interface, &error), refusal::slow(name)));
                generic()
            }
            result => result.map_err(|error| refusal::native(interface, &error)),
        },
    }
}

/// The mode in which the program of a link runs on its interface.
fn mode_of(link: &InterfaceLink, name: &str, look_up: &impl Fn(&str) -> Result<Option<Interface>>) -> Result<XdpMode> {
    let program_id = link
        .info()
        .with_context(|| format!("interface {name}: its link cannot be read"))?
        .program_id;
    let programs = look_up(name)?.map(|interface| interface.xdp).unwrap_or_default();
    match programs.into_iter().find(|xdp| xdp.program_id == program_id) {
        Some(xdp) => Ok(xdp.mode),
        None => bail!("interface {name}: the program is not on it although the kernel has attached it; run again"),
    }
}

impl Undo {
    fn run(&self) -> Result<()> {
        match self {
            Self::Detach(link) => detach(link),
            Self::GiveBack { link, program } => {
                let program =
                    open_pinned(program).with_context(|| format!("{}: cannot be opened", program.display()))?;
                InterfaceLink::open(link)
                    .and_then(|link| link.replace(program.as_fd()))
                    .with_context(|| format!("{}: cannot be given its old program", link.display()))
            }
            Self::TakeFromEgress(root, egress) => egress.detach(root),
            Self::GiveBackToEgress { egress, program } => egress.give_back(program),
        }
    }
}

impl Applied {
    /// An interface on which the program runs in generic mode, if there is one.
    pub fn in_generic_mode(&self) -> Option<&str> {
        let mut generic = self
            .interfaces
            .iter()
            .filter(|attached| attached.mode == XdpMode::Generic);
        generic.next().map(|attached| attached.name.as_str())
    }

    /// Puts everything back after `error`.
    pub fn undo(self, error: anyhow::Error) -> Undone {
        let failed = self.done.iter().rev().filter_map(|step| step.run().err());
        failed.fold(error.into(), |Undone { error, .. }, failed| Undone {
            error: anyhow!("{error:#}; and this could not be undone: {failed:#}"),
            complete: false,
        })
    }

    /// Detaches from the interfaces that the configuration does not name any more. Returns those that have the new program,
    /// in the configuration's order.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn finish(self, root: &Root) -> Result<Vec<Attached>> {
        for link in &self.leaving {
            detach(link)?;
        }
        for egress in &self.leaving_egress {
            egress.detach(root)?;
        }
        Ok(self.interfaces)
    }
}

impl From<anyhow::Error> for Undone {
    /// An error before anything was done.
    fn from(error: anyhow::Error) -> Self {
        Self { error, complete: true }
    }
}
