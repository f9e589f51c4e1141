//! Packets that were not delivered, as samples for whoever watches.
//!
//! The program samples only while there is a reader, and of each reason only so many a second: an attack must not turn the
//! watching of it into load.

use crate::reason::Reason;

/// So many of a packet's first bytes are in its sample: enough for the headers of two IPv6 packets with options, one in the
/// other.
pub const HELD: usize = 192;

/// So many samples a second of each reason, on each CPU.
pub const RATE: u64 = 100;
/// So many at once after a pause.
pub const BURST: u64 = RATE;

/// How long the program samples after a reader has said that it is there, in nanoseconds. The reader says so again and again;
/// when it is killed, nobody has to clear up after it.
pub const LEASE: u64 = 3 * SECOND;

/// Bytes of the ring buffer.
pub const RING_BYTES: u32 = 1 << 20;

const SECOND: u64 = 1_000_000_000;

/// What a sample says of its packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleHeader {
    /// When it came: nanoseconds of `CLOCK_MONOTONIC`.
    pub at: u64,
    /// Index of the interface that it came by.
    pub interface: u32,
    /// The receive queue of that interface.
    pub queue: u32,
    /// The tunnel it belongs to, 0 if none.
    pub tunnel: u32,
    /// Its [`Reason`], as the index of the reason's counter.
    pub reason: u32,
    /// Bytes of the whole frame.
    pub len: u32,
    /// How many of them are in the sample.
    pub held: u32,
}

impl SampleHeader {
    /// The reason, if this version knows it.
    pub fn reason(&self) -> Option<Reason> {
        Reason::ALL.get(self.reason as usize).copied()
    }
}

/// A sample as it lies in the ring buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// What it is a sample of.
    pub header: SampleHeader,
    /// The frame's first bytes, of which [`SampleHeader::held`] are set.
    pub bytes: [u8; HELD],
}

/// One CPU's limit on the samples of one reason: a token bucket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// When it was last looked at.
    filled_at: u64,
    /// What has come in since and was not taken, in nanoseconds.
    credit: u64,
    /// How many packets were not sampled because it was empty.
    pub swallowed: u64,
    /// How many were not sampled because the reader did not keep up.
    pub lost: u64,
}

impl Bucket {
    /// What a sample costs.
    const COST: u64 = SECOND / RATE;

    /// Takes a sample's worth at the time `now`, or counts what is swallowed.
    #[inline(always)]
    pub fn take(&mut self, now: u64) -> bool {
        let since = now.saturating_sub(self.filled_at);
        let credit = self.credit.saturating_add(since).min(BURST * Self::COST);
        self.filled_at = now;
        let enough = credit >= Self::COST;
        self.credit = if enough { credit - Self::COST } else { credit };
        if !enough {
            self.swallowed += 1;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut bucket = Bucket::default();
        let now = 7 * SECOND;
        let taken = (0..1000).filter(|_| bucket.take(now)).count() as u64;
        assert_eq!((taken, bucket.swallowed), (BURST, 1000 - BURST));
        assert!(!bucket.take(now + Bucket::COST - 1));
        assert!(bucket.take(now + Bucket::COST));
        assert!(!bucket.take(now + Bucket::COST));
    }

    proptest! {
        /// Whatever the times, even such that go back, no more comes out than has come in.
        #[test]
        fn never_more_than_the_rate(steps in proptest::collection::vec(0u64..SECOND, 1..500)) {
            let mut bucket = Bucket::default();
            let (mut now, mut taken) = (SECOND, 0);
            for step in &steps {
                now += step;
                taken += u64::from(bucket.take(now));
            }
            prop_assert_eq!(taken + bucket.swallowed, steps.len() as u64);
            prop_assert!(taken <= BURST + (now - SECOND) / Bucket::COST);
        }

        #[test]
        fn any_state_is_bearable(filled_at: u64, credit: u64, now: u64) {
            let mut bucket = Bucket { filled_at, credit, ..Bucket::default() };
            bucket.take(now);
            prop_assert!(bucket.credit <= BURST * Bucket::COST);
        }
    }
}
