//! `run`: loads, then stays: serves metrics, reads the file again on SIGHUP, detaches at SIGTERM and SIGINT.

mod host;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use aya_log::EbpfLogger;
use log::Log;
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::{Interval, MissedTickBehavior, interval};

use self::host::Host;
use super::load::{Loaded, in_force, load, tell};
use super::unload;
use crate::apply::Outcome;
use crate::config;
use crate::error::Error;
use crate::http;
use crate::listen::{Listen, Listener};
use crate::metrics::Metrics;
use crate::output::{print, report};
use crate::service::Service;
use crate::settings::LogLevel;
use crate::state::{Residence, Root};

/// How often the program's log records are fetched.
const FLUSH: Duration = Duration::from_millis(100);

/// How many threads may wait for the kernel: for all who ask over HTTP, for a reload and for what follows this host's changes,
/// so that none of them keeps another waiting.
const WAITING: usize = http::CONNECTIONS + 2;

/// What `run` was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where metrics are served.
    pub listen: Listen,
    /// How much is logged.
    pub log_level: LogLevel,
    /// Whether the program stays attached when this process ends.
    pub keep: bool,
}

/// Loads the file and stays until told to end.
///
/// # Errors
///
/// If the file cannot be read again later, the address cannot be listened on, another `run` stays with what is loaded, the first
/// load fails, or the detaching at the end. A file that is wrong when it is read again is reported, and changes nothing.
pub fn execute(file: &Path, root: &Root, options: &Options) -> Result<(), Error> {
    config::check_lasting(file)?;
    start_logger(options.log_level)?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(WAITING)
        .build()
        .context("the event loop cannot be started")?;
    let guard = runtime.enter();
    // Before anything is loaded, so that no signal finds it loaded and nobody in charge.
    let signals = Signals::new().context("signals cannot be received")?;
    // Likewise, so that nothing changes unnoticed between the load and the first look.
    let host = Host::open(root)?;
    let listener = Listener::bind(&options.listen)?;
    let service = Service::new();
    drop(guard);

    // Two would each detach at its own end what the other stays for.
    let residence = root.reside(None)?;
    let loaded = load(file, root, options.log_level)?;
    // Two that found nothing loaded may both have loaded it.
    let residence = root.reside(residence)?;
    // From here on all ways out go by the end, unless the operator keeps the program.
    let mut resident = Resident {
        file,
        root,
        log_level: options.log_level,
        residence,
        displaced: false,
        signals,
        host,
        records: Records::default(),
        metrics: Arc::new(Metrics::of(root.clone())),
        service,
    };
    let result = runtime.block_on(resident.stay(loaded, listener));
    resident.service.stopping();
    // Ends what still serves.
    drop(runtime);
    if options.keep {
        return result;
    }
    // What another process stays with is not this one's to detach.
    match root.reside(resident.residence.take()) {
        Ok(_residence) => unload::execute(root).and(result),
        Err(error) => {
            report("warning", format!("nothing is detached: {error:#}"));
            result
        }
    }
}

/// What stays.
struct Resident<'a> {
    file: &'a Path,
    root: &'a Root,
    log_level: LogLevel,
    /// Held until the end.
    residence: Option<Residence>,
    /// Whether another process stays with what others have loaded meanwhile; until the next reload.
    displaced: bool,
    signals: Signals,
    host: Host,
    records: Records,
    metrics: Arc<Metrics>,
    service: Service,
}

