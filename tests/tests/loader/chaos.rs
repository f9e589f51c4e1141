//! Whatever the control plane does, and whatever is done to it, under traffic that never stops: no packet is lost, and each is
//! counted once.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gre_tests::lab::Wire;
use gre_tests::skip::say;
use nix::sys::signal::Signal;
use proptest::prelude::Rng;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use serde_json::{Value, json};

use crate::runner::Runner;
use crate::site::{REMOTE, ROOT, Site, among_many, packet, site_or_return, tunnel};
use crate::stream::Stream;

/// Reloads in place.
const RELOADS: usize = 1000;
/// Replacements of the program.
const REPLACEMENTS: usize = 100;
/// Processes that are killed.
const KILLS: usize = 200;
/// How often an interface goes away.
const LOSSES: usize = 10;
/// Packets that must have arrived between one event and the next.
const BETWEEN: u64 = 20;

/// The tunnel that carries the traffic, and what else the file says: before it, in it, and after it.
fn config(top: &str, own: &str, more: &str) -> String {
    format!(
        "{top}\n[[interface]]\nname = 'wan0'\n\n[[tunnel]]\nname = 'busy'\nlocal = '198.51.100.20'\nremote = '203.0.113.10'\n\
         key = 4200\n{own}\n{more}\n"
    )
}

/// A second tunnel.
fn other(lines: &str) -> String {
    format!("[[tunnel]]\nname = 'other'\nlocal = '198.51.100.20'\nremote = '192.0.2.66'\n{lines}\n")
}

/// [`changes`] among so many tunnels that none takes another program.
fn changes_among_many() -> Vec<String> {
    changes().iter().map(|file| among_many(file)).collect()
}

/// Files of which each is told from the next by one change of a tunnel; likewise the last from the first.
fn changes() -> Vec<String> {
    vec![
        config("", "", ""),
        config("", "checksum = 'ignore'", ""),
        config("", "checksum = 'ignore'", &other("")),
        config("", "checksum = 'ignore'", &other("enabled = false")),
        config(
            "",
            "checksum = 'ignore'",
            &other("enabled = false\nsequence = 'ordered'"),
        ),
        config("", "", &other("enabled = false\nsequence = 'ordered'")),
        config("", "inner = ['ipv4']", &other("enabled = false\nsequence = 'ordered'")),
        config("", "inner = ['ipv4']", ""),
    ]
}

/// Files of which each takes another program than the next; likewise the last and the first.
fn replacements() -> Vec<String> {
    vec![
        config("", "", ""),
        config("unknown = 'drop'", "", ""),
        config(
            "",
            "",
            &other("key = 7").replace("'192.0.2.66'", "['192.0.2.66', '192.0.2.67']"),
        ),
        among_many(&config("", "", &other(""))),
        config(
            "unknown = 'drop'",
            "checksum = 'ignore'",
            &other("").replace("192.0.2.66", "any"),
        ),
    ]
}

/// What is loaded, and what must stay so.
fn link(site: &Site) -> Result<Value> {
    let status = site.json("status")?;
    let interface = &status["interfaces"][0];
    assert_eq!(interface["program_id"], status["program"]["id"], "{status}");
    Ok(interface["link_id"].clone())
}

fn program(site: &Site) -> Result<Value> {
    Ok(site.json("status")?["program"]["id"].clone())
}

/// Each packet must have arrived, and been counted as delivered by its tunnel.
fn check(site: &Site, stream: Stream) -> Result<u64> {
    let sent = stream.stop()?.sent;
    let stats = site.json("stats")?;
    assert_eq!(
        (&tunnel(&stats, "busy")["packets"], &stats["reasons"]),
        (&json!(sent), &json!({})),
        "{stats}"
    );
    Ok(sent)
}

/// What is said of a file that is in force.
fn loaded(file: &str) -> String {
    match file.matches("[[tunnel]]").count() {
        1 => "loaded 1 tunnel on wan0 (native)\n".to_owned(),
        tunnels => format!("loaded {tunnels} tunnels on wan0 (native)\n"),
    }
}

/// Has a `run` read one file after the other, under traffic. Returns the id of the program before and after.
fn reload_so_often(site: &Site, times: usize, files: &[String]) -> Result<(Value, Value)> {
    let first = files.first().context("a file")?;
    let mut runner = Runner::start(site, first, "--keep --listen off")?;
    runner.says(&loaded(first))?;
    let (link_id, before) = (link(site)?, program(site)?);
    let stream = Stream::start(site, Some(4200))?;
    let started = Instant::now();
    for file in files.iter().cycle().skip(1).take(times) {
        site.lab.write_file("config.toml", file)?;
        runner.signal(Signal::SIGHUP)?;
        runner.says(&loaded(file))?;
    }
    let time = started.elapsed();
    stream.wait_for(BETWEEN)?;
    assert_eq!(link(site)?, link_id);
    let sent = check(site, stream)?;
    say(&format!(
        "{times} reloads in {time:.1?}: {sent} packets sent, and received"
    ));
    Ok((before, program(site)?))
}

