//! The configuration file: TOML text to checked types.
//!
//! [`Config::from_file`] either gives a configuration in which every value is typed and every rule holds, or one line
//! that says what is wrong, where, and what is allowed. A text goes through these steps, one module each:
//!
//! 1. `section`, `item`: TOML to sections and values that know their line; unknown keys are refused here,
//! 2. `interface`, `tunnel`, `protect`: each section to its type, with the rules that concern it alone,
//! 3. `consistency`: the rules between sections.
//!
//! Numbers and addresses are values in host terms here. They get their wire order where they are put into maps.

mod address;
mod consistency;
mod deliver;
mod error;
mod file;
mod inner;
mod interface;
mod item;
mod mss;
mod protect;
mod section;
mod spread;
#[cfg(test)]
mod tests;
mod text;
mod tunnel;

use std::fmt;
use std::path::Path;

use strum::{Display, IntoStaticStr, VariantArray};

pub use self::deliver::{Deliver, MacAddress, NextHop};
pub use self::error::ConfigError;
pub use self::file::check_lasting;
pub use self::inner::{InnerType, InnerTypes};
pub use self::interface::{Interface, Mode};
pub use self::mss::{ClampMss, Mss};
pub use self::protect::{Guard, Protect};
pub use self::spread::Spread;
pub use self::text::Key;
pub(crate) use self::text::{prefix, remote, string};
pub use self::tunnel::{Checksum, Keepalive, Probes, Sequence, Tunnel};

use self::item::Item;
use self::section::{Sections, Source};

/// The largest `max_tunnels` that the file may ask for.
pub const MAX_TUNNELS: u32 = 1_048_576;

const DEFAULT_MAX_TUNNELS: u32 = 1024;

const DEFAULT_SPREAD_QUEUE: u32 = 2048;

/// The kernel's limit for the queue of a CPUMAP's entry.
const MAX_SPREAD_QUEUE: u32 = 16_384;

/// Keys of the file's top level.
const KEYS: &[&str] = &[
    "unknown",
    "max_tunnels",
    "spread_queue",
    "interface",
    "tunnel",
    "protect",
];

/// A whole, valid configuration. The default is that of an empty file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What becomes of GRE to a local endpoint that no tunnel matches.
    pub unknown: Unknown,
    /// Capacity of the maps, in remotes: at least the number of remotes of all tunnels, at most [`MAX_TUNNELS`].
    pub max_tunnels: u32,
    /// How many packets the queue of a core holds that tunnels are spread over, 1 to 16384.
    pub spread_queue: u32,
    /// The interfaces to attach to, in the file's order; no name twice.
    pub interfaces: Vec<Interface>,
    /// The tunnels, in the file's order; no name and no endpoints twice.
    pub tunnels: Vec<Tunnel>,
    /// What the scrubbing centre protects.
    pub protect: Protect,
}

/// What is valid and yet not as one would think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What is so.
    pub what: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

/// What becomes of GRE to a local endpoint that no tunnel matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum Unknown {
    /// It goes on to the kernel as it came.
    Pass,
    /// It is dropped.
    Drop,
}

impl Config {
    /// Reads and checks a file for a host with these cores online.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is longer than any configuration, for the reasons of [`Config::from_str`], or if a tunnel is
    /// spread over other cores.
    pub fn from_file(path: &Path, cores: &[u32]) -> Result<Self, ConfigError> {
        let bytes = file::read(path)?;
        let origin = path.display().to_string();
        let text = str::from_utf8(&bytes).map_err(|error| {
            let line = section::line_at(&bytes, error.valid_up_to());
            ConfigError::new(&origin, Some(line), "not UTF-8; save the file as UTF-8")
        })?;
        read(&Source::file(&origin, text), |config, sections| {
            consistency::check_cores(config, sections, cores)
        })
    }

