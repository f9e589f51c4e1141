//! The clock that the program stamps packets with, and the calendar's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};

/// The time since the machine started, as the program has it.
///
/// # Errors
///
/// If the kernel does not say.
pub(crate) fn monotonic() -> Result<Duration> {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(Duration::from)
        .context("clock: cannot be read")
}

/// What lies between the two clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offset {
    /// The calendar's time when the other clock was at zero.
    zero: SystemTime,
}

impl Offset {
    /// As it is now: whoever sets the calendar changes it.
    ///
    /// # Errors
    ///
    /// If the kernel does not say.
    pub(crate) fn now() -> Result<Self> {
        let (calendar, monotonic) = (SystemTime::now(), monotonic()?);
        let zero = calendar.checked_sub(monotonic).unwrap_or(UNIX_EPOCH);
        Ok(Self { zero })
    }

    /// The calendar's time for one of the other clock.
    pub(crate) fn calendar(&self, monotonic: Duration) -> SystemTime {
        self.zero.checked_add(monotonic).unwrap_or(self.zero)
    }

    /// The same in seconds since 1970.
    pub(crate) fn unix(&self, monotonic: Duration) -> Duration {
        self.calendar(monotonic).duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}
