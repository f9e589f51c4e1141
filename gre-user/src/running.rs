//! What runs, read back from the kernel.

use anyhow::{Context, Result, bail};
use aya::maps::MapInfo;
use aya::programs::ProgramInfo;
use gre_common::maps::TUNNELS4;

use crate::about::{self, CompiledIn};
use crate::settings::{Features, Settings};
use crate::state::{Generation, Root};
use crate::tables::Tables;

/// How often a reader starts again because the generation that it reads was replaced.
const TRIES: usize = 8;

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
            features: Features::of(&tables),
            spread_queue,
            flow_key,
            log_level,
            max_tunnels,
        };
        Ok(Self {
            generation,
            program,
            settings,
            tables,
        })
    }
}

/// Reads the generation in force by `read`, and starts again if it is replaced meanwhile.
///
/// # Errors
///
/// If nothing is loaded, and those of `read`.
pub fn read_current<T>(root: &Root, read: impl Fn(&Generation) -> Result<T>) -> Result<T> {
    for _ in 0..TRIES {
        let generation = if root.exists()? { root.current()? } else { None };
        let Some(generation) = generation else {
            bail!("{}: nothing is loaded; run `gre-decap load`", root.path().display());
        };
        let result = read(&generation);
        if result.is_ok() || root.current()?.as_ref() == Some(&generation) {
            return result;
        }
    }
    bail!(
        "{}: is replaced faster than it can be read; try again",
        root.path().display()
    )
}
