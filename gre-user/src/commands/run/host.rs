//! This host, as far as delivery depends on it.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::spawn_blocking;
use tokio::time::Interval;

use super::{say, ticks};
use crate::commands::load::Loaded;
use crate::follow::{Followed, Follower};
use crate::host::monitor::Monitor;
use crate::output::report;
use crate::state::Root;

/// How often this host is looked at even if it tells of no change: about as often as the kernel confirms a neighbour that it sends
/// to (`base_reachable_time`).
const LOOK: Duration = Duration::from_secs(30);

/// What follows this host's changes.
pub(super) struct Host {
    /// None once it has failed: then all depends on the ticks.
    monitor: Option<Monitor>,
    /// When to look even if nothing seems to have changed: neighbours must be confirmed.
    ticks: Interval,
    /// Not here while it works in a thread of its own.
    follower: Option<Follower>,
}

impl Host {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub(super) fn open(root: &Root) -> Result<Self> {
        Ok(Self {
            monitor: Some(Monitor::open().context("changes of this host cannot be followed")?),
            ticks: ticks(LOOK),
            follower: Some(Follower::new(root.clone())),
        })
    }

    /// Takes over from a load.
    pub(super) fn configure(&mut self, loaded: &Loaded) {
        if let Some(follower) = &mut self.follower {
            follower.configure(&loaded.interfaces, &loaded.outcome.warnings);
        }
    }

    /// Waits until something has changed, or it is time to look all the same.
    pub(super) async fn changed(&mut self) {
        let Some(monitor) = &mut self.monitor else {
            self.ticks.tick().await;
            return;
        };
        let told = tokio::select! {
            told = monitor.changed() => told,
            _ = self.ticks.tick() => Ok(()),
        };
        if let Err(error) = told {
            report(
                "warning",
                format!(
                    "changes of this host are not told any more ({error}), and found only every {}",
                    humantime::format_duration(LOOK)
                ),
            );
            self.monitor = None;
        }
    }

    /// Brings the datapath up to date, in a thread of its own: a next hop may take its time to answer. What cannot be brought up to
    /// date now may be with the next change; packets flow as before.
    pub(super) async fn follow(&mut self) {
        let Some(mut follower) = self.follower.take() else {
            return;
        };
        let done = spawn_blocking(move || {
            let result = follower.update();
            (follower, result)
        });
        match done
            .await
            .context("the thread that follows this host's changes has died")
        {
            Ok((follower, result)) => {
                self.follower = Some(follower);
                match result {
                    Ok(followed) => tell(&followed),
                    Err(error) => report("warning", format!("{error:#}")),
                }
            }
            Err(error) => report("error", format!("{error:#}; restart `gre-decap run --keep`")),
        }
    }
}

fn tell(followed: &Followed) {
    for attached in &followed.attached {
        say(&format!(
            "{} ({}) is back: attached again\n",
            attached.name, attached.mode
        ));
    }
    for warning in &followed.warnings {
        report("warning", warning);
    }
}
