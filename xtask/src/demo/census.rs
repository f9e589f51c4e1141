//! Watches the wires while the demo runs, and counts what passes by kind.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use gre_tests::lab::{Captured, Namespace, Wire};

use super::topology::Topology;

const IPPROTO_ICMPV6: u8 = 58;
const IPPROTO_GRE: u8 = 47;

/// Frames of one direction of one wire, by kind.
#[derive(Clone, Copy, Debug, Default)]
struct Kinds {
    gre: u64,
    /// ARP, IPv6 neighbour discovery and multicast membership: every link has them, no packet depends on a tunnel.
    housekeeping: u64,
    other: u64,
}

impl Kinds {
    fn add(&mut self, frame: &[u8]) {
        match kind(frame) {
            Kind::Gre => self.gre += 1,
            Kind::Housekeeping => self.housekeeping += 1,
            Kind::Other => self.other += 1,
        }
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} GRE packets, {} others, and {} of ARP and the like",
            self.gre, self.other, self.housekeeping
        )
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Gre,
    Housekeeping,
    Other,
}

fn kind(frame: &[u8]) -> Kind {
    let byte = |at: usize| frame.get(at).copied().unwrap_or(0);
    match (byte(12), byte(13)) {
        (0x08, 0x06) => Kind::Housekeeping,
        (0x08, 0x00) if byte(23) == IPPROTO_GRE => Kind::Gre,
        (0x86, 0xdd) if byte(20) == IPPROTO_GRE => Kind::Gre,
        // Router and neighbour discovery (RFC 4861), types 133 to 136.
        (0x86, 0xdd) if byte(20) == IPPROTO_ICMPV6 && (133..=136).contains(&byte(54)) => Kind::Housekeeping,
        // Multicast reports (RFC 3810): a hop-by-hop header of 8 bytes, ICMPv6 type 143.
        (0x86, 0xdd) if byte(20) == 0 && byte(54) == IPPROTO_ICMPV6 && byte(62) == 143 => Kind::Housekeeping,
        _ => Kind::Other,
    }
}

/// Watches one interface from a thread of its own.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(Kinds, Kinds)>>,
}

impl Watch {
    fn start(namespace: &Namespace, interface: &str) -> Result<Self> {
        let wire = Wire::open(namespace, interface)?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        Ok(Self {
            stop,
            thread: thread::spawn(move || watch(&wire, &told)),
        })
    }

    /// Frames received and frames sent by the interface until now.
    fn end(self) -> Result<(Kinds, Kinds)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| anyhow!("the thread that watches a wire panicked"))?
    }
}

fn watch(wire: &Wire, stop: &AtomicBool) -> Result<(Kinds, Kinds)> {
    let (mut incoming, mut outgoing) = (Kinds::default(), Kinds::default());
    loop {
        // Asked before looking for a frame: then none that came before the end is missed.
        let stopping = stop.load(Ordering::Relaxed);
        match wire.next(Duration::from_millis(if stopping { 0 } else { 50 }))? {
            Some(Captured {
                bytes, outgoing: true, ..
            }) => outgoing.add(&bytes),
            Some(Captured {
                bytes, outgoing: false, ..
            }) => incoming.add(&bytes),
            None if stopping => break,
            None => {}
        }
    }
    let lost = wire.lost()?;
    ensure!(lost == 0, "{lost} frames passed uncounted");
    Ok((incoming, outgoing))
}

/// A census that goes on.
pub(super) struct Census {
    tunnel: Watch,
    direct: Watch,
}

impl Census {
    pub(super) fn start(net: &Topology) -> Result<Self> {
        // At the scrubber's end, for at the origin's a capture sees what the XDP program has left of a packet.
        Ok(Self {
            tunnel: Watch::start(&net.scrub, "wan")?,
            direct: Watch::start(&net.client, "direct0")?,
        })
    }

    pub(super) fn end(self) -> Result<Findings> {
        let (from_origin, to_origin) = self.tunnel.end()?;
        let (straight_back, straight_there) = self.direct.end()?;
        Ok(Findings {
            to_origin,
            from_origin,
            straight_back,
            straight_there,
        })
    }
}

/// What passed on the two ways between client and origin.
pub(super) struct Findings {
    to_origin: Kinds,
    from_origin: Kinds,
    straight_back: Kinds,
    straight_there: Kinds,
}

impl Findings {
    /// GRE packets sent to the origin.
    pub(super) fn gre(&self) -> u64 {
        self.to_origin.gre
    }

    pub(super) fn only_gre_came(&self) -> Result<String> {
        let Self {
            to_origin,
            straight_there,
            ..
        } = self;
        ensure!(
            to_origin.gre > 0 && to_origin.other == 0,
            "on the tunnel's wire: {to_origin}"
        );
        ensure!(
            straight_there.gre + straight_there.other == 0,
            "past the scrubber: {straight_there}"
        );
        Ok(format!(
            "{} GRE packets on its wire, 0 others; 0 past the scrubber",
            to_origin.gre
        ))
    }

    pub(super) fn replies_went_straight_back(&self) -> Result<String> {
        let Self {
            from_origin,
            straight_back,
            ..
        } = self;
        ensure!(
            from_origin.gre + from_origin.other == 0,
            "to the scrubber: {from_origin}"
        );
        ensure!(
            straight_back.gre == 0 && straight_back.other > 0,
            "straight back: {straight_back}"
        );
        Ok(format!("{} packets, 0 of them to the scrubber", straight_back.other))
    }
}
