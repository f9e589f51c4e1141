//! What can be done in the maps of the program that runs, which then needs no other.

use anyhow::Result;
use aya::programs::ProgramInfo;

use super::{Cause, Plan};
use crate::about;
use crate::carry::Carry;
use crate::live;
use crate::running::Running;
use crate::settings::LogLevel;
use crate::tables::Tables;

/// What was done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Changed {
    /// A tunnel was changed.
    Tunnels,
    /// What is known of this host was.
    Surroundings,
    Nothing,
}

/// Does what the plan asks for in the maps of the program that runs, or returns none if that program cannot stay.
///
/// # Errors
///
/// If a map cannot be read or written.
pub(super) fn change(plan: &Plan) -> Result<Option<Changed>> {
    let Plan {
        settings,
        tables,
        survey,
        ..
    } = plan;
    let Some(running) = plan.running.as_ref() else {
        return Ok(None);
    };
    if !can_stay(plan, running)? {
        return Ok(None);
    }
    let generation = &running.generation;
    if running.settings.serve(settings) && holds(&running.tables, tables) {
        if survey.surroundings.is_in(generation)? {
            return Ok(Some(Changed::Nothing));
        }
        survey.surroundings.update(generation)?.place()?;
        return Ok(Some(Changed::Surroundings));
    }
    // A program that can do more than the file asks for is replaced by one that does its work faster.
    if running.settings != *settings {
        return Ok(None);
    }
    match tables.clone().with_cores_of(&running.tables) {
        Some(tables) if running.tables.can_become(&tables) => {
            live::change_maps(running, &plan.ids, &tables, survey, &plan.on)?;
            Ok(Some(Changed::Tunnels))
        }
        _ => Ok(None),
    }
}

/// Whether the program that runs is where it must be, and all but its tunnels is as it must be.
fn can_stay(plan: &Plan, running: &Running) -> Result<bool> {
    // Records of a program that logs go to the process that loaded it, so another one needs a program of its own.
    Ok(plan.cause == Cause::Load(LogLevel::Off)
        && plan.carry == Carry::Shared
        && plan.attach.is_done(running.program.id())
        && plan.egress.is_done(running.egress.as_ref().map(ProgramInfo::id))
        && running.clamps == plan.clamps
        && plan.survey.want_program.is_empty()
        && about::is_ours(&running.generation)?)
}

/// Whether the running tables are these, wherever the lists of cores stand.
fn holds(running: &Tables, tables: &Tables) -> bool {
    running == tables
        || running.names == tables.names
            && tables
                .clone()
                .with_cores_of(running)
                .is_some_and(|tables| tables == *running)
}
