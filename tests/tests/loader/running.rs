//! `run`: what it does at signals, and its log.

use std::fs::File;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gre_tests::lab::PATIENCE;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::runner::Runner;
use crate::site::{CONFIG, REMOTE, ROOT, Site, site_or_return, tunnel};

#[test]
fn reloads_at_sighup_and_detaches_at_the_end() -> Result<()> {
    let site = site_or_return!();
    let before = site.everything()?;
    let mut runner = Runner::start(&site, CONFIG, "--listen off")?;
    runner.says("loaded 1 tunnel on wan0 (native)\n")?;
    let link = site.json("status")?["interfaces"][0]["link_id"].clone();

    site.lab.write_file("config.toml", &CONFIG.replace("4200", "7"))?;
    runner.signal(Signal::SIGHUP)?;
    runner.says("loaded 1 tunnel on wan0 (native)\n")?;
    // Every command that reads works beside it.
    let status = site.json("status")?;
    assert_eq!(status["tunnels"][0]["key"], 7);
    assert_eq!(status["interfaces"][0]["link_id"], link);

    // A wrong file is reported and changes nothing; the next signal shows that the process goes on.
    let running = site.everything()?;
    site.lab.write_file("config.toml", "unknown = 'perhaps'")?;
    runner.signal(Signal::SIGHUP)?;
    runner.warns("error: /dev/shm/config.toml:1: key `unknown`: expected \"pass\" or \"drop\", found 'perhaps'\n")?;
    site.lab.write_file("config.toml", &CONFIG.replace("4200", "7"))?;
    runner.signal(Signal::SIGHUP)?;
    runner.says("nothing changed\n")?;
    assert_eq!(site.everything()?, running);

    runner.unloads()?;
    assert_eq!(site.everything()?, before);
    Ok(())
}

#[test]
fn leaves_the_program_when_told_to() -> Result<()> {
    let site = site_or_return!();
    let mut runner = Runner::start(&site, CONFIG, "--keep --listen off")?;
    runner.says("loaded 1 tunnel on wan0 (native)\n")?;
    let running = site.everything()?;
    runner.signal(Signal::SIGINT)?;
    assert_eq!(runner.end()?, (Some(0), String::new(), String::new()));
    assert_eq!(site.everything()?, running);
    // The next one takes over.
    let mut runner = Runner::start(&site, CONFIG, "--listen off")?;
    runner.says("nothing changed\n")?;
    runner.signal(Signal::SIGINT)?;
    assert_eq!(
        runner.end()?,
        (Some(0), "unloaded from wan0\n".to_owned(), String::new())
    );
    Ok(())
}

#[test]
fn logs_packets_at_debug_and_has_no_code_for_it_otherwise() -> Result<()> {
    let site = site_or_return!();
    let instructions = |site: &Site| -> Result<u64> {
        let status = site.json("status")?;
        status["program"]["verified_instructions"]
            .as_u64()
            .context("verified instructions")
    };
    site.ok(CONFIG, "load")?;
    let silent = instructions(&site)?;

    let mut runner = Runner::start(&site, CONFIG, "--log-level debug --listen off")?;
    runner.says("loaded 1 tunnel on wan0 (native)\n")?;
    assert!(instructions(&site)? > silent);
    assert_eq!(site.json("status")?["log_level"], "debug");
    site.send(REMOTE, Some(4200))?;
    runner.warns("[DEBUG gre_ebpf] tunnel 1: delivered 33 bytes")?;

    // A program of a later load does not log here, and is detached all the same.
    site.ok(CONFIG, "load")?;
    assert_eq!(instructions(&site)?, silent);
    assert_eq!(tunnel(&site.json("stats")?, "scrub-fra")["packets"], json!(1));
    runner.signal(Signal::SIGTERM)?;
    let (status, stdout, _) = runner.end()?;
    assert_eq!((status, stdout.as_str()), (Some(0), "unloaded from wan0\n"));
    Ok(())
}

