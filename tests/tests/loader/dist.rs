//! The dashboard and the alert rules of `dist/`, held against what is scraped.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use gre_common::Reason;
use gre_tests::frame::{Addresses, Ipv4, PROTOCOL_TCP, tcp_segment};
use serde_json::Value;

use crate::runner::Runner;
use crate::scrape::{DEFAULT, ask};
use crate::site::{CONFIG, REMOTE, packet, site_or_return, tunnel};

const RULES: &str = "prometheus-rules.yml";
const DASHBOARD: &str = "grafana-dashboard.json";

fn dist(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist").join(file)
}

/// All words of a text that begin so.
fn words<'a>(text: &'a str, start: &str) -> BTreeSet<&'a str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_part(c))
        .filter(|word| word.starts_with(start))
        .collect()
}

/// What stands in the quotes behind each such label matcher, split at `|`.
fn matched<'a>(text: &'a str, label: &str) -> Vec<&'a str> {
    let mut values = Vec::new();
    for matcher in [format!("{label}=\""), format!("{label}=~\"")] {
        for rest in text.split(&matcher).skip(1) {
            values.extend(rest.split('"').next().unwrap_or_default().split('|'));
        }
    }
    values
}

/// The expressions of the dashboard.
fn expressions(dashboard: &Value) -> Vec<&str> {
    let panels = dashboard["panels"].as_array().map_or(&[][..], Vec::as_slice);
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    targets.filter_map(|target| target["expr"].as_str()).collect()
}

#[test]
fn only_metrics_that_exist_are_used() -> Result<()> {
    let site = site_or_return!();
    let config = CONFIG
        .replace("name = \"wan0\"\n", "name = \"wan0\"\nclamp_mss = 1300\n")
        .replace("key = 4200\n", "key = 4200\nmss = 1300\n");
    let config = config + "[protect]\nprefixes = [\"192.0.2.0/24\"]\n";
    let _runner = Runner::serving(&site, &config, "")?;
    let mut numbered = packet(REMOTE, Some(4200));
    numbered.gre.sequence = Some(1);
    site.send_packet(&numbered)?;
    let mut synchronizing = packet(REMOTE, Some(4200));
    synchronizing.payload = syn();
    site.send_packet(&synchronizing)?;
    let stats = site.stats_with("scrub-fra", 2)?;
    assert_eq!(tunnel(&stats, "scrub-fra")["mss_clamped"], 1, "{stats}");
    let scraped = ask(&site, DEFAULT, "GET /metrics")?.body;
    let samples = scraped.lines().filter(|line| !line.starts_with('#'));
    let exist: BTreeSet<_> = samples.filter_map(|line| line.split(['{', ' ']).next()).collect();

    let dashboard: Value = serde_json::from_str(&fs::read_to_string(dist(DASHBOARD))?)?;
    let expressions = expressions(&dashboard);
    assert!(expressions.len() > 10, "{expressions:?}");
    let rules = fs::read_to_string(dist(RULES))?;
    let variables = dashboard["templating"].to_string();
    let texts = expressions.iter().copied().chain([rules.as_str(), variables.as_str()]);
    let mut used = BTreeSet::new();
    for text in texts {
        for metric in words(text, "gre_decap_") {
            assert!(exist.contains(metric), "{metric} in {text}, of {exist:?}");
            used.insert(metric);
        }
        for reason in matched(text, "reason") {
            assert!(
                Reason::ALL.iter().any(|known| known.name() == reason),
                "{reason} in {text}"
            );
        }
        for event in matched(text, "event") {
            assert!(scraped.contains(&format!("event=\"{event}\"")), "{event} in {text}");
        }
    }
    // And nothing is left unseen.
    let unused: Vec<_> = exist.iter().filter(|metric| !used.contains(*metric)).collect();
    let parts_of_a_histogram = ["gre_decap_packet_size_bytes_count", "gre_decap_packet_size_bytes_sum"];
    assert_eq!(unused, parts_of_a_histogram.iter().collect::<Vec<_>>());
    Ok(())
}

/// An inner packet that asks for a TCP connection, and announces an MSS of 1460.
fn syn() -> Vec<u8> {
    const MSS: [u8; 4] = [2, 4, 0x05, 0xb4];
    const SYN: u8 = 2;
    let (source, destination) = (Ipv4Addr::new(198, 18, 5, 7), Ipv4Addr::new(192, 0, 2, 80));
    let mut segment = tcp_segment(Addresses::V4(source, destination), &MSS);
    // The option is part of the header. Its checksum is the receiver's matter, who is not there.
    (segment[12], segment[13]) = (6 << 4, SYN);
    let header = Ipv4 {
        source,
        destination,
        protocol: PROTOCOL_TCP,
        ..Ipv4::default()
    };
    header.packet(&segment)
}

/// By Prometheus's own tool, on machines that have it (Debian: the package prometheus).
#[test]
fn rules_are_sound() -> Result<()> {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "rules"]).arg(dist(RULES));
    let output = match promtool.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            gre_tests::skip::say("SKIPPED rules_are_sound: missing promtool");
            return Ok(());
        }
        output => output.context("run promtool")?,
    };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
