//! `stats`: counters per tunnel and reason; with `--watch`, rates.

use std::thread;
use std::time::{Duration, Instant};

use gre_common::Reason;
use serde::Serialize;

use crate::error::Error;
use crate::output::{print, print_json};
use crate::state::Root;
use crate::stats::{Rates, Stats};
use crate::table::{ago, amount, count, render};

/// A line of `stats --json --watch`.
#[derive(Serialize)]
struct Watched<'a> {
    #[serde(flatten)]
    stats: &'a Stats,
    rates: &'a Rates,
}

/// Shows the counters once, or, given an interval, their rates over and over.
///
/// # Errors
///
/// If nothing is loaded (any more), or it cannot be read; [`Error::ClosedPipe`] if nobody reads on.
pub fn execute(root: &Root, json: bool, watch: Option<Duration>) -> Result<(), Error> {
    let mut before = Stats::read(root)?;
    let Some(interval) = watch else {
        return if json {
            print_json(&before)
        } else {
            print(&totals(&before))
        };
    };
    let mut taken = Instant::now();
    loop {
        thread::sleep(interval);
        let stats = Stats::read(root)?;
        let elapsed = taken.elapsed();
        taken = Instant::now();
        let rates = Rates::between(&before, &stats, elapsed);
        if json {
            print_json(&Watched {
                stats: &stats,
                rates: &rates,
            })?;
        } else {
            print(&(rates_text(&rates) + "\n"))?;
        }
        before = stats;
    }
}

fn totals(stats: &Stats) -> String {
    let tunnels = stats.tunnels.iter().map(|tunnel| {
        let seen = tunnel.last_seen_seconds.map_or_else(|| "never".to_owned(), ago);
        vec![
            tunnel.name.clone(),
            count(tunnel.packets),
            count(tunnel.bytes),
            count(tunnel.outer_bytes),
            seen,
        ]
    });
    let mut text = render(
        &["tunnel", "packets", "bytes", "outer bytes", "last packet"],
        1,
        tunnels,
    );

    let tunnels = stats
        .tunnels
        .iter()
        .map(|tunnel| (tunnel.name.as_str(), &tunnel.reasons));
    let rest = Reason::ALL.iter().map(|reason| reason.name()).filter_map(|name| {
        let in_tunnels: u64 = stats.tunnels.iter().filter_map(|tunnel| tunnel.reasons.get(name)).sum();
        Some((name, stats.reasons.get(name)?.saturating_sub(in_tunnels))).filter(|(_, packets)| *packets != 0)
    });
    let rest = rest.collect();
    let rows = tunnels.chain([("-", &rest)]).flat_map(|(tunnel, reasons)| {
        reasons
            .iter()
            .map(move |(reason, packets)| vec![tunnel.to_owned(), (*reason).to_owned(), count(*packets)])
    });
    push_reasons(&mut text, "packets", rows);
    if !stats.redirects.is_empty() {
        let rows = stats
            .redirects
            .iter()
            .map(|redirects| vec![redirects.interface.clone(), count(redirects.failed)]);
        text.push('\n');
        text.push_str(&render(&["sent to", "not taken"], 1, rows));
    }
    text
}

fn rates_text(rates: &Rates) -> String {
    let tunnels = rates.tunnels.iter().map(|tunnel| {
        vec![
            tunnel.name.clone(),
            amount(tunnel.packets),
            amount(tunnel.bytes * 8.0),
            amount(tunnel.outer_bytes * 8.0),
        ]
    });
    let mut text = render(&["tunnel", "packets/s", "inner bit/s", "outer bit/s"], 1, tunnels);
    let tunnels = rates
        .tunnels
        .iter()
        .map(|tunnel| (tunnel.name.as_str(), &tunnel.reasons));
    let rows = tunnels.chain([("all", &rates.reasons)]).flat_map(|(tunnel, reasons)| {
        reasons
            .iter()
            .map(move |(reason, rate)| vec![tunnel.to_owned(), (*reason).to_owned(), amount(*rate)])
    });
    push_reasons(&mut text, "packets/s", rows);
    text
}

/// A table of reasons below another table, unless it would be empty.
fn push_reasons(text: &mut String, what: &str, rows: impl Iterator<Item = Vec<String>>) {
    let mut rows = rows.peekable();
    if rows.peek().is_some() {
        text.push('\n');
        text.push_str(&render(&["tunnel", "reason", what], 2, rows));
    }
}
