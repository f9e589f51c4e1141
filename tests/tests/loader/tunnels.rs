//! Tunnels shown, added, removed, enabled and disabled while they run.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::runner::Runner;
use crate::scrape::{DEFAULT, ask};
use crate::site::{CONFIG, REMOTE, STRANGER, Site, among_many, site_or_return, tunnel};

const FILE: &str = "; `gre-decap load` brings back what the file says\n";
/// A tunnel beside that of [`CONFIG`], at the same address: one more element of the maps.
const ADD: &str = "tunnel add b --local 198.51.100.20 --remote 192.0.2.66";

/// The ids of the interface's link and program, which is the one in force.
fn ids(site: &Site) -> Result<(Value, Value)> {
    let status = site.json("status")?;
    let interface = &status["interfaces"][0];
    assert_eq!(interface["program_id"], status["program"]["id"]);
    Ok((interface["link_id"].clone(), interface["program_id"].clone()))
}

/// The names of those that are not idle.
fn names(site: &Site) -> Result<Vec<String>> {
    let tunnels = site.json("tunnel list")?;
    let names = tunnels
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|tunnel| tunnel["name"].as_str());
    Ok(names
        .filter(|name| !name.starts_with("idle"))
        .map(str::to_owned)
        .collect())
}

#[test]
fn a_tunnel_comes_rests_and_goes_in_the_program_that_runs() -> Result<()> {
    let site = site_or_return!();
    let check_slots = || {
        let [(taken, tunnels), ..] = site.slots()?;
        ensure!(taken == tunnels, "{taken} of {tunnels} tunnels have slots");
        Ok(())
    };
    let (before, after) = come_rest_and_go(&site, &among_many(CONFIG), check_slots)?;
    assert_eq!(after, before, "the program was not replaced");
    Ok(())
}

#[test]
fn one_of_few_tunnels_comes_rests_and_goes_with_its_program() -> Result<()> {
    let site = site_or_return!();
    let check_slots = || {
        let [(taken, _), ..] = site.slots()?;
        ensure!(taken == 0, "{taken} slots are taken, and not looked at");
        Ok(())
    };
    let (before, after) = come_rest_and_go(&site, CONFIG, check_slots)?;
    assert_eq!(after.0, before.0, "the link stays");
    assert_ne!(after.1, before.1, "the tunnel is part of the program");
    Ok(())
}

/// Returns the ids of link and program before and after. After each change, `check` looks at the maps.
fn come_rest_and_go(
    site: &Site,
    config: &str,
    check: impl Fn() -> Result<()>,
) -> Result<((Value, Value), (Value, Value))> {
    site.ok(config, "load")?;
    check()?;
    site.send(STRANGER, None)?;
    site.stats_when("an unknown packet", |stats| stats["reasons"]["unknown_tunnel"] == 1)?;
    let before = ids(site)?;

    assert_eq!(site.ok("", ADD)?, format!("added tunnel b{FILE}"));
    check()?;
    site.send(STRANGER, None)?;
    site.stats_with("b", 1)?;
    assert_eq!(names(site)?, ["b", "scrub-fra"]);

    assert_eq!(site.ok("", "tunnel disable b")?, format!("disabled tunnel b{FILE}"));
    check()?;
    assert_eq!(site.ok("", "tunnel disable b")?, "tunnel b: is disabled already\n");
    site.send(STRANGER, None)?;
    site.stats_when("a packet of a disabled tunnel", |stats| {
        tunnel(stats, "b")["reasons"]["tunnel_disabled"] == 1
    })?;
    assert_eq!(tunnel(&site.json("status")?, "b")["enabled"], false);

    assert_eq!(site.ok("", "tunnel enable b")?, format!("enabled tunnel b{FILE}"));
    check()?;
    site.send(STRANGER, None)?;
    site.stats_with("b", 2)?;

    assert_eq!(site.ok("", "tunnel remove b")?, format!("removed tunnel b{FILE}"));
    check()?;
    assert_eq!(names(site)?, ["scrub-fra"]);
    site.send(STRANGER, None)?;
    site.stats_when("a second unknown packet", |stats| {
        stats["reasons"]["unknown_tunnel"] == 2
    })?;

    // What it has counted goes on, and another one starts at zero, whatever its id has counted.
    site.ok("", ADD)?;
    assert_eq!(tunnel(&site.json("stats")?, "b")["packets"], 2);
    site.ok("", "tunnel remove b")?;
    site.ok("", &ADD.replace("add b", "add c"))?;
    assert_eq!(tunnel(&site.json("stats")?, "c")["packets"], 0);
    site.ok("", "tunnel remove c")?;
    site.ok("", ADD)?;
    site.ok("", "tunnel remove b")?;
    let after = ids(site)?;
    assert_eq!(site.ok(config, "load")?, "nothing changed\n");
    Ok((before, after))
}

