//! Brings the kernel to what a configuration says: all of it, or nothing.
//!
//! The steps, of which all before the last leave what runs as it is, or put it back:
//!
//! 1. read what runs, and plan what must be attached, replaced and detached ([`AttachPlan`]); where the program that runs can go
//!    on, and one element of its maps makes the difference, that is changed, and is all,
//! 2. load the new program, fill its maps, try it, and make its counters ready ([`Datapath`], [`trial`]),
//! 3. pin the new generation whole, put its program on the interfaces, and point `current` to it,
//! 4. detach from interfaces that are not configured any more, and remove older generations.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, ensure};
use aya::programs::ProgramInfo;
use gre_common::siphash::Key;

use crate::about;
use crate::attach::{
    Applied, AttachPlan, Attached, EgressPlan, Undone, attach_pass, pinned_egress_links, pinned_links,
};
use crate::carry::Carry;
use crate::clamps::Clamps;
use crate::config::{self, ClampMss, Config};
use crate::datapath::{self, Datapath, LOGS, Shared};
use crate::host::cpus::online_cpus;
use crate::host::egress::ways;
use crate::host::{self, Capability, Interface, Severity, missing_capabilities};
use crate::layout::{self, Match};
use crate::live;
use crate::running::Running;
use crate::settings::{LogLevel, Settings};
use crate::state::{Generation, Locked, Root};
use crate::surroundings::Survey;
use crate::tables::{Ids, Tables};
use crate::trial;

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
    let runs = running.is_some();
    let running = running
        .map(Running::read_alike)
        .transpose()
        .context("what is running cannot be read (`gre-decap unload` removes it)")?
        .flatten();
    let (links, here) = (pinned_links(root)?, host::interfaces()?);
    let plan = AttachPlan::make(&config.interfaces, links, &here, root, Interface::by_name)?;
    let mut warnings = plan.warnings();

    let none = BTreeMap::new();
    let (names, former) = match &running {
        Some(Running { tables, .. }) => (&tables.names, &tables.former),
        None => (&none, &none),
    };
    let wanted = config.tunnels.iter().map(|tunnel| tunnel.name.as_str());
    let ids = Ids::assign_after(wanted, names, former, config.max_tunnels)?;
    let tables = Tables::of(config, &ids, &online_cpus()?)?;
    let must_deliver = match cause {
        Cause::Load(_) => None,
        Cause::Live => Some(ids.added()),
    };
    let (on, clamps) = attached_to(config)?;
    let survey = survey(&tables, &on, must_deliver, &mut warnings)?;
    let clamps = Clamps::of(&tables, on.iter().zip(clamps));
    let egress = EgressPlan::make(&on, &clamps, pinned_egress_links(root)?)?;
    if let Cause::Load(_) = cause {
        let cut_off = host::lockdown_findings(config).into_iter();
        let cut_off = cut_off.filter(|finding| finding.severity == Severity::Warning);
        warnings.extend(cut_off.map(|finding| format!("{}: {}; {}", finding.subject, finding.what, finding.remedy)));
    }
    let flow_key = match &running {
        Some(running) => running.settings.flow_key,
        None => new_flow_key()?,
    };
    let log_level = match (cause, &running) {
        (Cause::Load(log_level), _) => log_level,
        (Cause::Live, Some(running)) => running.settings.log_level,
        (Cause::Live, None) => LogLevel::Off,
    };
    let settings = Settings::of(config, &tables, log_level, flow_key);
    let carry = match &running {
        Some(running) => Carry::choose(&running.generation, &ids, config.max_tunnels)?,
        None => Carry::Fresh,
    };
    let tunnels = tables.names.len();
    // Records of a program that logs go to the process that loaded it, so another one needs a program of its own.
    if cause == Cause::Load(LogLevel::Off)
        && let Some(running) = running.as_ref().filter(|_| carry == Carry::Shared)
        && plan.is_done(running.program.id())
        && egress.is_done(running.egress.as_ref().map(ProgramInfo::id))
        && running.clamps == clamps
        && survey.want_program.is_empty()
        && about::is_ours(&running.generation)?
        && let Some((tunnels_changed, updated)) = in_place(running, &settings, &ids, &tables, &survey, &on)?
    {
        let outcome = Outcome {
            interfaces: tunnels_changed.then(|| plan.kept()),
            updated,
            tunnels,
            warnings,
            datapath: None,
        };
        return Ok(Replaced {
            generation: running.generation.clone(),
            applied: None,
            late: None,
            outcome,
        });
    }
    let mut shared = running
        .as_ref()
        .map(|running| shared(running, carry, &settings, &tables))
        .transpose()?;
    if cause == Cause::Live
        && log_level != LogLevel::Off
        && let Some(shared) = &mut shared
    {
        shared.maps.push(LOGS);
    }
    let mut datapath = Datapath::load(&settings, &tables, shared)?;
    if !clamps.is_empty() {
        datapath.load_egress(&clamps)?;
    }

    if runs && carry == Carry::Fresh {
        let line = "what runs was loaded by a version that counts, or keeps its counters, in another way: all counters start at zero";
        warnings.push(line.to_owned());
    }
    datapath.fill(&tables, &survey.surroundings)?;
    trial::run(&mut datapath, config, &tables, log_level)?;
    carry.prepare(datapath.ebpf(), &ids, &tables, running.as_ref())?;

    let programs = programs(root)?;
    let generation = root.create_generation()?;
    let plans = Plans { xdp: plan, egress };
    let settle = |datapath: &mut Datapath| carry.settle(datapath.ebpf(), &tables, running.as_ref());
    match put_in_force(
        root,
        &generation,
        &mut datapath,
        &settings,
        plans,
        &programs,
        &survey,
        settle,
    ) {
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

/// The running generation's maps that the new one can have: those that go on, and those that hold what they are to hold.
fn shared<'a>(running: &'a Running, carry: Carry, settings: &Settings, tables: &Tables) -> Result<Shared<'a>> {
    let mut maps = carry.shared();
    let entries: BTreeMap<_, _> =
        datapath::entries(settings.max_tunnels, settings.features.interface, tables.cores.len(), 0).collect();
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

