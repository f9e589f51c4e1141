//! Brings the kernel to what a configuration says: all of it, or nothing.
//!
//! The steps, of which all before the last leave what runs as it is, or put it back:
//!
//! 1. read what runs, and plan what must be changed ([`plan`]); where the program that runs can go on, and one element of its
//!    maps makes the difference, that is changed, and is all ([`in_place`]),
//! 2. load the new program, fill its maps, try it, and make its counters ready ([`Datapath`], [`trial`]),
//! 3. pin the new generation whole, put its program on the interfaces, and point `current` to it ([`force`]),
//! 4. detach from interfaces that are not configured any more, and remove older generations.

mod force;
mod in_place;
mod plan;

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, ensure};

use self::force::Force;
use self::in_place::Changed;
use self::plan::Plan;
use crate::attach::{Applied, Attached, Undone};
use crate::carry::Carry;
use crate::config::Config;
use crate::datapath::{self, Datapath, LOGS, Shared, Sizes};
use crate::host::{Capability, missing_capabilities};
use crate::layout::{self, Match};
use crate::running::Running;
use crate::settings::{LogLevel, Settings};
use crate::state::{Generation, Locked, Root};
use crate::tables::Tables;
use crate::trial;

pub(crate) use self::plan::{attached_to, survey};

/// What was done.
pub struct Outcome {
    /// The interfaces that have the program, in the configuration's order; none if nothing was changed.
    pub interfaces: Option<Vec<Attached>>,
    /// Whether nothing but what is known of this host was changed.
    pub updated: bool,
    /// How many tunnels run.
    pub tunnels: usize,
    /// What an operator must know, a line each.
    pub warnings: Vec<String>,
    /// The program, unless the running one was right.
    pub datapath: Option<Datapath>,
}

/// Brings the kernel to what the configuration says.
///
/// # Errors
///
/// If this process may not, if the host is not as the configuration wants it, or if the kernel refuses. What ran before goes
/// on as it was, or the line says what does not.
pub fn apply(config: &Config, root: &Root, log_level: LogLevel) -> Result<Outcome> {
    datapath::ensure_built_in()?;
    ensure_privileges()?;
    apply_locked(config, &root.lock()?, Cause::Load(log_level))
}

/// Why the kernel is brought to a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It is the file's. The program logs so much, to this process.
    Load(LogLevel),
    /// It is what runs, with a tunnel changed. The program goes on logging as it does, and what a tunnel that runs cannot do is
    /// no reason to refuse another.
    Live,
}

/// The same as [`apply`], for whoever has the right to change the folder already.
///
/// # Errors
///
/// As [`apply`].
pub(crate) fn apply_locked(config: &Config, locked: &Locked, cause: Cause) -> Result<Outcome> {
    let root = locked.root();
    let running = root.current()?;
    let runs = running.is_some();
    let replaced = replace(config, root, running, cause).map_err(|undone| match (undone.complete, runs) {
        (false, _) => undone.error,
        (true, true) => anyhow!("{:#}; what was running goes on as before", undone.error),
        (true, false) => match root.remove_if_empty() {
            Ok(()) => undone.error,
            Err(failed) => anyhow!("{:#}; and {failed:#}", undone.error),
        },
    })?;
    replaced.finish(root).context("the configuration is in force, but")
}

pub(crate) fn ensure_privileges() -> Result<()> {
    let missing = missing_capabilities(&Capability::FOR_LOADING)?;
    ensure!(
        missing.is_empty(),
        "this process lacks {} to load and attach BPF programs; run as root, or give it what it lacks",
        missing.join(", ")
    );
    Ok(())
}

/// What is in force, before what was in force is cleared away.
struct Replaced {
    generation: Generation,
    applied: Option<Applied>,
    late: Option<Late>,
    outcome: Outcome,
}

/// What the old program may have counted in its last moments.
struct Late {
    carry: Carry,
    tables: Tables,
    running: Running,
}

