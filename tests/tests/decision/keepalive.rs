//! Keepalives that are answered: what goes back, how often, and to whom nothing does.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Result, ensure};
use gre_common::{Reason, Verdict, decide};
use gre_tests::frame::{Addresses, Gre, Link, Packet, TPID_8021AD, TPID_8021Q, keepalive};

use crate::support::bytes::Bytes;
use crate::support::carry_out::turn_round;
use crate::support::reference::Reference;

/// Tunnels that answer, over both families, and beside them one that does not.
const CONFIG: &str = r#"
[[tunnel]]
name = "over4"
local = "198.51.100.20"
remote = "203.0.113.0/24"
keepalive = "reply"
keepalive_rate = 3

[[tunnel]]
name = "over6"
local = "2001:db8:51::20"
remote = "2001:db8:113::/48"
keepalive = "reply"

[[tunnel]]
name = "silent"
local = "198.51.100.20"
remote = "203.0.113.0/24"
key = 7
"#;

const V4: Addresses = Addresses::V4(Ipv4Addr::new(203, 0, 113, 10), Ipv4Addr::new(198, 51, 100, 20));
const V6: Addresses = Addresses::V6(
    Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x10),
    Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 0x20),
);

fn reference() -> Result<Reference> {
    let own = gre_common::link::Mac::from_bytes(Link::DESTINATION);
    Ok(Reference::on(Some(own), CONFIG)?)
}

fn cisco(ends: Addresses) -> Packet {
    keepalive(
        ends,
        &Gre {
            protocol: 0,
            ..Gre::default()
        },
    )
}

fn verdict(packet: &Packet, reference: &Reference) -> Verdict {
    decide(&Bytes::whole(&packet.frame()), reference)
}

fn refused(packet: &Packet, reference: &Reference) -> Option<(u32, Reason)> {
    match verdict(packet, reference) {
        Verdict::Refuse { tunnel, reason } => Some((tunnel, reason)),
        _ => None,
    }
}

#[test]
fn the_answer_is_the_inner_packet_in_the_frame_turned_round() -> Result<()> {
    let links = [
        Link::default(),
        Link::default().tagged(TPID_8021Q, 100),
        Link::default().tagged(TPID_8021AD, 200).tagged(TPID_8021Q, 100),
    ];
    for (ends, kinds) in [(V4, &[0, 4][..]), (V6, &[0, 4, 0x86dd])] {
        for (link, &protocol) in links.iter().flat_map(|link| kinds.iter().map(move |kind| (link, kind))) {
            // Bytes behind the outer packet, and behind the inner one.
            for (padding, slack) in [(0, 0), (40, 0), (0, 9), (40, 9)] {
                let mut packet = keepalive(
                    ends,
                    &Gre {
                        protocol,
                        key: Some(4200),
                        ..Gre::default()
                    },
                );
                packet.link = link.clone();
                let answer = packet.payload.clone();
                packet.payload.extend(vec![0xee; slack]);
                packet.padding = vec![0xee; padding];
                let frame = packet.frame();
                let Verdict::Reply(reply) = verdict(&packet, &reference()?) else {
                    panic!("no answer: {:?}", verdict(&packet, &reference()?));
                };
                let back = Link {
                    destination: link.source,
                    source: link.destination,
                    ..link.clone()
                };
                let answered = turn_round(&reply, &frame);
                assert_eq!(answered, back.frame(packet.outer.ethertype(), &answer));
                ensure!(answered.len() < frame.len(), "an answer longer than the question");
            }
        }
    }
    Ok(())
}

/// The answer carries the mark that its way here has got, as any decapsulated packet.
#[test]
fn marks_are_combined() -> Result<()> {
    for ends in [V4, V6] {
        let mut packet = cisco(ends);
        let traffic_class = match ends {
            Addresses::V4(..) => 1,
            Addresses::V6(..) => 4,
        };
        // ECT(0), with a right checksum.
        packet.payload[1] |= 2 << (traffic_class & 4);
        if traffic_class == 1 {
            packet.payload[11] -= 2;
        }
        packet.outer.set_traffic_class(0b11);
        let Verdict::Reply(reply) = verdict(&packet, &reference()?) else {
            panic!("no answer: {:?}", verdict(&packet, &reference()?));
        };
        let answered = turn_round(&reply, &packet.frame());
        let inner = &answered[packet.link.header_len()..];
        assert_eq!(inner[1] >> (traffic_class & 4) & 3, 0b11, "congestion experienced");
        if traffic_class == 1 {
            assert_eq!(gre_tests::frame::internet_checksum(&inner[..20]), 0);
        }
    }
    Ok(())
}

#[test]
fn the_rate_is_each_tunnels_own() -> Result<()> {
    let reference = reference()?;
    let answered = |ends| matches!(verdict(&cisco(ends), &reference), Verdict::Reply(_));
    for second in 0..4 {
        // After a pause a second's worth at once, and then no more.
        let answers = (0..10).filter(|_| answered(V4)).count();
        assert_eq!(answers, 3, "second {second}");
        assert_eq!(refused(&cisco(V4), &reference), Some((1, Reason::KeepaliveRate)));
        assert!(answered(V6), "another tunnel's is not used up");
        reference.advance(Duration::from_secs(1));
    }
    reference.advance(Duration::from_millis(400));
    Ok(())
}

#[test]
fn others_are_not_answered() -> Result<()> {
    let reference = reference()?;
    // Another host's frames, all bits of whose address count.
    for bit in 0..48 {
        let mut packet = cisco(V4);
        packet.link.destination[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(refused(&packet, &reference), Some((1, Reason::OtherHost)), "bit {bit}");
    }
    // A tunnel that does not answer, whomever the frame is for.
    let mut silent = cisco(V4);
    silent.gre.key = Some(7);
    assert_eq!(refused(&silent, &reference), Some((3, Reason::Keepalive)));
    silent.link.destination = [0xff; 6];
    assert_eq!(refused(&silent, &reference), Some((3, Reason::Keepalive)));
    // No tunnel's far end.
    let stranger = Addresses::V4(Ipv4Addr::new(192, 0, 2, 66), Ipv4Addr::new(198, 51, 100, 20));
    assert_eq!(refused(&cisco(stranger), &reference), Some((0, Reason::UnknownPassed)));
    // To the tunnel's prefix, but not to where it came from.
    let mut elsewhere = cisco(V4);
    elsewhere.payload[19] ^= 1;
    assert!(matches!(verdict(&elsewhere, &reference), Verdict::Deliver(_)));
    // Nothing of that has used up what is answered.
    let answers = (0..10).filter(|_| matches!(verdict(&cisco(V4), &reference), Verdict::Reply(_)));
    assert_eq!(answers.count(), 3);
    Ok(())
}

/// What lies beyond the first buffer cannot be judged.
#[test]
fn a_split_keepalive_is_answered_only_if_it_can_be_read() -> Result<()> {
    for ends in [V4, V6] {
        let packet = cisco(ends);
        let frame = packet.frame();
        let needed = packet.payload_offset() + packet.payload.len();
        for first in 14..=frame.len() {
            let verdict = decide(&Bytes::split(&frame, first), &reference()?);
            if first >= needed {
                assert!(matches!(verdict, Verdict::Reply(_)), "{first}: {verdict:?}");
            } else {
                let alone = matches!(
                    verdict,
                    Verdict::NotOurs
                        | Verdict::Refuse {
                            reason: Reason::Headroom,
                            ..
                        }
                );
                assert!(alone, "{first}: {verdict:?}");
            }
        }
    }
    Ok(())
}