impl Resident<'_> {
    async fn stay(&mut self, loaded: Loaded, listener: Option<Listener>) -> Result<(), Error> {
        let in_force = self.take_over(loaded)?;
        if let Some(listener) = listener {
            say(&format!("metrics at {}\n", listener.url()?));
            tokio::spawn(http::serve(listener, Arc::clone(&self.metrics)));
        }
        self.service.ready(in_force);
        loop {
            tokio::select! {
                _ = self.signals.terminate.recv() => return Ok(()),
                _ = self.signals.interrupt.recv() => return Ok(()),
                _ = self.signals.hangup.recv() => self.reload().await,
                () = self.host.changed() => {
                    self.host.follow().await;
                    self.stay_on().await;
                }
                () = self.records.flush() => {}
                () = self.service.keep_alive() => {}
            }
        }
    }

    /// Stays with what others have loaded after they had unloaded, unless another process does. (In a thread that may wait.)
    async fn stay_on(&mut self) {
        if self.displaced {
            return;
        }
        let (root, before) = (self.root.clone(), self.residence.take());
        let residing = spawn_blocking(move || root.reside(before)).await;
        match residing.context("the look at what is loaded was broken off").flatten() {
            Ok(residence) => self.residence = residence,
            Err(error) => {
                self.displaced = true;
                report(
                    "warning",
                    format!("{error:#}; until then this one changes nothing at its end"),
                );
            }
        }
    }

    /// Says what was loaded, and goes on with that. Returns what is in force, if that has changed.
    fn take_over(&mut self, loaded: Loaded) -> Result<Option<String>, Error> {
        // A new folder, if others have unloaded meanwhile.
        self.residence = self.root.reside(self.residence.take())?;
        self.displaced = false;
        self.host.configure(&loaded);
        let in_force = in_force(&loaded.outcome);
        self.records = Records::of(loaded.outcome, self.log_level)?;
        Ok(in_force)
    }

    /// Loads the file in a thread that may wait, so that metrics are served meanwhile. What fails is reported: what ran goes on;
    /// or the new program does, and must not be detached because its log cannot be read.
    async fn reload(&mut self) {
        self.service.reloading();
        let (file, root, log_level) = (self.file.to_owned(), self.root.clone(), self.log_level);
        let loading = spawn_blocking(move || {
            // Another may be in its place.
            config::check_lasting(&file)?;
            load(&file, &root, log_level)
        });
        let loaded = self.service.during(loading).await;
        let loaded = loaded.context("the load was broken off").map_err(Error::from).flatten();
        self.metrics.reloads.count(loaded.is_ok());
        match loaded.and_then(|loaded| self.take_over(loaded)) {
            Ok(in_force) => self.service.ready(in_force),
            Err(error) => {
                self.service.reload_failed(&error.to_string());
                report("error", error);
            }
        }
    }
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

/// The program's log records: where they come from and when they are fetched; none when nothing is logged.
#[derive(Default)]
struct Records(Option<(EbpfLogger<&'static dyn Log>, Interval)>);

impl Records {
    /// Says what was loaded, and fetches what that logs.
    fn of(mut outcome: Outcome, log_level: LogLevel) -> Result<Self, Error> {
        heard(tell(&outcome));
        Ok(Self(match &mut outcome.datapath {
            Some(datapath) if log_level != LogLevel::Off => Some((datapath.logger()?, ticks(FLUSH))),
            _ => None,
        }))
    }

    /// Hands on what was logged, now and then; never ends when nothing is logged.
    async fn flush(&mut self) {
        let Some((logger, ticks)) = &mut self.0 else {
            return std::future::pending().await;
        };
        ticks.tick().await;
        logger.flush();
    }
}

/// Ticks that are not caught up with when they were missed.
fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Writes to standard output.
fn say(text: &str) {
    heard(print(text));
}

/// Whoever started this may have stopped reading; that is no reason to end.
fn heard(said: Result<(), Error>) {
    match said {
        Ok(()) | Err(Error::ClosedPipe) => {}
        Err(error) => report("warning", error),
    }
}

/// This crate's and the program's log records go to standard error.
fn start_logger(level: LogLevel) -> Result<()> {
    let level = match level {
        LogLevel::Off => log::LevelFilter::Off,
        LogLevel::Error => log::LevelFilter::Error,
        LogLevel::Warn => log::LevelFilter::Warn,
        LogLevel::Info => log::LevelFilter::Info,
        LogLevel::Debug => log::LevelFilter::Debug,
        LogLevel::Trace => log::LevelFilter::Trace,
    };
    // Aya itself has much to say below warnings.
    let aya = level.min(log::LevelFilter::Warn);
    env_logger::Builder::new()
        .filter_level(level)
        .filter_module("aya", aya)
        .try_init()
        .context("the logger cannot be started")
}
