//! load, status, stats, unload.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result};
use serde_json::json;

use crate::site::{CONFIG, INNER_BYTES, OUTER_BYTES, REMOTE, ROOT, STRANGER, WAN, ends_with, site_or_return, tunnel};

#[test]
fn from_load_to_unload() -> Result<()> {
    let site = site_or_return!();
    let before = site.everything()?;
    assert_eq!(site.ok(CONFIG, "load")?, "loaded 1 tunnel on wan0 (native)\n");

    let status = site.json("status")?;
    let interface = &status["interfaces"][0];
    assert_eq!(
        (&interface["name"], &interface["mode"]),
        (&json!(WAN), &json!("native"))
    );
    assert_eq!((&interface["up"], &interface["driver"]), (&json!(true), &json!("veth")));
    assert_eq!(interface["program_id"], status["program"]["id"]);
    assert!(
        site.origin
            .ip(&format!("-details link show {WAN}"))?
            .contains(&format!("prog/xdp id {} ", status["program"]["id"])),
        "the kernel says what status says"
    );
    assert_eq!(
        status["tunnels"],
        json!([{
            "name": "scrub-fra", "id": 1, "local": "198.51.100.20", "remote": ["203.0.113.10", "203.0.113.128/25"],
            "key": 4200, "checksum": "optional", "sequence": "ignore", "inner": ["ipv4", "ipv6"],
            "deliver": "stack", "spread": "off", "mss": "off",
            "keepalive": "ignore", "probes": "off", "enabled": true
        }])
    );
    assert_eq!(
        (&status["unknown"], &status["max_tunnels"]),
        (&json!("pass"), &json!(1024))
    );

    // Nothing has been counted, and JSON keeps the contract's keys all the same.
    assert_eq!(
        site.json("stats")?,
        json!({
            "interfaces": [{"name": WAN, "mode": "native"}],
            "tunnels": [{"name": "scrub-fra", "packets": 0, "bytes": 0, "outer_bytes": 0, "reasons": {}}],
            "reasons": {}
        })
    );
    for _ in 0..3 {
        site.send(REMOTE, Some(4200))?;
    }
    site.send(STRANGER, Some(4200))?;
    site.send(REMOTE, None)?;
    let stats = site.stats_when("two strangers", |stats| stats["reasons"]["unknown_tunnel"] == 2)?;
    let scrub = tunnel(&stats, "scrub-fra");
    assert_eq!(scrub["packets"], 3);
    assert_eq!(scrub["bytes"], 3 * INNER_BYTES);
    assert_eq!(scrub["outer_bytes"], 3 * OUTER_BYTES);
    assert!(
        scrub["last_seen_seconds"]
            .as_f64()
            .is_some_and(|seconds| seconds >= 0.0),
        "{scrub}"
    );

    let text = site.ok("", "stats")?;
    assert!(
        text.starts_with("tunnel     packets  inner  outer  last packet"),
        "{text}"
    );
    assert!(text.contains("\nscrub-fra        3   99 B  183 B"), "{text}");
    assert!(text.contains("\n-       unknown_tunnel        2\n"), "{text}");
    assert!(
        text.contains("\nscrub-fra        0 %      0 %      0 %     -          -        -\n"),
        "{text}"
    );
    assert!(
        text.ends_with("\nWhat a reason means and what to do: gre-decap explain unknown_tunnel\n"),
        "{text}"
    );
    let text = site.ok("", "status")?;
    assert!(text.contains("\nwan0       native  up    veth "), "{text}");
    assert!(
        text.contains("\nscrub-fra  198.51.100.20  203.0.113.10 203.0.113.128/25  4200  optional  ignore"),
        "{text}"
    );

    assert_eq!(site.ok("", "unload")?, "unloaded from wan0\n");
    assert_eq!(site.everything()?, before);
    assert_eq!(site.ok("", "unload")?, format!("{ROOT}: nothing is loaded\n"));
    let nothing = format!("{ROOT}: nothing is loaded; run `gre-decap load`");
    for command in ["status", "stats", "status --json", "stats --json --watch"] {
        site.refused("", command, 1, &nothing)?;
    }
    Ok(())
}

