//! Tunnels changed under traffic: nothing is lost, and each packet is counted once.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::site::{CONFIG, LOCAL, REMOTE, Site, among_many, site_or_return, tunnel};
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
    for (load, config) in (1..).zip([CONFIG, &among_many(CONFIG)]) {
        site.ok(config, "load")?;
        let before = packets(&site.json("stats")?, "scrub-fra");
        let stream = Stream::start(&site, Some(4200))?;
        for round in 0..3 {
            for command in [
                // In place if there are many, and by a program of its own; the latter with what the program was loaded without, too.
                "add one --local 198.51.100.20 --remote 192.0.2.66",
                "add two --local 198.51.100.20 --remote 192.0.2.67,192.0.2.68 --deliver route",
                "disable one",
                "disable two",
                "enable two",
                "remove one",
                "remove two",
            ] {
                let done = site.run("", &format!("tunnel {command}"))?;
                ensure!(
                    done.status == Some(0),
                    "load {load}, round {round}: {command}: {done:?}"
                );
                stream.wait_for(BETWEEN)?;
            }
        }
        let received = stream.stop()?;
        check(&site, before + received.sent, &["scrub-fra"])?;
    }
    Ok(())
}

/// Few tunnels stand in places, of which all move when one before them comes or goes. Each packet must meet its own tunnel all the
/// same: any other would refuse it.
#[test]
fn places_of_few_tunnels_shift_under_traffic() -> Result<()> {
    let site = site_or_return!();
    let strict = |number: u8| {
        format!(
            "[[tunnel]]\nname = 'strict{number}'\nlocal = '198.51.100.20'\nremote = '192.0.2.{number}'\nchecksum = 'required'\n"
        )
    };
    let busy = CONFIG.replace("[\"203.0.113.10\", \"203.0.113.128/25\"]", "\"203.0.113.10\"");
    let (interface, busy) = busy.split_once("[[tunnel]]").context("an interface and a tunnel")?;
    let file = format!("{interface}{}{}[[tunnel]]{busy}{}", strict(1), strict(2), strict(3));
    site.ok(&file, "load")?;
    let stream = Stream::start(&site, Some(4200))?;
    for round in 0..10 {
        for command in [
            "remove strict1",
            "disable strict2",
            "remove strict2",
            "add first --local 198.51.100.20 --remote 192.0.2.4 --checksum required",
            "add second --local 198.51.100.20 --remote 192.0.2.5,192.0.2.6 --checksum required",
        ] {
            let done = site.run("", &format!("tunnel {command}"))?;
            ensure!(done.status == Some(0), "round {round}: {command}: {done:?}");
            stream.wait_for(BETWEEN)?;
        }
        // Five remotes: they were looked up.
        let done = site.run(&file, "load")?;
        ensure!(done.status == Some(0), "round {round}: {done:?}");
        stream.wait_for(BETWEEN)?;
    }
    let received = stream.stop()?;
    check(&site, received.sent, &["scrub-fra"])
}

/// A tunnel's own parameters change with each program, and so do its place among the few, and what is protected: each packet meets all of
/// the old ones or all of the new ones. In either place of the one there is then a tunnel that refuses its packets, and the guard of the
/// one with the prefixes of the other, which are none, would drop them.
#[test]
fn a_busy_tunnel_of_few_changes_under_traffic() -> Result<()> {
    let site = site_or_return!();
    let policies = [
        "checksum = 'ignore'\ninner = ['ipv4']",
        "checksum = 'forbidden'\nsequence = 'ignore'",
        "mss = 1400",
    ];
    let file = |round: usize| {
        let busy = format!("remote = '{REMOTE}'\nkey = 4200\n{}", policies[round % policies.len()]);
        let strict = "remote = '192.0.2.1'\nkey = 4200\nchecksum = 'required'".to_owned();
        let (tunnels, guard) = if round.is_multiple_of(2) {
            ([busy, strict], "")
        } else {
            let guard = "[protect]\nprefixes = ['192.0.2.0/24']\ninner_destinations = 'enforce'\n";
            ([strict, busy], guard)
        };
        let [first, second] = tunnels.map(|lines| format!("local = '{LOCAL}'\n{lines}\n"));
        format!(
            "[[interface]]\nname = 'wan0'\n[[tunnel]]\nname = 'first'\n{first}[[tunnel]]\nname = 'second'\n{second}{guard}"
        )
    };
    site.ok(&file(0), "load")?;
    let stream = Stream::start(&site, Some(4200))?;
    for round in 1..30 {
        let done = site.run(&file(round), "load")?;
        ensure!(done.status == Some(0), "round {round}: {done:?}");
        stream.wait_for(BETWEEN)?;
    }
    let received = stream.stop()?;
    check(&site, received.sent, &["first", "second"])
}

/// A tunnel takes the packets of a less specific one over, and leaves them to it again: all of them are one's or the other's.
#[test]
fn a_more_specific_tunnel_takes_over_and_gives_back_every_packet() -> Result<()> {
    let site = site_or_return!();
    let any = CONFIG.replace("[\"203.0.113.10\", \"203.0.113.128/25\"]", "\"any\"");
    take_over_and_give_back(&site, &any)
}

#[test]
fn a_more_specific_tunnel_beside_many_does_so_too() -> Result<()> {
    let site = site_or_return!();
    let any = CONFIG.replace("[\"203.0.113.10\", \"203.0.113.128/25\"]", "\"any\"");
    take_over_and_give_back(&site, &among_many(&any))
}

fn take_over_and_give_back(site: &Site, any: &str) -> Result<()> {
    site.ok(any, "load")?;
    let stream = Stream::start(site, Some(4200))?;
    for round in 0..20 {
        // One remote, or two.
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
    check(site, received.sent, &["scrub-fra", "exact"])
}
