//! What is fixed when the program is loaded: constants that the verifier prunes by, and the size of the maps.

use strum::{Display, FromRepr, IntoStaticStr};

use crate::config::{Config, Unknown};
use crate::tables::Tables;

/// The constants and sizes of one load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether what no tunnel matches is dropped instead of passed.
    pub unknown_drop: bool,
    /// Whether any tunnel has a prefix as its remote.
    pub have_prefixes: bool,
    /// How much the program logs.
    pub log_level: LogLevel,
    /// How many remotes, and so tunnels, the maps have room for.
    pub max_tunnels: u32,
}

/// How much is logged. The values are those of `aya_log_common::Level`, and 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Display, FromRepr, IntoStaticStr, clap::ValueEnum)]
#[strum(serialize_all = "lowercase")]
#[repr(u32)]
pub enum LogLevel {
    /// Nothing: the program has no code that logs.
    #[default]
    Off = 0,
    /// What should never happen.
    Error = 1,
    /// And what is likely wrong.
    Warn = 2,
    /// And what the loader does.
    Info = 3,
    /// And every packet's fate.
    Debug = 4,
    /// And everything else.
    Trace = 5,
}

impl Settings {
    /// The settings that a configuration and its tables ask for.
    pub fn of(config: &Config, tables: &Tables, log_level: LogLevel) -> Self {
        Self {
            unknown_drop: config.unknown == Unknown::Drop,
            have_prefixes: tables.have_prefixes(),
            log_level,
            max_tunnels: config.max_tunnels,
        }
    }
}