/// Many tunnels become few, and few many: each time the program is replaced by one that finds them so, and by no other.
#[test]
fn the_fifth_tunnel_takes_another_program() -> Result<()> {
    let site = site_or_return!();
    site.ok(&among_many(CONFIG), "load")?;
    site.ok("", ADD)?;
    let mut program = ids(&site)?.1;
    for (command, replaces) in [
        // Of seven, one that packets are looked up in stays.
        ("tunnel remove b", false),
        ("tunnel remove idle1", false),
        ("tunnel remove idle2", true),
        ("tunnel disable idle3", true),
        (ADD, true),
        ("tunnel disable idle4", false),
    ] {
        site.ok("", command)?;
        let now = ids(&site)?.1;
        assert_eq!(now != program, replaces, "{command}");
        program = now;
        site.send(REMOTE, Some(4200))?;
    }
    site.stats_with("scrub-fra", 6)?;
    assert_eq!(site.json("stats")?["reasons"], json!({}));
    Ok(())
}

/// What the program was loaded without, and what takes more than one element, takes a new one, as a load does.
#[test]
fn a_tunnel_that_the_program_cannot_take_replaces_it() -> Result<()> {
    let site = site_or_return!();
    let (_, _) = site.lab.veth(
        site.origin.end("lan0").address("10.0.0.1/24"),
        site.origin.end("lan1").gro(),
    )?;
    let exact = among_many(&CONFIG.replace("[\"203.0.113.10\", \"203.0.113.128/25\"]", "\"203.0.113.10\""));
    site.ok(&exact, "load")?;
    site.send(REMOTE, Some(4200))?;
    site.stats_with("scrub-fra", 1)?;
    let (link, mut program) = ids(&site)?;
    let mut sent = 0;
    for (options, sends) in [
        // Prefixes were pruned.
        ("--local 198.51.100.20 --remote 192.0.2.0/24", true),
        ("--local 198.51.100.20 --remote 192.0.2.66,192.0.2.67", true),
        ("--local 198.51.100.21 --remote 192.0.2.66", false),
        (
            "--local 198.51.100.20 --remote 192.0.2.66 --deliver lan0 --next-hop 02:00:00:00:00:09",
            false,
        ),
        ("--local 198.51.100.20 --remote 192.0.2.66 --spread 0", true),
    ] {
        site.ok("", &format!("tunnel add b {options}"))?;
        let (same, other) = ids(&site)?;
        assert_eq!(same, link, "{options}");
        assert_ne!(other, program, "{options}");
        if sends {
            sent += 1;
            site.send(STRANGER, None)?;
            site.stats_with("b", sent)?;
        }
        assert_eq!(tunnel(&site.json("stats")?, "scrub-fra")["packets"], 1, "{options}");
        site.ok("", "tunnel remove b")?;
        assert_eq!(names(&site)?, ["scrub-fra"]);
        // A program that was made for this configuration alone.
        site.ok(&format!("unknown = \"drop\"\n{exact}"), "load")?;
        site.ok(&exact, "load")?;
        program = ids(&site)?.1;
    }
    Ok(())
}

