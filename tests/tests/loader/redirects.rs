//! What becomes of packets after the program has sent them on.

use std::net::Ipv4Addr;
use std::time::Instant;

use anyhow::{Result, ensure};
use gre_tests::frame::{Addresses, Ipv4, PROTOCOL_UDP, udp_datagram};
use gre_tests::lab::{Namespace, PATIENCE};
use serde_json::{Value, json};

use crate::site::{CONFIG, REMOTE, ROOT, Site, packet, site_or_return, tunnel};

/// A server behind the origin, whose interface to it is `lan0`; the server's `eth0` takes what XDP sends there.
fn server(site: &Site) -> Result<Namespace> {
    let server = site.lab.namespace("server")?;
    site.lab.veth(site.origin.end("lan0"), server.end("eth0").napi())?;
    Ok(server)
}

/// [`CONFIG`] with more lines for its tunnel.
fn config(lines: &str) -> String {
    format!("{CONFIG}{lines}\n")
}

/// Sends packets with so many bytes of payload for the server, in frames for the origin.
fn send(site: &Site, packets: u64, payload: usize) -> Result<()> {
    let (client, server) = (Ipv4Addr::new(198, 18, 5, 7), Ipv4Addr::new(192, 0, 2, 80));
    let inner = Ipv4 {
        source: client,
        destination: server,
        protocol: PROTOCOL_UDP,
        ..Ipv4::default()
    };
    let mut packet = packet(REMOTE, Some(4200));
    packet.link.destination = [2, 0, 0, 0, 1, 2];
    packet.payload = inner.packet(&udp_datagram(Addresses::V4(client, server), &vec![0; payload]));
    (0..packets).try_for_each(|_| site.send_packet(&packet))
}

fn reason(stats: &Value, name: &str) -> u64 {
    stats["reasons"][name].as_u64().unwrap_or(0)
}

/// Sends packets, all of which fail, and checks that each is counted, by this interface, and once.
#[track_caller]
fn assert_fails(site: &Site, interface: &str, payload: usize, so_far: &mut (u64, u64)) -> Result<()> {
    for packets in [5, 1] {
        send(site, packets, payload)?;
        *so_far = (so_far.0 + packets, so_far.1 + packets);
        let (sent, failed) = *so_far;
        let stats = site.stats_when(&format!("{failed} of {sent} packets to fail"), |stats| {
            tunnel(stats, "scrub-fra")["packets"] == sent && reason(stats, "redirect_failed") >= failed
        })?;
        assert_eq!(reason(&stats, "redirect_failed"), failed);
        assert_eq!(stats["redirects"], json!([{"interface": interface, "failed": failed}]));
    }
    Ok(())
}

#[test]
fn what_an_interface_does_not_take_is_counted() -> Result<()> {
    let site = site_or_return!();
    let server = server(&site)?;
    site.ok(&config("deliver = { interface = 'lan0' }"), "load")?;

    send(&site, 3, 100)?;
    let stats = site.stats_with("scrub-fra", 3)?;
    assert_eq!((&stats["reasons"], &stats["redirects"]), (&json!({}), &Value::Null));

    let mut so_far = (3, 0);
    // The kernel refuses it: too big, or the interface is down.
    site.origin.ip("link set lan0 mtu 100")?;
    assert_fails(&site, "lan0", 200, &mut so_far)?;
    site.origin.ip("link set lan0 mtu 1500 down")?;
    assert_fails(&site, "lan0", 100, &mut so_far)?;
    site.origin.ip("link set lan0 up")?;
    // The driver does not take it: the other end is down.
    server.ip("link set eth0 down")?;
    assert_fails(&site, "lan0", 100, &mut so_far)?;
    server.ip("link set eth0 up")?;
    send(&site, 1, 100)?;
    so_far.0 += 1;
    site.stats_with("scrub-fra", so_far.0)?;
    // Nor is it ready any more to take what XDP sends.
    server.set_gro("eth0", false)?;
    assert_fails(&site, "lan0", 100, &mut so_far)?;

    let text = site.ok("", "stats")?;
    assert!(text.ends_with("\nsent to  not taken\nlan0            24\n"), "{text}");
    Ok(())
}

#[test]
fn what_goes_back_out_of_the_same_interface_is_watched_too() -> Result<()> {
    let site = site_or_return!();
    let deliver = "deliver = { interface = 'wan0', next_hop = '02:00:00:00:01:01' }";
    let done = site.run(&config(deliver), "load")?;
    assert_eq!(done.status, Some(0), "{done:?}");
    // The scrubbing centre's end takes nothing that XDP sends.
    let mut so_far = (0, 0);
    assert_fails(&site, "wan0", 100, &mut so_far)
}

