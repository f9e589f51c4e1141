//! What a configuration asks for beside what there is, found out before anything changes.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use gre_common::siphash::Key;

use super::Cause;
use crate::attach::{AttachPlan, EgressPlan, pinned_egress, pinned_links};
use crate::carry::Carry;
use crate::clamps::Clamps;
use crate::config::{self, ClampMss, Config};
use crate::host::cpus::online_cpus;
use crate::host::egress::ways;
use crate::host::{self, Interface, Severity};
use crate::running::Running;
use crate::settings::{LogLevel, Settings};
use crate::state::{Generation, Root};
use crate::surroundings::Survey;
use crate::tables::{Ids, Tables};

/// The way from what runs to what a configuration asks for.
pub(super) struct Plan {
    pub(super) cause: Cause,
    /// Whether anything runs at all, if only what another version has left.
    pub(super) runs: bool,
    /// What runs, as far as this version can go on with it.
    pub(super) running: Option<Running>,
    pub(super) ids: Ids,
    pub(super) tables: Tables,
    pub(super) settings: Settings,
    pub(super) carry: Carry,
    /// The configured interfaces that are here.
    pub(super) on: Vec<Interface>,
    pub(super) survey: Survey,
    pub(super) clamps: Clamps,
    pub(super) attach: AttachPlan,
    pub(super) egress: EgressPlan,
    /// What an operator must know, a line each.
    pub(super) warnings: Vec<String>,
}

impl Plan {
    /// # Errors
    ///
    /// If what runs cannot be read, or if the host is not as the configuration wants it.
    pub(super) fn make(config: &Config, root: &Root, running: Option<Generation>, cause: Cause) -> Result<Self> {
        let runs = running.is_some();
        let running = running
            .map(Running::read_alike)
            .transpose()
            .context("what is running cannot be read (`gre-decap unload` removes it)")?
            .flatten();
        let (links, here) = (pinned_links(root)?, host::interfaces()?);
        let attach = AttachPlan::make(&config.interfaces, links, &here, root, Interface::by_name)?;
        let mut warnings = attach.warnings();

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
        let egress = EgressPlan::make(&config.interfaces, &on, &clamps, pinned_egress(root)?)?;
        if let Cause::Load(_) = cause {
            warnings.extend(cut_off(config));
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
        Ok(Self {
            cause,
            runs,
            running,
            ids,
            tables,
            settings,
            carry,
            on,
            survey,
            clamps,
            attach,
            egress,
            warnings,
        })
    }
}

/// Whom lockdown cuts off, a line each.
fn cut_off(config: &Config) -> impl Iterator<Item = String> {
    host::lockdown_findings(config)
        .into_iter()
        .filter(|finding| finding.severity == Severity::Warning)
        .map(|finding| format!("{}: {}; {}", finding.subject, finding.what, finding.remedy))
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
