//! What is counted of the way that packets came: sequence numbers, lengths, fragments.

use std::iter;

use anyhow::{Context, Result};
use gre_tests::frame::{Ipv4, Packet};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::runner::Runner;
use crate::scrape::{DEFAULT, Scrape};
use crate::site::{CONFIG, REMOTE, Site, packet, site_or_return, tunnel};

const TUNNEL: &str = "tunnel=scrub-fra";

/// A packet with a sequence number.
fn numbered(number: u32) -> Packet {
    let mut packet = packet(REMOTE, Some(4200));
    packet.gre.sequence = Some(number);
    packet
}

/// A packet whose payload has so many bytes.
fn long(bytes: usize) -> Packet {
    let mut packet = packet(REMOTE, Some(4200));
    packet.payload = Ipv4::default().packet(&vec![0xaa; bytes - 20]);
    packet
}

fn fragment() -> Packet {
    let mut packet = packet(REMOTE, Some(4200));
    let header = Ipv4 {
        more_fragments: true,
        ..Ipv4::default()
    };
    packet.payload = header.packet(&[0xaa; 80]);
    packet
}

/// Waits until the tunnel has delivered so many packets, and gives its statistics.
fn delivered(site: &Site, packets: u64) -> Result<serde_json::Value> {
    Ok(tunnel(&site.stats_with("scrub-fra", packets)?, "scrub-fra").clone())
}

#[test]
fn numbers_tell_of_loss_reordering_and_duplicates() -> Result<()> {
    let site = site_or_return!();
    let mut runner = Runner::serving(&site, CONFIG, "")?;
    site.send(REMOTE, Some(4200))?;
    let stats = delivered(&site, 1)?;
    assert!(
        stats["sequence"].is_null(),
        "without numbers there is nothing to tell: {stats}"
    );

    // Over the wrap: two are missing, of which one comes late, and one comes twice.
    for number in [u32::MAX - 1, u32::MAX, 0, 3, 1, 4, 4] {
        site.send_packet(&numbered(number))?;
    }
    let stats = delivered(&site, 8)?;
    let told = json!({
        "numbered": 7, "missing": 2, "reordered": 1, "duplicates": 1, "old": 0, "restarts": 0, "lost": 1, "loss": 1.0 / 7.0
    });
    assert_eq!(stats["sequence"], told);
    let text = site.ok("", "stats")?;
    assert!(
        text.contains("\nscrub-fra        0 %      0 %      0 %  14 %          1        1\n"),
        "{text}"
    );
    let scrape = Scrape::of(&site, DEFAULT)?;
    for (event, count) in [
        ("numbered", 7.0),
        ("missing", 2.0),
        ("reordered", 1.0),
        ("duplicate", 1.0),
        ("old", 0.0),
        ("restart", 0.0),
    ] {
        let labels = format!("event={event} {TUNNEL}");
        assert_eq!(scrape.value("gre_decap_sequence", &labels), Some(count), "{event}");
    }

    // A reload forgets nothing: what comes next is the next.
    site.lab
        .write_file("config.toml", &format!("{CONFIG}sequence = 'ordered'"))?;
    runner.signal(Signal::SIGHUP)?;
    runner.says("loaded 1 tunnel on wan0 (native)\n")?;
    site.send_packet(&numbered(5))?;
    let stats = delivered(&site, 9)?;
    assert_eq!(
        (&stats["sequence"]["numbered"], &stats["sequence"]["missing"]),
        (&json!(8), &json!(2))
    );
    // Nor into maps of another size; and what is refused for its number has come all the same.
    site.lab
        .write_file("config.toml", &format!("max_tunnels = 9\n{CONFIG}sequence = 'ordered'"))?;
    runner.signal(Signal::SIGHUP)?;
    runner.says("loaded 1 tunnel on wan0 (native)\n")?;
    site.send_packet(&numbered(6))?;
    site.send_packet(&numbered(6))?;
    let stats = site.stats_when("a late packet", |stats| stats["reasons"]["sequence"] == 1)?;
    let sequence = &tunnel(&stats, "scrub-fra")["sequence"];
    assert_eq!(
        (&sequence["numbered"], &sequence["duplicates"], &sequence["missing"]),
        (&json!(10), &json!(2), &json!(2))
    );
    Ok(())
}

#[test]
fn a_restarted_sender_is_no_loss() -> Result<()> {
    let site = site_or_return!();
    site.ok(CONFIG, "load")?;
    let numbers: Vec<u32> = iter::once(1_000_000).chain(0..20).collect();
    for number in &numbers {
        site.send_packet(&numbered(*number))?;
    }
    let stats = delivered(&site, numbers.len() as u64)?;
    let sequence = &stats["sequence"];
    assert_eq!(
        (&sequence["restarts"], &sequence["old"], &sequence["lost"]),
        (&json!(1), &json!(15), &json!(0))
    );
    Ok(())
}

#[test]
fn lengths_and_fragments_are_counted() -> Result<()> {
    let site = site_or_return!();
    let _runner = Runner::serving(&site, CONFIG, "")?;
    let lengths = [100, 128, 129, 1280, 1281, 1400, 1452];
    for bytes in lengths {
        site.send_packet(&long(bytes))?;
    }
    site.send_packet(&fragment())?;
    let stats = delivered(&site, lengths.len() as u64 + 1)?;
    assert_eq!(stats["fragments"], 1);
    let sizes = stats["sizes"].as_array().context("sizes")?;
    let sizes: Vec<_> = sizes
        .iter()
        .map(|size| (&size["up_to"], size["packets"].as_u64()))
        .collect();
    let bounds = [128, 256, 512, 1024, 1280, 1476, 1500].map(|bound| json!(bound));
    let bounds: Vec<_> = bounds.into_iter().chain([json!(null)]).collect();
    let counts = [3, 1, 0, 0, 1, 3, 0, 0];
    let expected: Vec<_> = bounds.iter().zip(counts.map(Some)).collect();
    assert_eq!(sizes, expected);
    let text = site.ok("", "stats")?;
    assert!(
        text.contains("\nscrub-fra       12 %     38 %      0 %     -          -        -\n"),
        "{text}"
    );

    let scrape = Scrape::of(&site, DEFAULT)?;
    assert_eq!(scrape.value("gre_decap_fragments", TUNNEL), Some(1.0));
    let (buckets, sum) = scrape
        .histogram("gre_decap_packet_size_bytes", TUNNEL)
        .context("sizes")?;
    let cumulated = [3.0, 4.0, 4.0, 4.0, 5.0, 8.0, 8.0, 8.0];
    let bounds = [128.0, 256.0, 512.0, 1024.0, 1280.0, 1476.0, 1500.0, f64::INFINITY];
    assert_eq!(buckets, bounds.into_iter().zip(cumulated).collect::<Vec<_>>());
    assert_eq!(Some(sum), stats["bytes"].as_f64());
    Ok(())
}
