//! Payloads that are no IP packets: inner frames, and MPLS.

use gre_tests::frame::{
    ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_MPLS, ETHERTYPE_MPLS_MULTICAST, ETHERTYPE_TEB, Link,
    TPID_8021AD, TPID_8021Q,
};

use super::{Flow, hash};

/// An inner frame's IP packet has the same hash as without the frame; the frame's own addresses, and tags, do not matter.
#[test]
fn inner_frames_are_told_apart_by_their_packets() {
    let links = [
        Link::default(),
        Link {
            destination: [2, 0, 0, 0, 9, 9],
            ..Link::default()
        },
        Link::default().tagged(TPID_8021Q, 100),
        Link::default().tagged(TPID_8021AD, 200).tagged(TPID_8021Q, 100),
    ];
    for link in links {
        let v4 = link.frame(ETHERTYPE_IPV4, &Flow::V4.packet());
        assert_eq!(
            hash(ETHERTYPE_TEB, &v4),
            hash(ETHERTYPE_IPV4, &Flow::V4.packet()),
            "{link:?}"
        );
        let v6 = link.frame(ETHERTYPE_IPV6, &Flow::V6.packet());
        assert_eq!(
            hash(ETHERTYPE_TEB, &v6),
            hash(ETHERTYPE_IPV6, &Flow::V6.packet()),
            "{link:?}"
        );
    }
}

#[test]
fn inner_frames_of_others_are_told_apart_by_mac_addresses() {
    let link = Link::default();
    let arp = |link: &Link, payload: &[u8]| hash(ETHERTYPE_TEB, &link.frame(ETHERTYPE_ARP, payload));
    let one = arp(&link, &[0; 28]);
    assert_eq!(arp(&link, &[7; 60]), one);
    for byte in 0..6 {
        for bit in 0..8 {
            let flip = |mut mac: [u8; 6]| {
                mac[byte] ^= 1 << bit;
                mac
            };
            let (to, from) = (flip(link.destination), flip(link.source));
            assert_ne!(
                arp(
                    &Link {
                        destination: to,
                        ..link.clone()
                    },
                    &[0; 28]
                ),
                one
            );
            assert_ne!(
                arp(
                    &Link {
                        source: from,
                        ..link.clone()
                    },
                    &[0; 28]
                ),
                one
            );
        }
    }
    // More tags than are looked through, and an IP packet that is cut off.
    let tagged = link
        .clone()
        .tagged(TPID_8021AD, 1)
        .tagged(TPID_8021Q, 2)
        .tagged(TPID_8021Q, 3);
    assert_eq!(
        hash(ETHERTYPE_TEB, &tagged.frame(ETHERTYPE_IPV4, &Flow::V4.packet())),
        one
    );
    assert_eq!(
        hash(ETHERTYPE_TEB, &link.frame(ETHERTYPE_IPV4, &Flow::V4.packet()[..19])),
        one
    );
    assert_eq!(
        hash(ETHERTYPE_TEB, &link.frame(ETHERTYPE_IPV6, &Flow::V6.packet()[..39])),
        one
    );
}

/// RFC 3032 section 2.1: 20 bits of label, 3 of traffic class, the bottom of stack, 8 of TTL.
#[test]
fn mpls_is_told_apart_by_its_first_label_alone() {
    let stack = |entry: u32, rest: &[u8]| [&entry.to_be_bytes()[..], rest].concat();
    let of = |entry| hash(ETHERTYPE_MPLS, &stack(entry, &[0xab; 24]));
    let one = of(0x1234_5140);
    for bit in 0..12 {
        assert_eq!(
            of(0x1234_5140 ^ 1 << bit),
            one,
            "bit {bit}: traffic class, bottom of stack or TTL"
        );
    }
    for bit in 12..32 {
        assert_ne!(of(0x1234_5140 ^ 1 << bit), one, "bit {bit} of the label");
    }
    assert_eq!(hash(ETHERTYPE_MPLS, &stack(0x1234_5140, &[])), one, "what follows");
    assert_eq!(hash(ETHERTYPE_MPLS_MULTICAST, &stack(0x1234_5140, &[0xab; 24])), one);
}
