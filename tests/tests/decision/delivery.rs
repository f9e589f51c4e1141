//! What a delivery promises, whatever led to it.

use gre_common::Delivery;
use gre_common::ecn::{self, Codepoint};
use gre_common::inner::Remark;
use gre_tests::frame::internet_checksum;
use proptest::prelude::*;

use crate::support::carry_out::{carry_out, lowered};

/// Judged from the frame alone: the payload is a part of it that lies behind two headers at least, and leaves as it came but
/// for its ECN field, the MSS of a TCP SYN, and the checksums over these. `first` bytes are in the first buffer.
pub(crate) fn check_delivery(delivery: &Delivery, frame: &[u8], first: usize) -> Result<(), TestCaseError> {
    const LEAST_OUTER: usize = 20 + 4;
    let link = delivery.link.len();
    prop_assert!(delivery.inner >= link + LEAST_OUTER && delivery.inner <= delivery.end && delivery.end <= frame.len());
    prop_assert_eq!(delivery.padding, frame.len() - delivery.end);
    prop_assert_eq!(delivery.outer_bytes as usize, delivery.end - link);

    let payload = &frame[delivery.inner..delivery.end];
    let out = carry_out(delivery, frame, first);
    let Some(ether_type) = delivery.ether_type else {
        prop_assert_eq!(out, payload);
        return Ok(());
    };
    prop_assert_eq!(&out[..link - 2], &frame[..link - 2]);
    prop_assert_eq!(&out[link - 2..link], ether_type.to_bytes());

    let inner = &out[link..];
    let mut unmarked = inner.to_vec();
    match delivery.remark {
        Remark::None => {}
        Remark::V4 { .. } => {
            prop_assert_eq!(inner[1] & !3, payload[1] & !3, "DSCP");
            unmarked[1] = payload[1];
            unmarked[10..12].copy_from_slice(&payload[10..12]);
            let header_len = usize::from(payload[0] & 0xf) * 4;
            let right = |header: &[u8]| internet_checksum(header) == 0;
            prop_assert_eq!(right(&inner[..header_len]), right(&payload[..header_len]), "checksum");
            prop_assert_eq!(
                ecn::combine(outer_ecn(frame, link), Codepoint::of(payload[1])),
                Some(Codepoint::of(inner[1]))
            );
        }
        Remark::V6 { .. } => {
            prop_assert_eq!(inner[1] & !0x30, payload[1] & !0x30, "traffic class and flow label");
            unmarked[1] = payload[1];
            let (before, after) = (Codepoint::of(payload[1] >> 4), Codepoint::of(inner[1] >> 4));
            prop_assert_eq!(ecn::combine(outer_ecn(frame, link), before), Some(after));
        }
    }
    if let Some(lowered) = lowered(delivery, frame, first) {
        let value = |bytes: &[u8]| u16::from_be_bytes([bytes[0], bytes[1]]);
        let (value_at, check_at) = (lowered.value_at - link, lowered.check_at - link);
        prop_assert_eq!(value(&inner[value_at..]), delivery.mss);
        prop_assert!(value(&payload[value_at..]) > delivery.mss);
        for at in [value_at, check_at] {
            unmarked[at..at + 2].copy_from_slice(&payload[at..at + 2]);
        }
    }
    prop_assert_eq!(unmarked, payload);
    Ok(())
}

fn outer_ecn(frame: &[u8], link: usize) -> Codepoint {
    match frame[link] >> 4 {
        4 => Codepoint::of(frame[link + 1]),
        _ => Codepoint::of(frame[link + 1] >> 4),
    }
}
