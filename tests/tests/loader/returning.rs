//! Interfaces that go away and come back while `run` stays.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gre_tests::lab::{Lab, Namespace, PATIENCE, Wire};
use gre_user::host::has_tcx;
use nix::net::if_::if_nameindex;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::runner::Runner;
use crate::site::{CONFIG, REMOTE, Site, packet, site_or_return, tunnel};

/// [`CONFIG`] with a second interface.
fn both(mode: &str) -> String {
    format!("{CONFIG}\n[[interface]]\nname = \"wan1\"\nmode = \"{mode}\"\n")
}

const GONE: &str =
    "warning: interface wan1: has gone; `gre-decap run` attaches again when it is back, and so does `gre-decap load`\n";

/// A second scrubbing centre, on the origin's `wan1`.
struct Second {
    scrub: Namespace,
}

impl Second {
    fn new(site: &Site) -> Result<Self> {
        let scrub = site.lab.namespace("second")?;
        let second = Self { scrub };
        second.join(&site.lab, &site.origin, "wan1")?;
        Ok(second)
    }

    fn join(&self, lab: &Lab, origin: &Namespace, name: &str) -> Result<()> {
        lab.veth(self.scrub.end("wan"), origin.end(name)).map(drop)
    }

    /// Sets the origin's end up, and waits until packets pass: the kernel notices in its own time.
    fn set_up(&self, origin: &Namespace, name: &str) -> Result<()> {
        origin.ip(&format!("link set {name} up"))?;
        let deadline = Instant::now() + PATIENCE;
        for (namespace, name) in [(origin, name), (&self.scrub, "wan")] {
            while !namespace
                .ip(&format!("-oneline link show dev {name}"))?
                .contains(" state UP ")
            {
                ensure!(Instant::now() < deadline, "waited for {name} to be up");
                thread::sleep(Duration::from_millis(2));
            }
        }
        Ok(())
    }

    /// Sends one packet through the tunnel to the origin's `wan1`.
    fn send(&self) -> Result<()> {
        Wire::open(&self.scrub, "wan")?.send(&packet(REMOTE, Some(4200)).frame())
    }
}

fn interface(site: &Site, name: &str) -> Result<Value> {
    let status = site.json("status")?;
    let interfaces = status["interfaces"].as_array().context("interfaces")?;
    let found = interfaces.iter().find(|interface| interface["name"] == name);
    Ok(found.cloned().unwrap_or(Value::Null))
}

#[test]
fn an_interface_that_is_back_gets_the_program_again() -> Result<()> {
    let site = site_or_return!();
    let second = Second::new(&site)?;
    let mut run = Runner::start(&site, &both("native"), "--listen off")?;
    run.says("loaded 1 tunnel on wan0 (native), wan1 (native)\n")?;
    second.send()?;
    site.stats_with("scrub-fra", 1)?;
    let first = interface(&site, "wan0")?;

    site.origin.ip("link delete wan1")?;
    run.warns(GONE)?;
    assert_eq!(interface(&site, "wan1")?["mode"], "gone");
    site.send(REMOTE, Some(4200))?;
    site.stats_with("scrub-fra", 2)?;

    second.join(&site.lab, &site.origin, "wan1")?;
    run.says("wan1 (native) is back: attached again\n")?;
    second.send()?;
    site.stats_with("scrub-fra", 3)?;
    assert_eq!(interface(&site, "wan1")?["program_id"], first["program_id"]);

    // Under another name first, as udev does it.
    site.origin.ip("link delete wan1")?;
    run.warns(GONE)?;
    second.join(&site.lab, &site.origin, "other")?;
    site.origin.ip("link set other down")?;
    site.origin.ip("link set other name wan1")?;
    run.says("wan1 (native) is back: attached again\n")?;
    second.set_up(&site.origin, "wan1")?;
    second.send()?;
    let stats = site.stats_with("scrub-fra", 4)?;
    assert_eq!(stats["reasons"], json!({}));

    // A name that changes is followed by the link itself.
    let link = interface(&site, "wan1")?["link_id"].clone();
    site.origin.ip("link set wan1 down")?;
    site.origin.ip("link set wan1 name wan2")?;
    second.set_up(&site.origin, "wan2")?;
    second.send()?;
    site.stats_with("scrub-fra", 5)?;
    assert_eq!(interface(&site, "wan2")?["link_id"], link);
    assert_eq!(interface(&site, "wan0")?, first, "nothing was done to the other one");

    run.signal(Signal::SIGTERM)?;
    assert_eq!(run.child.wait()?.code(), Some(0));
    assert!(!site.origin.ip("-details link show")?.contains("prog/xdp"));
    Ok(())
}

