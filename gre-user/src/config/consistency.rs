//! The rules between sections: what is right in each and contradicts another.

use std::collections::HashMap;

use super::error::ConfigError;
use super::inner::InnerType;
use super::interface::Mode;
use super::mss::ClampMss;
use super::protect::Guard;
use super::section::{Section, Sections};
use super::spread::Spread;
use super::tunnel::{Probes, Tunnel};
use super::{Config, MAX_TUNNELS};

pub(super) fn check(config: &Config, sections: &Sections<'_>) -> Result<(), ConfigError> {
    let interfaces = config.interfaces.iter().map(|interface| interface.name.as_str());
    distinct_names(interfaces.zip(&sections.interfaces), "interface")?;
    let tunnels = config.tunnels.iter().map(|tunnel| tunnel.name.as_str());
    distinct_names(tunnels.zip(&sections.tunnels), "tunnel")?;
    distinct_endpoints(config, sections)?;
    remotes_fit(config, sections)?;
    spread_is_native(config, sections)?;
    prefixes_where_needed(config, sections)?;
    destinations_are_seen(config, sections)
}

fn distinct_names<'a>(named: impl Iterator<Item = (&'a str, &'a Section<'a>)>, what: &str) -> Result<(), ConfigError> {
    let mut seen = HashMap::new();
    for (name, section) in named {
        if let Some(first) = seen.insert(name, section) {
            let place = first.place();
            let message = format!("the {what} of {place} has the same name; rename or remove one");
            return Err(section.error("name", message));
        }
    }
    Ok(())
}

/// Nested prefixes are fine, since the most specific one wins; equal ones are ambiguous.
fn distinct_endpoints(config: &Config, sections: &Sections<'_>) -> Result<(), ConfigError> {
    let mut claimed = HashMap::new();
    for (tunnel, section) in config.tunnels.iter().zip(&sections.tunnels) {
        for (index, &remote) in tunnel.remotes.iter().enumerate() {
            let Some((name, first)) = claimed.insert((tunnel.local, tunnel.key, remote), (&tunnel.name, section))
            else {
                continue;
            };
            let item = section.require("remote", "\"any\"")?;
            let element = item
                .elements()
                .and_then(|mut elements| elements.nth(index))
                .unwrap_or(item);
            let key = tunnel
                .key
                .map_or_else(|| "no key".to_owned(), |key| format!("key {key}"));
            return Err(element.error(format!(
                "[[tunnel]] \"{name}\" of {} has {} with local {} and {key} too; change one of them",
                first.place(),
                element.written(),
                tunnel.local,
            )));
        }
    }
    Ok(())
}

fn remotes_fit(config: &Config, sections: &Sections<'_>) -> Result<(), ConfigError> {
    let total: usize = config.tunnels.iter().map(|tunnel| tunnel.remotes.len()).sum();
    let mut free = config.max_tunnels as usize;
    for (tunnel, section) in config.tunnels.iter().zip(&sections.tunnels) {
        let Some(left) = free.checked_sub(tunnel.remotes.len()) else {
            let remedy = if total <= MAX_TUNNELS as usize {
                format!("raise `max_tunnels` to at least {total}")
            } else {
                format!("at most {MAX_TUNNELS} are possible: write prefixes for many addresses")
            };
            return Err(section.error(
                "remote",
                format!(
                    "all tunnels together have {total} remotes, each remote takes one entry of the maps, and \
                     `max_tunnels` is {}; {remedy}",
                    config.max_tunnels
                ),
            ));
        };
        free = left;
    }
    Ok(())
}

/// In generic mode, Linux loses track of where a packet begins when it copies one to make room for XDP (`skb_pp_cow_data()` drops
/// `mac_len`, which `cpu_map_generic_redirect()` counts on, since 6.9): what another core then passes to the stack is garbage to it.
fn spread_is_native(config: &Config, sections: &Sections<'_>) -> Result<(), ConfigError> {
    let Some(generic) = config
        .interfaces
        .iter()
        .find(|interface| interface.mode == Mode::Generic)
    else {
        return Ok(());
    };
    for (tunnel, section) in config.tunnels.iter().zip(&sections.tunnels) {
        if tunnel.spread != Spread::Off {
            let message = format!(
                "needs native mode, since the kernel loses such packets in generic mode, and [[interface]] \"{}\" has that; give it \
                 mode = \"native\", or write \"off\"",
                generic.name
            );
            return Err(section.error("spread", message));
        }
    }
    Ok(())
}

/// That every core that a tunnel names is one of `online`.
pub(super) fn check_cores(config: &Config, sections: &Sections<'_>, online: &[u32]) -> Result<(), ConfigError> {
    let mut tunnels = config.tunnels.iter().zip(&sections.tunnels);
    tunnels.try_for_each(|(tunnel, section)| check_tunnel_cores(tunnel, section, online))
}

/// The same for one tunnel.
pub(super) fn check_tunnel_cores(tunnel: &Tunnel, section: &Section<'_>, online: &[u32]) -> Result<(), ConfigError> {
    let Spread::Cpus(cpus) = &tunnel.spread else {
        return Ok(());
    };
    let absent: Vec<_> = cpus.iter().copied().filter(|cpu| !online.contains(cpu)).collect();
    if absent.is_empty() {
        return Ok(());
    }
    let (absent, online) = (Spread::Cpus(absent), Spread::Cpus(online.to_vec()));
    let message = format!("no core {absent} is online on this host; it has {online}, or write \"all\"");
    Err(section.error("spread", message))
}

fn prefixes_where_needed(config: &Config, sections: &Sections<'_>) -> Result<(), ConfigError> {
    if !config.protect.prefixes.is_empty() {
        return Ok(());
    }
    let needed = |section: &Section<'_>, key| {
        section.error(
            key,
            "needs `prefixes` in [protect]; write them there, or set it to \"off\"",
        )
    };
    for (interface, section) in config.interfaces.iter().zip(&sections.interfaces) {
        if interface.clamp_mss != ClampMss::Off {
            return Err(needed(section, "clamp_mss"));
        }
    }
    for (tunnel, section) in config.tunnels.iter().zip(&sections.tunnels) {
        // With nothing protected, every echo reply would pass for a probe's.
        if tunnel.probes != Probes::Off {
            return Err(needed(section, "probes"));
        }
    }
    if let Some(section) = &sections.protect {
        for (key, guard) in [
            ("inner_destinations", config.protect.inner_destinations),
            ("lockdown", config.protect.lockdown),
        ] {
            if guard != Guard::Off {
                return Err(needed(section, key));
            }
        }
    }
    Ok(())
}

/// MPLS is forwarded by its label: there is no destination to judge it by, and to let it by would be a hole.
fn destinations_are_seen(config: &Config, sections: &Sections<'_>) -> Result<(), ConfigError> {
    if config.protect.inner_destinations == Guard::Off {
        return Ok(());
    }
    for (tunnel, section) in config.tunnels.iter().zip(&sections.tunnels) {
        if tunnel.inner.contains(InnerType::Mpls) {
            let message = "MPLS packets have no destination that `inner_destinations` in [protect] could judge; take \"mpls\" out, \
                           or set that to \"off\"";
            return Err(section.error("inner", message));
        }
    }
    Ok(())
}
