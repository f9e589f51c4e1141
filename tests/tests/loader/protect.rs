//! `[protect]` and `bypass` on the wire: what reaches the origin, what is counted, and what operators are told.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gre_tests::lab::PATIENCE;
use serde_json::{Value, json};

use crate::site::{CONFIG, REMOTE, Site, site_or_return, tunnel};

/// Protected addresses of the origin, to which the other end has a way around the tunnel; and that other end's own.
const PROTECTED: [&str; 2] = ["192.0.2.80", "2001:db8:2::80"];
const NEIGHBOUR: [&str; 2] = ["198.51.100.1", "2001:db8:2::1"];

fn with(lines: &str) -> String {
    format!("{CONFIG}\n[protect]\nprefixes = [\"192.0.2.0/24\", \"2001:db8:2::80\"]\n{lines}\n")
}

/// Gives the origin its addresses.
fn settle(site: &Site) -> Result<()> {
    site.origin.ip("address add 192.0.2.80/32 dev wan0")?;
    site.origin.ip("address add 2001:db8:2::80/64 dev wan0 nodad")?;
    site.scrub.ip("address add 198.51.100.1/24 dev wan")?;
    site.scrub.ip("address add 2001:db8:2::1/64 dev wan nodad")?;
    site.scrub.ip("route add 192.0.2.0/24 dev wan")?;
    Ok(())
}

/// Asks the protected addresses from the other end, of which only these are to answer. The others must count what is dropped: then
/// no answer is on its way.
fn check_answers(site: &Site, expected: [bool; 2]) -> Result<()> {
    for (address, expected) in PROTECTED.iter().zip(expected) {
        let dropped = lockdown(&site.json("stats")?);
        let ping = site.scrub.send_ping(address.parse::<IpAddr>()?, 32)?;
        if !expected {
            site.stats_when(&format!("the packet to {address} to be dropped"), |stats| {
                lockdown(stats) > dropped
            })?;
        }
        let answers = ping.reply(if expected { PATIENCE } else { Duration::ZERO })?.is_some();
        ensure!(answers == expected, "{address}: answers: {answers}");
    }
    Ok(())
}

fn lockdown(stats: &Value) -> u64 {
    stats["reasons"]["lockdown"].as_u64().unwrap_or(0)
}

#[test]
fn lockdown_is_off_monitors_and_enforces() -> Result<()> {
    let site = site_or_return!();
    settle(&site)?;
    site.ok(&with(""), "load")?;
    check_answers(&site, [true, true])?;
    assert_eq!(site.json("stats")?["reasons"], json!({}));

    site.ok(&with("lockdown = \"monitor\""), "load")?;
    check_answers(&site, [true, true])?;
    let stats = site.json("stats")?;
    // Neighbour discovery, to the protected address as well, is not counted.
    assert_eq!(stats["reasons"], json!({"lockdown": 2}));

    site.ok(&with("lockdown = \"enforce\""), "load")?;
    check_answers(&site, [false, false])?;
    let stats = site.json("stats")?;
    assert_eq!(stats["reasons"], json!({"lockdown": 4}));
    assert_eq!(tunnel(&stats, "scrub-fra")["reasons"], json!({}));
    let neighbours = site.scrub.ip("-6 neighbour show 2001:db8:2::80")?;
    ensure!(
        neighbours.contains("lladdr"),
        "neighbour discovery goes on: {neighbours}"
    );
    // Through the tunnel it is as before.
    site.send(REMOTE, Some(4200))?;
    site.stats_with("scrub-fra", 1)?;

    let [v4, v6] = NEIGHBOUR;
    site.ok(&with(&format!("lockdown = \"enforce\"\nallow = [\"{v4}\"]")), "load")?;
    check_answers(&site, [true, false])?;
    site.ok(
        &with(&format!("lockdown = \"enforce\"\nallow = [\"{v4}/32\", \"{v6}\"]")),
        "load",
    )?;
    check_answers(&site, [true, true])?;
    let status = site.json("status")?;
    assert_eq!(
        status["protect"],
        json!({"prefixes": 2, "inner_destinations": "off", "lockdown": "enforce", "allow": 2})
    );
    let text = site.ok("", "status")?;
    ensure!(
        text.contains("protect 2 prefixes: inner_destinations off, lockdown enforce, 2 allowed"),
        "{text}"
    );
    Ok(())
}

