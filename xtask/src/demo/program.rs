//! `gre-decap` at the origin, run as an operator runs it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use gre_tests::lab::Namespace;
use serde::Deserialize;

const BPFFS: &str = "/sys/fs/bpf";

/// A program in the driver, natively (linux/if_link.h).
const XDP_ATTACHED_DRV: u8 = 1;

/// The binary, and what every call of it has in common.
pub(super) struct Program<'a> {
    binary: PathBuf,
    origin: &'a Namespace,
    config: &'a Path,
}

impl<'a> Program<'a> {
    pub(super) fn new(binary: &Path, origin: &'a Namespace, config: &'a Path) -> Self {
        Self {
            binary: binary.to_owned(),
            origin,
            config,
        }
    }

    /// How a command is typed.
    pub(super) fn command_line(&self, command: &str) -> String {
        format!("gre-decap --config {} {command}", self.config.display())
    }

    /// Runs a command and returns what it wrote to stdout. What it wrote to stderr goes where ours does.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.origin.command(&self.binary);
        let output = command.arg("--config").arg(self.config).args(arguments).output();
        let output = output.with_context(|| format!("run {}", self.binary.display()))?;
        let errors = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!(
                "`{}`: {}: {}",
                self.command_line(&arguments.join(" ")),
                output.status,
                errors.trim()
            );
        }
        for line in errors.lines() {
            eprintln!("{line}");
        }
        String::from_utf8(output.stdout).context("what gre-decap writes is UTF-8")
    }

    /// Asks the kernel, by other means than `gre-decap`, whether a program runs in the interface's driver.
    pub(super) fn attached(&self) -> Result<String> {
        match self.links()?.as_slice() {
            [Link { xdp: Some(xdp) }] if xdp.mode == XDP_ATTACHED_DRV => {
                Ok(format!("XDP program {} in native mode", xdp.prog.id))
            }
            [Link { xdp: Some(xdp) }] => bail!("a program is there, but in mode {}, not in native mode", xdp.mode),
            _ => bail!("no program is on wan0"),
        }
    }

    fn links(&self) -> Result<Vec<Link>> {
        let json = self.origin.ip("-json link show dev wan0")?;
        serde_json::from_str(&json).with_context(|| format!("understand `ip -json link show dev wan0`: {json}"))
    }

    pub(super) fn stats(&self) -> Result<Stats> {
        let json = self.run(&["stats", "--json"])?;
        serde_json::from_str(&json).with_context(|| format!("understand `stats --json`: {json}"))
    }

    /// What is pinned at the origin. (A kernel may fill a fresh BPF filesystem with iterators of its own.)
    pub(super) fn pinned(&self) -> Result<Vec<OsString>> {
        self.origin.run(|| {
            let names = fs::read_dir(BPFFS).context(BPFFS)?.map(|entry| Ok(entry?.file_name()));
            names.collect()
        })
    }

    /// Compares what is pinned with what was before `load`, and looks for a program on the interface.
    pub(super) fn nothing_left(&self, before: &[OsString]) -> Result<String> {
        let mut pinned = self.pinned()?;
        pinned.retain(|name| !before.contains(name));
        ensure!(pinned.is_empty(), "{BPFFS} still holds {pinned:?}");
        if let Some(Link { xdp: Some(xdp) }) = self.links()?.first() {
            bail!("program {} is still on wan0", xdp.prog.id);
        }
        Ok(format!("no program on wan0, nothing pinned in {BPFFS}"))
    }
}

/// What `ip -json link` says of an interface.
#[derive(Deserialize)]
struct Link {
    xdp: Option<AttachedXdp>,
}

#[derive(Deserialize)]
struct AttachedXdp {
    mode: u8,
    prog: AttachedProgram,
}

#[derive(Deserialize)]
struct AttachedProgram {
    id: u32,
}

/// What `gre-decap stats --json` says. Counts that are zero may be left out.
#[derive(Deserialize)]
pub(super) struct Stats {
    tunnels: Vec<TunnelStats>,
    #[serde(default)]
    reasons: BTreeMap<String, u64>,
}

/// Counters of one tunnel; packets and bytes are those decapsulated.
#[derive(Deserialize)]
pub(super) struct TunnelStats {
    name: String,
    #[serde(default)]
    pub(super) packets: u64,
    #[serde(default)]
    pub(super) bytes: u64,
    #[serde(default)]
    pub(super) outer_bytes: u64,
}

impl Stats {
    /// The demo's one tunnel.
    pub(super) fn tunnel(&self) -> Result<&TunnelStats> {
        match self.tunnels.as_slice() {
            [tunnel] => Ok(tunnel),
            tunnels => bail!("one tunnel is configured, the counters show {}", tunnels.len()),
        }
    }

    /// How many packets were not delivered for a reason.
    pub(super) fn reason(&self, name: &str) -> u64 {
        self.reasons.get(name).copied().unwrap_or(0)
    }

    /// The same for all reasons together.
    pub(super) fn refused(&self) -> u64 {
        self.reasons.values().sum()
    }

    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        let mut row = |name: &str, value: u64, unit: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "    {name:<28} {value:>12} {unit}");
        };
        for tunnel in &self.tunnels {
            row(&tunnel.name, tunnel.packets, "packets decapsulated");
            row("", tunnel.bytes, "bytes of inner packets");
            row("", tunnel.outer_bytes, "bytes with the headers taken off");
        }
        for (reason, count) in self.reasons.iter().filter(|(_, count)| **count > 0) {
            row(reason, *count, "packets");
        }
        text
    }
}
