//! `stats`: counters per tunnel and reason; with `--watch`, rates.

use std::cmp::Reverse;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::Error;
use crate::output::{print, print_json};
use crate::state::Root;
use crate::stats::{Rates, Size, Stats, TunnelStats};
use crate::table::{ago, amount, percent, render_narrow, unit};

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

/// The counters as tables, busiest first.
fn totals(stats: &Stats) -> String {
    let mut tunnels: Vec<_> = stats.tunnels.iter().collect();
    tunnels.sort_by_key(|tunnel| Reverse(tunnel.packets));
    let rows = tunnels.iter().map(|tunnel| {
        vec![
            tunnel.name.clone(),
            amount(tunnel.packets as f64),
            unit(tunnel.bytes as f64, "B"),
            unit(tunnel.outer_bytes as f64, "B"),
            tunnel.last_seen_seconds.map_or_else(|| "never".to_owned(), ago),
        ]
    });
    let mut text = render_narrow(&["tunnel", "packets", "inner", "outer", "last packet"], 1, rows);
    push_quality(&mut text, &tunnels);

    let mut rows = Vec::new();
    for tunnel in tunnels {
        rows.extend(
            tunnel
                .reasons
                .iter()
                .map(|(reason, packets)| (tunnel.name.as_str(), *reason, *packets)),
        );
    }
    rows.extend(stats.without_tunnel().map(|(reason, packets)| ("-", reason, packets)));
    rows.sort_by_key(|(_, _, packets)| Reverse(*packets));
    push_reasons(
        &mut text,
        "packets",
        rows.into_iter()
            .map(|(tunnel, reason, packets)| (tunnel, reason, packets as f64)),
    );
    if !stats.redirects.is_empty() {
        let rows = stats
            .redirects
            .iter()
            .map(|redirects| vec![redirects.interface.clone(), amount(redirects.failed as f64)]);
        text.push('\n');
        text.push_str(&render_narrow(&["sent to", "not taken"], 1, rows));
    }
    text
}

/// What tells of the way that packets came, for tunnels with traffic: fragments, long packets, and what numbers tell.
fn push_quality(text: &mut String, tunnels: &[&TunnelStats]) {
    let share = |part: u64, of: u64| percent(part as f64 / of.max(1) as f64);
    let rows = tunnels.iter().filter(|tunnel| tunnel.packets != 0).map(|tunnel| {
        // Those that fit through plain GRE on a path of 1500 bytes, and those that do not.
        let longer = |than| {
            let of_class = |size: &&Size| size.up_to.is_none_or(|up_to| up_to > than);
            tunnel.sizes.iter().filter(of_class).map(|size| size.packets).sum()
        };
        let numbers = tunnel.sequence.as_ref().map_or_else(
            || ["-", "-", "-"].map(str::to_owned),
            |numbers| {
                [
                    percent(numbers.loss),
                    amount(numbers.reordered as f64),
                    amount(numbers.duplicates as f64),
                ]
            },
        );
        let mut row = vec![
            tunnel.name.clone(),
            share(tunnel.fragments, tunnel.packets),
            share(longer(1280), tunnel.packets),
            share(longer(1476), tunnel.packets),
        ];
        row.extend(numbers);
        row
    });
    let rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        let header = [
            "tunnel",
            "fragments",
            ">1280 B",
            ">1476 B",
            "lost",
            "reordered",
            "doubled",
        ];
        text.push('\n');
        text.push_str(&render_narrow(&header, 1, rows.into_iter()));
    }
}

/// The rates as tables, busiest first.
fn rates_text(rates: &Rates) -> String {
    let mut tunnels: Vec<_> = rates.tunnels.iter().collect();
    tunnels.sort_by(|a, b| b.packets.total_cmp(&a.packets));
    let rows = tunnels.iter().map(|tunnel| {
        vec![
            tunnel.name.clone(),
            amount(tunnel.packets),
            amount(tunnel.bytes * 8.0),
            amount(tunnel.outer_bytes * 8.0),
        ]
    });
    let mut text = render_narrow(&["tunnel", "packets/s", "inner bit/s", "outer bit/s"], 1, rows);
    let by_tunnel = tunnels.iter().map(|tunnel| (tunnel.name.as_str(), &tunnel.reasons));
    let mut rows: Vec<_> = by_tunnel
        .chain([("all", &rates.reasons)])
        .flat_map(|(tunnel, reasons)| reasons.iter().map(move |(reason, rate)| (tunnel, *reason, *rate)))
        .collect();
    rows.sort_by(|(_, _, a), (_, _, b)| b.total_cmp(a));
    push_reasons(&mut text, "packets/s", rows.into_iter());
    text
}

/// A table of reasons below another table, unless it would be empty, and where to learn more about the first of them.
fn push_reasons<'a>(text: &mut String, what: &str, rows: impl Iterator<Item = (&'a str, &'a str, f64)>) {
    let mut rows = rows.peekable();
    let Some(&(_, first, _)) = rows.peek() else {
        return;
    };
    let rows = rows.map(|(tunnel, reason, number)| vec![tunnel.to_owned(), reason.to_owned(), amount(number)]);
    text.push('\n');
    text.push_str(&render_narrow(&["tunnel", "reason", what], 2, rows));
    text.push_str(&format!(
        "\nWhat a reason means and what to do: gre-decap explain {first}\n"
    ));
}
