//! Keeps what the datapath knows of this host up to date while `run` stays: a next hop that answers or changes its address, an
//! interface that comes, goes, or takes redirected frames from now on.

use anyhow::Result;

use crate::host::egress::ways;
use crate::host::neighbours::confirm_stale;
use crate::interfaces::attached;
use crate::state::{Generation, Root};
use crate::surroundings::Survey;
use crate::tables::Tables;

/// What is followed.
#[derive(Debug)]
pub struct Follower {
    root: Root,
    /// The generation that was in force, and its tables, which may be large and never change.
    known: Option<(Generation, Tables)>,
    /// What was reported, so that it is not reported again.
    reported: Vec<String>,
}

impl Follower {
    /// Follows what is in force under `root`, whoever has loaded it.
    pub fn new(root: Root) -> Self {
        Self {
            root,
            known: None,
            reported: Vec::new(),
        }
    }

    /// Brings what is in force up to date. Returns what an operator must know and has not been told yet, a line each.
    ///
    /// # Errors
    ///
    /// If what is in force or this host cannot be read, or a map cannot be written.
    pub fn update(&mut self) -> Result<Vec<String>> {
        // Not while another process changes what is in force.
        let Some(locked) = self.root.lock_existing()? else {
            return Ok(Vec::new());
        };
        let root = locked.root();
        let Some(generation) = root.current()? else {
            return Ok(Vec::new());
        };
        let tables = match self.known.take() {
            Some((known, tables)) if known == generation => tables,
            _ => Tables::read(&generation)?,
        };
        let views = attached(root)?;
        let on = views
            .iter()
            .filter_map(|view| view.here.as_ref().map(|(interface, _)| interface));
        let mut survey = Survey::take(&tables, on, &ways()?)?;
        // Only a load gives interfaces programs: until then the kernel sends by those that lack one.
        for interface in &survey.want_program {
            survey.surroundings.devices.remove(&interface.index);
        }
        survey.surroundings.update(&generation)?;
        confirm_stale(&survey.surroundings.devices)?;
        self.known = Some((generation, tables));

        let errors = survey.errors.iter().map(|error| format!("{error:#}"));
        let now: Vec<_> = errors.chain(survey.warnings).collect();
        let new = now
            .iter()
            .filter(|line| !self.reported.contains(line))
            .cloned()
            .collect();
        self.reported = now;
        Ok(new)
    }
}
