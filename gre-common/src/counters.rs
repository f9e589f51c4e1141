//! What is counted, per tunnel and per CPU.

use crate::{arrivals::Arrivals, reason::Reason, sizes::CLASSES};

/// One CPU's counters of one tunnel; index 0 of the map holds what no tunnel matched.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Packets decapsulated and delivered.
    pub packets: u64,
    /// Their bytes, from the inner IP (or Ethernet, or MPLS) header to the end of the GRE payload.
    pub bytes: u64,
    /// Their bytes, from the outer IP header to the end of the outer IP packet.
    pub outer_bytes: u64,
    /// When the last of them came: nanoseconds of `CLOCK_MONOTONIC`, at most two of the kernel's ticks too early; 0 if never.
    pub last_seen: u64,
    /// The kernel's tick (`jiffies`) at that time.
    pub tick: u64,
    /// The same packets by the [class](crate::sizes) of their length.
    pub sizes: [u64; CLASSES],
    /// Packets by [`Reason`].
    pub reasons: [u64; Reason::COUNT],
    /// Delivered packets that are fragments.
    pub fragments: u64,
    /// What the sequence numbers of packets tell.
    pub arrivals: Arrivals,
    /// TCP SYNs whose MSS was lowered.
    pub mss_clamped: u64,
}

impl Counters {
    /// Nothing counted yet.
    pub const ZERO: Self = Self {
        packets: 0,
        bytes: 0,
        outer_bytes: 0,
        last_seen: 0,
        tick: 0,
        sizes: [0; CLASSES],
        reasons: [0; Reason::COUNT],
        fragments: 0,
        arrivals: Arrivals::ZERO,
        mss_clamped: 0,
    };

    /// Adds another CPU's counters to these.
    pub fn add(&mut self, other: &Self) {
        self.packets = self.packets.wrapping_add(other.packets);
        self.bytes = self.bytes.wrapping_add(other.bytes);
        self.outer_bytes = self.outer_bytes.wrapping_add(other.outer_bytes);
        self.last_seen = self.last_seen.max(other.last_seen);
        self.tick = self.tick.max(other.tick);
        for (mine, theirs) in self.sizes.iter_mut().zip(other.sizes) {
            *mine = mine.wrapping_add(theirs);
        }
        self.fragments = self.fragments.wrapping_add(other.fragments);
        self.arrivals.add(&other.arrivals);
        self.mss_clamped = self.mss_clamped.wrapping_add(other.mss_clamped);
        for (mine, theirs) in self.reasons.iter_mut().zip(other.reasons) {
            *mine = mine.wrapping_add(theirs);
        }
    }
}