#[test]
fn what_others_lose_is_not_counted() -> Result<()> {
    let (site, other) = (site_or_return!(), site_or_return!());
    let mut servers = Vec::new();
    for site in [&site, &other] {
        servers.push(server(site)?);
        site.ok(&config("deliver = { interface = 'lan0' }"), "load")?;
        send(site, 1, 100)?;
        site.stats_with("scrub-fra", 1)?;
    }
    // Both have the same numbers for their interfaces.
    let indices = |site: &Site| site.origin.ip("-oneline link show lan0");
    assert_eq!(indices(&site)?.split(' ').next(), indices(&other)?.split(' ').next());

    let mut so_far = (1, 0);
    other.origin.ip("link set lan0 down")?;
    assert_fails(&other, "lan0", 100, &mut so_far)?;
    other.origin.ip("link set lan0 up")?;
    servers[1].ip("link set eth0 down")?;
    assert_fails(&other, "lan0", 100, &mut so_far)?;
    let stats = site.json("stats")?;
    assert_eq!((&stats["reasons"], &stats["redirects"]), (&json!({}), &Value::Null));
    Ok(())
}

#[test]
fn counts_outlive_reloads_and_go_with_unload() -> Result<()> {
    let site = site_or_return!();
    let _server = server(&site)?;
    let deliver = config("deliver = { interface = 'lan0' }");
    let mut so_far = (0, 0);
    site.ok(&deliver, "load")?;
    site.origin.ip("link set lan0 down")?;
    assert_fails(&site, "lan0", 100, &mut so_far)?;
    // A new program with the maps of the old one, then with copies.
    for change in ["unknown = 'drop'\n", "unknown = 'drop'\nmax_tunnels = 7\n"] {
        site.ok(&format!("{change}{deliver}"), "load")?;
        assert_fails(&site, "lan0", 100, &mut so_far)?;
        let links = site.files(ROOT)?;
        let links: Vec<_> = links.iter().filter(|path| path.contains("/xdp_")).collect();
        assert_eq!(links.len(), 4, "{links:?}");
    }
    // Nothing is watched where nothing is sent on.
    site.ok(CONFIG, "load")?;
    assert!(!site.files(ROOT)?.iter().any(|path| path.contains("/xdp_")));
    assert_eq!(
        site.json("stats")?["redirects"],
        json!([{"interface": "lan0", "failed": so_far.1}])
    );
    // Of an interface that has gone the number is left.
    site.origin.ip("link delete lan0")?;
    let redirects = &site.json("stats")?["redirects"][0];
    assert!(
        redirects["interface"]
            .as_str()
            .is_some_and(|name| name.starts_with('#')),
        "{redirects}"
    );
    site.ok("", "unload")?;
    Ok(())
}

/// Sends until a queue was full, and checks that each packet has arrived or is counted as one that found it full.
#[test]
fn what_the_queue_of_a_core_does_not_take_is_counted() -> Result<()> {
    let site = site_or_return!();
    site.ok(&format!("spread_queue = 1\n{}", config("spread = 'all'")), "load")?;
    let (mut sent, deadline) = (0, Instant::now() + PATIENCE);
    loop {
        send(&site, 1000, 100)?;
        sent += 1000;
        let sent = sent - site.dropped_on_the_wire()?;
        let arrived = |stats: &Value| {
            let packets = tunnel(stats, "scrub-fra")["packets"].as_u64().unwrap_or(0);
            packets + reason(stats, "spread_full")
        };
        let stats = site.stats_when(&format!("{sent} packets"), |stats| arrived(stats) >= sent)?;
        assert_eq!((arrived(&stats), reason(&stats, "redirect_failed")), (sent, 0));
        if reason(&stats, "spread_full") > 0 {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "a queue for one packet was never full: {stats}"
        );
    }
}

/// In generic mode the kernel itself gives a frame to the way out.
#[test]
fn what_an_interface_does_not_take_is_counted_in_generic_mode() -> Result<()> {
    let site = site_or_return!();
    let _server = server(&site)?;
    let config = config("deliver = { interface = 'lan0' }").replace("\"wan0\"", "\"wan0\"\nmode = 'generic'");
    let done = site.run(&config, "load")?;
    assert_eq!(done.status, Some(0), "{done:?}");
    send(&site, 3, 100)?;
    let stats = site.stats_with("scrub-fra", 3)?;
    assert_eq!((&stats["reasons"], &stats["redirects"]), (&json!({}), &Value::Null));
    let mut so_far = (3, 0);
    site.origin.ip("link set lan0 mtu 100")?;
    assert_fails(&site, "lan0", 200, &mut so_far)?;
    site.origin.ip("link set lan0 mtu 1500 down")?;
    assert_fails(&site, "lan0", 100, &mut so_far)
}
