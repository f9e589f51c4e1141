//! The packet table as data: what arrives, and what must become of it.
//!
//! Written from the table and the RFCs alone, so that it can judge every form of the program: the decision on
//! the host, the loaded program, the wire. Expected bytes are put together from the packet that was wrapped,
//! never by unwrapping. Each group of rows is one file; what makes a packet special stands where it is made.
//!
//! For runners:
//! - A fixture starts with fresh state (sequence numbers, counters), its steps follow each other.
//! - Configurations have no `[[interface]]`; append the one to attach to. Fixtures share few texts, so grouping by
//!   [`Fixture::config`] saves loads.
//! - Some frames are shorter than an Ethernet header (14 bytes), and some longer than a page: not every way of
//!   running a packet takes them.

mod captures;
mod checksum;
mod checksum_policy;
mod combinations;
mod configs;
mod ecn;
mod gre_header;
mod in_transit;
mod inner_contents;
mod inner_header;
mod inner_protocol;
mod keepalive;
mod link;
mod lockdown;
mod matching;
mod mss;
mod other_host;
mod outer_fragments;
mod outer_ipv4;
mod outer_ipv6;
mod outer_length;
mod pcap;
mod probes;
mod protect_inner;
mod protected;
mod rows;
#[cfg(test)]
mod sanity;
mod scene;
mod sequence;
mod sequence_restart;
mod strangers;

use std::time::Duration;

use crate::frame::{ETHERTYPE_TEB, Packet};

/// In the place of a row's number: protection, which is decided between rows 16 and 17.
pub const PROTECTION: u8 = 19;

/// One case of the packet table.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// Unique name in snake_case.
    pub name: String,
    /// The row of the packet table that this is about, or [`PROTECTION`]. A fixture that only delivers shows the row's other side:
    /// what must *not* be caught by it.
    pub row: u8,
    /// The numbers of the known traps of GRE decapsulators that a naive implementation would fall into here.
    pub traps: &'static [u8],
    /// What it shows, in one sentence.
    pub shows: String,
    /// The configuration file's text, without `[[interface]]`.
    pub config: &'static str,
    /// The packets, in order.
    pub steps: Vec<Step>,
}

/// One packet and its fate.
#[derive(Clone, Debug)]
pub struct Step {
    /// The frame as it arrives.
    pub frame: Vec<u8>,
    /// Time since the step before. A runner on the wall clock must wait at least this long; no step depends on
    /// more than a few hundred milliseconds of delay not happening.
    pub advance: Duration,
    /// What must become of it.
    pub expect: Expect,
}

/// What must become of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Passed on to the kernel exactly as it came.
    Pass {
        /// The reason counted; none for what is not ours (row 1).
        reason: Option<&'static str>,
    },
    /// Dropped.
    Drop {
        /// The reason counted.
        reason: &'static str,
    },
    /// Decapsulated and passed on.
    Deliver {
        /// Name of the tunnel that it is counted for.
        tunnel: &'static str,
        /// The whole frame that comes out.
        frame: Vec<u8>,
        /// Bytes counted as `bytes`: from the inner header to the end of the GRE payload.
        inner_bytes: u64,
        /// Bytes counted as `outer_bytes`: from the outer IP header to the end of the outer IP packet.
        outer_bytes: u64,
        /// A reason counted beside the delivery.
        also: Option<&'static str>,
        /// Whether the MSS of a TCP SYN was lowered, and that counted.
        is_clamped: bool,
    },
}

