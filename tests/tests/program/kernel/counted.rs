//! What the program has counted, and what it knows of sequence numbers.

use anyhow::{Context, Result, ensure};
use aya::maps::PerCpuArray;
use gre_common::Reason;
use gre_common::counters::Counters;
use gre_common::maps::BUCKETS;
use gre_common::sample::Bucket;
use gre_common::sequence::SequenceState;

use super::{Kernel, TICK, map};
use crate::support::outcome::{Counted, Counter};

impl Kernel {
    /// How many packets were not sampled for this reason, because there were too many.
    pub(crate) fn judged(&mut self, reason: Reason) -> Result<u64> {
        let buckets: PerCpuArray<_, Bucket> = PerCpuArray::try_from(map(self.datapath.ebpf(), BUCKETS)?)?;
        let values = buckets.get(&(reason as u32), 0).context("read the limits")?;
        Ok(values.iter().map(|bucket| bucket.swallowed).sum())
    }

    /// How often a reason was counted, for whatever tunnel.
    pub(crate) fn counted(&self, reason: Reason) -> Result<u64> {
        Ok(self
            .read()?
            .iter()
            .map(|counters| counters.reasons[reason as usize])
            .sum())
    }

    /// How much the counters have gone up since last asked. When a tunnel's last packet was delivered must be told with it,
    /// and be between `before` and `after`.
    pub(super) fn newly_counted(&mut self, before: u64, after: u64) -> Result<Counted> {
        let now = self.read()?;
        let mut counted = Counted::new();
        for ((id, new), old) in (0..).zip(&now).zip(&self.seen) {
            let mut add = |counter, new: u64, old: u64| {
                if new != old {
                    counted.insert((id, counter), new.wrapping_sub(old));
                }
            };
            add(Counter::Packets, new.packets, old.packets);
            add(Counter::Bytes, new.bytes, old.bytes);
            add(Counter::OuterBytes, new.outer_bytes, old.outer_bytes);
            add(Counter::MssClamped, new.mss_clamped, old.mss_clamped);
            for ((reason, new), old) in Reason::ALL.iter().zip(new.reasons).zip(old.reasons) {
                add(Counter::of(*reason), new, old);
            }
            let right = if new.packets == old.packets {
                new.last_seen == old.last_seen
            } else {
                (before - TICK..=after).contains(&new.last_seen)
            };
            ensure!(
                right,
                "last_seen of tunnel {id} went from {} to {} between {before} and {after}",
                old.last_seen,
                new.last_seen
            );
        }
        self.seen = now;
        Ok(counted)
    }

    /// The counters of no tunnel and of all tunnels, each summed over the CPUs.
    pub(super) fn read(&self) -> Result<Vec<Counters>> {
        (0..=self.tunnels).map(|id| self.counters_of(id)).collect()
    }

    fn counters_of(&self, id: u32) -> Result<Counters> {
        let mut sum = Counters::ZERO;
        let values = self
            .counters
            .get(&id, 0)
            .with_context(|| format!("counters of tunnel {id}"))?;
        values.iter().for_each(|cpu| sum.add(cpu));
        Ok(sum)
    }

    /// Checks that nothing was ever counted, or numbered, for a tunnel that is none.
    pub(crate) fn check_unused(&self) -> Result<()> {
        for id in self.tunnels + 1..=self.max_tunnels {
            ensure!(
                self.counters_of(id)? == Counters::ZERO,
                "counters of tunnel {id}, which is none"
            );
        }
        for id in (self.tunnels + 1..=self.max_tunnels).chain([0]) {
            let state = self.sequences.get(&id, 0)?;
            ensure!(
                state == SequenceState::default(),
                "sequence state of tunnel {id}, which is none"
            );
        }
        Ok(())
    }

    /// The state of every tunnel's sequence numbers, from id 1 on.
    pub(crate) fn sequences(&self) -> Result<Vec<SequenceState>> {
        (1..=self.tunnels)
            .map(|id| {
                self.sequences
                    .get(&id, 0)
                    .with_context(|| format!("sequence state of tunnel {id}"))
            })
            .collect()
    }

    /// Gives every tunnel this state of its sequence numbers.
    pub(crate) fn set_sequences(&mut self, state: SequenceState) -> Result<()> {
        for id in 1..=self.tunnels {
            self.sequences
                .set(id, state, 0)
                .with_context(|| format!("sequence state of tunnel {id}"))?;
        }
        Ok(())
    }
}