#[test]
fn every_key_of_the_file_is_an_option() -> Result<()> {
    let site = site_or_return!();
    site.ok(&format!("{CONFIG}\n[protect]\nprefixes = [\"192.0.2.0/24\"]\n"), "load")?;
    let all = "tunnel add b --local 2001:db8::1 --remote 2001:db8::2 --remote 2001:db8:f::/48 --key 0x10 --checksum required \
               --sequence ordered --inner ipv6,ipv4 --deliver route --spread 0 --mss 1400 --bypass 10.0.0.0/30 \
               --keepalive reply --keepalive-rate 7 --probes route --disabled";
    let done = site.run("", all)?;
    assert_eq!(done.status, Some(0), "{done:?}");
    let section = "[[tunnel]]\nname = \"b\"\nlocal = \"2001:db8::1\"\nremote = [\"2001:db8::2\", \"2001:db8:f::/48\"]\n\
                   key = 16\nchecksum = \"required\"\nsequence = \"ordered\"\ndeliver = \"route\"\nspread = \"0\"\nmss = 1400\n\
                   bypass = [\"10.0.0.0/30\"]\nkeepalive = \"reply\"\nkeepalive_rate = 7\n\
                   probes = \"route\"\nenabled = false\n";
    let shown = site.ok("", "tunnel show b")?;
    assert_eq!(
        shown,
        format!("{section}\n# delivered 0 packets, 0 B, the last never\n")
    );
    assert_eq!(
        tunnel(&json!({"tunnels": site.json("tunnel list")?}), "b"),
        &json!({
            "name": "b", "id": 2, "local": "2001:db8::1", "remote": ["2001:db8::2", "2001:db8:f::/48"], "key": 16,
            "checksum": "required", "sequence": "ordered", "inner": ["ipv4", "ipv6"], "deliver": "route", "spread": "0",
            "mss": 1400, "enabled": false, "bypass": ["10.0.0.0/30"], "keepalive": "reply", "keepalive_rate": 7,
            "probes": "route",
        })
    );
    let shown = site.json("tunnel show b")?;
    assert_eq!((&shown["key"], &shown["stats"]["packets"]), (&json!(16), &json!(0)));
    let list = site.ok("", "tunnel list")?;
    assert_eq!(list.lines().count(), 3, "{list}");
    // What few tunnels have is shown where one has it.
    let last = |line: usize| {
        list.lines()
            .nth(line)
            .map(|line| line.split_whitespace().rev().take(4).collect::<Vec<_>>())
    };
    assert_eq!(
        last(0),
        Some(vec!["probes", "keepalive", "bypass", "enabled"]),
        "{list}"
    );
    assert_eq!(last(1), Some(vec!["route", "7/s", "reply,", "10.0.0.0/30"]), "{list}");
    assert_eq!(last(2), Some(vec!["-", "-", "-", "yes"]), "{list}");
    let onward = "tunnel add c --local 2001:db8::1 --remote 2001:db8::3 --deliver wan0 --next-hop 02:00:00:00:00:01";
    let done = site.run("", onward)?;
    // It may warn of what that veth's other end does not take.
    assert_eq!(done.status, Some(0), "{done:?}");
    assert_eq!(
        site.json("tunnel show c")?["deliver"],
        json!({"interface": "wan0", "next_hop": "02:00:00:00:00:01"})
    );
    site.ok("", "tunnel remove c")?;
    // A second load of what it printed has nothing to do.
    let exported = site.ok("", "tunnel export")?;
    assert!(exported.contains(&format!("\n{section}")), "{exported}");
    assert_eq!(site.run(&exported, "load")?.stdout, "nothing changed\n");
    Ok(())
}