/// Every fixture. The same on every call.
pub fn all() -> Vec<Fixture> {
    [
        rows::fixtures(),
        strangers::fixtures(),
        in_transit::fixtures(),
        outer_fragments::fixtures(),
        outer_ipv4::fixtures(),
        outer_ipv6::fixtures(),
        outer_length::fixtures(),
        gre_header::fixtures(),
        matching::fixtures(),
        checksum_policy::fixtures(),
        checksum::fixtures(),
        sequence::fixtures(),
        sequence_restart::fixtures(),
        inner_protocol::fixtures(),
        inner_header::fixtures(),
        inner_contents::fixtures(),
        ecn::fixtures(),
        keepalive::fixtures(),
        combinations::fixtures(),
        link::fixtures(),
        other_host::fixtures(),
        captures::fixtures(),
        mss::fixtures(),
        protect_inner::fixtures(),
        probes::fixtures(),
        lockdown::fixtures(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl Fixture {
    /// A fixture of one packet.
    fn one(
        name: impl Into<String>,
        row: u8,
        shows: impl Into<String>,
        config: &'static str,
        frame: Vec<u8>,
        expect: Expect,
    ) -> Self {
        Self::of(name, row, shows, config, vec![Step::now(frame, expect)])
    }

    /// A fixture of several packets.
    fn of(name: impl Into<String>, row: u8, shows: impl Into<String>, config: &'static str, steps: Vec<Step>) -> Self {
        Self {
            name: name.into(),
            row,
            traps: &[],
            shows: shows.into(),
            config,
            steps,
        }
    }

    fn traps(self, traps: &'static [u8]) -> Self {
        Self { traps, ..self }
    }
}

impl Step {
    /// A packet that follows at once.
    fn now(frame: Vec<u8>, expect: Expect) -> Self {
        Self::after(Duration::ZERO, frame, expect)
    }

    /// Packets that follow at once and all meet the same fate.
    fn each<'a>(packets: impl IntoIterator<Item = &'a Packet>, expect: &Expect) -> Vec<Self> {
        packets
            .into_iter()
            .map(|packet| Self::now(packet.frame(), expect.clone()))
            .collect()
    }

    /// Packets that follow at once and are all delivered as they were wrapped.
    fn each_delivered<'a>(packets: impl IntoIterator<Item = &'a Packet>, tunnel: &'static str) -> Vec<Self> {
        packets
            .into_iter()
            .map(|packet| Self::now(packet.frame(), Expect::deliver(packet, tunnel)))
            .collect()
    }

    /// A packet that follows after a pause.
    fn after(advance: Duration, frame: Vec<u8>, expect: Expect) -> Self {
        Self { frame, advance, expect }
    }
}

impl Expect {
    /// Row 1: passed, and nothing counted.
    const NOT_OURS: Self = Self::Pass { reason: None };

    fn pass(reason: &'static str) -> Self {
        Self::Pass { reason: Some(reason) }
    }

    fn drop(reason: &'static str) -> Self {
        Self::Drop { reason }
    }

    /// `packet` delivered to the stack with its payload as it was wrapped.
    fn deliver(packet: &Packet, tunnel: &'static str) -> Self {
        Self::deliver_as(packet, tunnel, &packet.payload)
    }

    /// `packet` delivered to the stack, its payload having become `payload`.
    fn deliver_as(packet: &Packet, tunnel: &'static str, payload: &[u8]) -> Self {
        let frame = match packet.gre.protocol {
            ETHERTYPE_TEB => payload.to_vec(),
            protocol => packet.link.frame(protocol, payload),
        };
        let header_and_gre = packet.outer.header_len() + packet.gre.header_len();
        Self::Deliver {
            tunnel,
            frame,
            inner_bytes: payload.len() as u64,
            outer_bytes: (header_and_gre + packet.payload.len()) as u64,
            also: None,
            is_clamped: false,
        }
    }

    /// The same delivery, counted as one whose MSS was lowered.
    ///
    /// # Panics
    /// If this is no delivery.
    fn clamped(mut self) -> Self {
        match &mut self {
            Self::Deliver { is_clamped, .. } => *is_clamped = true,
            Self::Pass { .. } | Self::Drop { .. } => panic!("only in a delivery the MSS is lowered"),
        }
        self
    }

    /// The same delivery with `reason` counted beside it.
    ///
    /// # Panics
    /// If this is no delivery.
    fn and_counted(mut self, reason: &'static str) -> Self {
        match &mut self {
            Self::Deliver { also, .. } => *also = Some(reason),
            Self::Pass { .. } | Self::Drop { .. } => panic!("only a delivery is counted twice"),
        }
        self
    }
}
