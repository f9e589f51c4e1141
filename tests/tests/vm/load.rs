//! Every variant of the program is verified by the kernel at hand, and what that took is told.

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use anyhow::{Context, Error, Result, ensure};
use gre_tests::skip::say;
use gre_user::config::Config;
use gre_user::datapath::Datapath;
use gre_user::host::cpus::online_cpus;
use gre_user::settings::{LogLevel, Settings};
use gre_user::tables::{Ids, Tables};

/// Ways to deliver, each that of a tunnel.
const STACK: &str = "\"stack\"";
const ROUTE: &str = "\"route\"";
const INTERFACE: &str = "{ interface = \"lo\" }";
const DELIVERIES: [&[&str]; 4] = [&[STACK], &[ROUTE], &[INTERFACE], &[STACK, ROUTE, INTERFACE]];
/// The kernel gives up at a million. Logging, which is for debugging, may take more of it; 6.1 needs half as much again as later
/// kernels.
const MOST_VERIFIED: u32 = 400_000;
const MOST_WITH_LOG: u32 = 800_000;

#[test]
fn every_variant_is_verified() -> Result<()> {
    for deliveries in DELIVERIES {
        for spread in ["off", "all"] {
            for (unknown, remote) in [("pass", "203.0.113.10"), ("drop", "any")] {
                load(unknown, remote, deliveries, spread, LogLevel::Off)?;
            }
        }
    }
    load("pass", "any", DELIVERIES[3], "all", LogLevel::Debug)
}

fn load(unknown: &str, remote: &str, deliveries: &[&str], spread: &str, level: LogLevel) -> Result<()> {
    let mut text = format!("unknown = \"{unknown}\"\n");
    for (key, deliver) in deliveries.iter().enumerate() {
        text += &format!(
            "[[tunnel]]\nname = \"{key}\"\nlocal = \"198.51.100.20\"\nremote = \"{remote}\"\nkey = {key}\ndeliver = {deliver}\n\
             spread = \"{spread}\"\n"
        );
    }
    let variant = format!(
        "unknown {unknown}, remote {remote}, deliver {}, spread {spread}, log level {level}",
        deliveries.join(" and ")
    );
    let config = Config::from_str(&text, "variant")?;
    let names = config.tunnels.iter().map(|tunnel| tunnel.name.as_str());
    let ids = Ids::assign(names, &BTreeMap::new(), config.max_tunnels)?;
    let tables = Tables::of(&config, &ids, &online_cpus()?)?;
    let settings = Settings::of(&config, &tables, level, [0; 2]);
    let started = Instant::now();
    let loaded = Datapath::load(&settings, &tables, None);
    let mut datapath = loaded.map_err(with_log).with_context(|| variant.clone())?;
    let took = started.elapsed().as_millis();
    let verified = datapath.info()?.verified_instruction_count();
    let verified = verified.context("the kernel does not tell how much it verified")?;
    say(&format!("{variant}: {verified} instructions verified, {took} ms"));
    let most = if level == LogLevel::Off {
        MOST_VERIFIED
    } else {
        MOST_WITH_LOG
    };
    ensure!(verified < most, "{variant}: {verified} instructions verified");
    Ok(())
}

/// The error with the end of the verifier's log that it names, which goes with the machine.
fn with_log(error: Error) -> Error {
    const LINES: usize = 60;
    let text = format!("{error:#}");
    let Some((_, path)) = text.rsplit_once("its log is in ") else {
        return error;
    };
    let log = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    let end = &lines[lines.len().saturating_sub(LINES)..];
    error.context(end.join("\n"))
}
