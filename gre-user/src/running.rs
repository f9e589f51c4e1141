//! What runs, read back from the kernel.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use aya::maps::MapInfo;
use aya::programs::ProgramInfo;
use gre_common::maps::TUNNELS4;

use crate::about::{self, CompiledIn};
use crate::clamps::{self, Clamps};
use crate::config::{self, ClampMss, Config, Mode, Unknown};
use crate::host::XdpMode;
use crate::interfaces::InterfaceView;
use crate::settings::Settings;
use crate::state::{Generation, Root};
use crate::tables::{Tables, TunnelView};

/// How often a reader starts again because the generation that it reads was replaced, or is being changed.
const TRIES: usize = 8;
/// How long it waits before it does: longer than a change of a few map elements takes.
const PAUSE: Duration = Duration::from_millis(2);

/// The generation in force.
pub struct Running {
    /// Its pins.
    pub generation: Generation,
    /// What the kernel says about its program.
    pub program: ProgramInfo,
    /// What it was loaded with.
    pub settings: Settings,
    /// The content of its tunnel maps.
    pub tables: Tables,
    /// What its program on ways out does, if it has one.
    pub clamps: Clamps,
    /// What the kernel says about that.
    pub egress: Option<ProgramInfo>,
}

impl Running {
    /// Reads a generation, unless it was pinned by a version that lays its state out in another way.
    ///
    /// # Errors
    ///
    /// If something in it cannot be read.
    pub fn read_alike(generation: Generation) -> Result<Option<Self>> {
        about::is_alike(&generation)?
            .then(|| Self::read(generation))
            .transpose()
    }

    /// Reads a generation.
    ///
    /// # Errors
    ///
    /// If something in it cannot be read, or is another version's.
    pub fn read(generation: Generation) -> Result<Self> {
        let CompiledIn {
            unknown_drop,
            log_level,
            spread_queue,
            flow_key,
            guards,
            features,
        } = about::read(&generation)?;
        let (program, tunnels) = (generation.program(), generation.map(TUNNELS4));
        let program =
            ProgramInfo::from_pin(&program).with_context(|| format!("{}: cannot be read", program.display()))?;
        let max_tunnels = MapInfo::from_pin(&tunnels)
            .with_context(|| format!("{}: cannot be read", tunnels.display()))?
            .max_entries();
        let tables = Tables::read(&generation)?;
        let settings = Settings {
            unknown_drop,
            guards,
            features,
            spread_queue,
            flow_key,
            log_level,
            max_tunnels,
        };
        Ok(Self {
            clamps: Clamps::read(&generation)?,
            egress: egress(&generation)?,
            generation,
            program,
            settings,
            tables,
        })
    }

    /// Reads the generation in force, whatever is done to it meanwhile.
    ///
    /// # Errors
    ///
    /// If nothing is loaded, and those of [`Running::read`].
    pub fn current(root: &Root) -> Result<Self> {
        read_current(root, |generation| {
            let running = Self::read(generation.clone())?;
            // A change in place may have been met half-way: that shows in the tunnels.
            running.tables.tunnels()?;
            Ok(running)
        })
    }

    /// What runs as a configuration, on the interfaces that are here of those that the program is on. The tunnels are in the
    /// order of their ids, as a first load has them.
    ///
    /// # Errors
    ///
    /// If a map holds what gre-decap never writes.
    pub fn config(&self, interfaces: &[InterfaceView]) -> Result<Config> {
        let interface = |view: &InterfaceView| {
            let (interface, xdp) = view.here.as_ref()?;
            Some(config::Interface {
                mode: match xdp.mode {
                    XdpMode::Native => Mode::Native,
                    XdpMode::Generic => Mode::Generic,
                    XdpMode::Offload => Mode::Auto,
                },
                clamp_mss: self
                    .clamps
                    .get(interface.index)
                    .map_or(ClampMss::Off, clamps::configured),
                ..config::Interface::plain(interface.name.clone())
            })
        };
        let mut tunnels = self.tables.tunnels()?;
        tunnels.sort_by_key(|tunnel| tunnel.id);
        let Settings {
            unknown_drop,
            spread_queue,
            max_tunnels,
            ..
        } = self.settings;
        Ok(Config {
            unknown: if unknown_drop { Unknown::Drop } else { Unknown::Pass },
            max_tunnels,
            spread_queue,
            interfaces: interfaces.iter().filter_map(interface).collect(),
            tunnels: tunnels.iter().map(TunnelView::to_config).collect(),
            protect: self.tables.protect(self.settings.guards),
        })
    }
}

/// What the kernel says about a generation's program on ways out.
fn egress(generation: &Generation) -> Result<Option<ProgramInfo>> {
    let path = generation.egress();
    let context = || format!("{}: cannot be read", path.display());
    if !path.try_exists().with_context(context)? {
        return Ok(None);
    }
    ProgramInfo::from_pin(&path).map(Some).with_context(context)
}

/// Reads the generation in force by `read`, and starts again if it is replaced meanwhile.
///
/// # Errors
///
/// If nothing is loaded, and those of `read`.
pub fn read_current<T>(root: &Root, read: impl Fn(&Generation) -> Result<T>) -> Result<T> {
    let mut last = None;
    for _ in 0..TRIES {
        let generation = if root.exists()? { root.current()? } else { None };
        let Some(generation) = generation else {
            bail!("{}: nothing is loaded; run `gre-decap load`", root.path().display());
        };
        // Without one, the generation is another version's, which `read` says, or has just gone.
        let before = about::revision(&generation).ok();
        let result = read(&generation);
        let is_current = || anyhow::Ok(root.current()?.as_ref() == Some(&generation));
        let changed = before.is_some_and(|before| {
            let is_even = before.is_multiple_of(2);
            !is_even || about::revision(&generation).is_ok_and(|now| now != before)
        });
        if !changed && (result.is_ok() || is_current()?) {
            return result;
        }
        last = Some((generation, result));
        thread::sleep(PAUSE);
    }
    match last {
        // A change that was killed half-way goes on for ever: what can be read is what there is.
        Some((generation, result)) if result.is_ok() || root.current()?.as_ref() == Some(&generation) => result,
        _ => bail!(
            "{}: is replaced faster than it can be read; try again",
            root.path().display()
        ),
    }
}