fn replace(config: &Config, root: &Root, running: Option<Generation>, cause: Cause) -> Result<Replaced, Undone> {
    let mut plan = Plan::make(config, root, running, cause)?;
    let tunnels = plan.tables.names.len();
    if let Some(changed) = in_place::change(&plan)?
        && let Some(running) = plan.running
    {
        let outcome = Outcome {
            interfaces: (changed == Changed::Tunnels).then(|| plan.attach.kept()),
            updated: changed == Changed::Surroundings,
            tunnels,
            warnings: plan.warnings,
            datapath: None,
        };
        return Ok(Replaced {
            generation: running.generation,
            applied: None,
            late: None,
            outcome,
        });
    }
    let mut datapath = make_ready(config, &mut plan)?;
    let generation = root.create_generation()?;
    let Plan {
        running,
        tables,
        carry,
        mut warnings,
        ..
    } = plan;
    let force = Force {
        root,
        generation: &generation,
        datapath: &mut datapath,
        settings: &plan.settings,
        survey: &plan.survey,
        attach: plan.attach,
        egress: plan.egress,
    };
    match force.put(|datapath| carry.settle(datapath.ebpf(), &tables, running.as_ref())) {
        Ok(mut applied) => {
            warnings.append(&mut applied.warnings);
            let outcome = Outcome {
                interfaces: None,
                updated: false,
                tunnels,
                warnings,
                datapath: Some(datapath),
            };
            Ok(Replaced {
                generation,
                applied: Some(applied),
                late: running.map(|running| Late { carry, tables, running }),
                outcome,
            })
        }
        // Its program still runs somewhere, and so must stay pinned.
        Err(undone) if !undone.complete => Err(undone),
        Err(undone) => Err(match generation.remove() {
            Ok(()) => undone,
            Err(failed) => anyhow!("{:#}; and {failed:#}", undone.error).into(),
        }),
    }
}

/// Loads the program that the plan asks for, fills its maps, and tries it.
fn make_ready(config: &Config, plan: &mut Plan) -> Result<Datapath> {
    let Plan {
        settings,
        tables,
        carry,
        ..
    } = &*plan;
    let running = plan.running.as_ref();
    let mut shared = running
        .map(|running| shared(running, *carry, settings, tables))
        .transpose()?;
    if plan.cause == Cause::Live
        && settings.log_level != LogLevel::Off
        && let Some(shared) = &mut shared
    {
        shared.maps.push(LOGS);
    }
    let mut datapath = Datapath::load(settings, tables, shared)?;
    if plan.egress.needs_program() {
        datapath.load_egress(&plan.clamps)?;
    }
    datapath.fill(tables, &plan.survey.surroundings)?;
    trial::run(&mut datapath, config, tables, settings.log_level)?;
    carry.prepare(datapath.ebpf(), &plan.ids, tables, running)?;
    if plan.runs && *carry == Carry::Fresh {
        let line = "what runs was loaded by a version that counts, or keeps its counters, in another way: all counters start at zero";
        plan.warnings.push(line.to_owned());
    }
    Ok(datapath)
}

/// The running generation's maps that the new one can have: those that go on, and those that hold what they are to hold.
fn shared<'a>(running: &'a Running, carry: Carry, settings: &Settings, tables: &Tables) -> Result<Shared<'a>> {
    let mut maps = carry.shared();
    let entries: BTreeMap<_, _> = Sizes::of(settings, tables, 0).entries().collect();
    for name in tables.same_maps(&running.tables) {
        let entries = entries.get(name).copied().unwrap_or_default();
        if layout::compare(&running.generation.map(name), name, entries)? == Match::Whole {
            maps.push(name);
        }
    }
    Ok(Shared {
        generation: &running.generation,
        maps,
    })
}

impl Replaced {
    /// Clears away what is in force no longer, and what killed loads have left.
    fn finish(self, root: &Root) -> Result<Outcome> {
        let Self {
            generation,
            applied,
            late,
            mut outcome,
        } = self;
        if let Some(applied) = applied {
            outcome.interfaces = Some(applied.finish(root)?);
        }
        if let (Some(Late { carry, tables, running }), Some(datapath)) = (late, &mut outcome.datapath) {
            carry.settle(datapath.ebpf(), &tables, Some(&running))?;
        }
        for other in root.generations()?.iter().filter(|other| **other != generation) {
            other.remove()?;
        }
        Ok(outcome)
    }
}
