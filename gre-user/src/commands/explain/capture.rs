//! `explain --pcap`: what the program would do with each packet of a capture, and why.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::UNIX_EPOCH;

use anyhow::Result;
use gre_common::{Reason, Verdict};

use crate::capture::{self, Captured};
use crate::config::Config;
use crate::decode::Decoded;
use crate::error::Error;
use crate::host::cpus::online_cpus;
use crate::offline::{Judgement, Offline};
use crate::output::print;
use crate::table::{count, render_narrow};
use crate::tables::{Ids, Tables};

/// Decides on each packet of a capture by a configuration, as if the program had just been loaded.
///
/// # Errors
///
/// If the configuration is wrong, the capture cannot be read, or holds other frames than Ethernet's.
pub(super) fn execute(config: &Path, file: &Path) -> Result<(), Error> {
    let online = online_cpus()?;
    let config = Config::from_file(config, &online)?;
    let names = config.tunnels.iter().map(|tunnel| tunnel.name.as_str());
    let ids = Ids::assign(names, &BTreeMap::new(), config.max_tunnels)?;
    let tables = Tables::of(&config, &ids, &online)?;
    let offline = Offline::new(&config, tables);
    let mut sums = Sums::default();
    let mut number = 0;
    capture::read(file, |packet| {
        number += 1;
        let what = explain(&offline, packet);
        sums.add(&what);
        let time = humantime::format_rfc3339_micros(UNIX_EPOCH + packet.at);
        let layers = Decoded::of(packet.bytes);
        let rest = match packet.length as usize {
            length if length > packet.bytes.len() => format!(" of {length}"),
            _ => String::new(),
        };
        print(&format!(
            "{number}  {time}  {what}  {}{rest} bytes\n{layers}",
            packet.bytes.len()
        ))
    })?;
    print(&sums.text())
}

/// What would become of it, and why.
fn explain(offline: &Offline, packet: &Captured<'_>) -> String {
    let of = |tunnel| match offline.name(tunnel) {
        Some(name) => format!("tunnel {name}"),
        None => "no tunnel".to_owned(),
    };
    match offline.judge(packet.bytes, packet.length as usize, packet.at) {
        Judgement::Depends => "cannot be told: captured in part".to_owned(),
        Judgement::Decided(Verdict::NotOurs) => "pass: no GRE to a tunnel's local address".to_owned(),
        Judgement::Decided(Verdict::Refuse { tunnel, reason }) => {
            format!("{}: {} in {}", reason.action().as_str(), reason.name(), of(tunnel))
        }
        Judgement::Decided(Verdict::Deliver(delivery)) => {
            let notes = [
                (delivery.restart, Reason::SequenceRestart),
                (delivery.passage.is_monitored(), Reason::InnerDestinationMonitored),
                (delivery.passage.is_probe(), Reason::Probe),
            ];
            let notes = notes.into_iter().filter(|(noted, _)| *noted);
            let notes: String = notes.map(|(_, reason)| format!(", {}", reason.name())).collect();
            format!("deliver: from {}{notes}", of(delivery.tunnel))
        }
        Judgement::Decided(Verdict::Reply(delivery)) => format!("reply: keepalive in {}", of(delivery.tunnel)),
    }
}

/// How often each outcome occurred.
#[derive(Default)]
struct Sums(BTreeMap<String, u64>);

impl Sums {
    fn add(&mut self, what: &str) {
        *self.0.entry(what.to_owned()).or_default() += 1;
    }

    fn text(&self) -> String {
        if self.0.is_empty() {
            return "no packets\n".to_owned();
        }
        let rows = self.0.iter().map(|(what, packets)| vec![what.clone(), count(*packets)]);
        let table = render_narrow(&["what would be done", "packets"], 1, rows);
        format!("\n{table}\nWhat a reason means: gre-decap explain REASON\n")
    }
}
