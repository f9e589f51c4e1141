//! Keeps the datapath in step with this host while `run` stays: an interface that went away and is back gets the program again;
//! a next hop that answers or changes its address, an interface that comes, goes, or takes redirected frames from now on, are
//! made known to the program.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::about;
use crate::attach::{
    Attached, Egress, PinnedLink, attach_again, attach_egress_again, gone, pinned_egress, pinned_links,
};
use crate::clamps::Clamps;
use crate::config::{self, ClampMss, Mode};
use crate::host::egress::ways;
use crate::host::neighbours::confirm_stale;
use crate::host::{Interface, interfaces};
use crate::interfaces::attached;
use crate::state::{Generation, Root};
use crate::surroundings::Survey;
use crate::tables::Tables;

/// What is followed.
#[derive(Debug)]
pub struct Follower {
    root: Root,
    /// What the file says of each interface.
    configured: BTreeMap<String, (Mode, ClampMss)>,
    /// What was in force when it was last looked at.
    known: Option<InForce>,
    /// What was reported, so that it is not reported again.
    reported: Vec<String>,
}

/// What has come of a look at the host.
#[derive(Debug, Default)]
pub struct Followed {
    /// Interfaces that got the program again.
    pub attached: Vec<Attached>,
    /// What an operator must know and has not been told yet, or has happened again, a line each.
    pub warnings: Vec<String>,
}

impl Follower {
    /// Follows what is in force under `root`, whoever has loaded it.
    pub fn new(root: Root) -> Self {
        Self {
            root,
            configured: BTreeMap::new(),
            known: None,
            reported: Vec::new(),
        }
    }

    /// Takes what interfaces that come back are to have from the configuration in force; others than these get the program in
    /// native mode, and none on their way out. What the operator was `told` when it was loaded is not told again.
    pub fn configure(&mut self, interfaces: &[config::Interface], told: &[String]) {
        self.reported = told.to_vec();
        let configured = interfaces
            .iter()
            .map(|interface| (interface.name.clone(), (interface.mode, interface.clamp_mss)));
        self.configured = configured.collect();
    }

    /// Brings what is in force up to date.
    ///
    /// # Errors
    ///
    /// If what is in force or this host cannot be read, or a map cannot be written.
    pub fn update(&mut self) -> Result<Followed> {
        // Not while another process changes what is in force.
        let Some(locked) = self.root.lock_existing()? else {
            return Ok(Followed::default());
        };
        let root = locked.root();
        let Some(generation) = root.current()? else {
            return Ok(Followed::default());
        };
        let in_force = InForce::read(generation, self.known.take())?;
        let lost = Lost::find(pinned_links(root)?)?;
        let survey = in_force.survey(root, &lost)?;

        // Now that the program knows the interfaces that are back.
        let mut now = lost.gone;
        let attached = self.attach_again(root, &in_force, &lost.back, &mut now);
        let happened = self.restore_egress(root, &in_force, &mut now)?;
        confirm_stale(&survey.surroundings.devices)?;
        self.known = Some(in_force);

        now.extend(survey.errors.iter().map(|(_, error)| format!("{error:#}")));
        now.extend(survey.warnings);
        let new = now.iter().filter(|line| !self.reported.contains(line)).cloned();
        let warnings = happened.into_iter().chain(new).collect();
        self.reported = now;
        Ok(Followed { attached, warnings })
    }

    /// Gives the program to interfaces that are back. What hinders it goes to `warnings`, a line each.
    fn attach_again(
        &self,
        root: &Root,
        in_force: &InForce,
        back: &[(PinnedLink, Interface)],
        warnings: &mut Vec<String>,
    ) -> Vec<Attached> {
        let mut attached = Vec::new();
        for (link, interface) in back {
            let mode = self
                .configured
                .get(&interface.name)
                .map_or(Mode::Native, |(mode, _)| *mode);
            // The kernel loses what is spread in generic mode.
            let mode = match mode {
                Mode::Auto if !in_force.tables.cores.is_empty() => Mode::Native,
                mode => mode,
            };
            match attach_again(root, &in_force.generation, link, interface, mode, warnings) {
                Ok(done) => attached.push(done),
                Err(error) => warnings.push(format!("{error:#}")),
            }
        }
        attached
    }

