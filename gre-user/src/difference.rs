//! Where what runs differs from what a configuration file asks for.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::config::{Config, Interface, Key, Mode};
use crate::host::cpus::online_cpus;
use crate::settings::Guards;
use crate::tables::{Ids, Tables, TunnelView};

/// A file beside what runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// The file's path.
    pub path: String,
    /// How it compares.
    pub state: State,
    /// What is wrong with a file that is invalid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Where what runs differs.
    pub differences: Vec<Difference>,
}

/// How a file compares with what runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It says what runs: a load has nothing to do.
    Same,
    /// It says something else.
    Differs,
    /// There is none.
    Missing,
    /// It cannot be read, or is no valid configuration.
    Invalid,
}

/// One thing in which what runs is not what the file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What it is about: "tunnel NAME", "interface NAME", "protect", or the key of the file's top level.
    pub subject: String,
    /// Its kind.
    pub change: Kind,
    /// The key of a section whose value differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<&'static str>,
    /// The value that runs, in TOML; absent where none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<String>,
    /// The file's value, in TOML; absent where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// The kind of a difference, from the file's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It runs, and is not in the file.
    Added,
    /// It is in the file, and does not run.
    Removed,
    /// A key has another value.
    Changed,
}

impl Comparison {
    /// Compares a file with what runs.
    ///
    /// # Errors
    ///
    /// If this host's cores cannot be told. What is wrong with the file is no error of this call.
    pub fn of(file: &Path, running: &Config) -> Result<Self> {
        let compared = |state, error, differences| Self {
            path: file.display().to_string(),
            state,
            error,
            differences,
        };
        if let Ok(false) = fs::exists(file) {
            return Ok(compared(State::Missing, None, Vec::new()));
        }
        let online = online_cpus()?;
        let configured = Config::from_file(file, &online).map_err(anyhow::Error::from);
        let configured = configured.and_then(|config| as_it_would_run(config, &online));
        Ok(match configured {
            Ok(configured) => {
                let differences = between(running, &configured);
                let state = if differences.is_empty() {
                    State::Same
                } else {
                    State::Differs
                };
                compared(state, None, differences)
            }
            Err(error) => compared(State::Invalid, Some(format!("{error:#}")), Vec::new()),
        })
    }
}

/// A configuration as it would be read back: without what makes no difference to packets.
fn as_it_would_run(config: Config, online: &[u32]) -> Result<Config> {
    let names = config.tunnels.iter().map(|tunnel| tunnel.name.as_str());
    let ids = Ids::assign(names, &BTreeMap::new(), config.max_tunnels)?;
    let tables = Tables::of(&config, &ids, online)?;
    Ok(Config {
        tunnels: tables.tunnels()?.iter().map(TunnelView::to_config).collect(),
        protect: tables.protect(Guards::of(&config.protect)),
        ..config
    })
}

fn between(running: &Config, file: &Config) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (subject, running, file) in keys(running.top_keys(), file.top_keys()) {
        differences.push(Difference {
            subject: subject.to_owned(),
            change: Kind::Changed,
            key: None,
            running,
            file,
        });
    }
    sections(
        &mut differences,
        "interface",
        named(&running.interfaces, |interface| &interface.name),
        named(&file.interfaces, |interface| &interface.name),
        interface_keys,
    );
    sections(
        &mut differences,
        "tunnel",
        named(&running.tunnels, |tunnel| &tunnel.name),
        named(&file.tunnels, |tunnel| &tunnel.name),
        |running, file| keys(running.keys(), file.keys()),
    );
    changed(
        &mut differences,
        "protect",
        keys(running.protect.keys(), file.protect.keys()),
    );
    differences
}

