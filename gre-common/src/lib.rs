//! What the kernel program and userspace share: header layouts, the decision on each packet, reasons, and the layout of
//! the maps.
//!
//! [`decide::decide`] is the whole way of a packet; everything else here is one step of it or one value it returns.
//! The code is safe, allocation-free and generic over where bytes and tables come from ([`Packet`], [`Tables`]), so the
//! program that the kernel runs and the host's tests decide by the same code.
#![no_std]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod arrivals;
mod at_once;
pub mod checksum;
pub mod counters;
pub mod decide;
pub mod ecn;
pub mod endian;
pub mod endpoints;
pub mod extension;
pub mod few;
pub mod flow;
pub mod forward;
mod front;
pub mod gre;
pub mod hand_over;
pub mod inner;
pub mod keepalive;
pub mod link;
pub mod maps;
pub mod mss;
pub mod outer;
mod packet;
pub mod plain;
mod probe;
pub mod protect;
pub mod reason;
pub mod sample;
pub mod sequence;
pub mod siphash;
pub mod sizes;
pub mod slots;
mod tables;
pub mod target;
pub mod transport;
pub mod tunnel;
#[cfg(feature = "user")]
mod user;
pub mod usual;
mod verdict;

pub use at_once::decide_at_once;
pub use decide::{decide, decide_in_full};
pub use packet::Packet;
pub use reason::{Action, Reason};
pub use tables::Tables;
pub use verdict::{Carrier, Delivery, Verdict};