#[test]
fn wrong_changes_are_refused_and_change_nothing() -> Result<()> {
    let site = site_or_return!();
    let nothing = "/sys/fs/bpf/gre-decap: nothing is loaded; run `gre-decap load`";
    for command in [ADD, "tunnel remove b", "tunnel list", "tunnel export", "tunnel show b"] {
        site.refused("", command, 1, nothing)?;
    }
    site.ok(&format!("max_tunnels = 3\n{CONFIG}"), "load")?;
    let ends = "--local 198.51.100.20 --remote 192.0.2.66";
    for (arguments, status, line) in [
        (
            "add b --local 198.51.100.20 --remote 203.0.113.10 --key 4200".to_owned(),
            2,
            "tunnel b: --remote: [[tunnel]] \"scrub-fra\" of what runs has \"203.0.113.10\" with local 198.51.100.20 and key \
             4200 too; change one of them",
        ),
        (
            format!("add scrub-fra {ends}"),
            2,
            "tunnel scrub-fra: NAME: the tunnel of what runs has the same name; rename or remove one",
        ),
        (
            "add b --local 198.51.100.20 --remote 2001:db8::1".to_owned(),
            2,
            "tunnel b: --remote: \"2001:db8::1\" is IPv6, but `local` 198.51.100.20 is IPv4; write an IPv4 address or prefix",
        ),
        (
            format!("add b {ends},192.0.2.67"),
            2,
            "tunnel b: --remote: all tunnels together have 4 remotes, each remote takes one entry of the maps, and \
             `max_tunnels` is 3; raise `max_tunnels` to at least 4",
        ),
        (
            format!("add b {ends} --key x"),
            2,
            "tunnel b: --key: expected an integer from 0 to 4294967295, found \"x\"",
        ),
        (
            format!("add b {ends} --deliver nowhere0"),
            1,
            "tunnel b: delivers to nowhere0, which is not on this host (in this network namespace); it has: lo, wan0; what \
             was running goes on as before",
        ),
        ("remove b".to_owned(), 1, "tunnel b: does not run; these do: scrub-fra"),
        ("enable b".to_owned(), 1, "tunnel b: does not run; these do: scrub-fra"),
        ("show b".to_owned(), 1, "tunnel b: does not run; these do: scrub-fra"),
        (
            "add".to_owned(),
            2,
            "the following required arguments were not provided: --local <ADDRESS> --remote <ADDRESS> <NAME>; \
         see `gre-decap tunnel add --help`",
        ),
        (
            "bypass".to_owned(),
            2,
            "unrecognized subcommand 'bypass'; see `gre-decap tunnel --help`",
        ),
        (String::new(), 2, "no command; see `gre-decap tunnel --help`"),
    ] {
        site.refused("", &format!("tunnel {arguments}"), status, line)?;
    }
    Ok(())
}

/// In another network namespace there are other interfaces, neighbours and routes.
#[test]
fn tunnels_are_changed_only_where_they_run() -> Result<()> {
    let site = site_or_return!();
    site.ok(CONFIG, "load")?;
    let file = site.lab.write_file("empty.toml", "")?;
    let binary = site.command("", "")?.get_program().to_owned();
    let output = site
        .scrub
        .command(binary)
        .arg("--config")
        .arg(file)
        .args(["tunnel", "remove", "scrub-fra"])
        .output()?;
    let stderr = String::from_utf8(output.stderr)?;
    assert_eq!(
        stderr,
        "error: /sys/fs/bpf/gre-decap/links/wan0: attaches the program to an interface of another network namespace; run \
         gre-decap there, or choose another --root\n"
    );
    assert_eq!(names(&site)?, ["scrub-fra"]);
    Ok(())
}

/// Whoever changes tunnels, the process that stays shows them, follows their next hops, and goes on logging.
#[test]
fn run_knows_what_others_change() -> Result<()> {
    let site = site_or_return!();
    let mut runner = Runner::serving(&site, CONFIG, "--log-level debug")?;
    let scrape = || -> Result<String> { Ok(ask(&site, DEFAULT, "GET /metrics")?.body) };
    for (id, add, source) in [
        (2, ADD, STRANGER),
        // By a new program, which logs to the same process.
        (
            3,
            "tunnel add c --local 198.51.100.20 --remote 192.0.2.67,192.0.2.68",
            Ipv4Addr::new(192, 0, 2, 67),
        ),
    ] {
        let name = add.split(' ').nth(2).context("a name")?;
        site.ok("", add)?;
        site.send(source, None)?;
        site.stats_with(name, 1)?;
        runner.logs(&format!("tunnel {id}: delivered 33 bytes"))?;
        let text = scrape()?;
        let sample = format!("gre_decap_packets_total{{tunnel=\"{name}\"}} 1\n");
        assert!(text.contains(&sample), "{text}");
    }
    site.ok("", "tunnel remove b")?;
    assert!(!scrape()?.contains("tunnel=\"b\""));
    // Its file brings back what that says.
    site.lab.write_file("config.toml", CONFIG)?;
    runner.signal(Signal::SIGHUP)?;
    runner.says("loaded 1 tunnel on wan0 (native)\n")?;
    assert_eq!(names(&site)?, ["scrub-fra"]);
    runner.signal(Signal::SIGTERM)?;
    assert!(runner.child.wait()?.success());
    Ok(())
}
