//! What is quick for packets of the usual forms decides nothing else than the general way.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Result, ensure};
use gre_common::keepalive::Returning;
use gre_common::link::Mac;
use gre_common::plain::Plain;
use gre_common::sequence::SequenceState;
use gre_common::usual::{Form, Usual};
use gre_common::{Carrier, Delivery, Packet, Reason, Tables, Verdict, decide, decide_at_once};
use gre_tests::frame::{
    ETHERTYPE_IPV6, Gre, GreChecksum, Ipv4, Ipv6, Link, Outer, PROTOCOL_GRE, TPID_8021AD, TPID_8021Q, internet_checksum,
};
use proptest::prelude::*;

use crate::properties::config;
use crate::support::bytes::Bytes;
use crate::support::frames::{CONFIGS, Case, cases};
use crate::support::reference::Reference;

thread_local! {
    /// One for each of the configurations, whose packets come in on the interface that they are addressed to.
    static REFERENCES: Vec<Reference> = CONFIGS
        .iter()
        .map(|text| Reference::on(Some(Mac::from_bytes(Link::DESTINATION)), text))
        .collect::<Result<_, _>>()
        .expect("the table's configurations are valid");
}

/// A packet without [a look at its beginning](Packet::beginning): the decision takes the general way.
struct Piecemeal<'a>(Bytes<'a>);

impl Packet for Piecemeal<'_> {
    fn load<T: Plain>(&self, offset: usize) -> Option<T> {
        self.0.load(offset)
    }

    fn beginning<T: Plain>(&self) -> Option<&T> {
        None
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn sum(&self, offset: usize, len: usize) -> Option<u16> {
        self.0.sum(offset, len)
    }
}

/// What is decided on a packet, and what is noted of its number.
type Decided = (Verdict, Vec<SequenceState>, Vec<(u32, u32)>);

/// Decides on the tables as they are before the case's frame comes.
fn on(case: &Case, packet: &impl Packet) -> Decided {
    REFERENCES.with(|references| {
        let reference = &references[case.config];
        reference.receive_after(case.cursor, case.silent);
        let verdict = decide(packet, reference);
        (verdict, reference.states(), reference.arrived.borrow().clone())
    })
}

/// Whether a packet is delivered as one of a usual form.
struct AtOnce;

impl Carrier for AtOnce {
    type Done = bool;

    fn not_ours(self) -> bool {
        false
    }

    fn refuse(self, _: u32, _: Reason) -> bool {
        false
    }

    fn deliver(self, _: Delivery) -> bool {
        false
    }

    fn deliver_usual<F: Form>(self, _: Usual<'_, F>) -> bool {
        true
    }

    fn returning<P: Packet, T: Tables>(self, _: &P, _: &T, _: Returning) -> bool {
        false
    }
}

/// A tunnel for each form.
const EACH: &str = r#"
[[tunnel]]
name = "plain"
local = "198.51.100.20"
remote = "203.0.113.10"

[[tunnel]]
name = "keyed"
local = "198.51.100.20"
remote = "203.0.113.10"
key = 4200

[[tunnel]]
name = "ordered"
local = "198.51.100.21"
remote = "203.0.113.10"
sequence = "ordered"

[[tunnel]]
name = "ipv6"
local = "2001:db8:51::20"
remote = "2001:db8:113::10"
"#;

/// A packet of each form.
fn each() -> [(&'static str, Vec<u8>); 10] {
    let packet = |link: Link, outer: Outer, gre: Gre| {
        let payload = match gre.protocol {
            ETHERTYPE_IPV6 => Ipv6::default().packet(b"to the server"),
            _ => Ipv4::default().packet(b"to the server"),
        };
        let packet = gre_tests::frame::Packet {
            link,
            outer,
            gre,
            payload,
            padding: Vec::new(),
        };
        packet.frame()
    };
    let link = Link::default;
    let to = |last| {
        Outer::V4(Ipv4 {
            source: Ipv4Addr::new(203, 0, 113, 10),
            destination: Ipv4Addr::new(198, 51, 100, last),
            protocol: PROTOCOL_GRE,
            ..Ipv4::default()
        })
    };
    let v6 = || {
        Outer::V6(Ipv6 {
            source: Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x10),
            destination: Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 0x20),
            next_header: PROTOCOL_GRE,
            ..Ipv6::default()
        })
    };
    let plain = Gre::default;
    let keyed = Gre {
        key: Some(4200),
        ..plain()
    };
    let numbered = || Gre {
        sequence: Some(EXPECTED),
        ..plain()
    };
    let summed = || Gre {
        checksum: GreChecksum::Right,
        ..plain()
    };
    let around6 = || Gre {
        protocol: ETHERTYPE_IPV6,
        ..plain()
    };
    let tagged = link().tagged(TPID_8021Q, 100);
    let doubly = link().tagged(TPID_8021AD, 100).tagged(TPID_8021Q, 200);
    [
        ("plain", packet(link(), to(20), plain())),
        ("key", packet(link(), to(20), keyed)),
        ("sequence, ignored", packet(link(), to(20), numbered())),
        ("sequence, ordered", packet(link(), to(21), numbered())),
        ("checksum", packet(link(), to(20), summed())),
        ("one VLAN tag", packet(tagged, to(20), plain())),
        ("two VLAN tags", packet(doubly, to(20), plain())),
        ("outer IPv6", packet(link(), v6(), plain())),
        ("inner IPv6", packet(link(), to(20), around6())),
        ("inner and outer IPv6", packet(link(), v6(), around6())),
    ]
}

