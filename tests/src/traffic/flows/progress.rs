//! What has arrived of each flow, and what has not.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Result, bail, ensure};

use crate::lab::PATIENCE;

/// What is known of one flow.
#[derive(Clone, Debug, Default)]
pub struct Flow {
    /// Datagrams received.
    pub received: u64,
    /// Datagrams received after one that had been sent later.
    pub overtaken: u64,
    /// The cores on which the receiver's network stack got them.
    pub cores: BTreeSet<usize>,
    /// Datagrams sent.
    pub(super) sent: u64,
    /// One more than the highest number received.
    next: u64,
    /// Numbers below `next` that have not been received.
    missing: BTreeSet<u64>,
}

impl Flow {
    pub(super) fn receive(&mut self, number: u64) -> Result<()> {
        if number >= self.next {
            self.missing.extend(self.next..number);
            self.next = number + 1;
        } else {
            ensure!(self.missing.remove(&number), "number {number} arrived twice");
            self.overtaken += 1;
        }
        self.received += 1;
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) progress: Mutex<Progress>,
    pub(super) changed: Condvar,
}

#[derive(Debug)]
pub(super) struct Progress {
    pub(super) sent: u64,
    pub(super) stop: bool,
    pub(super) failure: Option<String>,
    pub(super) flows: Vec<Flow>,
}

impl Progress {
    pub(super) fn received(&self) -> u64 {
        self.flows.iter().map(|flow| flow.received).sum()
    }

    pub(super) fn check(&self) -> Result<()> {
        if let Some(failure) = &self.failure {
            bail!("{failure}");
        }
        if self.received() == self.sent {
            return Ok(());
        }
        let missing = self.flows.iter().enumerate().filter_map(|(index, flow)| {
            let numbers: Vec<u64> = flow.missing.iter().copied().chain(flow.next..flow.sent).collect();
            let (first, last) = (numbers.first()?, numbers.last()?);
            Some(format!(
                "of flow {index} {} from {first} to {last} of {}",
                numbers.len(),
                flow.sent
            ))
        });
        let missing: Vec<_> = missing.collect();
        bail!(
            "{} of {} datagrams were lost: {}",
            self.sent - self.received(),
            self.sent,
            missing.join("; ")
        )
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `enough`, a failure, or no progress for as long as [`PATIENCE`], which is a failure.
    pub(super) fn wait<'a>(
        &'a self,
        mut progress: MutexGuard<'a, Progress>,
        enough: impl Fn(&Progress) -> bool,
    ) -> Result<MutexGuard<'a, Progress>> {
        let mut last = progress.received();
        let mut deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(failure) = &progress.failure {
                bail!("{failure}");
            }
            if enough(&progress) {
                return Ok(progress);
            }
            if progress.received() != last {
                last = progress.received();
                deadline = Instant::now() + PATIENCE;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                progress.check()?;
                bail!("nothing was sent for {PATIENCE:?}");
            }
            let waited = self.changed.wait_timeout(progress, left);
            (progress, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Notes how a thread has ended, for whoever waits.
    pub(super) fn fail_with(&self, ended: Result<()>) {
        if let Err(error) = ended {
            self.lock().failure.get_or_insert_with(|| format!("{error:#}"));
        }
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(numbers: &[u64]) -> Flow {
        let mut flow = Flow {
            sent: 5,
            ..Flow::default()
        };
        for number in numbers {
            flow.receive(*number).unwrap();
        }
        flow
    }

    fn check(flow: Flow) -> Result<()> {
        let progress = Progress {
            sent: 5,
            stop: true,
            failure: None,
            flows: vec![flow],
        };
        progress.check()
    }

    #[test]
    fn all_in_order() {
        let flow = received(&[0, 1, 2, 3, 4]);
        assert_eq!((flow.received, flow.overtaken), (5, 0));
        check(flow).unwrap();
    }

    #[test]
    fn overtaken_but_there() {
        let flow = received(&[2, 0, 1, 4, 3]);
        assert_eq!((flow.received, flow.overtaken), (5, 3));
        check(flow).unwrap();
    }

    #[test]
    fn what_is_missing_is_named() {
        let line = |numbers: &[u64]| check(received(numbers)).unwrap_err().to_string();
        assert_eq!(
            line(&[0, 2, 4]),
            "2 of 5 datagrams were lost: of flow 0 2 from 1 to 3 of 5"
        );
        assert_eq!(
            line(&[0, 1]),
            "3 of 5 datagrams were lost: of flow 0 3 from 2 to 4 of 5"
        );
    }

    #[test]
    fn twice_is_an_error() {
        for numbers in [&[0, 1, 1][..], &[2, 0, 0], &[0, 0]] {
            let (last, first) = numbers.split_last().unwrap();
            let error = received(first).receive(*last).unwrap_err().to_string();
            assert_eq!(error, format!("number {last} arrived twice"));
        }
    }
}