/// Two would each detach at its own end what the other stays for.
#[test]
fn one_process_at_a_time_stays() -> Result<()> {
    let site = site_or_return!();
    let mut first = Runner::start(&site, CONFIG, "--listen off")?;
    first.says("loaded 1 tunnel on wan0 (native)\n")?;
    let line = format!(
        "{ROOT}: `gre-decap run` stays with it already, as process {} (gre-decap); stop that one first, or choose another --root",
        first.child.id()
    );
    // Not even what it would load is loaded.
    site.refused(&CONFIG.replace("4200", "7"), "run --listen off", 1, &line)?;
    // Whoever does not stay may change it.
    site.ok(&CONFIG.replace("4200", "7"), "load")?;

    // What is unloaded and loaded beside it is its own from the next reload on.
    site.ok("", "unload")?;
    site.ok(CONFIG, "load")?;
    first.signal(Signal::SIGHUP)?;
    first.says("nothing changed\n")?;
    site.refused(CONFIG, "run --listen off", 1, &line)?;

    // A killed one stands in nobody's way.
    first.child.kill()?;
    first.child.wait()?;
    let mut second = Runner::start(&site, CONFIG, "--listen off")?;
    second.says("nothing changed\n")?;
    second.signal(Signal::SIGTERM)?;
    assert_eq!(second.end()?.1, "unloaded from wan0\n");
    Ok(())
}

/// What others have loaded anew while one stays is its own without a reload, as soon as it looks.
#[test]
fn what_was_loaded_meanwhile_is_stayed_with() -> Result<()> {
    let site = site_or_return!();
    let mut runner = Runner::start(&site, CONFIG, "--listen off")?;
    runner.says("loaded 1 tunnel on wan0 (native)\n")?;
    site.ok("", "unload")?;
    site.ok(CONFIG, "load")?;
    // It looks when this host changes, at the latest.
    site.origin.ip("address add 198.51.100.21/32 dev wan0")?;
    let is_held = || -> Result<bool> {
        let links = site.origin.run(|| Ok(File::open(format!("{ROOT}/links"))?))?;
        Ok(Flock::lock(links, FlockArg::LockSharedNonblock).is_err())
    };
    let deadline = Instant::now() + 2 * PATIENCE;
    while !is_held()? {
        ensure!(Instant::now() < deadline, "nobody stays with what was loaded");
        thread::sleep(Duration::from_millis(5));
    }
    let done = site.run(CONFIG, "run --listen off")?;
    assert_eq!(done.status, Some(1), "{done:?}");
    assert!(done.stderr.contains("stays with it already"), "{done:?}");
    runner.unloads()?;
    Ok(())
}

/// One that finds another process staying with what was loaded meanwhile leaves it alone, also at its end.
#[test]
fn what_another_process_stays_with_is_not_detached() -> Result<()> {
    let site = site_or_return!();
    let mut first = Runner::start(&site, CONFIG, "--listen off")?;
    first.says("loaded 1 tunnel on wan0 (native)\n")?;
    // It does not look, for the other is to be quicker.
    first.signal(Signal::SIGSTOP)?;
    site.ok("", "unload")?;
    let mut second = Runner::start(&site, CONFIG, "--listen off")?;
    second.says("loaded 1 tunnel on wan0 (native)\n")?;
    let running = site.everything()?;
    first.signal(Signal::SIGTERM)?;
    first.signal(Signal::SIGCONT)?;
    let who = format!(
        "{ROOT}: `gre-decap run` stays with it already, as process {} (gre-decap); stop that one first, or choose another --root",
        second.child.id()
    );
    let (status, stdout, stderr) = first.end()?;
    assert_eq!((status, stdout.as_str()), (Some(0), ""));
    // It may have looked before it heard that it is to end.
    let looked = format!("warning: {who}; until then this one changes nothing at its end\n");
    let ended = format!("warning: nothing is detached: {who}\n");
    assert_eq!(stderr.strip_prefix(&looked).unwrap_or(&stderr), ended);
    assert_eq!(site.everything()?, running);
    second.signal(Signal::SIGTERM)?;
    assert_eq!(
        second.end()?,
        (Some(0), "unloaded from wan0\n".to_owned(), String::new())
    );
    Ok(())
}
