//! `[protect]`: what the scrubbing centre protects, and how strictly this host keeps to it.

use ipnet::IpNet;
use strum::{Display, IntoStaticStr, VariantArray};

use super::address;
use super::error::ConfigError;
use super::item::Item;
use super::section::Section;

/// Keys of `[protect]`.
pub(super) const KEYS: &[&str] = &["prefixes", "inner_destinations", "lockdown", "allow"];

/// What the scrubbing centre protects. The default protects nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protect {
    /// The protected prefixes, without host bits, of both families, none twice.
    pub prefixes: Vec<IpNet>,
    /// What becomes of inner packets to other destinations.
    pub inner_destinations: Guard,
    /// What becomes of packets to the protected prefixes that came by no tunnel.
    pub lockdown: Guard,
    /// Sources that may reach the protected prefixes without a tunnel; without host bits, of both families, none twice.
    pub allow: Vec<IpNet>,
}

/// How strictly a rule is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum Guard {
    /// There is no such rule.
    Off,
    /// What breaks it is counted and let through.
    Monitor,
    /// What breaks it is dropped.
    Enforce,
}

impl From<Guard> for gre_common::protect::Guard {
    fn from(guard: Guard) -> Self {
        match guard {
            Guard::Off => Self::Off,
            Guard::Monitor => Self::Monitor,
            Guard::Enforce => Self::Enforce,
        }
    }
}

impl From<gre_common::protect::Guard> for Guard {
    fn from(guard: gre_common::protect::Guard) -> Self {
        use gre_common::protect::Guard;
        match guard {
            Guard::Off => Self::Off,
            Guard::Monitor => Self::Monitor,
            Guard::Enforce => Self::Enforce,
        }
    }
}

impl Default for Protect {
    fn default() -> Self {
        Self {
            prefixes: Vec::new(),
            inner_destinations: Guard::Off,
            lockdown: Guard::Off,
            allow: Vec::new(),
        }
    }
}

pub(super) fn read(section: &Section<'_>) -> Result<Protect, ConfigError> {
    Ok(Protect {
        prefixes: section.optional("prefixes", Vec::new(), address::unicast_prefixes)?,
        inner_destinations: section.optional("inner_destinations", Guard::Off, Item::choice)?,
        lockdown: section.optional("lockdown", Guard::Off, Item::choice)?,
        allow: section.optional("allow", Vec::new(), address::unicast_prefixes)?,
    })
}
