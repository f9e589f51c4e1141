//! `[[tunnel]]`: one tunnel that ends on this host.

use std::net::IpAddr;

use ipnet::IpNet;
use strum::{Display, IntoStaticStr, VariantArray};

use super::address;
use super::deliver::Deliver;
use super::error::ConfigError;
use super::inner::{InnerType, InnerTypes};
use super::item::Item;
use super::mss::Mss;
use super::section::Section;
use super::spread::Spread;

/// Keys of `[[tunnel]]`.
pub(super) const KEYS: &[&str] = &[
    "name",
    "local",
    "remote",
    "key",
    "checksum",
    "sequence",
    "inner",
    "deliver",
    "spread",
    "mss",
    "bypass",
    "keepalive",
    "keepalive_rate",
    "probes",
    "enabled",
];

/// Longest name, in bytes: the kernel's copy has room for 64 with a terminating zero.
const MAX_NAME: usize = 63;

const DEFAULT_KEEPALIVE_RATE: u32 = 10;

/// Routers send a keepalive every few seconds; more than this is no keepalive but a reflector.
const MAX_KEEPALIVE_RATE: u32 = 10_000;

/// A GRE tunnel that ends on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Its name: 1 to 63 bytes without control characters.
    pub name: String,
    /// This host's end: a unicast address, the outer destination.
    pub local: IpAddr,
    /// The far ends, in the file's order: prefixes without host bits, of the family of `local`, none twice, at least one.
    /// An address is a prefix of full length, "any" one of length 0.
    pub remotes: Vec<IpNet>,
    /// The key (RFC 2890 section 2.1) as a number; without, packets must carry no key.
    pub key: Option<u32>,
    /// How the checksum field is treated.
    pub checksum: Checksum,
    /// How sequence numbers are treated.
    pub sequence: Sequence,
    /// What the tunnel may carry; at least one kind.
    pub inner: InnerTypes,
    /// Where inner packets go.
    pub deliver: Deliver,
    /// Over which cores inner flows are spread.
    pub spread: Spread,
    /// The MSS of what arrives.
    pub mss: Mss,
    /// Inner destinations that stay encapsulated, for the kernel's own GRE device; none twice.
    pub bypass: Vec<IpNet>,
    /// What becomes of keepalives.
    pub keepalive: Keepalive,
    /// Most keepalive replies a second, 1 to 10000.
    pub keepalive_rate: u32,
    /// What becomes of replies to health probes.
    pub probes: Probes,
    /// Whether packets are decapsulated at all.
    pub enabled: bool,
}

impl Tunnel {
    /// A tunnel of which the file says no more than this.
    pub fn plain(name: String, local: IpAddr, remotes: Vec<IpNet>) -> Self {
        Self {
            name,
            local,
            remotes,
            key: None,
            checksum: Checksum::Optional,
            sequence: Sequence::Ignore,
            inner: [InnerType::Ipv4, InnerType::Ipv6].into_iter().collect(),
            deliver: Deliver::Stack,
            spread: Spread::Off,
            mss: Mss::Off,
            bypass: Vec::new(),
            keepalive: Keepalive::Ignore,
            keepalive_rate: DEFAULT_KEEPALIVE_RATE,
            probes: Probes::Off,
            enabled: true,
        }
    }
}

impl Tunnel {
    /// Whether it sends packets on by this host's routes: all of them, or replies to health probes.
    pub fn routes(&self) -> bool {
        self.deliver == Deliver::Route || self.probes == Probes::Route
    }
}

/// How a tunnel treats the checksum field (RFC 2784 section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum Checksum {
    /// It is verified if it is there.
    Optional,
    /// It must be there, and right.
    Required,
    /// It must not be there.
    Forbidden,
    /// It may be there and is not verified.
    Ignore,
}

/// How a tunnel treats sequence numbers (RFC 2890 section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum Sequence {
    /// They are not looked at.
    Ignore,
    /// Packets without one, and late and duplicate packets, are dropped.
    Ordered,
}

/// What becomes of GRE keepalives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum Keepalive {
    /// They go on to the kernel as they came.
    Ignore,
    /// They are answered.
    Reply,
}