#[test]
fn inner_destinations_are_off_monitor_and_enforce() -> Result<()> {
    let site = site_or_return!();
    // The test's packets are for 192.0.2.80.
    let config =
        |lines: &str| format!("{CONFIG}\n[protect]\nprefixes = [\"192.0.2.81\", \"2001:db8::/32\"]\n{lines}\n");
    site.ok(&config(""), "load")?;
    site.send(REMOTE, Some(4200))?;
    let stats = site.stats_with("scrub-fra", 1)?;
    assert_eq!(stats["reasons"], json!({}));

    site.ok(&config("inner_destinations = \"monitor\""), "load")?;
    site.send(REMOTE, Some(4200))?;
    let stats = site.stats_with("scrub-fra", 2)?;
    assert_eq!(tunnel(&stats, "scrub-fra")["reasons"], json!({"inner_destination": 1}));

    site.ok(&config("inner_destinations = \"enforce\""), "load")?;
    site.send(REMOTE, Some(4200))?;
    let stats = site.stats_when("a packet for somewhere else", |stats| {
        tunnel(stats, "scrub-fra")["reasons"]["inner_destination"] == 2
    })?;
    assert_eq!(tunnel(&stats, "scrub-fra")["packets"], 2);

    let right = config("inner_destinations = \"enforce\"").replace("192.0.2.81", "192.0.2.80/31");
    site.ok(&right, "load")?;
    site.send(REMOTE, Some(4200))?;
    let stats = site.stats_with("scrub-fra", 3)?;
    assert_eq!(stats["reasons"], json!({"inner_destination": 2}));
    assert_eq!(site.ok(&right, "load")?, "nothing changed\n");
    Ok(())
}

/// Few prefixes are part of the program, and of more it is that they are looked up: each change of either takes another program, which
/// knows the prefixes that are in force.
#[test]
fn the_fifth_prefix_takes_another_program_and_so_does_any_change() -> Result<()> {
    let site = site_or_return!();
    let others = |count: u32| (0..count).map(|number| format!("\"10.{}.0.0/24\"", 2 * number));
    // The test's packets are for 192.0.2.80.
    let listing = |count: u32, last: &str| {
        let prefixes: Vec<_> = others(count - 1).chain([format!("\"{last}\"")]).collect();
        let prefixes = prefixes.join(", ");
        format!("{CONFIG}\n[protect]\ninner_destinations = \"enforce\"\nprefixes = [{prefixes}]\n")
    };
    let (right, wrong) = ("192.0.2.80/31", "192.0.2.82/31");
    let (mut program, mut delivered, mut dropped) = (Value::Null, 0, 0);
    for (count, last) in [
        (4, right),
        (5, right),
        (4, right),
        (4, wrong),
        (4, right),
        (5, wrong),
        (5, right),
        (1, wrong),
        (1, right),
    ] {
        let config = listing(count, last);
        let context = || format!("{count} prefixes, the last {last}");
        site.ok(&config, "load").with_context(context)?;
        let now = site.json("status")?["program"]["id"].clone();
        ensure!(now != program, "{}: the same program", context());
        program = now;
        assert_eq!(site.json("status")?["protect"]["prefixes"], count, "{}", context());
        *(if last == right { &mut delivered } else { &mut dropped }) += 1;
        site.send(REMOTE, Some(4200))?;
        site.stats_when(&format!("a packet with {}", context()), |stats| {
            let tunnel = tunnel(stats, "scrub-fra");
            let counted = tunnel["reasons"]["inner_destination"].as_u64().unwrap_or(0);
            tunnel["packets"] == delivered && counted == dropped
        })?;
        assert_eq!(site.ok(&config, "load")?, "nothing changed\n", "{}", context());
    }
    Ok(())
}

