//! The moment of change: the new generation gets its pins, the interfaces, and `current`; or all is as it was.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use aya::programs::ProgramInfo;

use crate::about;
use crate::attach::{Applied, AttachPlan, EgressPlan, Means, Undone, attach_pass};
use crate::datapath::Datapath;
use crate::host::Interface;
use crate::settings::Settings;
use crate::state::{Generation, Root};
use crate::surroundings::Survey;

/// What is to be put in force.
pub(super) struct Force<'a> {
    pub(super) root: &'a Root,
    pub(super) generation: &'a Generation,
    /// Loaded and filled.
    pub(super) datapath: &'a mut Datapath,
    pub(super) settings: &'a Settings,
    pub(super) survey: &'a Survey,
    /// Where its program goes,
    pub(super) attach: AttachPlan,
    /// and its program for the way out.
    pub(super) egress: EgressPlan,
}

impl Force<'_> {
    /// Pins the generation, puts its program on the interfaces, has the counters carried over by `settle`, and points `current`
    /// to it; or undoes what it did.
    ///
    /// # Errors
    ///
    /// If the kernel refuses any of it; the error knows whether all could be undone.
    pub(super) fn put(self, settle: impl FnOnce(&mut Datapath) -> Result<()>) -> Result<Applied, Undone> {
        let Self {
            root,
            generation,
            datapath,
            settings,
            survey,
            attach,
            egress: out,
        } = self;
        let (programs, means) = (programs(root)?, Means::probe()?);
        datapath.pin(generation)?;
        about::pin(generation, settings)?;
        let pass = match survey.want_program.as_slice() {
            [] => None,
            _ => Some(datapath.load_pass()?),
        };
        let egress = datapath.egress_fd()?;
        let uncounted = datapath.watch(generation);
        let program = datapath
            .program()?
            .fd()
            .context("the loaded program has no descriptor")?;
        let mut applied = attach.apply(root, program.as_fd(), &programs, Interface::by_name)?;
        applied.warnings.extend(uncounted);
        if settings.features.spread
            && let Some(name) = applied.in_generic_mode()
        {
            let line = format!(
                "interface {name}: runs in generic mode, in which the kernel loses packets that are spread over cores; \
                 set spread = \"off\", or use a network card whose driver has XDP"
            );
            return Err(applied.undo(anyhow!(line)));
        }
        let devices = &survey.surroundings.devices;
        let pass = pass.as_ref().map(AsFd::as_fd);
        match attach_pass(root, pass, &survey.want_program, devices, &mut applied)
            .and_then(|()| out.apply(root, egress.as_ref().map(AsFd::as_fd), means, &programs, &mut applied))
            .and_then(|()| settle(datapath))
            .and_then(|()| root.put_in_force(generation))
        {
            Ok(()) => Ok(applied),
            Err(error) => Err(applied.undo(error)),
        }
    }
}

/// Where each program is pinned that a link may run, those that a killed load has left too.
fn programs(root: &Root) -> Result<BTreeMap<u32, PathBuf>> {
    let mut programs = BTreeMap::new();
    for generation in root.generations()? {
        for path in [generation.program(), generation.egress()] {
            let context = || format!("{}: cannot be read", path.display());
            // A load that was killed early has pinned none.
            if path.try_exists().with_context(context)? {
                let id = ProgramInfo::from_pin(&path).with_context(context)?.id();
                programs.insert(id, path);
            }
        }
    }
    Ok(programs)
}
