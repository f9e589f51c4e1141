//! The metrics of `run`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use gre_tests::frame::{GreChecksum, Packet};
use gre_tests::lab::PATIENCE;
use gre_tests::skip::say;
use nix::sys::signal::Signal;
use openmetrics_parser::OpenMetricsType;

use crate::runner::Runner;
use crate::scrape::{DEFAULT, Scrape, ask};
use crate::site::{CONFIG, INNER_BYTES, OUTER_BYTES, REMOTE, STRANGER, Site, packet, site_or_return};

const TUNNEL: &str = "tunnel=scrub-fra";

#[test]
fn what_was_sent_is_scraped() -> Result<()> {
    let site = site_or_return!();
    let started = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    let mut runner = Runner::start(&site, CONFIG, "")?;
    runner.says("loaded 1 tunnel on wan0 (native)\n")?;
    runner.says("metrics at http://127.0.0.1:9470/metrics\n")?;

    let scrape = Scrape::of(&site, DEFAULT)?;
    assert_eq!(scrape.value("gre_decap_packets", TUNNEL), Some(0.0));
    assert_eq!(scrape.value("gre_decap_last_seen_timestamp_seconds", TUNNEL), None);
    let unknown = "action=pass reason=unknown_tunnel tunnel=";
    assert_eq!(scrape.value("gre_decap_reasons", unknown), Some(0.0));

    for _ in 0..3 {
        site.send(REMOTE, Some(4200))?;
    }
    site.send(STRANGER, Some(4200))?;
    let mut wrong = packet(REMOTE, Some(4200));
    wrong.gre.checksum = GreChecksum::Given(1);
    site.send_packet(&wrong)?;
    site.stats_when("all packets", |stats| {
        stats["tunnels"][0]["packets"] == 3 && stats["reasons"]["checksum_bad"] == 1
    })?;

    let scrape = Scrape::of(&site, DEFAULT)?;
    for (family, labels, value) in [
        ("gre_decap_packets", TUNNEL, 3.0),
        ("gre_decap_bytes", TUNNEL, 3.0 * INNER_BYTES as f64),
        ("gre_decap_outer_bytes", TUNNEL, 3.0 * OUTER_BYTES as f64),
        ("gre_decap_reasons", unknown, 1.0),
        ("gre_decap_reasons", "action=drop reason=unknown_tunnel tunnel=", 0.0),
        (
            "gre_decap_reasons",
            "action=drop reason=checksum_bad tunnel=scrub-fra",
            1.0,
        ),
        ("gre_decap_reasons", "action=drop reason=checksum_bad tunnel=", 0.0),
        ("gre_decap_interface", "interface=wan0 mode=native", 1.0),
        (
            "gre_decap_build",
            &format!("version={}", env!("CARGO_PKG_VERSION")),
            1.0,
        ),
        ("gre_decap_config_reloads", "result=success", 0.0),
        ("gre_decap_config_reloads", "result=failure", 0.0),
    ] {
        assert_eq!(scrape.value(family, labels), Some(value), "{family} {labels}");
    }
    let seen = scrape.value("gre_decap_last_seen_timestamp_seconds", TUNNEL);
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    // The kernel's coarse clock may be a tick behind.
    assert!(
        seen.is_some_and(|seen| (started - 1.0..now + 1.0).contains(&seen)),
        "{seen:?}"
    );

    runner.unloads()?;
    Ok(())
}

#[test]
fn families_are_those_of_the_contract() -> Result<()> {
    let site = site_or_return!();
    let _runner = Runner::serving(&site, CONFIG, "")?;
    let scrape = Scrape::of(&site, DEFAULT)?;
    let mut names = BTreeSet::new();
    for family in scrape.families() {
        let kind = match family.name.as_str() {
            "gre_decap_interface" | "gre_decap_build" => OpenMetricsType::Info,
            "gre_decap_last_seen_timestamp_seconds" => OpenMetricsType::Gauge,
            "gre_decap_packet_size_bytes" => OpenMetricsType::Histogram,
            _ => OpenMetricsType::Counter,
        };
        assert_eq!(family.kind, kind, "{}", family.name);
        assert!(family.help.len() > 10, "{}: {}", family.name, family.help);
        names.insert(family.name.as_str());
    }
    for name in [
        "packets",
        "bytes",
        "outer_bytes",
        "reasons",
        "interface",
        "build",
        "config_reloads",
    ] {
        assert!(names.contains(format!("gre_decap_{name}").as_str()), "{name}");
    }
    Ok(())
}

