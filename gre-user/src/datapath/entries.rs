//! How many entries the maps have that get another number of them than the object says.

use gre_common::maps::{
    CORES, CPUS, FORMER, KEEPALIVES, LOCALS4, LOCALS6, NAMES, NEXT_HOPS, PREFIXES4, PREFIXES6, TARGET_SLOTS, TARGETS,
    TUNNEL_SLOTS4, TUNNEL_SLOTS6, TUNNELS4, TUNNELS6,
};

use crate::carry::BY_TUNNEL;
use crate::settings::Settings;
use crate::slots::{NO_SLOTS, slots_for};
use crate::tables::{Tables, slots};

/// Maps that hold an entry for each remote, or at most so many.
const BY_REMOTE: [&str; 8] = [
    TUNNELS4, TUNNELS6, PREFIXES4, PREFIXES6, LOCALS4, LOCALS6, NAMES, FORMER,
];
/// Maps that hold an entry for each tunnel that delivers to an interface.
const BY_TARGET: [&str; 2] = [TARGETS, NEXT_HOPS];

/// What the numbers depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// How many remotes there may be.
    pub(crate) max_tunnels: u32,
    /// Whether some tunnel delivers to an interface.
    pub(crate) to_interface: bool,
    /// Whether some tunnel answers keepalives.
    pub(crate) answers: bool,
    /// Whether tunnels over IPv4 are so many that packets are not compared with them.
    pub(crate) many4: bool,
    /// The same over IPv6.
    pub(crate) many6: bool,
    /// Slots of all lists of cores.
    pub(crate) cores: usize,
    /// Queues of cores.
    pub(crate) cpus: u32,
}

impl Sizes {
    /// Those of a program for these tables, which spreads over some of so many `cpus`.
    pub(crate) fn of(settings: &Settings, tables: &Tables, cpus: u32) -> Self {
        Self {
            max_tunnels: settings.max_tunnels,
            to_interface: settings.features.interface,
            answers: settings.features.keepalive,
            many4: !tables.v4.are_compared(),
            many6: !tables.v6.are_compared(),
            cores: tables.cores.len(),
            cpus,
        }
    }

    /// The entries of each map.
    pub(crate) fn entries(self) -> impl Iterator<Item = (&'static str, u32)> {
        let by_tunnel = self.max_tunnels.saturating_add(1);
        let each = |entries| move |name| (name, entries);
        let remotes = BY_REMOTE.into_iter().map(each(self.max_tunnels));
        let targets = if self.to_interface { self.max_tunnels } else { 1 };
        let answering = if self.answers { by_tunnel } else { 1 };
        remotes
            .chain(BY_TARGET.into_iter().map(each(targets)))
            .chain(BY_TUNNEL.into_iter().map(each(by_tunnel)))
            .chain(self.slots())
            .chain([(KEEPALIVES, answering), (CORES, slots(self.cores)), (CPUS, self.cpus)])
    }

    /// Those of the maps that are [tables](gre_common::slots) of slots.
    pub(crate) fn slots(self) -> [(&'static str, u32); 3] {
        let slots = |used| if used { slots_for(self.max_tunnels) } else { NO_SLOTS };
        [
            (TUNNEL_SLOTS4, slots(self.many4)),
            (TUNNEL_SLOTS6, slots(self.many6)),
            (TARGET_SLOTS, slots(self.to_interface)),
        ]
    }
}