    /// Puts the program for ways out on those that it has gone from. What hinders it goes to `warnings`, a line each. Returns what
    /// has happened, which is told each time that it does.
    fn restore_egress(&self, root: &Root, in_force: &InForce, warnings: &mut Vec<String>) -> Result<Vec<String>> {
        let mut happened = Vec::new();
        for egress in pinned_egress(root)? {
            if egress.interface_index().is_none()
                && let Some((_, clamp_mss)) = self.configured.get(egress.made_for())
                && *clamp_mss != ClampMss::Off
            {
                match in_force.restore_egress(root, &egress, *clamp_mss, warnings) {
                    Ok(event) => happened.extend(event),
                    Err(error) => warnings.push(format!("{error:#}")),
                }
            }
        }
        Ok(happened)
    }
}

/// What is in force.
#[derive(Debug)]
struct InForce {
    generation: Generation,
    /// Of its tables when they were read.
    revision: u64,
    /// They may be large, and seldom change.
    tables: Tables,
}

impl InForce {
    /// Reads it, unless it is what is known.
    fn read(generation: Generation, known: Option<Self>) -> Result<Self> {
        let revision = about::revision(&generation)?;
        match known {
            Some(known) if known.generation == generation && known.revision == revision => Ok(known),
            _ => Ok(Self {
                tables: Tables::read(&generation)?,
                generation,
                revision,
            }),
        }
    }

    /// Looks at the host, and tells the programs what is new.
    fn survey(&self, root: &Root, lost: &Lost) -> Result<Survey> {
        let views = attached(root)?;
        let here = || views.iter().filter_map(|view| view.here.as_ref());
        let on = || here().map(|(interface, _)| interface);
        let back = lost.back.iter().map(|(_, interface)| interface);
        let mut survey = Survey::take(&self.tables, on().chain(back), &ways()?)?;
        // Only a load gives interfaces programs: until then the kernel sends by those that lack one.
        for interface in &survey.want_program {
            survey.surroundings.devices.remove(&interface.index);
        }
        survey.surroundings.update(&self.generation)?.place()?;
        Clamps::follow(&self.generation, &self.tables, on())?;
        Ok(survey)
    }

    /// Puts the program for ways out on that of an interface that had it, if the interface is here. Tells if others had taken it
    /// away.
    fn restore_egress(
        &self,
        root: &Root,
        dead: &Egress,
        clamp_mss: ClampMss,
        warnings: &mut Vec<String>,
    ) -> Result<Option<String>> {
        let here = interfaces()?;
        let Some(interface) = here.iter().find(|interface| interface.name == dead.made_for()) else {
            return Ok(None);
        };
        Clamps::restore(&self.generation, &self.tables, interface, clamp_mss, &here)?;
        attach_egress_again(root, &self.generation, dead, interface, warnings)?;
        Ok(dead.was_on(interface).then(|| {
            format!(
                "interface {}: others had taken away the filter on its way out; it is there again",
                interface.name
            )
        }))
    }
}

/// Interfaces that had the program.
struct Lost {
    /// That they are not here, a line each.
    gone: Vec<String>,
    /// Those that are here again, with what attached the program before.
    back: Vec<(PinnedLink, Interface)>,
}

impl Lost {
    /// By the links that attached it.
    fn find(links: Vec<PinnedLink>) -> Result<Self> {
        let mut lost = Self {
            gone: Vec::new(),
            back: Vec::new(),
        };
        let dead = links.into_iter().filter(|link| link.info.interface_index.is_none());
        let dead: Vec<_> = dead.collect();
        if dead.is_empty() {
            return Ok(lost);
        }
        let here = interfaces()?;
        for link in dead {
            match here.iter().find(|interface| interface.name == link.made_for) {
                Some(interface) => lost.back.push((link, interface.clone())),
                None => lost.gone.push(gone(&link.made_for)),
            }
        }
        Ok(lost)
    }
}
