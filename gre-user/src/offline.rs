//! The program's decision outside the kernel: the same code, over captured bytes and the tables of a configuration.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use gre_common::endpoints::{Endpoints, EndpointsPrefix, Ipv4, Ipv6};
use gre_common::keepalive::Quota;
use gre_common::link::Mac;
use gre_common::plain::{self, Plain, load};
use gre_common::protect::Guard;
use gre_common::sequence::{self, Order, SequenceState};
use gre_common::tunnel::{Deliver, Tunnel};
use gre_common::{Packet, Verdict, checksum, decide};
use ipnet::IpNet;

use crate::config::{Config, Unknown};
use crate::nets::Nets;
use crate::settings::Guards;
use crate::tables::{Address, Entries, Tables};

/// What a program loaded with a configuration would hold, beginning with nothing received.
pub struct Offline {
    tables: Tables,
    /// How long the remotes that are prefixes are.
    lengths4: BTreeSet<u32>,
    lengths6: BTreeSet<u32>,
    drop_unknown: bool,
    guards: Guards,
    protected: Nets,
    allowed: Nets,
    bypass: HashMap<u32, Nets>,
    sequences: RefCell<HashMap<u32, SequenceState>>,
    /// When each tunnel's next answer to a keepalive is due.
    answers_due: RefCell<HashMap<u32, u64>>,
    /// The time of the packet that is decided on, by the clock that sequence numbers are judged by.
    now: Cell<u64>,
}

/// What the program would do with a captured packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// This.
    Decided(Verdict),
    /// It cannot be told: it depends on bytes that were not captured.
    Depends,
}

impl Offline {
    /// A program with this configuration, whose tunnels have these tables.
    pub fn new(config: &Config, tables: Tables) -> Self {
        let nets = |nets: &BTreeSet<IpNet>| nets.iter().copied().collect();
        Self {
            guards: Guards::of(&config.protect),
            protected: nets(&tables.protected),
            allowed: nets(&tables.allowed),
            bypass: tables
                .bypass
                .iter()
                .map(|(tunnel, list)| (*tunnel, nets(list)))
                .collect(),
            lengths4: lengths(&tables.v4),
            lengths6: lengths(&tables.v6),
            tables,
            drop_unknown: config.unknown == Unknown::Drop,
            sequences: RefCell::default(),
            answers_due: RefCell::default(),
            now: Cell::new(0),
        }
    }

    /// A tunnel's name.
    pub fn name(&self, tunnel: u32) -> Option<&str> {
        self.tables.names.get(&tunnel).map(String::as_str)
    }

    /// Decides on a frame of `length` bytes that came at a time, from those of its bytes that were captured.
    pub fn judge(&self, captured: &[u8], length: usize, at: Duration) -> Judgement {
        self.now.set(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX));
        let frame = Captured {
            bytes: captured,
            length: length.max(captured.len()),
            missing: Cell::new(false),
        };
        let verdict = decide(&frame, self);
        if frame.missing.get() {
            Judgement::Depends
        } else {
            Judgement::Decided(verdict)
        }
    }
}

/// A frame that may have been captured in part.
struct Captured<'a> {
    bytes: &'a [u8],
    length: usize,
    /// Whether bytes were asked for that are in the frame but not in the capture.
    missing: Cell<bool>,
}

impl Captured<'_> {
    fn note(&self, end: Option<usize>) {
        if end.is_some_and(|end| end > self.bytes.len() && end <= self.length) {
            self.missing.set(true);
        }
    }
}

impl Packet for Captured<'_> {
    fn load<T: Plain>(&self, offset: usize) -> Option<T> {
        let loaded = load(self.bytes, offset);
        if loaded.is_none() {
            self.note(offset.checked_add(size_of::<T>()));
        }
        loaded
    }

    /// Where there is less, the general way says what is missing.
    fn beginning<T: Plain>(&self) -> Option<&T> {
        plain::beginning(self.bytes)
    }

    fn len(&self) -> usize {
        self.length
    }

    fn sum(&self, offset: usize, len: usize) -> Option<u16> {
        let end = offset.checked_add(len);
        let bytes = self.bytes.get(offset..end?);
        if bytes.is_none() {
            self.note(end);
        }
        bytes.map(checksum::sum)
    }
}

