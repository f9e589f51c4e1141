//! What a delivery means, on a plain vector of bytes.

use gre_common::Delivery;
use gre_common::inner::Remark;
use gre_common::mss::{self, Lowered};

use super::bytes::Bytes;

/// Offsets in an inner IP header.
const TOS: usize = 1;
const CHECKSUM: usize = 10;

/// The frame that `frame`, of which `first` bytes lie in the first buffer, becomes.
pub(crate) fn carry_out(delivery: &Delivery, frame: &[u8], first: usize) -> Vec<u8> {
    let mut out = strip(delivery, frame);
    if let Some(lowered) = lowered(delivery, frame, first) {
        let (value, check) = (lowered.value_at, lowered.check_at);
        out[value..value + 2].copy_from_slice(&lowered.value);
        out[check..check + 2].copy_from_slice(&lowered.new_check());
    }
    out
}

/// How the MSS is lowered in that, if it is.
pub(crate) fn lowered(delivery: &Delivery, frame: &[u8], first: usize) -> Option<Lowered> {
    let protocol = delivery.ether_type.filter(|_| delivery.mss != 0)?;
    let stripped = strip(delivery, frame);
    let packet = Bytes::split(&stripped, first - delivery.stripped());
    mss::lower(&packet, protocol, delivery.link.len(), delivery.mss)
}

fn strip(delivery: &Delivery, frame: &[u8]) -> Vec<u8> {
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

/// The frame that a keepalive becomes when it is answered.
pub(crate) fn turn_round(delivery: &Delivery, frame: &[u8]) -> Vec<u8> {
    let mut out = strip(delivery, frame);
    let (destination, source) = out[..12].split_at_mut(6);
    destination.swap_with_slice(source);
    out
}
