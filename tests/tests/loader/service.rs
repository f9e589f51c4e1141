//! `run` as a service: what it tells the service manager, in whose place these tests are.

use std::fs::File;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gre_tests::lab::PATIENCE;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};

use crate::runner::Runner;
use crate::site::{CONFIG, ROOT, Site, site_or_return};

const SOCKET: &str = "/dev/shm/notify";
const READY: &str = "READY=1\nSTATUS=1 tunnel on wan0 (native)\n";
const ALIVE: &str = "WATCHDOG=1\n";

struct Manager(UnixDatagram);

impl Manager {
    fn new(site: &Site) -> Result<Self> {
        let socket = site.origin.run(|| UnixDatagram::bind(SOCKET).context(SOCKET))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(socket))
    }

    /// The next message, watchdog messages too.
    fn hears(&self) -> Result<String> {
        let mut buffer = [0; 4096];
        let length = self.0.recv(&mut buffer).context("waited for a message")?;
        Ok(std::str::from_utf8(&buffer[..length])?.to_owned())
    }

    /// The next message must be that the file is read again, from some time after `since`.
    fn hears_of_a_reload(&self, since: Duration) -> Result<()> {
        let message = self.hears()?;
        let time = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        let time: u64 = time.with_context(|| message.clone())?.trim_end().parse()?;
        let (time, now) = (Duration::from_micros(time), monotonic()?);
        // The clock of the message counts whole microseconds.
        let since = since.saturating_sub(Duration::from_micros(1));
        ensure!((since..=now).contains(&time), "{since:?}, {time:?}, {now:?}");
        Ok(())
    }
}

fn monotonic() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_MONOTONIC)?.into())
}

fn service(site: &Site, options: &str) -> Result<Command> {
    let mut command = site.command(CONFIG, &format!("run --listen off {options}"))?;
    command
        .env("NOTIFY_SOCKET", SOCKET)
        .env_remove("WATCHDOG_USEC")
        .env_remove("WATCHDOG_PID");
    Ok(command)
}

#[test]
fn tells_of_its_start_each_reload_and_its_end() -> Result<()> {
    let site = site_or_return!();
    let manager = Manager::new(&site)?;
    let mut runner = Runner::of(&mut service(&site, "")?)?;
    assert_eq!(manager.hears()?, READY);
    runner.says("loaded 1 tunnel on wan0 (native)\n")?;

    let reload = |config: &str| {
        site.lab.write_file("config.toml", config)?;
        let since = monotonic()?;
        runner.signal(Signal::SIGHUP)?;
        manager.hears_of_a_reload(since)
    };
    reload(&CONFIG.replace("4200", "7"))?;
    assert_eq!(manager.hears()?, READY);
    // A file that is wrong leaves it ready, and says why nothing has changed.
    reload("unknown = 'perhaps'")?;
    assert_eq!(
        manager.hears()?,
        "READY=1\nSTATUS=1 tunnel on wan0 (native); reload failed: /dev/shm/config.toml:1: key `unknown`: expected \"pass\" or \
         \"drop\", found 'perhaps'\n"
    );
    // What has not changed is still in force.
    reload(&CONFIG.replace("4200", "7"))?;
    assert_eq!(manager.hears()?, READY);
    let second = CONFIG.replace("4200", "7") + "\n[[tunnel]]\nname = 'b'\nlocal = '198.51.100.21'\nremote = 'any'\n";
    reload(&second)?;
    assert_eq!(manager.hears()?, READY.replace("1 tunnel", "2 tunnels"));

    runner.signal(Signal::SIGTERM)?;
    assert_eq!(manager.hears()?, "STOPPING=1\n");
    assert_eq!(runner.end()?.0, Some(0));
    manager.0.set_nonblocking(true)?;
    assert!(manager.0.recv(&mut [0; 64]).is_err(), "nothing is told after that");
    Ok(())
}

#[test]
fn tells_that_it_is_alive_for_as_long_as_it_is() -> Result<()> {
    let site = site_or_return!();
    let manager = Manager::new(&site)?;
    let runner = Runner::of(service(&site, "")?.env("WATCHDOG_USEC", "40000"))?;
    assert_eq!(manager.hears()?, READY);
    for _ in 0..5 {
        assert_eq!(manager.hears()?, ALIVE);
    }

    // While another process changes the folder, a reload waits.
    let folder = site.origin.run(|| File::open(ROOT).context(ROOT))?;
    let lock = Flock::lock(folder, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    let since = monotonic()?;
    runner.signal(Signal::SIGHUP)?;
    while let Err(error) = manager.hears_of_a_reload(since) {
        ensure!(error.to_string() == ALIVE, "{error:#}");
    }
    for _ in 0..5 {
        assert_eq!(manager.hears()?, ALIVE);
    }
    drop(lock);
    while let message = manager.hears()?
        && message != READY
    {
        assert_eq!(message, ALIVE);
    }

    // One that stands still tells nothing, which is what the service manager ends it for.
    runner.signal(Signal::SIGSTOP)?;
    manager.0.set_read_timeout(Some(Duration::from_millis(400)))?;
    while let Ok(message) = manager.hears() {
        assert_eq!(message, ALIVE);
    }
    runner.signal(Signal::SIGCONT)?;
    manager.0.set_read_timeout(Some(PATIENCE))?;
    assert_eq!(manager.hears()?, ALIVE);
    runner.signal(Signal::SIGTERM)?;
    assert_eq!(runner.end()?.0, Some(0));
    Ok(())
}

#[test]
fn goes_on_without_the_service_manager_it_was_told_of() -> Result<()> {
    let site = site_or_return!();
    let mut runner = Runner::of(&mut service(&site, "")?)?;
    runner.says("loaded 1 tunnel on wan0 (native)\n")?;
    for _ in 0..2 {
        runner.signal(Signal::SIGHUP)?;
        runner.says("nothing changed\n")?;
    }
    runner.signal(Signal::SIGTERM)?;
    let (status, stdout, stderr) = runner.end()?;
    assert_eq!((status, stdout.as_str()), (Some(0), "unloaded from wan0\n"));
    let said = "warning: the service manager cannot be told how things are (NOTIFY_SOCKET): ";
    assert!(stderr.starts_with(said) && stderr.lines().count() == 1, "{stderr}");
    Ok(())
}