#[test]
fn a_thousand_reloads_lose_nothing() -> Result<()> {
    let site = site_or_return!();
    let (before, after) = reload_so_often(&site, RELOADS, &changes_among_many())?;
    assert_eq!(before, after, "none of them takes another program");
    Ok(())
}

#[test]
fn a_hundred_other_programs_lose_nothing() -> Result<()> {
    let site = site_or_return!();
    let (before, after) = reload_so_often(&site, REPLACEMENTS, &replacements())?;
    assert_ne!(before, after);
    Ok(())
}

/// A `load` or a `run` is killed at a random moment, and the next begins over what it has left.
#[test]
fn two_hundred_kills_lose_nothing() -> Result<()> {
    let site = site_or_return!();
    let config = Config::default();
    let seed = match config.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => RandomState::new().build_hasher().finish(),
    };
    let said = kill_so_often(&site, seed).with_context(|| format!("PROPTEST_RNG_SEED={seed}"))?;
    say(&format!("PROPTEST_RNG_SEED={seed}: {said}"));
    Ok(())
}

fn kill_so_often(site: &Site, seed: u64) -> Result<String> {
    let config = Config {
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    };
    let mut rng = TestRunner::new(config).new_rng();
    let mut below = |limit: u64| rng.next_u64() % limit;
    let files: Vec<_> = changes()
        .into_iter()
        .chain(changes_among_many())
        .chain(replacements())
        .collect();

    let started = Instant::now();
    site.ok(&files[0], "load")?;
    let whole = started.elapsed();
    let link_id = link(site)?;
    let stream = Stream::start(site, Some(4200))?;
    let (mut through, started) = (0, Instant::now());
    for kill in 0..KILLS {
        let file = &files[below(files.len() as u64) as usize];
        let command = ["load", "run --listen off --keep", "run --listen off"][below(3) as usize];
        let mut child = site
            .command(file, command)?
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        thread::sleep(Duration::from_micros(below(whole.as_micros() as u64 * 3 / 2)));
        through += usize::from(child.try_wait()?.is_some());
        child.kill()?;
        child.wait()?;
        stream
            .wait_for(BETWEEN)
            .with_context(|| format!("kill {kill}, of `{command}`"))?;
    }
    let time = started.elapsed();
    let done = site.run(&files[0], "load")?;
    ensure!(done.status == Some(0), "{done:?}");
    assert_eq!(link(site)?, link_id);
    let programs = site.files(ROOT)?.into_iter().filter(|file| file.ends_with("/program"));
    assert_eq!(programs.count(), 1);
    let sent = check(site, stream)?;
    Ok(format!(
        "{KILLS} processes killed in {time:.1?}, {through} of them too late: {sent} packets sent, and received"
    ))
}

/// What is sent while the interface is not there cannot arrive; all else does, on this interface and on the other.
#[test]
fn an_interface_that_goes_and_comes_loses_what_was_sent_meanwhile() -> Result<()> {
    const PACKETS: u64 = 200;
    let site = site_or_return!();
    let second = site.lab.namespace("second")?;
    let join = || site.lab.veth(second.end("wan"), site.origin.end("wan1"));
    join()?;
    let mut text = config("", "", &other("").replace("192.0.2.66", "any"));
    text += "[[interface]]\nname = 'wan1'\n";
    let mut runner = Runner::start(&site, &text, "--listen off")?;
    runner.says("loaded 2 tunnels on wan0 (native), wan1 (native)\n")?;
    let stream = Stream::start(&site, Some(4200))?;
    let mut sent = 0;
    for _ in 0..LOSSES {
        let wire = Wire::open(&second, "wan")?;
        for _ in 0..PACKETS {
            wire.send(&packet(REMOTE, None).frame())?;
        }
        sent += PACKETS;
        site.stats_with("other", sent)?;
        site.origin.ip("link delete wan1")?;
        runner.warns("warning: interface wan1: has gone")?;
        ensure!(
            wire.send(&packet(REMOTE, None).frame()).is_err(),
            "there is no interface to send on"
        );
        join()?;
        runner.says("wan1 (native) is back: attached again\n")?;
    }
    stream.wait_for(BETWEEN)?;
    check(&site, stream)?;
    assert_eq!(tunnel(&site.json("stats")?, "other")["packets"], sent);
    Ok(())
}
