//! Inner packets that a router must look at closely: all that it forwards, and all that it must not.

mod v4;
mod v6;

use gre_tests::frame::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};

/// IP protocol number of SCTP.
const PROTOCOL_SCTP: u8 = 132;

/// An inner packet.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// The GRE protocol type that announces it.
    pub(crate) protocol: u16,
    pub(crate) inner: Vec<u8>,
}

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    let case = |protocol| move |(name, inner)| Case { name, protocol, inner };
    v4::cases()
        .into_iter()
        .map(case(ETHERTYPE_IPV4))
        .chain(v6::cases().into_iter().map(case(ETHERTYPE_IPV6)))
        .collect()
}

/// A case's name, and its packet.
type Named = (String, Vec<u8>);

/// Bytes that differ.
fn data(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 7 + length) as u8).collect()
}
