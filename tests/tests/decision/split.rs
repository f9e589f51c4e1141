//! Row 17: packets whose headers do not all lie in the first buffer.

use anyhow::{Context, Result, anyhow, bail};
use gre_common::{Verdict, decide};

use crate::support::bytes::Bytes;
use crate::support::outcome::hex;
use crate::support::reference::Reference;
use crate::support::split::{CONFIG, packets};

/// Wherever the first buffer ends, a good packet is delivered or left alone, and it is clear which.
#[test]
fn a_good_packet_is_delivered_if_and_only_if_its_headers_are_there() -> Result<()> {
    let reference = Reference::new(CONFIG)?;
    for packet in packets() {
        let Verdict::Deliver(whole) = decide(&Bytes::whole(&packet.frame), &reference) else {
            bail!("not delivered when whole: {}", hex(&packet.frame));
        };
        for first in 0..=packet.frame.len() {
            let verdict = decide(&Bytes::split(&packet.frame, first), &reference);
            packet
                .judge(first, &whole, &verdict)
                .map_err(|difference| anyhow!(difference))
                .with_context(|| format!("{first} bytes in the first buffer: {}", hex(&packet.frame)))?;
        }
    }
    Ok(())
}
