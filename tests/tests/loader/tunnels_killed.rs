//! Changes of tunnels that are killed on the way.

use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use aya::maps::{Array, HashMap, MapData};
use gre_common::maps::{NAMES, TunnelName};
use serde_json::json;

use crate::site::{CONFIG, ROOT, Site, among_many, site_or_return, tunnel};
use crate::stream::Stream;

/// The names of those that are not idle.
fn names(site: &Site) -> Result<Vec<String>> {
    let status = site.json("status")?;
    let tunnels = status["tunnels"].as_array().context("tunnels")?;
    let names = tunnels.iter().filter_map(|tunnel| tunnel["name"].as_str());
    Ok(names
        .filter(|name| !name.starts_with("idle"))
        .map(str::to_owned)
        .collect())
}

/// Kills `command` ever later, until it gets through. After each time there is what was, or what is wanted; `back` gets to
/// where it was, over whatever was left.
fn kill_ever_later(site: &Site, command: &str, back: &str, step: Duration, wanted: &[&str]) -> Result<()> {
    let before = names(site)?;
    for steps in 0.. {
        let mut child = site.command("", command)?.stdout(Stdio::null()).spawn()?;
        thread::sleep(step * steps);
        let got_through = child.try_wait()?.is_some();
        child.kill()?;
        child.wait()?;
        let now = names(site)?;
        assert!(
            now == before || now == wanted,
            "{command} killed at step {steps}: {now:?}"
        );
        site.slots()
            .with_context(|| format!("{command} killed at step {steps}"))?;
        if now == wanted {
            site.ok("", back)?;
            assert_eq!(names(site)?, before, "{back} after step {steps}");
        }
        if got_through {
            break;
        }
    }
    Ok(())
}

#[test]
fn killed_at_any_time_the_old_or_the_new_state_is_there_and_traffic_flows() -> Result<()> {
    let site = site_or_return!();
    let (one, two) = ("192.0.2.66", "192.0.2.67,192.0.2.68");
    let add = |remotes| format!("tunnel add b --local 198.51.100.20 --remote {remotes}");
    let with_b = ["b", "scrub-fra"];
    let kill_both_ways = |remotes, step| -> Result<()> {
        kill_ever_later(&site, &add(remotes), "tunnel remove b", step, &with_b)?;
        site.ok("", &add(remotes))?;
        kill_ever_later(&site, "tunnel remove b", &add(remotes), step, &["scrub-fra"])?;
        site.ok("", "tunnel remove b").map(drop)
    };
    let (millis, micros) = (Duration::from_millis(17), Duration::from_micros(700));
    // Few, by a program of its own each time.
    site.ok(CONFIG, "load")?;
    let stream = Stream::start(&site, Some(4200))?;
    kill_both_ways(one, millis)?;
    // In place: all of it takes some milliseconds.
    site.ok(&among_many(CONFIG), "load")?;
    kill_both_ways(one, micros)?;
    // Many, and by a program of its own.
    kill_ever_later(&site, &add(two), "tunnel remove b", millis, &with_b)?;
    stream.wait_for(100)?;
    let received = stream.stop()?;
    let stats = site.json("stats")?;
    assert_eq!(tunnel(&stats, "scrub-fra")["packets"], received.sent);
    // A load finds its way, too, and one generation stays.
    site.ok(CONFIG, "load")?;
    let files = site.files(ROOT)?;
    assert_eq!(
        files.iter().filter(|file| file.ends_with("/program")).count(),
        1,
        "{files:?}"
    );
    Ok(())
}

/// As a change in place leaves it that is killed between the name and the tunnel.
#[test]
fn what_a_change_in_place_has_left_is_cleared_by_the_next() -> Result<()> {
    let site = site_or_return!();
    let config = among_many(CONFIG);
    site.ok(&config, "load")?;
    let mut name: TunnelName = [0; _];
    name[..4].copy_from_slice(b"left");
    let mut names_map: HashMap<MapData, u32, TunnelName> = site.pinned(NAMES)?.try_into()?;
    let mut revision: Array<MapData, u64> = site.pinned("REVISION")?.try_into()?;
    for command in [
        "tunnel disable scrub-fra",
        "tunnel add b --local 198.51.100.20 --remote 192.0.2.66",
        "load",
    ] {
        // Whatever replaced the generation, these are the maps in force.
        if command == "load" {
            names_map = site.pinned(NAMES)?.try_into()?;
            revision = site.pinned("REVISION")?.try_into()?;
        }
        names_map.insert(7, name, 0)?;
        let odd = revision.get(&0, 0)? | 1;
        revision.set(0, odd, 0)?;
        // Whoever only looks does, and sees what packets meet.
        assert!(!names(&site)?.contains(&"left".to_owned()), "{command}");
        site.json("stats")?;
        site.ok(&config, command)?;
        let stats = site.json("stats")?;
        assert_eq!(*tunnel(&stats, "left"), json!(null), "{command}");
        names_map = site.pinned(NAMES)?.try_into()?;
        revision = site.pinned("REVISION")?.try_into()?;
        assert_eq!(revision.get(&0, 0)? % 2, 0, "{command}");
    }
    assert_eq!(names(&site)?, ["scrub-fra"]);
    Ok(())
}