#[test]
fn a_configuration_that_does_nothing_is_scraped_too() -> Result<()> {
    let site = site_or_return!();
    let _runner = Runner::serving(&site, "", "")?;
    let scrape = Scrape::of(&site, DEFAULT)?;
    assert_eq!(scrape.value("gre_decap_config_reloads", "result=success"), Some(0.0));
    assert_eq!(ask(&site, DEFAULT, "GET /healthz")?.status, 503);
    Ok(())
}

#[test]
fn http_is_answered_as_it_asks() -> Result<()> {
    let site = site_or_return!();
    let _runner = Runner::serving(&site, CONFIG, "--keep")?;
    for (request, status, body) in [
        ("GET /healthz", 200, "attached to wan0 (native)\n"),
        ("HEAD /healthz", 200, ""),
        ("POST /healthz", 405, "GET and HEAD only\n"),
        (
            "GET /",
            404,
            "gre-decap: /metrics has the metrics, /healthz whether the program is attached\n",
        ),
    ] {
        let answer = ask(&site, DEFAULT, request)?;
        assert_eq!((answer.status, answer.body.as_str()), (status, body), "{request}");
    }
    // Somebody else unloads.
    site.ok("", "unload")?;
    let health = ask(&site, DEFAULT, "GET /healthz")?;
    assert_eq!(
        (health.status, health.body.as_str()),
        (503, "attached to no interface; run `gre-decap load`\n")
    );
    let metrics = ask(&site, DEFAULT, "GET /metrics")?;
    assert_eq!(
        (metrics.status, metrics.body.as_str()),
        (503, "/sys/fs/bpf/gre-decap: nothing is loaded; run `gre-decap load`\n")
    );
    // And loads again: another generation is scraped by the same process.
    site.ok(CONFIG, "load")?;
    assert_eq!(ask(&site, DEFAULT, "GET /healthz")?.status, 200);
    assert_eq!(
        Scrape::of(&site, DEFAULT)?.value("gre_decap_packets", TUNNEL),
        Some(0.0)
    );
    Ok(())
}