    /// Checks a text for any host; `origin` is what errors call it, usually the file's path.
    ///
    /// # Errors
    ///
    /// If the text is not TOML, has a key that is not known, a value of the wrong type or out of range, or values that
    /// contradict each other. The first such finding is reported.
    pub fn from_str(text: &str, origin: &str) -> Result<Self, ConfigError> {
        read(&Source::file(origin, text), |_, _| Ok(()))
    }

    /// This configuration, which runs on a host with these cores online, with one more tunnel: `section` is its section, made
    /// of what the command line says of the tunnel `name`.
    ///
    /// # Errors
    ///
    /// As [`Config::from_file`], in the words of the command line.
    pub fn with_tunnel(&self, name: &str, section: &str, cores: &[u32]) -> Result<Self, ConfigError> {
        let text = format!("{}\n{section}", self.to_text());
        read(&Source::options(name, &text), |config, sections| {
            // Cores that have gone offline since are no matter of this tunnel.
            match (config.tunnels.last(), sections.tunnels.last()) {
                (Some(tunnel), Some(section)) => consistency::check_tunnel_cores(tunnel, section, cores),
                _ => Ok(()),
            }
        })
    }

    /// What is valid and yet makes the configuration, or a part of it, do nothing.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let mut warn = |what, remedy| warnings.push(Warning { what, remedy });
        if self.interfaces.is_empty() {
            let remedy = "add one for each interface that receives GRE";
            warn("no [[interface]]: nothing to attach to", remedy);
        }
        if self.tunnels.is_empty() {
            let remedy = "add one for each GRE tunnel that ends on this host";
            warn("no [[tunnel]]: nothing to decapsulate", remedy);
        } else if self.tunnels.iter().all(|tunnel| !tunnel.enabled) {
            let what = "every [[tunnel]] is disabled: nothing to decapsulate";
            warn(what, "set `enabled` to true in one");
        }
        let seeks_probes = |tunnel: &Tunnel| tunnel.enabled && tunnel.probes == Probes::Route;
        if self.protect.inner_destinations == Guard::Enforce && self.tunnels.iter().any(seeks_probes) {
            warn(
                "`probes = \"route\"` sends nothing on: `inner_destinations = \"enforce\"` in [protect], which comes first, drops all \
                 that is not for `prefixes`",
                "add the addresses that the probes go to to `prefixes`, so that `deliver` takes them, or to the tunnel's `bypass`; or \
                 set `inner_destinations` to \"monitor\"",
            );
        }
        warnings
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            unknown: Unknown::Pass,
            max_tunnels: DEFAULT_MAX_TUNNELS,
            spread_queue: DEFAULT_SPREAD_QUEUE,
            interfaces: Vec::new(),
            tunnels: Vec::new(),
            protect: Protect::default(),
        }
    }
}

/// Reads and validates the source, then puts the configuration to `further`, which knows the host.
fn read(
    source: &Source<'_>,
    further: impl FnOnce(&Config, &Sections<'_>) -> Result<(), ConfigError>,
) -> Result<Config, ConfigError> {
    let root = source.parse()?;
    let sections = Sections::find(source, &root)?;
    let default = Config::default();
    let config = Config {
        unknown: sections.top.optional("unknown", default.unknown, Item::choice)?,
        max_tunnels: sections
            .top
            .optional("max_tunnels", default.max_tunnels, |item| item.integer(1..=MAX_TUNNELS))?,
        spread_queue: sections.top.optional("spread_queue", default.spread_queue, |item| {
            item.integer(1..=MAX_SPREAD_QUEUE)
        })?,
        interfaces: sections
            .interfaces
            .iter()
            .map(interface::read)
            .collect::<Result<_, _>>()?,
        tunnels: sections.tunnels.iter().map(tunnel::read).collect::<Result<_, _>>()?,
        protect: sections
            .protect
            .as_ref()
            .map(protect::read)
            .transpose()?
            .unwrap_or_default(),
    };
    consistency::check(&config, &sections)?;
    further(&config, &sections)?;
    Ok(config)
}
