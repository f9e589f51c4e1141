//! Tunnels that keep order: `sequence = "ordered"`, the kernel's `iseq`. Both receivers are brought to expect a certain number, whatever
//! they expected before, so that what happens then is a matter of that number alone.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use gre_common::link::Link as ParsedLink;
use gre_common::sequence::SILENCE_MEANS_RESTART;
use gre_tests::frame::{
    ETHERTYPE_IPV4, ETHERTYPE_TEB, Gre, GreChecksum, Ipv4, Ipv6, Link, Outer, PROTOCOL_GRE, PROTOCOL_UDP, Packet,
};

use crate::outer;
use crate::pair::MAC;
use crate::support::bytes::Bytes;

/// So long a case may take that is to be free of the rule that a silent sender has restarted. The program's clock is the tests' own,
/// but for some ticks of the kernel.
pub(crate) const SOON: Duration = Duration::from_nanos(SILENCE_MEANS_RESTART / 2);

/// A tunnel of [`crate::ends::config`] that keeps order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ordered {
    /// Its id.
    pub(crate) id: u32,
    is_v6: bool,
    /// Whether it has a key, and checksums.
    is_full: bool,
}

/// All of them.
pub(crate) const ORDERED: [Ordered; 4] = [
    Ordered::new(9, false, false),
    Ordered::new(10, false, true),
    Ordered::new(11, true, false),
    Ordered::new(12, true, true),
];

/// The kernel has a device for packets and one for frames, each of which keeps an order of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Packets,
    Frames,
}

impl Ordered {
    const fn new(id: u32, is_v6: bool, is_full: bool) -> Self {
        Self { id, is_v6, is_full }
    }

    /// The one with this id, if it is one.
    pub(crate) fn of(id: u32) -> Option<Self> {
        ORDERED.into_iter().find(|tunnel| tunnel.id == id)
    }

    /// A packet that it accepts if it accepts the number, or the lack of one.
    pub(crate) fn frame(self, kind: Kind, number: Option<u32>) -> Vec<u8> {
        let (v4, v6) = (Ipv4::default(), Ipv6::default());
        let outer = if self.is_v6 {
            Outer::V6(Ipv6 {
                source: Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 13),
                destination: Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 0x20),
                next_header: PROTOCOL_GRE,
                ..v6
            })
        } else {
            Outer::V4(Ipv4 {
                source: Ipv4Addr::new(203, 0, 113, 13),
                destination: Ipv4Addr::new(198, 51, 100, 20),
                protocol: PROTOCOL_GRE,
                ..v4
            })
        };
        let link = Link {
            destination: MAC,
            ..Link::default()
        };
        let packet = Ipv4 {
            protocol: PROTOCOL_UDP,
            ..Ipv4::default()
        }
        .packet(&[0; 8]);
        let (protocol, payload) = match kind {
            Kind::Packets => (ETHERTYPE_IPV4, packet),
            Kind::Frames => (ETHERTYPE_TEB, link.frame(ETHERTYPE_IPV4, &packet)),
        };
        let (key, checksum) = if self.is_full {
            (Some(7), GreChecksum::Right)
        } else {
            (None, GreChecksum::Absent)
        };
        let gre = Gre {
            protocol,
            key,
            checksum,
            sequence: number,
            ..Gre::default()
        };
        Packet {
            link,
            outer,
            gre,
            payload,
            padding: Vec::new(),
        }
        .frame()
    }
}

/// Numbers after which either receiver expects `expected`, if it gets them one after the other. The first one may be late, of the second
/// and the first one at least one is not, and so on: each is less than half the numbers ahead.
pub(crate) fn towards(expected: u32) -> Vec<u32> {
    const MIDDLE: u32 = u32::MAX >> 1;
    let mut numbers = vec![MIDDLE, u32::MAX];
    if let Some(last) = expected.checked_sub(1) {
        if last > MIDDLE {
            numbers.push(MIDDLE);
        }
        numbers.push(last);
    }
    numbers
}

/// Which of the kernel's devices a GRE packet is for.
pub(crate) fn kind(frame: &[u8]) -> Option<Kind> {
    let packet = &frame[ParsedLink::parse(&Bytes::whole(frame))?.len()..];
    let protocol = packet.get(outer::length(packet)? + 2..)?.first_chunk()?;
    Some(if u16::from_be_bytes(*protocol) == ETHERTYPE_TEB {
        Kind::Frames
    } else {
        Kind::Packets
    })
}
