//! What a delivery means, on a plain vector of bytes.

use gre_common::Delivery;
use gre_common::inner::Remark;

/// Offsets in an inner IP header.
const TOS: usize = 1;
const CHECKSUM: usize = 10;

/// The frame that `frame` becomes.
pub(crate) fn carry_out(delivery: &Delivery, frame: &[u8]) -> Vec<u8> {
    let mut out = frame[delivery.stripped()..frame.len() - delivery.padding].to_vec();
    let Some(ether_type) = delivery.ether_type else {
        return out;
    };
    let link = delivery.link.len();
    out[..link].copy_from_slice(&frame[..link]);
    out[link - 2..link].copy_from_slice(&ether_type.to_bytes());
    match delivery.remark {
        Remark::None => {}
        Remark::V4 { tos, check } => {
            out[link + TOS] = tos;
            out[link + CHECKSUM..link + CHECKSUM + 2].copy_from_slice(&check);
        }
        Remark::V6 { second } => out[link + TOS] = second,
    }
    out
}
