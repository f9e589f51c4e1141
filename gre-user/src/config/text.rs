//! A configuration as the text of a file, which reads back as the same configuration.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use ipnet::IpNet;
use toml_writer::ToTomlValue;

use super::{ClampMss, Config, Deliver, Interface, Mss, Protect, Spread, Tunnel};

/// A key of a section and its value, as the file has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The key.
    pub name: &'static str,
    /// Its value in TOML.
    pub value: String,
}

impl Config {
    /// The whole configuration, without the keys that have their default values.
    pub fn to_text(&self) -> String {
        let Self {
            interfaces,
            tunnels,
            protect,
            ..
        } = self;
        let default = Self::default();
        let mut text = String::new();
        write_changed(&mut text, self.top_keys(), &default.top_keys());
        for interface in interfaces {
            section(&mut text, "[[interface]]");
            interface.write(&mut text);
        }
        for tunnel in tunnels {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&tunnel.to_text());
        }
        if *protect != default.protect {
            section(&mut text, "[protect]");
            write_changed(&mut text, protect.keys(), &default.protect.keys());
        }
        text
    }

    /// The keys before the first section.
    pub fn top_keys(&self) -> Vec<Key> {
        let Self {
            unknown,
            max_tunnels,
            spread_queue,
            interfaces: _,
            tunnels: _,
            protect: _,
        } = self;
        vec![
            Key::word("unknown", unknown),
            Key::new("max_tunnels", max_tunnels),
            Key::new("spread_queue", spread_queue),
        ]
    }
}

impl Interface {
    /// Its keys but for the name.
    pub fn keys(&self) -> Vec<Key> {
        let Self {
            name: _,
            mode,
            clamp_mss,
        } = self;
        let clamp_mss = match clamp_mss {
            ClampMss::Off | ClampMss::Auto => Key::word("clamp_mss", clamp_mss),
            ClampMss::Bytes(bytes) => Key::new("clamp_mss", bytes),
        };
        vec![Key::word("mode", mode), clamp_mss]
    }

    fn write(&self, text: &mut String) {
        let default = Self::plain(self.name.clone());
        Key::word("name", &self.name).write(text);
        write_changed(text, self.keys(), &default.keys());
    }
}

impl Tunnel {
    /// Its keys but for the name.
    pub fn keys(&self) -> Vec<Key> {
        let Self {
            name: _,
            local,
            remotes,
            key,
            checksum,
            sequence,
            inner,
            deliver,
            spread,
            mss,
            bypass,
            keepalive,
            keepalive_rate,
            probes,
            enabled,
        } = self;
        let remote: Vec<_> = remotes.iter().map(remote).collect();
        let mut keys = vec![
            Key::word("local", local),
            Key::new("remote", array(remote.iter().map(String::as_str))),
        ];
        keys.extend(key.map(|key| Key::new("key", key)));
        keys.extend([
            Key::word("checksum", checksum),
            Key::word("sequence", sequence),
            Key::new("inner", inner),
            match deliver {
                Deliver::Stack | Deliver::Route => Key::word("deliver", deliver),
                Deliver::Interface { name, next_hop } => {
                    let next_hop = next_hop.map(|next_hop| format!(", next_hop = {}", string(&next_hop.to_string())));
                    let next_hop = next_hop.unwrap_or_default();
                    Key::new("deliver", format!("{{ interface = {}{next_hop} }}", string(name)))
                }
            },
            match spread {
                Spread::Off | Spread::All | Spread::Cpus(_) => Key::word("spread", spread),
            },
            match mss {
                Mss::Off => Key::word("mss", mss),
                Mss::Bytes(bytes) => Key::new("mss", bytes),
            },
            Key::new("bypass", prefixes(bypass)),
            Key::word("keepalive", keepalive),
            Key::new("keepalive_rate", keepalive_rate),
            Key::word("probes", probes),
            Key::new("enabled", enabled),
        ]);
        keys
    }

    /// Its section, without the keys that have their default values.
    pub fn to_text(&self) -> String {
        let default = Self::plain(String::new(), IpAddr::from([0; 4]), Vec::new());
        let mut text = String::new();
        section(&mut text, "[[tunnel]]");
        Key::word("name", &self.name).write(&mut text);
        write_changed(&mut text, self.keys(), &default.keys());
        text
    }
}

impl Protect {
    /// Its keys.
    pub fn keys(&self) -> Vec<Key> {
        let Self {
            prefixes: protected,
            inner_destinations,
            lockdown,
            allow,
        } = self;
        vec![
            Key::new("prefixes", prefixes(protected)),
            Key::word("inner_destinations", inner_destinations),
            Key::word("lockdown", lockdown),
            Key::new("allow", prefixes(allow)),
        ]
    }
}

impl Key {
    fn new(name: &'static str, value: impl ToString) -> Self {
        let value = value.to_string();
        Self { name, value }
    }

    /// A key whose value is a string.
    fn word(name: &'static str, value: &impl ToString) -> Self {
        Self::new(name, string(&value.to_string()))
    }

    fn write(&self, text: &mut String) {
        let Self { name, value } = self;
        text.push_str(&format!("{name} = {value}\n"));
    }
}

/// A string in TOML, with its quotes.
pub(crate) fn string(value: &str) -> String {
    value.to_toml_value()
}

fn section(text: &mut String, heading: &str) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(heading);
    text.push('\n');
}

fn write_changed(text: &mut String, keys: Vec<Key>, default: &[Key]) {
    keys.iter()
        .filter(|key| !default.contains(key))
        .for_each(|key| key.write(text));
}

fn array<'a>(values: impl Iterator<Item = &'a str>) -> String {
    let values: Vec<_> = values.map(string).collect();
    format!("[{}]", values.join(", "))
}

/// A remote as the file has it.
pub(crate) fn remote(remote: &IpNet) -> String {
    match remote.prefix_len() {
        0 => "any".to_owned(),
        _ => prefix(remote),
    }
}

/// A whole address without its length.
pub(crate) fn prefix(prefix: &IpNet) -> String {
    if prefix.prefix_len() == prefix.max_prefix_len() {
        prefix.addr().to_string()
    } else {
        prefix.to_string()
    }
}

fn prefixes(list: &[IpNet]) -> String {
    let list: Vec<_> = list.iter().map(prefix).collect();
    array(list.iter().map(String::as_str))
}
