//! The `gre-decap` under test, run in a namespace as an operator runs it.

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::lab::{Namespace, PATIENCE};

/// Where the configuration file is, in the lab's own tmpfs.
const CONFIG: &str = "/dev/shm/gre-decap.toml";

/// The binary, and the namespace it is run in.
#[derive(Clone, Debug)]
pub struct Program {
    namespace: Namespace,
    binary: PathBuf,
}

impl Program {
    /// The binary at `binary`, to be run in `namespace`.
    pub fn new(namespace: &Namespace, binary: PathBuf) -> Self {
        Self {
            namespace: namespace.clone(),
            binary,
        }
    }

    /// A command, with arguments separated by blanks, that will read this configuration.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn command(&self, config: &str, arguments: &str) -> Result<Command> {
        self.namespace
            .run(|| std::fs::write(CONFIG, config).with_context(|| format!("write {CONFIG}")))?;
        let mut command = self.namespace.command(&self.binary);
        command.args(["--config", CONFIG]).args(arguments.split_whitespace());
        Ok(command)
    }

    /// Runs a command, which must succeed, and returns what it wrote to standard output.
    ///
    /// # Errors
    ///
    /// When it fails: what it said.
    pub fn run(&self, config: &str, arguments: &str) -> Result<String> {
        let output = self.command(config, arguments)?.output().context("run gre-decap")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "gre-decap {arguments}: {}: {}",
            output.status,
            said.trim()
        );
        String::from_utf8(output.stdout).context("what gre-decap writes is UTF-8")
    }

    /// Runs `load`, which must succeed.
    ///
    /// # Errors
    ///
    /// As [`Program::run`].
    pub fn load(&self, config: &str) -> Result<()> {
        self.run(config, "load").map(drop)
    }

    /// Runs a command, which must fail with this exit status, and returns its one line on standard error.
    ///
    /// # Errors
    ///
    /// When it succeeds, or fails in another way.
    pub fn refused(&self, config: &str, arguments: &str, status: i32) -> Result<String> {
        let output = self.command(config, arguments)?.output().context("run gre-decap")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(status) && said.lines().count() == 1,
            "gre-decap {arguments}: {}, not {status} with one line: {said}",
            output.status
        );
        Ok(said)
    }

    /// The counters.
    ///
    /// # Errors
    ///
    /// When nothing is loaded, or what is written is no JSON.
    pub fn stats(&self) -> Result<Stats> {
        let text = self.run("", "stats --json")?;
        let value = serde_json::from_str(&text).with_context(|| format!("understand `stats --json`: {text}"))?;
        Ok(Stats(value))
    }

    /// The counters once `wanted` is true of them: the kernel counts a packet in its own time.
    ///
    /// # Errors
    ///
    /// When it is not within [`PATIENCE`]: `what` was wanted, and the counters.
    pub fn stats_when(&self, what: &str, wanted: impl Fn(&Stats) -> bool) -> Result<Stats> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stats = self.stats()?;
            if wanted(&stats) {
                return Ok(stats);
            }
            if Instant::now() > deadline {
                bail!("waited for {what}: {}", stats.0);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// What `gre-decap stats --json` says.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats(pub Value);

impl Stats {
    /// A count of a tunnel: `packets`, `bytes` or `outer_bytes`. None if there is no tunnel of this name.
    pub fn tunnel(&self, name: &str, count: &str) -> Option<u64> {
        let tunnels = self.0["tunnels"].as_array()?;
        tunnels.iter().find(|tunnel| tunnel["name"] == name)?[count].as_u64()
    }

    /// How many packets had this reason, over all tunnels.
    pub fn reason(&self, name: &str) -> u64 {
        self.0["reasons"][name].as_u64().unwrap_or(0)
    }

    /// How many redirects out of this interface failed after the program had decided on them.
    pub fn failed_redirects(&self, interface: &str) -> u64 {
        let redirects = self.0["redirects"].as_array().into_iter().flatten();
        redirects
            .filter(|redirect| redirect["interface"] == interface)
            .filter_map(|redirect| redirect["failed"].as_u64())
            .sum()
    }
}
