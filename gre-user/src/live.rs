//! Changes of the tunnels that run, at once and without the file.
//!
//! What runs is read as a configuration, changed, and checked like a file. Where that comes down to one element of the maps, the
//! program that runs goes on with it; else the change is put in force like a load, by a generation of its own. Either way each
//! packet meets what was before or what is after, and so does whoever looks when the process was killed half-way.

use anyhow::{Context, Result, anyhow};

use crate::about;
use crate::apply::{Cause, apply_locked, attached_to, ensure_privileges, survey};
use crate::attach::{AttachPlan, pinned_links};
use crate::carry::{self, Carry};
use crate::clamps::Clamps;
use crate::config::Config;
use crate::error::Error;
use crate::host::cpus::online_cpus;
use crate::host::{self, Interface};
use crate::interfaces::{InterfaceView, attached};
use crate::running::Running;
use crate::settings::Settings;
use crate::state::{Locked, Root};
use crate::surroundings::Survey;
use crate::tables::{Ids, Tables};

/// Changes what runs by `edit`, which gets it as a configuration, and returns none if there is nothing to change. Returns what an
/// operator must know, a line each, or none if nothing was changed.
///
/// # Errors
///
/// If nothing is loaded, another process is changing what runs, this process may not, or the kernel refuses; and those of
/// `edit`. What ran before goes on as it was, or the line says what does not.
pub fn change(
    root: &Root,
    edit: impl FnOnce(Config) -> Result<Option<Config>, Error>,
) -> Result<Option<Vec<String>>, Error> {
    ensure_privileges()?;
    let nothing = || anyhow!("{}: nothing is loaded; run `gre-decap load`", root.path().display());
    let locked = root.lock_existing()?.ok_or_else(nothing)?;
    let generation = locked.root().current()?.ok_or_else(nothing)?;
    let running = Running::read(generation).context("what is running cannot be read (`gre-decap load` replaces it)")?;
    let views = attached(locked.root())?;
    let Some(config) = edit(running.config(&views)?)? else {
        return Ok(None);
    };
    if let Some(warnings) = in_place(&config, &locked, &running, &views)? {
        return Ok(Some(warnings));
    }
    let outcome = apply_locked(&config, &locked, Cause::Live)?;
    Ok(Some(outcome.warnings))
}

/// Does it in the maps of the program that runs, if that can be.
fn in_place(
    config: &Config,
    locked: &Locked,
    running: &Running,
    views: &[InterfaceView],
) -> Result<Option<Vec<String>>> {
    let root = locked.root();
    // That this is the network namespace of the interfaces.
    let (links, here) = (pinned_links(root)?, host::interfaces()?);
    AttachPlan::make(&config.interfaces, links, &here, root, Interface::by_name)?;
    // A load that was killed has put another program on some of them.
    if views.iter().any(|view| view.program_id != running.program.id()) {
        return Ok(None);
    }
    let names = config.tunnels.iter().map(|tunnel| tunnel.name.as_str());
    let (present, former) = (&running.tables.names, &running.tables.former);
    let ids = Ids::assign_after(names, present, former, config.max_tunnels)?;
    let tables = Tables::of(config, &ids, &online_cpus()?)?;
    let Settings {
        log_level, flow_key, ..
    } = running.settings;
    let wanted = Settings::of(config, &tables, log_level, flow_key);
    let carry = Carry::choose(&running.generation, &ids, config.max_tunnels)?;
    if !running.settings.serve(&wanted) || carry != Carry::Shared {
        return Ok(None);
    }
    let Some(tables) = tables
        .with_cores_of(&running.tables)
        .filter(|tables| running.tables.can_become(tables))
    else {
        return Ok(None);
    };
    let mut warnings = Vec::new();
    let (on, _) = attached_to(config)?;
    let survey = survey(&tables, &on, Some(ids.added()), &mut warnings)?;
    if !survey.want_program.is_empty() {
        return Ok(None);
    }
    change_maps(running, &ids, &tables, &survey, &on)?;
    Ok(Some(warnings))
}

/// Changes the maps of the program that runs to tables that its own [can become](Tables::can_become).
///
/// # Errors
///
/// If a map cannot be read or written.
pub(crate) fn change_maps(
    running: &Running,
    ids: &Ids,
    tables: &Tables,
    survey: &Survey,
    on: &[Interface],
) -> Result<()> {
    let generation = &running.generation;
    let unplaced = about::change_in_place(generation, || {
        carry::clear(generation, ids.added())?;
        let unplaced = if ids.added().is_empty() {
            // What goes is forwarded until it has gone.
            let unplaced = running.tables.change_to(tables, generation)?;
            unplaced.and(survey.surroundings.update(generation)?)
        } else {
            let unplaced = survey.surroundings.update(generation)?;
            unplaced.and(running.tables.change_to(tables, generation)?)
        };
        // Another tunnel may be the one whose headers are longest.
        Clamps::follow(generation, tables, on.iter())?;
        Ok(unplaced)
    })?;
    // Whoever reads what runs need not wait for that.
    unplaced.place()
}
