//! `run`: loads, then stays: serves metrics, reads the file again on SIGHUP, detaches at SIGTERM and SIGINT.

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

use super::load::{load, tell};
use super::unload;
use crate::apply::Outcome;
use crate::error::Error;
use crate::follow::Follower;
use crate::host::monitor::Monitor;
use crate::http;
use crate::listen::{Listen, Listener};
use crate::metrics::Metrics;
use crate::output::{print, report};
use crate::settings::LogLevel;
use crate::state::Root;

/// How often the program's log records are fetched.
const FLUSH: Duration = Duration::from_millis(100);

/// How often this host is looked at even if it tells of no change: about as often as the kernel confirms a neighbour that it sends
/// to (`base_reachable_time`).
const LOOK: Duration = Duration::from_secs(30);

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
/// If the address cannot be listened on, the first load fails, or the detaching at the end. A file that is wrong when it is
/// read again is reported, and changes nothing.
pub fn execute(file: &Path, root: &Root, options: &Options) -> Result<(), Error> {
    start_logger(options.log_level)?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(WAITING)
        .build()
        .context("the event loop cannot be started")?;
    let guard = runtime.enter();
    // Before anything is loaded, so that no signal finds it loaded and nobody in charge.
    let mut signals = Signals::new().context("signals cannot be received")?;
    // Likewise, so that nothing changes unnoticed between the load and the first look.
    let mut host = Host::open(root)?;
    let listener = Listener::bind(&options.listen)?;
    drop(guard);

    let outcome = load(file, root, options.log_level)?;
    let metrics = Arc::new(Metrics::of(root.clone()));
    // From here on all ways out go by the end, unless the operator keeps the program.
    let result = runtime.block_on(async {
        let mut records = Records::of(outcome, options.log_level)?;
        if let Some(listener) = listener {
            say(&format!("metrics at {}\n", listener.url()?));
            tokio::spawn(http::serve(listener, Arc::clone(&metrics)));
        }
        stay(
            file,
            root,
            options.log_level,
            &mut signals,
            &mut host,
            &mut records,
            &metrics,
        )
        .await
    });
    // Ends what still serves.
    drop(runtime);
    if options.keep {
        return result;
    }
    unload::execute(root).and(result)
}

async fn stay(
    file: &Path,
    root: &Root,
    log_level: LogLevel,
    signals: &mut Signals,
    host: &mut Host,
    records: &mut Records,
    metrics: &Metrics,
) -> Result<(), Error> {
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return Ok(()),
            _ = signals.interrupt.recv() => return Ok(()),
            _ = signals.hangup.recv() => {
                let reloaded = reload(file, root, log_level).await;
                metrics.reloads.count(reloaded.is_ok());
                match reloaded.and_then(|outcome| Records::of(outcome, log_level)) {
                    Ok(new) => *records = new,
                    // What ran goes on; or the new program does, and must not be detached because its log cannot be read.
                    Err(error) => report("error", error),
                }
            }
            result = host.changed() => {
                result.context("changes of this host cannot be followed any more")?;
                host.follow().await?;
            }
            () = records.flush() => {}
        }
    }
}

/// Loads the file in a thread that may wait, so that metrics are served meanwhile.
async fn reload(file: &Path, root: &Root, log_level: LogLevel) -> Result<Outcome, Error> {
    let (file, root) = (file.to_owned(), root.clone());
    spawn_blocking(move || load(&file, &root, log_level))
        .await
        .context("the load was broken off")?
}

/// This host, as far as delivery depends on it.
struct Host {
    monitor: Monitor,
    /// When to look even if nothing seems to have changed: neighbours must be confirmed.
    ticks: Interval,
    /// Not here while it works in a thread of its own.
    follower: Option<Follower>,
}

impl Host {
    fn open(root: &Root) -> Result<Self> {
        Ok(Self {
            monitor: Monitor::open().context("changes of this host cannot be followed")?,
            ticks: ticks(LOOK),
            follower: Some(Follower::new(root.clone())),
        })
    }

    /// Waits until something has changed, or it is time to look all the same.
    async fn changed(&mut self) -> std::io::Result<()> {
        tokio::select! {
            result = self.monitor.changed() => result,
            _ = self.ticks.tick() => Ok(()),
        }
    }

    /// Brings the datapath up to date, in a thread of its own: a next hop may take its time to answer.
    async fn follow(&mut self) -> Result<()> {
        let Some(mut follower) = self.follower.take() else {
            return Ok(());
        };
        let (follower, result) = spawn_blocking(move || {
            let result = follower.update();
            (follower, result)
        })
        .await
        .context("the thread that follows this host's changes has died")?;
        self.follower = Some(follower);
        match result {
            Ok(lines) => lines.iter().for_each(|line| report("warning", line)),
            // What cannot be brought up to date now may be with the next change; packets flow as before.
            Err(error) => report("warning", format!("{error:#}")),
        }
        Ok(())
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

/// The program's log records.
struct Records {
    /// None when nothing is logged.
    logger: Option<EbpfLogger<&'static dyn Log>>,
    ticks: Interval,
}

impl Records {
    /// Says what was loaded, and fetches what that logs.
    fn of(mut outcome: Outcome, log_level: LogLevel) -> Result<Self, Error> {
        heard(tell(&outcome));
        let logger = match &mut outcome.datapath {
            Some(datapath) if log_level != LogLevel::Off => Some(datapath.logger()?),
            _ => None,
        };
        let ticks = ticks(FLUSH);
        Ok(Self { logger, ticks })
    }

    /// Hands on what was logged, now and then; never ends when nothing is logged.
    async fn flush(&mut self) {
        let Some(logger) = &mut self.logger else {
            return std::future::pending().await;
        };
        self.ticks.tick().await;
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