/// What becomes of echo replies to addresses that are not protected: a scrubbing centre's health probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum Probes {
    /// They are inner packets like any other.
    Off,
    /// They are sent on by this host's routes.
    Route,
}

pub(super) fn read(section: &Section<'_>) -> Result<Tunnel, ConfigError> {
    let name = name(&section.require("name", "\"scrub-fra\"")?)?;
    let local = address::host(&section.require("local", "\"198.51.100.20\"")?)?;
    let remotes = address::remotes(&section.require("remote", "[\"203.0.113.10\"]")?, local)?;
    let default = Tunnel::plain(name, local, remotes);
    let tunnel = Tunnel {
        key: section.optional("key", default.key, |item| item.integer(0..=u32::MAX).map(Some))?,
        checksum: section.optional("checksum", default.checksum, Item::choice)?,
        sequence: section.optional("sequence", default.sequence, Item::choice)?,
        inner: section.optional("inner", default.inner, InnerTypes::read)?,
        deliver: section.optional("deliver", default.deliver, Deliver::read)?,
        spread: section.optional("spread", default.spread, Spread::read)?,
        mss: section.optional("mss", default.mss, Mss::read)?,
        bypass: section.optional("bypass", default.bypass, address::prefixes)?,
        keepalive: section.optional("keepalive", default.keepalive, Item::choice)?,
        keepalive_rate: section.optional("keepalive_rate", default.keepalive_rate, |item| {
            item.integer(1..=MAX_KEEPALIVE_RATE)
        })?,
        probes: section.optional("probes", default.probes, Item::choice)?,
        enabled: section.optional("enabled", default.enabled, Item::boolean)?,
        name: default.name,
        local: default.local,
        remotes: default.remotes,
    };
    check_inner(&tunnel, section)?;
    Ok(tunnel)
}

fn name(item: &Item<'_>) -> Result<String, ConfigError> {
    let valid = |name: &&str| (1..=MAX_NAME).contains(&name.len()) && !name.contains(char::is_control);
    item.string()
        .filter(valid)
        .map(str::to_owned)
        .ok_or_else(|| item.expected(format!("a name of 1 to {MAX_NAME} bytes without control characters")))
}

/// Refuses what concerns inner packets that the tunnel does not carry.
fn check_inner(tunnel: &Tunnel, section: &Section<'_>) -> Result<(), ConfigError> {
    let ip = "\"ipv4\" or \"ipv6\"";
    let has_others = [InnerType::Ethernet, InnerType::Mpls].map(|kind| tunnel.inner.contains(kind));
    if tunnel.deliver == Deliver::Route && has_others != [false; 2] {
        let message = "routes are for inner IPv4 and IPv6; take \"ethernet\" and \"mpls\" out of `inner`, or deliver to an interface";
        return Err(section.error("deliver", message));
    }
    if tunnel.mss != Mss::Off && !tunnel.inner.has_ip() {
        let message = format!("only TCP in inner IPv4 or IPv6 has an MSS; add {ip} to `inner`, or set it to \"off\"");
        return Err(section.error("mss", message));
    }
    if tunnel.probes != Probes::Off && !tunnel.inner.has_ip() {
        let message = format!("probes are inner IPv4 or IPv6; add {ip} to `inner`, or set it to \"off\"");
        return Err(section.error("probes", message));
    }
    if !tunnel.bypass.is_empty() && !tunnel.inner.has_ip() && !tunnel.inner.contains(InnerType::Ethernet) {
        let message = format!("only inner IP packets have a destination; add {ip} to `inner`, or set it to []");
        return Err(section.error("bypass", message));
    }
    // A keepalive's inner packet goes between the tunnel's own ends, so it is of their family.
    let family = if tunnel.local.is_ipv4() {
        InnerType::Ipv4
    } else {
        InnerType::Ipv6
    };
    if tunnel.keepalive != Keepalive::Ignore && !tunnel.inner.contains(family) {
        let message = format!(
            "this tunnel's keepalives are inner {family}; add \"{family}\" to `inner`, or set it to \"ignore\""
        );
        return Err(section.error("keepalive", message));
    }
    Ok(())
}
