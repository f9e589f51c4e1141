//! Tunnels changed under traffic: nothing is lost, and each packet is counted once.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::site::{CONFIG, Site, site_or_return, tunnel};
use crate::stream::Stream;

/// Datagrams that must have arrived between one change and the next.
const BETWEEN: u64 = 200;

fn packets(stats: &Value, name: &str) -> u64 {
    tunnel(stats, name)["packets"].as_u64().unwrap_or_default()
}

fn check(site: &Site, sent: u64, names: &[&str]) -> Result<()> {
    let stats = site.json("stats")?;
    let delivered: u64 = names.iter().map(|name| packets(&stats, name)).sum();
    assert_eq!((delivered, &stats["reasons"]), (sent, &json!({})), "{stats}");
    Ok(())
}

#[test]
fn changes_of_other_tunnels_lose_nothing() -> Result<()> {
    let site = site_or_return!();
    site.ok(CONFIG, "load")?;
    let stream = Stream::start(&site, Some(4200))?;
    for round in 0..3 {
        for command in [
            // In place, and by a program of its own; the latter with what the program was loaded without, too.
            "add one --local 198.51.100.20 --remote 192.0.2.66",
            "add two --local 198.51.100.20 --remote 192.0.2.67,192.0.2.68 --deliver route",
            "disable one",
            "disable two",
            "enable two",
            "remove one",
            "remove two",
        ] {
            let done = site.run("", &format!("tunnel {command}"))?;
            ensure!(done.status == Some(0), "round {round}: {command}: {done:?}");
            stream.wait_for(BETWEEN)?;
        }
    }
    let received = stream.stop()?;
    check(&site, received.sent, &["scrub-fra"])
}

/// A tunnel takes the packets of a less specific one over, and leaves them to it again: all of them are one's or the other's.
#[test]
fn a_more_specific_tunnel_takes_over_and_gives_back_every_packet() -> Result<()> {
    let site = site_or_return!();
    let any = CONFIG.replace("[\"203.0.113.10\", \"203.0.113.128/25\"]", "\"any\"");
    site.ok(&any, "load")?;
    let stream = Stream::start(&site, Some(4200))?;
    for round in 0..20 {
        // One element, or two.
        let more = if round % 2 == 0 { "" } else { ",203.0.113.11" };
        let add = format!("tunnel add exact --local 198.51.100.20 --remote 203.0.113.10{more} --key 4200");
        site.ok("", &add)?;
        stream.wait_for(BETWEEN)?;
        if round < 19 {
            site.ok("", "tunnel remove exact")?;
            stream.wait_for(BETWEEN)?;
        }
    }
    // What it counted before it was removed, and after it came back.
    let received = stream.stop()?;
    let stats = site.json("stats")?;
    assert!(
        packets(&stats, "exact") >= BETWEEN && packets(&stats, "scrub-fra") >= BETWEEN,
        "{stats}"
    );
    check(&site, received.sent, &["scrub-fra", "exact"])
}