/// The program on its way out comes back with it.
#[test]
fn its_way_out_gets_its_program_again() -> Result<()> {
    let site = site_or_return!();
    let second = Second::new(&site)?;
    let config = both("native") + "clamp_mss = 1300\n[protect]\nprefixes = ['192.0.2.0/24']\n";
    let mut run = Runner::start(&site, &config, "--listen off")?;
    run.says("loaded 1 tunnel on wan0 (native), wan1 (native)\n")?;
    let way_out = || Ok::<_, anyhow::Error>(interface(&site, "wan1")?["egress"].take());
    let mut before = way_out()?;
    assert_eq!(before["mss_ipv4"], 1300);
    for _ in 0..2 {
        site.origin.ip("link delete wan1")?;
        run.warns(GONE)?;
        second.join(&site.lab, &site.origin, "wan1")?;
        run.says("wan1 (native) is back: attached again\n")?;
        let mut after = way_out()?;
        // A filter has none.
        if has_tcx()? {
            assert_ne!(before["link_id"], after["link_id"], "a link of its own");
            before["link_id"] = after["link_id"].clone();
        }
        assert_eq!(after.take(), before);
    }
    assert_eq!(site.ok(&config, "load")?, "nothing changed\n");

    // Whoever changes something else meanwhile does not have it forgotten.
    site.origin.ip("link delete wan1")?;
    run.warns(GONE)?;
    site.lab.write_file("config.toml", &config.replace("4200", "7"))?;
    run.signal(Signal::SIGHUP)?;
    run.says("loaded 1 tunnel on wan0 (native)\n")?;
    second.join(&site.lab, &site.origin, "wan1")?;
    run.says("wan1 (native) is back: attached again\n")?;
    assert_eq!(way_out()?["mss_ipv4"], 1300);
    Ok(())
}

#[test]
fn it_comes_back_in_its_own_mode() -> Result<()> {
    let site = site_or_return!();
    let second = Second::new(&site)?;
    let mut run = Runner::start(&site, &both("generic"), "--listen off")?;
    run.says("loaded 1 tunnel on wan0 (native), wan1 (generic)\n")?;
    run.warns("warning: interface wan1: runs in GENERIC mode")?;
    site.origin.ip("link delete wan1")?;
    run.warns(GONE)?;
    second.join(&site.lab, &site.origin, "wan1")?;
    run.says("wan1 (generic) is back: attached again\n")?;
    run.warns("warning: interface wan1: runs in GENERIC mode")?;
    second.send()?;
    site.stats_with("scrub-fra", 1)?;
    Ok(())
}

/// Whoever changes something else need not wait for it, and with it back all is as it was.
#[test]
fn a_reload_waits_for_no_interface_that_had_the_program() -> Result<()> {
    let site = site_or_return!();
    let second = Second::new(&site)?;
    site.ok(&both("native"), "load")?;
    second.send()?;
    site.stats_with("scrub-fra", 1)?;
    site.origin.ip("link delete wan1")?;

    // With another key, and then with nothing to do.
    let other = both("native").replace("4200", "7");
    for said in ["loaded 1 tunnel on wan0 (native)\n", "nothing changed\n"] {
        let done = site.run(&other, "load")?;
        assert_eq!((done.status, done.stdout.as_str()), (Some(0), said));
        assert_eq!(done.stderr, GONE);
    }
    // A `run` that starts meanwhile waits for it too.
    let mut run = Runner::start(&site, &both("native"), "--listen off")?;
    run.says("loaded 1 tunnel on wan0 (native)\n")?;
    run.warns(GONE)?;
    second.join(&site.lab, &site.origin, "wan1")?;
    run.says("wan1 (native) is back: attached again\n")?;
    second.send()?;
    site.send(REMOTE, Some(4200))?;
    site.stats_with("scrub-fra", 3)?;

    // One that never had it is a mistake, wherever it is found.
    let wrong = both("native").replace("wan1", "wan9");
    let line = format!(
        "error: interface wan9: is not on this host (in this network namespace); it has: {}; what was running goes on as before\n",
        interfaces(&site)?
    );
    let before = site.everything()?;
    site.lab.write_file("config.toml", &wrong)?;
    run.signal(Signal::SIGHUP)?;
    run.warns(&line)?;
    assert_eq!(site.everything()?, before);
    assert_eq!(tunnel(&site.json("stats")?, "scrub-fra")["packets"], 3);
    Ok(())
}

/// The names of the origin's interfaces: a kernel with tunnels of its own has more than the lab made.
fn interfaces(site: &Site) -> Result<String> {
    let names = site.origin.run(|| {
        let all = if_nameindex()?;
        Ok(all
            .iter()
            .map(|one| one.name().to_string_lossy().into_owned())
            .collect::<Vec<_>>())
    })?;
    ensure!(names.iter().any(|name| name == "wan0"), "{names:?}");
    Ok(names.join(", "))
}

/// `site.everything` reads what a wrong first load would leave.
#[test]
fn an_interface_that_never_was_there_is_refused() -> Result<()> {
    let site = site_or_return!();
    let line = format!(
        "interface wan1: is not on this host (in this network namespace); it has: {}",
        interfaces(&site)?
    );
    for command in ["load", "run --listen off"] {
        site.refused(&both("native"), command, 1, &line)?;
    }
    Ok(())
}