impl gre_common::Tables for Offline {
    fn tunnel4(&self, endpoints: &Endpoints<Ipv4>) -> Option<Tunnel> {
        most_specific(&self.tables.v4, &self.lengths4, endpoints)
    }

    fn tunnel6(&self, endpoints: &Endpoints<Ipv6>) -> Option<Tunnel> {
        most_specific(&self.tables.v6, &self.lengths6, endpoints)
    }

    fn is_local4(&self, address: &Ipv4) -> bool {
        self.tables.v4.locals.contains_key(address)
    }

    fn is_local6(&self, address: &Ipv6) -> bool {
        self.tables.v6.locals.contains_key(address)
    }

    fn drop_unknown(&self) -> bool {
        self.drop_unknown
    }

    fn forwards(&self) -> bool {
        self.tables.have_routes() || self.tables.have(Deliver::Interface)
    }

    /// A capture does not tell whose interface it was made on; that it was this host's is the likeliest.
    fn is_own_mac(&self, _: Mac) -> bool {
        true
    }

    fn order(&self, tunnel: u32, number: u32) -> Order {
        let now = self.now.get();
        let mut sequences = self.sequences.borrow_mut();
        let state = sequences.entry(tunnel).or_default();
        let (order, cursor) = sequence::judge(*state, number, || now);
        state.cursor = cursor;
        if order != Order::Late {
            state.accepted_at = now;
        }
        order
    }

    fn answers(&self) -> bool {
        !self.tables.keepalives.is_empty()
    }

    fn may_answer(&self, tunnel: u32) -> bool {
        let mut answers_due = self.answers_due.borrow_mut();
        let due = answers_due.entry(tunnel).or_default();
        let rate = self.tables.keepalives.get(&tunnel).copied().unwrap_or(0).into();
        match (Quota { due: *due, rate }).take(self.now.get()) {
            Some(next) => {
                *due = next;
                true
            }
            None => false,
        }
    }

    fn inner_destinations(&self) -> Guard {
        self.guards.inner_destinations
    }

    fn is_protected4(&self, address: &Ipv4) -> bool {
        self.protected.have(address.to_ip())
    }

    fn is_protected6(&self, address: &Ipv6) -> bool {
        self.protected.have(address.to_ip())
    }

    fn lockdown(&self) -> Guard {
        self.guards.lockdown
    }

    fn is_allowed4(&self, address: &Ipv4) -> bool {
        self.allowed.have(address.to_ip())
    }

    fn is_allowed6(&self, address: &Ipv6) -> bool {
        self.allowed.have(address.to_ip())
    }

    fn is_bypassed4(&self, tunnel: u32, address: &Ipv4) -> bool {
        self.bypass.get(&tunnel).is_some_and(|nets| nets.have(address.to_ip()))
    }

    fn is_bypassed6(&self, tunnel: u32, address: &Ipv6) -> bool {
        self.bypass.get(&tunnel).is_some_and(|nets| nets.have(address.to_ip()))
    }
}

/// The lengths of remotes that are prefixes, in bits.
fn lengths<A: Address>(entries: &Entries<A>) -> BTreeSet<u32> {
    entries.prefixes.keys().map(EndpointsPrefix::remote_bits).collect()
}

/// An exact remote before the longest prefix.
fn most_specific<A: Address>(
    entries: &Entries<A>,
    lengths: &BTreeSet<u32>,
    endpoints: &Endpoints<A>,
) -> Option<Tunnel> {
    if let Some(tunnel) = entries.exact.get(endpoints) {
        return Some(*tunnel);
    }
    lengths.iter().rev().find_map(|&bits| {
        let remote = endpoints.remote.prefix(bits);
        let prefix = EndpointsPrefix::new(Endpoints { remote, ..*endpoints }, bits);
        entries.prefixes.get(&prefix).copied()
    })
}