#[test]
fn what_is_bypassed_stays_encapsulated() -> Result<()> {
    let site = site_or_return!();
    let bypassing = |prefixes: &str| CONFIG.replace("key = 4200", &format!("key = 4200\nbypass = {prefixes}"));
    site.ok(&bypassing("[\"192.0.2.80/30\", \"fe80::/10\"]"), "load")?;
    site.send(REMOTE, Some(4200))?;
    let stats = site.stats_when("a bypassed packet", |stats| stats["reasons"]["bypass"] == 1)?;
    assert_eq!(tunnel(&stats, "scrub-fra")["packets"], 0);
    let status = site.json("status")?;
    assert_eq!(
        tunnel(&status, "scrub-fra")["bypass"],
        json!(["192.0.2.80/30", "fe80::/10"])
    );
    site.ok(&bypassing("[\"192.0.2.84/30\"]"), "load")?;
    site.send(REMOTE, Some(4200))?;
    site.stats_with("scrub-fra", 1)?;
    Ok(())
}

/// Ten thousand prefixes of each family, which cover what the test sends only by one of them.
fn thousands(seed: u32) -> String {
    let mut prefixes = vec!["\"192.0.2.80\"".to_owned()];
    for number in 0..10_000_u32 {
        let v4 = Ipv4Addr::from_bits(0x0a00_0000 + seed + (number << 8));
        prefixes.push(format!("\"{v4}/32\""));
        prefixes.push(format!("\"2001:db8:{:x}:{:x}::/64\"", number + 1, seed));
    }
    format!(
        "{CONFIG}\n[protect]\ninner_destinations = \"enforce\"\nprefixes = [{}]\n",
        prefixes.join(", ")
    )
}

#[test]
fn no_packet_is_lost_while_thousands_of_prefixes_are_replaced() -> Result<()> {
    let site = site_or_return!();
    let lists = [thousands(1), thousands(2)];
    site.ok(&lists[0], "load")?;
    assert_eq!(site.json("status")?["protect"]["prefixes"], 20_001);
    let sent = site.send_meanwhile(|| (1..=4).try_for_each(|round| site.ok(&lists[round % 2], "load").map(drop)))?;
    let arrived = sent - site.dropped_on_the_wire()?;
    let stats = site.stats_with("scrub-fra", arrived)?;
    assert_eq!(stats["reasons"], json!({}));
    assert_eq!(site.ok(&lists[0], "load")?, "nothing changed\n");
    Ok(())
}

/// Whoever is logged in, or talks BGP, to a protected address by no tunnel is named before it is too late.
#[test]
fn whom_lockdown_would_cut_off_is_told() -> Result<()> {
    let site = site_or_return!();
    settle(&site)?;
    let listener = site
        .origin
        .run(|| std::net::TcpListener::bind("192.0.2.80:179").context("listen"))?;
    let session = site
        .scrub
        .run(|| std::net::TcpStream::connect("192.0.2.80:179").context("connect"))?;
    let accepted = listener.accept()?;
    for (guard, drops) in [("monitor", "counts, and once enforced drops,"), ("enforce", "drops")] {
        let config = with(&format!("lockdown = \"{guard}\""));
        let login = |command: &str| -> Result<_> {
            let mut command = site.command(&config, command)?;
            command.env("SSH_CONNECTION", "203.0.113.7 50022 192.0.2.80 22");
            crate::site::Done::of(&command.output()?)
        };
        let ssh = format!(
            "warning: lockdown: {drops} packets of the SSH session that runs this, from 203.0.113.7, unless they come by a tunnel; \
             add 203.0.113.7 to `allow` in [protect]\n"
        );
        let bgp = format!(
            "warning: lockdown: {drops} packets of BGP sessions from 198.51.100.1, unless they come by a tunnel; add 198.51.100.1 to \
             `allow` in [protect]\n"
        );
        let checked = login("check")?;
        for line in [&ssh, &bgp] {
            ensure!(checked.stdout.contains(line.as_str()), "{line}: {checked:?}");
        }
        let loaded = login("load")?;
        assert_eq!(loaded.stderr, format!("{ssh}{bgp}"));
        assert_eq!(loaded.status, Some(0));
    }
    let config = with("lockdown = \"enforce\"\nallow = [\"198.51.100.0/24\", \"203.0.113.7\"]");
    site.ok(&config, "load")?;
    drop((session, accepted));
    Ok(())
}
