//! As many tunnels as anybody may have.

use std::fmt::Write;
use std::time::Instant;

use anyhow::Result;
use gre_tests::skip::say;

use crate::site::{packet, site_or_return};

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
