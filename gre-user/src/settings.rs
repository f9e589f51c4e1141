//! What is fixed when the program is loaded: constants that the verifier prunes by, and the size of the maps.

use gre_common::protect::Guard;
use gre_common::siphash::Key;
use gre_common::tunnel::Deliver;
use strum::{Display, FromRepr, IntoStaticStr};

use crate::config::{Config, Protect, Unknown};
use crate::tables::Tables;

/// The constants and sizes of one load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether what no tunnel matches is dropped instead of passed.
    pub unknown_drop: bool,
    /// How strictly the rules of `[protect]` are kept.
    pub guards: Guards,
    /// What is not pruned.
    pub features: Features,
    /// How many packets the queue of a core holds that tunnels are spread over.
    pub spread_queue: u32,
    /// The key of the flow hash. It stays while anything is loaded, or flows would change cores.
    pub flow_key: Key,
    /// How much the program logs.
    pub log_level: LogLevel,
    /// How many remotes, and so tunnels, the maps have room for.
    pub max_tunnels: u32,
}

/// How strictly each rule of `[protect]` is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guards {
    /// What becomes of inner packets to destinations that are not protected.
    pub inner_destinations: Guard,
    /// What becomes of packets that came by no tunnel to what is protected.
    pub lockdown: Guard,
}

impl Guards {
    /// Those of a configuration.
    pub fn of(protect: &Protect) -> Self {
        Self {
            inner_destinations: protect.inner_destinations.into(),
            lockdown: protect.lockdown.into(),
        }
    }
}

/// What the program is to be able to do. The rest is pruned when it is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Some tunnel has a prefix as its remote.
    pub prefixes: bool,
    /// Some tunnel delivers by route, if only replies to health probes.
    pub route: bool,
    /// Some tunnel delivers to an interface.
    pub interface: bool,
    /// Some tunnel is spread over cores.
    pub spread: bool,
    /// Some tunnel lowers the MSS of TCP SYNs.
    pub mss: bool,
    /// Some tunnel has inner destinations that stay encapsulated.
    pub bypass: bool,
    /// Some tunnel answers keepalives.
    pub keepalive: bool,
    /// Some tunnel sends replies to health probes on.
    pub probes: bool,
}

impl Features {
    /// As bits, in the order of the fields.
    pub fn bits(self) -> u64 {
        let Self {
            prefixes,
            route,
            interface,
            spread,
            bypass,
            mss,
            keepalive,
            probes,
        } = self;
        let features = [prefixes, route, interface, spread, bypass, mss, keepalive, probes];
        (0..)
            .zip(features)
            .fold(0, |bits, (place, feature)| bits | u64::from(feature) << place)
    }

    /// What [`Features::bits`] has made of them.
    pub fn from_bits(bits: u64) -> Self {
        let feature = |place: u32| bits >> place & 1 != 0;
        Self {
            prefixes: feature(0),
            route: feature(1),
            interface: feature(2),
            spread: feature(3),
            bypass: feature(4),
            mss: feature(5),
            keepalive: feature(6),
            probes: feature(7),
        }
    }

    /// Whether all of `needed` are among these.
    pub fn include(self, needed: Self) -> bool {
        needed.bits() & !self.bits() == 0
    }

    /// What these tables need.
    pub fn of(tables: &Tables) -> Self {
        Self {
            prefixes: tables.have_prefixes(),
            route: tables.have_routes(),
            interface: tables.have(Deliver::Interface),
            spread: !tables.cores.is_empty(),
            mss: tables.have_mss(),
            bypass: !tables.bypass.is_empty(),
            keepalive: !tables.keepalives.is_empty(),
            probes: tables.have_probes(),
        }
    }
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
    /// Whether a program that was loaded with these does what `wanted` asks for. It may be able to do more: what the last tunnel
    /// that needed it has left.
    pub fn serve(&self, wanted: &Self) -> bool {
        let Self { features, .. } = *wanted;
        self.features.include(features) && Self { features, ..*self } == *wanted
    }

    /// The settings that a configuration and its tables ask for.
    pub fn of(config: &Config, tables: &Tables, log_level: LogLevel, flow_key: Key) -> Self {
        Self {
            unknown_drop: config.unknown == Unknown::Drop,
            guards: Guards::of(&config.protect),
            features: Features::of(tables),
            spread_queue: config.spread_queue,
            flow_key,
            log_level,
            max_tunnels: config.max_tunnels,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = Features> {
        (0..256).map(Features::from_bits)
    }

    #[test]
    fn features_survive_as_bits() {
        for (bits, features) in (0..).zip(all()) {
            assert_eq!(features.bits(), bits);
        }
        let route = Features {
            prefixes: false,
            route: true,
            interface: false,
            spread: false,
            bypass: false,
            mss: false,
            keepalive: false,
            probes: false,
        };
        assert_eq!(Features::from_bits(route.bits()), route);
    }

    #[test]
    fn a_program_that_can_do_more_serves() {
        let settings = |features| Settings {
            unknown_drop: false,
            guards: Guards::default(),
            features,
            spread_queue: 1,
            flow_key: [1, 2],
            log_level: LogLevel::Off,
            max_tunnels: 3,
        };
        for has in all() {
            for wants in all() {
                let serves = has.bits() | wants.bits() == has.bits();
                assert_eq!(settings(has).serve(&settings(wants)), serves);
                let other = Settings {
                    unknown_drop: true,
                    ..settings(wants)
                };
                assert!(!settings(has).serve(&other));
            }
        }
    }
}
