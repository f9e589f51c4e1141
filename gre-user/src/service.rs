//! What `run` tells the service manager that has started it, by systemd's protocol (sd_notify(3)). Nobody else is told anything.

use std::future::{Future, pending};
use std::io;
use std::time::Duration;

use sd_notify::NotifyState::{self, Ready, Reloading, Status, Stopping, Watchdog};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::output::report;

/// The service manager, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Service {
    /// What it was last told is in force.
    status: String,
    /// When it is to be told that this process is alive; none if it does not ask.
    ticks: Option<Interval>,
    /// Whether it cannot be told: that is said once.
    is_deaf: bool,
}

impl Service {
    /// The one that the environment names.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime with its timer enabled, where a watchdog is asked for.
    pub(crate) fn new() -> Self {
        // Half of what it waits, as sd_watchdog_enabled(3) recommends.
        let ticks = sd_notify::watchdog_enabled()
            .map(|patience| patience / 2)
            .filter(|period| *period > Duration::ZERO)
            .map(|period| {
                let mut ticks = interval(period);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                ticks
            });
        Self {
            ticks,
            ..Self::default()
        }
    }

    /// All is done that was begun: at the start, or after a reload. `status` says what is in force, if that has changed.
    pub(crate) fn ready(&mut self, status: Option<String>) {
        if let Some(status) = status {
            self.status = status;
        }
        let status = self.status.clone();
        self.tell(&[Ready, Status(&status)]);
    }

    /// A reload has failed, so that all goes on as before.
    pub(crate) fn reload_failed(&mut self, error: &str) {
        let status = match error.lines().collect::<Vec<_>>().join(" ") {
            error if self.status.is_empty() => format!("reload failed: {error}"),
            error => format!("{}; reload failed: {error}", self.status),
        };
        self.tell(&[Ready, Status(&status)]);
    }

    /// The file is being read again.
    pub(crate) fn reloading(&mut self) {
        // systemd compares the time with that of its signal.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[Reloading, now]),
            Err(error) => self.is_not_told(&error),
        }
    }

    /// The end has come.
    pub(crate) fn stopping(&mut self) {
        self.tell(&[Stopping]);
    }

    /// Waits until the service manager is to be told again that this process is alive, and tells it. Never ends where nobody
    /// asks. To be cancelled is safe.
    pub(crate) async fn keep_alive(&mut self) {
        match &mut self.ticks {
            Some(ticks) => ticks.tick().await,
            None => return pending().await,
        };
        self.tell(&[Watchdog]);
    }

    /// Stays alive while something else is waited for that has a time limit of its own.
    pub(crate) async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = self.keep_alive() => {}
            }
        }
    }

    fn tell(&mut self, states: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(states) {
            self.is_not_told(&error);
        }
    }

    /// That is no reason to end: packets flow.
    fn is_not_told(&mut self, error: &io::Error) {
        if !self.is_deaf {
            report(
                "warning",
                format!("the service manager cannot be told how things are (NOTIFY_SOCKET): {error}"),
            );
        }
        self.is_deaf = true;
    }
}
