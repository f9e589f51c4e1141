//! As many tunnels as anybody may have.

use std::fmt::Write;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use gre_tests::skip::say;

use crate::site::{CONFIG, packet, site_or_return};

const TUNNELS: u32 = 100_000;

fn config(changed: Option<u32>) -> Result<String> {
    let mut text = format!("max_tunnels = {TUNNELS}\n[[interface]]\nname = 'wan0'\n");
    for tunnel in 0..TUNNELS {
        let [_, a, b, c] = tunnel.to_be_bytes();
        writeln!(
            text,
            "[[tunnel]]\nname = 'tunnel-{tunnel}'\nlocal = '198.51.100.20'\nremote = '10.{a}.{b}.{c}'"
        )?;
        if changed == Some(tunnel) {
            text.push_str("checksum = 'required'\n");
        }
    }
    Ok(text)
}

/// How long it takes is printed, not judged; `cargo xtask bench --control` measures it.
#[test]
fn a_hundred_thousand_tunnels_are_loaded_listed_and_reloaded() -> Result<()> {
    let site = site_or_return!();
    let started = Instant::now();
    let text = config(None)?;
    assert_eq!(site.ok(&text, "load")?, "loaded 100000 tunnels on wan0 (native)\n");
    site.send_packet(&packet([10, 0x01, 0x86, 0x9f].into(), None))?;
    let count = |text: &str, what: &str| text.matches(what).count();
    let counted = "\"name\":\"tunnel-99999\",\"packets\":1,";
    let mut stats = String::new();
    while count(&stats, counted) == 0 {
        stats = site.ok("", "stats --json")?;
    }
    assert_eq!(count(&stats, "\"name\":\"tunnel-"), TUNNELS as usize);
    assert_eq!(site.ok(&text, "load")?, "nothing changed\n");

    let text = config(Some(50_000))?;
    assert_eq!(site.ok(&text, "load")?, "loaded 100000 tunnels on wan0 (native)\n");
    let status = site.ok("", "status --json")?;
    assert_eq!(count(&status, "\"checksum\":\"optional\""), TUNNELS as usize - 1);
    assert_eq!(count(&status, "\"checksum\":\"required\""), 1);
    assert_eq!(count(&site.ok("", "stats --json")?, counted), 1);
    say(&format!("{TUNNELS} tunnels: {} ms", started.elapsed().as_millis()));
    Ok(())
}

/// What `check` says beforehand is what the kernel says afterwards.
#[test]
fn the_memory_of_the_maps_follows_max_tunnels() -> Result<()> {
    let site = site_or_return!();
    let config = |max_tunnels: u32| format!("max_tunnels = {max_tunnels}\n{CONFIG}");
    let mut taken = Vec::new();
    for max_tunnels in [100_000, 200_000] {
        let checked = site.ok(&config(max_tunnels), "check")?;
        let line = checked.lines().find(|line| line.contains(": memory: "));
        let line = line.with_context(|| format!("a line about memory: {checked}"))?;
        let mut words = line.split(" takes ").nth(1).context("how much it takes")?.split(' ');
        let said: f64 = words.next().context("a number")?.parse()?;
        let factor = match words.next() {
            Some("MB") => 1e6,
            Some("GB") => 1e9,
            other => bail!("a unit, not {other:?}: {line}"),
        };
        site.ok(&config(max_tunnels), "load")?;
        let status = site.json("status")?;
        let bytes = status["map_memory_bytes"].as_f64().context("what the maps take")?;
        assert!((said * factor / bytes - 1.0).abs() < 0.05, "{bytes}: {line}");
        taken.push(bytes);
    }
    assert!(taken[1] > 1.8 * taken[0], "{taken:?}");
    Ok(())
}

#[test]
fn maps_are_filled_to_the_last_entry_and_not_beyond() -> Result<()> {
    let site = site_or_return!();
    let config = |remotes: [&str; 3], room: usize| {
        let tunnel = |(number, remote)| {
            format!("[[tunnel]]\nname = 't{number}'\nlocal = '198.51.100.20'\nremote = '{remote}'\n")
        };
        let tunnels: String = remotes.into_iter().enumerate().map(tunnel).collect();
        format!("max_tunnels = {room}\n[[interface]]\nname = 'wan0'\n{tunnels}")
    };
    let (addresses, prefixes) = (
        ["203.0.113.1", "203.0.113.2", "203.0.113.3"],
        ["203.0.113.0/24", "203.0.112.0/24", "any"],
    );
    for remotes in [addresses, prefixes] {
        assert_eq!(
            site.ok(&config(remotes, 3), "load")?,
            "loaded 3 tunnels on wan0 (native)\n"
        );
        site.refused(
            &config(remotes, 2),
            "load",
            2,
            "/dev/shm/config.toml:15: [[tunnel]] \"t2\": key `remote`: all tunnels together have 3 remotes, each remote takes one \
             entry of the maps, and `max_tunnels` is 2; raise `max_tunnels` to at least 3",
        )?;
    }
    Ok(())
}