#[test]
fn reloads_are_counted_by_how_they_ended() -> Result<()> {
    let site = site_or_return!();
    let runner = Runner::serving(&site, CONFIG, "")?;
    for (file, then) in [
        (CONFIG, (1.0, 0.0)),
        ("unknown = 'perhaps'", (1.0, 1.0)),
        (CONFIG, (2.0, 1.0)),
    ] {
        site.lab.write_file("config.toml", file)?;
        runner.signal(Signal::SIGHUP)?;
        let deadline = Instant::now() + PATIENCE;
        while reloads(&site)? != then {
            ensure!(Instant::now() < deadline, "waited for {then:?}: {:?}", reloads(&site)?);
            thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

fn reloads(site: &Site) -> Result<(f64, f64)> {
    let scrape = Scrape::of(site, DEFAULT)?;
    let reloads = |result| scrape.value("gre_decap_config_reloads", result).unwrap_or(f64::NAN);
    Ok((reloads("result=success"), reloads("result=failure")))
}

#[test]
fn listens_where_it_is_told_to() -> Result<()> {
    let site = site_or_return!();
    let socket = "unix:/dev/shm/metrics";
    for (listen, url) in [
        ("[::1]:9470", "http://[::1]:9470/metrics"),
        (socket, "unix:/dev/shm/metrics, path /metrics"),
    ] {
        let mut runner = Runner::start(&site, CONFIG, &format!("--listen {listen}"))?;
        runner.says("loaded 1 tunnel on wan0 (native)\n")?;
        runner.says(&format!("metrics at {url}\n"))?;
        assert_eq!(Scrape::of(&site, listen)?.value("gre_decap_packets", TUNNEL), Some(0.0));

        // A second one finds it in use, and changes nothing.
        let line = format!(
            "--listen {listen}: is in use by another process, perhaps another gre-decap; choose another address, or `--listen \
             off`"
        );
        site.refused(
            CONFIG,
            &format!("--root /sys/fs/bpf/other run --listen {listen}"),
            1,
            &line,
        )?;
        runner.signal(Signal::SIGTERM)?;
        assert_eq!(
            runner.end()?,
            (Some(0), "unloaded from wan0\n".to_owned(), String::new())
        );
    }
    // The socket went with the process.
    let there = site.origin.run(|| Ok(fs::exists("/dev/shm/metrics")?))?;
    assert!(!there);

    // One that a killed process left is taken over; anything else is not.
    let dead = site.origin.run(|| Ok(UnixListener::bind("/dev/shm/metrics")?))?;
    drop(dead);
    // Another test's child may hold it from its fork to its exec.
    let began = Instant::now();
    while site
        .origin
        .run(|| Ok(UnixStream::connect("/dev/shm/metrics").is_ok()))?
    {
        assert!(began.elapsed() < PATIENCE, "the dead socket still answers");
        thread::sleep(Duration::from_millis(5));
    }
    let runner = Runner::serving(&site, CONFIG, &format!("--listen {socket}"))?;
    assert_eq!(ask(&site, socket, "GET /healthz")?.status, 200);
    runner.signal(Signal::SIGTERM)?;
    runner.end()?;
    site.lab.write_file("metrics", "mine")?;
    let line = "--listen unix:/dev/shm/metrics: something else is there; choose another path";
    site.refused(CONFIG, &format!("run --listen {socket}"), 1, line)?;

    let line = "--listen unix:/nonexistent/x: there is no such folder; make it, or choose another path";
    site.refused(CONFIG, "run --listen unix:/nonexistent/x", 1, line)?;

    let line = "--listen 192.0.2.99:9470: is no address of this host; choose one that is";
    site.refused(CONFIG, "run --listen 192.0.2.99:9470", 1, line)?;
    Ok(())
}

/// How long it takes is printed, not judged: `cargo xtask test many_tunnels` shows it.
#[test]
fn many_tunnels_are_scraped_whole() -> Result<()> {
    const TUNNELS: u32 = 10_000;
    let site = site_or_return!();
    let mut config = format!("max_tunnels = {TUNNELS}\n[[interface]]\nname = 'wan0'\n");
    for tunnel in 0..TUNNELS {
        let [_, a, b, c] = tunnel.to_be_bytes();
        config +=
            &format!("[[tunnel]]\nname = 'tunnel-{tunnel}'\nlocal = '198.51.100.20'\nremote = '10.{a}.{b}.{c}'\n");
    }
    let _runner = Runner::serving(&site, &config, "")?;
    let packet: Packet = packet([10, 0, 0x27, 0x0f].into(), None);
    site.send_packet(&packet)?;
    site.stats_with("tunnel-9999", 1)?;

    let started = Instant::now();
    let answer = ask(&site, DEFAULT, "GET /metrics")?;
    let took = started.elapsed();
    say(&format!(
        "a scrape of {TUNNELS} tunnels, {} bytes: {} ms",
        answer.body.len(),
        took.as_millis()
    ));
    let scrape = Scrape::parse(&answer.body)?;
    assert_eq!(scrape.value("gre_decap_packets", "tunnel=tunnel-9999"), Some(1.0));
    let packets = scrape
        .families()
        .iter()
        .find(|family| family.name == "gre_decap_packets");
    assert_eq!(packets.map(|family| family.samples.len()), Some(TUNNELS as usize));
    Ok(())
}