#[test]
fn loading_again_changes_nothing() -> Result<()> {
    let site = site_or_return!();
    site.ok(CONFIG, "load")?;
    let before = site.everything()?;
    assert_eq!(site.ok(CONFIG, "load")?, "nothing changed\n");
    assert_eq!(site.everything()?, before);
    Ok(())
}

#[test]
fn instances_live_side_by_side() -> Result<()> {
    let site = site_or_return!();
    // Dots are what file names in a BPF filesystem cannot have.
    site.lab.veth(site.origin.end("wan.1.2"), site.origin.end("spare"))?;
    let second = "--root /sys/fs/bpf/second";
    let dotted = CONFIG.replace(WAN, "wan.1.2");
    site.ok(CONFIG, "load")?;
    assert_eq!(
        site.ok(&dotted, &format!("{second} load"))?,
        "loaded 1 tunnel on wan.1.2 (native)\n"
    );
    assert!(
        site.files("/sys/fs/bpf/second/links")?
            .iter()
            .any(|file| ends_with(file, "wan%2E1%2E2"))
    );
    let status = site.json(&format!("{second} status"))?;
    assert_eq!(status["interfaces"][0]["name"], "wan.1.2");
    assert_eq!(site.ok("", "unload")?, "unloaded from wan0\n");
    assert_eq!(site.ok(&dotted, &format!("{second} load"))?, "nothing changed\n");
    assert_eq!(site.ok("", &format!("{second} unload"))?, "unloaded from wan.1.2\n");
    Ok(())
}

#[test]
fn a_configuration_that_does_nothing_is_loaded_with_a_warning() -> Result<()> {
    let site = site_or_return!();
    let done = site.run("", "load")?;
    assert_eq!(done.status, Some(0));
    assert_eq!(done.stdout, "loaded 0 tunnels on no interface\n");
    assert_eq!(
        done.stderr,
        "warning: /dev/shm/config.toml: no [[interface]]: nothing to attach to; add one for each interface that receives \
         GRE\nwarning: /dev/shm/config.toml: no [[tunnel]]: nothing to decapsulate; add one for each GRE tunnel that ends \
         on this host\n"
    );
    assert_eq!(site.json("status")?["interfaces"], json!([]));
    Ok(())
}

#[test]
fn watching_ends_quietly_when_nobody_reads_on() -> Result<()> {
    let site = site_or_return!();
    site.ok(CONFIG, "load")?;
    for (arguments, first) in [
        ("stats --watch 0.1", "tunnel     packets/s  inner bit/s  outer bit/s\n"),
        (
            "stats --watch 0.1 --json",
            "{\"interfaces\":[{\"name\":\"wan0\",\"mode\":\"native\"}],",
        ),
    ] {
        let mut command = site.command("", arguments)?;
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("its output")?).read_line(&mut line)?;
        assert!(line.starts_with(first), "{line}");
        let output = child.wait_with_output()?;
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    }
    Ok(())
}

#[test]
fn a_file_is_checked_without_changing_anything() -> Result<()> {
    let site = site_or_return!();
    let before = site.everything()?;
    let done = site.run(CONFIG, "check")?;
    assert!(
        done.stdout
            .starts_with("/dev/shm/config.toml: the configuration is valid\n"),
        "{done:?}"
    );
    assert_eq!((done.status, done.stderr.as_str()), (Some(0), ""), "{done:?}");
    let done = site.run(&CONFIG.replace(WAN, "wan9"), "check")?;
    assert_eq!(done.status, Some(1), "{done:?}");
    assert!(
        done.stderr.starts_with("error: wan9: there is no such interface"),
        "{done:?}"
    );
    assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
    assert_eq!(site.everything()?, before);
    site.refused(
        "unknown = 7",
        "check",
        2,
        "/dev/shm/config.toml:1: key `unknown`: expected \"pass\" or \"drop\", found 7",
    )
}
