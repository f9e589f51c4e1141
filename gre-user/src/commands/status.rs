//! `status`: interfaces, program and tunnels as they are in the kernel.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use ipnet::IpNet;
use serde::Serialize;

use crate::config::InnerType;
use crate::error::Error;
use crate::interfaces::{InterfaceView, attached};
use crate::memory;
use crate::output::{print, print_json};
use crate::running::{Running, read_current};
use crate::state::Root;
use crate::table;
use crate::tables::TunnelView;

/// The JSON of `status --json`.
#[derive(Debug, Serialize)]
struct Status {
    interfaces: Vec<InterfaceStatus>,
    program: ProgramStatus,
    /// What becomes of GRE that no tunnel matches: "pass" or "drop".
    unknown: &'static str,
    max_tunnels: u32,
    /// Bytes of the kernel's memory that the pinned maps take; absent if it does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    map_memory_bytes: Option<u64>,
    log_level: &'static str,
    tunnels: Vec<TunnelStatus>,
}

#[derive(Debug, Serialize)]
struct InterfaceStatus {
    name: String,
    /// "native", "generic", "offload" or "gone".
    mode: String,
    program_id: u32,
    link_id: u32,
    /// Whether the interface is set up; absent if it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    up: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    driver: Option<String>,
}

#[derive(Debug, Serialize)]
struct ProgramStatus {
    id: u32,
    tag: String,
    /// RFC 3339, in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    loaded_at: Option<String>,
    /// How many instructions the verifier went through.
    #[serde(skip_serializing_if = "Option::is_none")]
    verified_instructions: Option<u32>,
    /// Bytes of machine code; 0 without a JIT compiler.
    machine_code_bytes: u32,
}

#[derive(Debug, Serialize)]
struct TunnelStatus {
    name: String,
    id: u32,
    local: String,
    remote: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<u32>,
    checksum: &'static str,
    sequence: &'static str,
    inner: Vec<&'static str>,
    /// As in the configuration file: "stack", "route", or the interface and next hop.
    deliver: String,
    /// "off" or the list of cores.
    spread: String,
    /// "off" or a number of bytes.
    mss: String,
    /// How many keepalives a second are answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    keepalive_rate: Option<u32>,
    enabled: bool,
}

/// Shows what is loaded.
///
/// # Errors
///
/// If nothing is, or it cannot be read.
pub fn execute(root: &Root, json: bool) -> Result<(), Error> {
    let running = read_current(root, |generation| Running::read(generation.clone()))?;
    let status = Status::of(&running, attached(root)?)?;
    if json {
        print_json(&status)
    } else {
        print(&status.text())
    }
}

impl Status {
    fn of(running: &Running, interfaces: Vec<InterfaceView>) -> Result<Self> {
        let program = &running.program;
        Ok(Self {
            interfaces: interfaces.into_iter().map(InterfaceStatus::of).collect(),
            program: ProgramStatus {
                id: program.id(),
                tag: format!("{:016x}", program.tag()),
                loaded_at: program.loaded_at().filter(|at| *at > UNIX_EPOCH).map(timestamp),
                verified_instructions: program.verified_instruction_count(),
                machine_code_bytes: program.size_jitted(),
            },
            unknown: if running.settings.unknown_drop { "drop" } else { "pass" },
            max_tunnels: running.settings.max_tunnels,
            map_memory_bytes: memory::of(&running.generation).ok(),
            log_level: running.settings.log_level.into(),
            tunnels: running.tables.tunnels()?.into_iter().map(TunnelStatus::of).collect(),
        })
    }

    fn text(&self) -> String {
        let interfaces = self.interfaces.iter().map(|interface| {
            let up = interface.up.map_or("-", |up| if up { "up" } else { "down" });
            let driver = interface.driver.as_deref().unwrap_or("-");
            [
                &interface.name,
                &interface.mode,
                up,
                driver,
                &interface.program_id.to_string(),
            ]
            .map(str::to_owned)
            .to_vec()
        });
        let interfaces = table::render(&["interface", "mode", "link", "driver", "program"], 4, interfaces);

        let tunnels = self.tunnels.iter().map(|tunnel| {
            let key = tunnel.key.map_or_else(|| "-".to_owned(), |key| key.to_string());
            let enabled = if tunnel.enabled { "yes" } else { "no" };
            let (remote, inner) = (tunnel.remote.join(" "), tunnel.inner.join(" "));
            [
                &tunnel.name,
                &tunnel.local,
                &remote,
                &key,
                tunnel.checksum,
                tunnel.sequence,
                &inner,
                &tunnel.deliver,
                &tunnel.spread,
                &tunnel.mss,
                enabled,
            ]
            .map(str::to_owned)
            .to_vec()
        });
        let header = [
            "tunnel", "local", "remote", "key", "checksum", "sequence", "inner", "deliver", "spread", "mss", "enabled",
        ];
        let tunnels = table::render(&header, header.len(), tunnels);

        let Self {
            program,
            unknown,
            max_tunnels,
            map_memory_bytes,
            log_level,
            ..
        } = self;
        let mut about = format!("program {} (tag {}", program.id, program.tag);
        if let Some(at) = &program.loaded_at {
            about.push_str(&format!(", loaded {at}"));
        }
        if let Some(instructions) = program.verified_instructions {
            about.push_str(&format!(
                ", {} instructions verified",
                table::count(instructions.into())
            ));
        }
        about.push_str(&format!("); unknown {unknown}; max_tunnels {max_tunnels}"));
        if let Some(bytes) = map_memory_bytes {
            about.push_str(&format!(" ({} of maps)", table::unit(*bytes as f64, "B")));
        }
        about.push_str(&format!("; log level {log_level}"));
        format!("{interfaces}\n{about}\n\n{tunnels}")
    }
}

impl InterfaceStatus {
    fn of(view: InterfaceView) -> Self {
        let mode = view.mode();
        let (up, driver) = match view.here {
            Some((interface, _)) => (Some(interface.is_up), interface.driver),
            None => (None, None),
        };
        Self {
            name: view.name,
            mode,
            program_id: view.program_id,
            link_id: view.link_id,
            up,
            driver,
        }
    }
}

impl TunnelStatus {
    fn of(view: TunnelView) -> Self {
        Self {
            name: view.name,
            id: view.id,
            local: view.local.to_string(),
            remote: view.remotes.iter().map(remote).collect(),
            key: view.key,
            checksum: view.checksum.into(),
            sequence: view.sequence.into(),
            inner: view.inner.iter().map(InnerType::into).collect(),
            deliver: view.deliver.to_string(),
            spread: view.spread.to_string(),
            mss: view.mss.to_string(),
            keepalive_rate: view.keepalive_rate,
            enabled: view.enabled,
        }
    }
}

/// A remote as the configuration has it.
fn remote(remote: &IpNet) -> String {
    match remote.prefix_len() {
        0 => "any".to_owned(),
        length if length == remote.max_prefix_len() => remote.addr().to_string(),
        _ => remote.to_string(),
    }
}

fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remotes_as_configured() {
        for text in ["203.0.113.10", "203.0.113.0/24", "2001:db8::1", "2001:db8::/32"] {
            let net = text
                .parse()
                .unwrap_or_else(|_| IpNet::from(text.parse::<std::net::IpAddr>().unwrap()));
            assert_eq!(remote(&net), text);
        }
        assert_eq!(remote(&"0.0.0.0/0".parse().unwrap()), "any");
        assert_eq!(remote(&"::/0".parse().unwrap()), "any");
    }
}
