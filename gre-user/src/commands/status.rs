//! `status`: interfaces, program and tunnels as they are in the kernel.

pub(super) mod tunnels;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde::Serialize;

use crate::clamps::{self, Clamps};
use crate::config::Guard;
use crate::difference::Comparison;
use crate::error::Error;
use crate::interfaces::{InterfaceView, attached};
use crate::memory;
use crate::output::{print, print_json};
use crate::running::Running;
use crate::state::Root;
use crate::table;

use self::tunnels::TunnelStatus;

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
    protect: ProtectStatus,
    tunnels: Vec<TunnelStatus>,
    /// How the configuration file compares with all this.
    file: Comparison,
}

/// What `[protect]` says.
#[derive(Debug, Serialize)]
struct ProtectStatus {
    /// How many prefixes are protected.
    prefixes: usize,
    /// "off", "monitor" or "enforce".
    inner_destinations: &'static str,
    /// The same.
    lockdown: &'static str,
    /// How many sources may reach them without a tunnel.
    allow: usize,
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
    /// The program on the way out; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    egress: Option<EgressStatus>,
}

/// What the program on the way out does.
#[derive(Debug, Serialize)]
struct EgressStatus {
    program_id: u32,
    /// By what means the kernel runs it: "tcx", a link, or "clsact", a filter.
    attached_by: String,
    /// Absent without a link.
    #[serde(skip_serializing_if = "Option::is_none")]
    link_id: Option<u32>,
    /// "auto" or a number of bytes.
    clamp_mss: String,
    /// The most that a TCP SYN over IPv4 may announce, in bytes.
    mss_ipv4: u16,
    /// The same over IPv6.
    mss_ipv6: u16,
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

/// Shows what is loaded, and where it differs from the file.
///
/// # Errors
///
/// If nothing is, or it cannot be read.
pub fn execute(file: &Path, root: &Root, json: bool) -> Result<(), Error> {
    let running = Running::current(root)?;
    let interfaces = attached(root)?;
    let file = Comparison::of(file, &running.config(&interfaces)?)?;
    let status = Status::of(&running, interfaces, file)?;
    if json {
        print_json(&status)
    } else {
        print(&status.text())
    }
}

impl Status {
    fn of(running: &Running, interfaces: Vec<InterfaceView>, file: Comparison) -> Result<Self> {
        let program = &running.program;
        Ok(Self {
            interfaces: interfaces
                .into_iter()
                .map(|view| InterfaceStatus::of(view, &running.clamps))
                .collect(),
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
            protect: ProtectStatus::of(running),
            tunnels: running.tables.tunnels()?.into_iter().map(TunnelStatus::of).collect(),
            file,
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
                &interface
                    .egress
                    .as_ref()
                    .map_or_else(|| "-".to_owned(), EgressStatus::text),
            ]
            .map(str::to_owned)
            .to_vec()
        });
        let interfaces = table::render(
            &["interface", "mode", "link", "driver", "program", "clamp_mss"],
            4,
            interfaces,
        );

        let tunnels = tunnels::text(&self.tunnels);

        let Self {
            program,
            unknown,
            max_tunnels,
            map_memory_bytes,
            log_level,
            file,
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
        let protect = self.protect.text().unwrap_or_default();
        format!("{interfaces}\n{about}\n{protect}\n{tunnels}\n{file}")
    }
}

impl ProtectStatus {
    fn of(running: &Running) -> Self {
        let (guards, tables) = (running.settings.guards, &running.tables);
        Self {
            prefixes: tables.protected.len(),
            inner_destinations: Guard::from(guards.inner_destinations).into(),
            lockdown: Guard::from(guards.lockdown).into(),
            allow: tables.allowed.len(),
        }
    }

    /// A line, if anything is protected.
    fn text(&self) -> Option<String> {
        let Self {
            prefixes,
            inner_destinations,
            lockdown,
            allow,
        } = self;
        (*prefixes != 0).then(|| {
            format!("protect {prefixes} prefixes: inner_destinations {inner_destinations}, lockdown {lockdown}, {allow} allowed\n")
        })
    }
}

impl InterfaceStatus {
    fn of(view: InterfaceView, clamps: &Clamps) -> Self {
        let mode = view.mode();
        let egress = EgressStatus::of(&view, clamps);
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
            egress,
        }
    }
}

impl EgressStatus {
    fn of(view: &InterfaceView, clamps: &Clamps) -> Option<Self> {
        let (egress, (interface, _)) = (view.egress?, view.here.as_ref()?);
        let clamp = clamps.get(interface.index)?;
        Some(Self {
            program_id: egress.program_id,
            attached_by: egress.means.to_string(),
            link_id: egress.link_id,
            clamp_mss: clamps::configured(clamp).to_string(),
            mss_ipv4: clamp.v4,
            mss_ipv6: clamp.v6,
        })
    }

    /// The limits, both only where they differ, and the program that keeps to them.
    fn text(&self) -> String {
        let Self {
            program_id,
            mss_ipv4,
            mss_ipv6,
            ..
        } = self;
        match mss_ipv4 == mss_ipv6 {
            true => format!("{mss_ipv4} (program {program_id})"),
            false => format!("{mss_ipv4}, {mss_ipv6} for IPv6 (program {program_id})"),
        }
    }
}

fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}