const EXPECTED: u32 = 5000;
/// The cursor of a tunnel that expects that number.
const CURSOR: u64 = EXPECTED as u64 | 1 << 32;

/// Each form is decided on at once, and whatever bit of its headers is changed, as the general way would. The outer header's checksum is
/// also made good then, which would else hide all other damage.
#[test]
fn each_bit_of_the_usual_forms_counts() -> Result<()> {
    let reference = Reference::on(Some(Mac::from_bytes(Link::DESTINATION)), EACH)?;
    let decided = |packet: &dyn Fn() -> Verdict| {
        reference.receive_after(CURSOR, false);
        (packet(), reference.states(), reference.arrived.borrow().clone())
    };
    for (form, frame) in each() {
        reference.receive_after(CURSOR, false);
        let at_once = decide_at_once(&Bytes::whole(&frame), &reference, AtOnce);
        ensure!(at_once == Some(true), "{form}: not delivered at once, but {at_once:?}");
        let headers = frame.len() - b"to the server".len();
        for bit in 0..headers * 8 {
            let mut changed = frame.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let mut good = changed.clone();
            make_good(&mut good);
            let padded = [&good[..], &[0xee; 9]].concat();
            for frame in [changed, good, padded] {
                let quick = decided(&|| decide(&Bytes::whole(&frame), &reference));
                let general = decided(&|| decide(&Piecemeal(Bytes::whole(&frame)), &reference));
                ensure!(
                    quick == general,
                    "{form}, bit {} of byte {}: {quick:?}, in general {general:?}",
                    bit % 8,
                    bit / 8
                );
            }
        }
    }
    Ok(())
}

/// Numbers that are expected, late, and of a restarted sender, under each rule of protection, which none of the packets obeys: what comes
/// first in the packet table decides.
#[test]
fn numbers_and_protection_come_in_the_order_of_the_packet_table() -> Result<()> {
    let late = |row: u64| (CURSOR + 5) | row << 40;
    for rule in ["off", "monitor", "enforce"] {
        let protect = format!("[protect]\nprefixes = ['10.0.0.0/24']\ninner_destinations = '{rule}'\n");
        let reference = Reference::on(Some(Mac::from_bytes(Link::DESTINATION)), &format!("{EACH}{protect}"))?;
        for (form, frame) in each() {
            for cursor in [0, CURSOR, late(0), late(15)] {
                let decided = |packet: &dyn Fn() -> Verdict| {
                    reference.receive_after(cursor, false);
                    (packet(), reference.states(), reference.arrived.borrow().clone())
                };
                let quick = decided(&|| decide(&Bytes::whole(&frame), &reference));
                let general = decided(&|| decide(&Piecemeal(Bytes::whole(&frame)), &reference));
                ensure!(
                    quick == general,
                    "{form}, {rule}, cursor {cursor:#x}: {quick:?}, in general {general:?}"
                );
            }
        }
    }
    Ok(())
}

/// Makes an outer IPv4 header's checksum right, as far as there is one.
fn make_good(frame: &mut [u8]) {
    let tags = frame[12..]
        .chunks(4)
        .take_while(|tag| [[0x81, 0], [0x88, 0xa8]].contains(&[tag[0], tag[1]]));
    let start = 14 + 4 * tags.take(2).count();
    let header = &mut frame[start..start + 20];
    if header[0] >> 4 == 4 {
        header[10..12].fill(0);
        let checksum = internet_checksum(header);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
}

proptest! {
    #![proptest_config(config())]

    /// Of each frame is also tried what a changed bit makes of it, in its headers.
    #[test]
    fn the_usual_way_is_the_general_one(case in cases(), bit in 0..60_usize * 8) {
        let mut changed = case.frame.clone();
        if let Some(byte) = changed.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
        }
        for frame in [&case.frame, &changed] {
            for first in [case.first, frame.len()] {
                let packet = || Bytes::split(frame, first);
                prop_assert_eq!(on(&case, &packet()), on(&case, &Piecemeal(packet())), "{:02x?}", frame);
            }
        }
    }
}