/// Does what there is to do in the maps of the program that runs, if that can be. Returns whether tunnels have changed, and whether
/// only what is known of this host has.
fn in_place(
    running: &Running,
    settings: &Settings,
    ids: &Ids,
    tables: &Tables,
    survey: &Survey,
    on: &[Interface],
) -> Result<Option<(bool, bool)>> {
    let generation = &running.generation;
    if running.settings.serve(settings) && holds(&running.tables, tables) {
        let updated = !survey.surroundings.is_in(generation)?;
        if updated {
            survey.surroundings.update(generation)?;
        }
        return Ok(Some((false, updated)));
    }
    // A program that can do more than the file asks for is replaced by one that does its work faster.
    if running.settings != *settings {
        return Ok(None);
    }
    match tables.clone().with_cores_of(&running.tables) {
        Some(tables) if running.tables.can_become(&tables) => {
            live::change_maps(running, ids, &tables, survey, on)?;
            Ok(Some((true, false)))
        }
        _ => Ok(None),
    }
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

/// What is to change on interfaces.
struct Plans {
    xdp: AttachPlan,
    egress: EgressPlan,
}

/// Pins the generation, puts its program on the interfaces, has the counters carried over, and points `current` to it; or undoes
/// what it did.
#[expect(clippy::too_many_arguments, reason = "all that the steps before have found out")]
fn put_in_force(
    root: &Root,
    generation: &Generation,
    datapath: &mut Datapath,
    settings: &Settings,
    plans: Plans,
    programs: &BTreeMap<u32, PathBuf>,
    survey: &Survey,
    settle: impl FnOnce(&mut Datapath) -> Result<()>,
) -> Result<Applied, Undone> {
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
    let mut applied = plans.xdp.apply(root, program.as_fd(), programs, Interface::by_name)?;
    applied.warnings.extend(uncounted);
    if settings.features.spread
        && let Some(name) = applied.in_generic_mode()
    {
        let line = format!(
            "interface {name}: runs in generic mode, in which the kernel loses packets that are spread over cores; set spread = \"off\", \
             or use a network card whose driver has XDP"
        );
        return Err(applied.undo(anyhow!(line)));
    }
    let devices = &survey.surroundings.devices;
    let pass = pass.as_ref().map(AsFd::as_fd);
    match attach_pass(root, pass, &survey.want_program, devices, &mut applied)
        .and_then(|()| {
            plans
                .egress
                .apply(root, egress.as_ref().map(AsFd::as_fd), programs, &mut applied)
        })
        .and_then(|()| settle(datapath))
        .and_then(|()| root.put_in_force(generation))
    {
        Ok(()) => Ok(applied),
        Err(error) => Err(applied.undo(error)),
    }
}

/// The configured interfaces that are here, in the configuration's order, and what is to be done on their ways out.
pub(crate) fn attached_to(config: &Config) -> Result<(Vec<Interface>, Vec<ClampMss>)> {
    let find = |configured: &config::Interface| {
        let interface = Interface::by_name(&configured.name)?;
        Ok(interface.map(|interface| (interface, configured.clamp_mss)))
    };
    config
        .interfaces
        .iter()
        .filter_map(|configured| find(configured).transpose())
        .collect()
}

/// Finds out what the tables need to know of this host. What cannot be found is a warning, or, if it concerns a tunnel that
/// must deliver (all, unless they are given), an error.
pub(crate) fn survey(
    tables: &Tables,
    on: &[Interface],
    must_deliver: Option<&[u32]>,
    warnings: &mut Vec<String>,
) -> Result<Survey> {
    let mut survey = Survey::take(tables, on.iter(), &ways()?)?;
    for (id, error) in survey.errors.drain(..) {
        if must_deliver.is_none_or(|ids| ids.contains(&id)) {
            return Err(error);
        }
        warnings.push(format!("{error:#}"));
    }
    warnings.append(&mut survey.warnings);
    // Those that get the program itself need no other.
    survey
        .want_program
        .retain(|interface| on.iter().all(|on| on.index != interface.index));
    Ok(survey)
}

/// A key that nobody else knows.
fn new_flow_key() -> Result<Key> {
    let random = || getrandom::u64().context("the kernel gives no random numbers");
    Ok([random()?, random()?])
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
            outcome.interfaces = Some(applied.finish()?);
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