/// A key, what runs and what the file has.
type Pair = (&'static str, Option<String>, Option<String>);

/// "auto" is whatever mode runs.
fn interface_keys(running: &Interface, file: &Interface) -> Vec<Pair> {
    let mode = if file.mode == Mode::Auto {
        running.mode
    } else {
        file.mode
    };
    let file = Interface { mode, ..file.clone() };
    keys(running.keys(), file.keys())
}

/// The keys whose values differ. A key that is absent has no default.
fn keys(running: Vec<Key>, file: Vec<Key>) -> Vec<Pair> {
    let value = |keys: &[Key], name| keys.iter().find(|key| key.name == name).map(|key| key.value.clone());
    let only_in_file = file.iter().filter(|key| value(&running, key.name).is_none());
    let names: Vec<_> = running.iter().chain(only_in_file).map(|key| key.name).collect();
    let pairs = names
        .into_iter()
        .map(|name| (name, value(&running, name), value(&file, name)));
    pairs.filter(|(_, running, file)| running != file).collect()
}

fn named<T>(all: &[T], name: impl Fn(&T) -> &String) -> BTreeMap<&str, &T> {
    all.iter().map(|one| (name(one).as_str(), one)).collect()
}

fn sections<T>(
    differences: &mut Vec<Difference>,
    what: &str,
    running: BTreeMap<&str, &T>,
    file: BTreeMap<&str, &T>,
    keys: impl Fn(&T, &T) -> Vec<Pair>,
) {
    for (name, one) in &running {
        let subject = format!("{what} {name}");
        match file.get(name) {
            Some(other) => changed(differences, &subject, keys(one, other)),
            None => differences.push(Difference::whole(subject, Kind::Added)),
        }
    }
    for name in file.keys().filter(|name| !running.contains_key(*name)) {
        differences.push(Difference::whole(format!("{what} {name}"), Kind::Removed));
    }
}

fn changed(differences: &mut Vec<Difference>, subject: &str, pairs: Vec<Pair>) {
    differences.extend(pairs.into_iter().map(|(key, running, file)| Difference {
        subject: subject.to_owned(),
        change: Kind::Changed,
        key: Some(key),
        running,
        file,
    }));
}

impl Difference {
    fn whole(subject: String, change: Kind) -> Self {
        Self {
            subject,
            change,
            key: None,
            running: None,
            file: None,
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.subject)?;
        match self.change {
            Kind::Added => return f.write_str(": runs, but is not in the file"),
            Kind::Removed => return f.write_str(": is in the file, but does not run"),
            Kind::Changed => {}
        }
        if let Some(key) = self.key {
            write!(f, ": {key}")?;
        }
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        write!(f, ": {} runs, the file has {}", value(&self.running), value(&self.file))
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = &self.path;
        match self.state {
            State::Same => writeln!(f, "{file}: says what runs"),
            State::Missing => writeln!(f, "{file}: no such file to compare what runs with"),
            State::Invalid => {
                let error = self.error.as_deref().unwrap_or_default();
                writeln!(f, "what runs cannot be compared with the file: {error}")
            }
            State::Differs => {
                writeln!(
                    f,
                    "{file}: differs from what runs; `gre-decap load` brings back what it says"
                )?;
                self.differences
                    .iter()
                    .try_for_each(|difference| writeln!(f, "  {difference}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Tunnel;

    const FILE: &str = "max_tunnels = 7\n[[interface]]\nname = 'eth0'\nmode = 'auto'\n\
                        [[tunnel]]\nname = 'a'\nlocal = '198.51.100.20'\nremote = ['203.0.113.11', '203.0.113.10']\n\
                        spread = 'all'\nkeepalive_rate = 7\n[protect]\nallow = ['192.0.2.0/24']";

    fn lines(running: &str, file: &str) -> Vec<String> {
        let read = |text: &str| as_it_would_run(Config::from_str(text, "f").unwrap(), &[0, 1]).unwrap();
        let differences = between(&read(running), &read(file));
        differences.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_makes_no_difference_is_none() {
        assert!(lines(FILE, FILE).is_empty());
        // As it is read back: in order, with what words stood for, and without what is off.
        let read_back = FILE
            .replace("'203.0.113.11', '203.0.113.10'", "'203.0.113.10', '203.0.113.11'")
            .replace("'all'", "'0-1'")
            .replace("'auto'", "'generic'")
            .replace("keepalive_rate = 7\n", "");
        let native = read_back.replace("'generic'", "'native'");
        assert!(lines(&native, FILE).is_empty());
    }

    #[test]
    fn each_difference_is_named() {
        let running = FILE
            .replace("max_tunnels = 7", "unknown = 'drop'")
            .replace("'eth0'", "'eth1'")
            .replace("'all'", "'off'\nkey = 1\nenabled = false");
        let second = "\n[[tunnel]]\nname = 'b'\nlocal = '198.51.100.20'\nremote = 'any'";
        assert_eq!(
            lines(
                &format!("{running}{second}"),
                &format!("{FILE}\nprefixes = ['192.0.2.0/24']{}", second.replace("'b'", "'c'"))
            ),
            [
                "unknown: \"drop\" runs, the file has \"pass\"",
                "max_tunnels: 1024 runs, the file has 7",
                "interface eth1: runs, but is not in the file",
                "interface eth0: is in the file, but does not run",
                "tunnel a: key: 1 runs, the file has none",
                "tunnel a: spread: \"off\" runs, the file has \"0-1\"",
                "tunnel a: enabled: false runs, the file has true",
                "tunnel b: runs, but is not in the file",
                "tunnel c: is in the file, but does not run",
                "protect: prefixes: [] runs, the file has [\"192.0.2.0/24\"]",
            ]
        );
        let native = FILE.replace("'auto'", "'native'");
        assert_eq!(
            lines(
                &FILE.replace("'auto'", "'native'").replace("spread = 'all'\n", ""),
                &native
            ),
            ["tunnel a: spread: \"off\" runs, the file has \"0-1\""]
        );
    }

    #[test]
    fn a_file_that_is_not_there_or_wrong_is_said_to_be() {
        let running = Config::default();
        let missing = Comparison::of(Path::new("/nowhere/f.toml"), &running).unwrap();
        assert_eq!(missing.state, State::Missing);
        assert_eq!(
            missing.to_string(),
            "/nowhere/f.toml: no such file to compare what runs with\n"
        );
        let invalid = Comparison::of(Path::new("/"), &running).unwrap();
        assert_eq!(invalid.state, State::Invalid);
        assert_eq!(
            invalid.to_string(),
            "what runs cannot be compared with the file: /: is a directory; name a file with --config\n"
        );
    }

    #[test]
    fn a_difference_in_json() {
        let comparison = Comparison {
            path: "f".to_owned(),
            state: State::Differs,
            error: None,
            differences: between(
                &Config::default(),
                &Config {
                    max_tunnels: 7,
                    tunnels: vec![Tunnel::plain("a".to_owned(), [198, 51, 100, 20].into(), Vec::new())],
                    ..Config::default()
                },
            ),
        };
        assert_eq!(
            serde_json::to_value(&comparison).unwrap(),
            serde_json::json!({
                "path": "f",
                "state": "differs",
                "differences": [
                    {"subject": "max_tunnels", "change": "changed", "running": "1024", "file": "7"},
                    {"subject": "tunnel a", "change": "removed"},
                ],
            })
        );
    }
}
