//! Counters over reloads: they never go back, and miss nothing, by each tunnel's name.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::Result;
use serde_json::json;

use crate::site::{CONFIG, REMOTE, Site, Stop, site_or_return, tunnel};

/// [`CONFIG`] with room for so many remotes, and a second tunnel of this name.
fn with_second(name: &str, max_tunnels: usize) -> String {
    format!(
        "max_tunnels = {max_tunnels}\n{CONFIG}\n[[tunnel]]\nname = \"{name}\"\nlocal = \"198.51.100.20\"\nremote = \"any\"\n"
    )
}

/// Sends into a tunnel while `reload` goes on, and checks what is counted, all the time and in the end.
#[track_caller]
fn under_traffic(site: &Site, reload: impl FnOnce() -> Result<()>) -> Result<()> {
    let sent = site.send_meanwhile(|| read_meanwhile(site, reload))?;
    let arrived = sent - site.dropped_on_the_wire()?;
    let stats = site.stats_with("scrub-fra", arrived)?;
    assert_eq!(stats["reasons"], json!({}));
    Ok(())
}

/// Reads counters while `reload` goes on, and checks that none goes back.
#[track_caller]
fn read_meanwhile(site: &Site, reload: impl FnOnce() -> Result<()>) -> Result<()> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut before: BTreeMap<&str, u64> = BTreeMap::new();
            while !stop.load(Ordering::Relaxed) {
                let stats = site.json_beside("stats")?;
                for count in ["packets", "bytes", "outer_bytes"] {
                    let now = tunnel(&stats, "scrub-fra")[count].as_u64().unwrap_or(0);
                    let before = before.insert(count, now).unwrap_or(0);
                    assert!(now >= before, "{count} went from {before} back to {now}");
                }
            }
            anyhow::Ok(())
        });
        let reloaded = {
            let _stop = Stop(&stop);
            reload()
        };
        reloaded.and(reader.join().expect("counters do not go back"))
    })
}

#[test]
fn counters_miss_nothing_while_maps_grow_and_shrink_under_traffic() -> Result<()> {
    let site = site_or_return!();
    site.ok(&with_second("second", 8), "load")?;
    under_traffic(&site, || {
        [5000, 3, 64, 3, 1000]
            .into_iter()
            .try_for_each(|size| site.ok(&with_second("second", size), "load").map(drop))
    })
}

/// The new program is tried before it runs, with tunnels that count nothing: those must not be the ones that still run.
#[test]
fn counters_miss_nothing_while_only_the_program_changes_under_traffic() -> Result<()> {
    let site = site_or_return!();
    let config = |unknown: &str| format!("unknown = \"{unknown}\"\n{}", with_second("second", 8));
    site.ok(&config("pass"), "load")?;
    under_traffic(&site, || {
        ["drop", "pass", "drop", "pass"]
            .into_iter()
            .try_for_each(|unknown| site.ok(&config(unknown), "load").map(drop))
    })
}

/// With room for no more than there are, each new tunnel takes the counters of one that goes.
#[test]
fn counters_miss_nothing_while_others_take_over_under_traffic() -> Result<()> {
    let site = site_or_return!();
    let one = |name: &str| {
        let second = with_second(name, 2);
        second.replace(", \"203.0.113.128/25\"", "")
    };
    site.ok(&one("a"), "load")?;
    under_traffic(&site, || {
        ["b", "c", "d", "e"]
            .into_iter()
            .try_for_each(|name| site.ok(&one(name), "load").map(drop))
    })
}

#[test]
fn a_tunnel_that_comes_back_counts_on() -> Result<()> {
    let site = site_or_return!();
    let second = with_second("second", 64);
    site.ok(&second, "load")?;
    site.send(REMOTE, None)?;
    let before = site.stats_with("second", 1)?;
    // It is gone, and another one is there in the meantime.
    site.ok(CONFIG, "load")?;
    assert!(tunnel(&site.json("stats")?, "second").is_null());
    site.ok(&with_second("third", 64), "load")?;
    site.send(REMOTE, None)?;
    let stats = site.stats_with("third", 1)?;
    assert_eq!(stats["tunnels"].as_array().map(Vec::len), Some(2), "{stats}");
    // The maps may have got another size, too.
    site.ok(&with_second("second", 65), "load")?;
    let after = site.json("stats")?;
    for count in ["packets", "bytes", "outer_bytes"] {
        assert_eq!(
            tunnel(&after, "second")[count],
            tunnel(&before, "second")[count],
            "{count}"
        );
    }
    site.send(REMOTE, None)?;
    site.stats_with("second", 2)?;
    site.ok(&with_second("second", 65), "load")?;
    Ok(())
}
