//! A tunnel that answers keepalives, from the file to the kernel and back.

use anyhow::Result;
use gre_tests::frame::{Addresses, Gre, Packet, keepalive};
use serde_json::{Value, json};

use crate::site::{CONFIG, LOCAL, REMOTE, Site, WAN, site_or_return, tunnel};

const LOADED: &str = "loaded 1 tunnel on wan0 (native)\n";

fn with(lines: &str) -> String {
    format!("{CONFIG}{lines}\n")
}

/// A keepalive of the tunnel, in a frame for the interface.
fn asking(site: &Site) -> Result<Packet> {
    let key = Some(4200);
    let mut packet = keepalive(
        Addresses::V4(REMOTE, LOCAL),
        &Gre {
            protocol: 0,
            key,
            ..Gre::default()
        },
    );
    packet.gre.key = key;
    let links: Value = serde_json::from_str(&site.origin.ip(&format!("-json link show {WAN}"))?)?;
    let mac = links[0]["address"].as_str().unwrap_or_default();
    for (byte, text) in packet.link.destination.iter_mut().zip(mac.split(':')) {
        *byte = u8::from_str_radix(text, 16)?;
    }
    Ok(packet)
}

#[test]
fn the_rate_is_the_files() -> Result<()> {
    let site = site_or_return!();
    let rate = || anyhow::Ok(tunnel(&site.json("status")?, "scrub-fra")["keepalive_rate"].clone());
    assert_eq!(site.ok(&with("keepalive = \"reply\""), "load")?, LOADED);
    assert_eq!(rate()?, json!(10));
    let same = with("keepalive = \"reply\"\nkeepalive_rate = 10");
    assert_eq!(site.ok(&same, "load")?, "nothing changed\n");

    assert_eq!(
        site.ok(&with("keepalive = \"reply\"\nkeepalive_rate = 1"), "load")?,
        LOADED
    );
    assert_eq!(rate()?, json!(1));
    for _ in 0..5 {
        site.send_packet(&asking(&site)?)?;
    }
    let answered = |stats: &Value| stats["reasons"]["keepalive"].as_u64().unwrap_or(0);
    let dropped = |stats: &Value| stats["reasons"]["keepalive_rate"].as_u64().unwrap_or(0);
    let stats = site.stats_when("five keepalives", |stats| answered(stats) + dropped(stats) == 5)?;
    // On a slow machine one more may come due.
    assert!((1..=2).contains(&answered(&stats)), "{stats}");
    assert_eq!(tunnel(&stats, "scrub-fra")["packets"], 0, "no packet was delivered");

    // Counters go on; answers don't.
    assert_eq!(site.ok(CONFIG, "load")?, LOADED);
    assert_eq!(rate()?, Value::Null);
    let dropped_before = dropped(&stats);
    for _ in 0..5 {
        site.send_packet(&asking(&site)?)?;
    }
    let stats = site.stats_when("five more", |after| answered(after) == answered(&stats) + 5)?;
    assert_eq!(dropped(&stats), dropped_before);
    site.ok("", "unload")?;
    Ok(())
}

/// The interface's address is followed, for only what is sent there is answered.
#[test]
fn the_interfaces_address_is_in_the_kernel() -> Result<()> {
    let site = site_or_return!();
    site.ok(&with("keepalive = \"reply\""), "load")?;
    site.origin
        .ip(&format!("link set dev {WAN} address 02:00:00:00:77:01"))?;
    site.send_packet(&asking(&site)?)?;
    let count = |stats: &Value, reason: &str| stats["reasons"][reason].as_u64().unwrap_or(0);
    site.stats_when("a frame for an address not known yet", |stats| {
        count(stats, "other_host") == 1
    })?;
    site.ok(&with("keepalive = \"reply\""), "load")?;
    site.send_packet(&asking(&site)?)?;
    site.stats_when("an answer", |stats| count(stats, "keepalive") == 1)?;
    Ok(())
}
