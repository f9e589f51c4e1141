//! Rows 11 and 12 for packets of every length: their sum is put together from pieces whose number and sizes the length decides on.

use anyhow::{Context, Result, ensure};
use gre_common::Reason;
use gre_tests::frame::{Gre, GreChecksum, Ipv4, Link, Packet};

use crate::kernel::{Kernel, load_or_return};
use crate::support::outcome::{Counter, Outcome};
use crate::support::split::{CONFIG, outers};

/// Beyond these, the pieces are the same again: a block of the program's checksum has 512 bytes.
const LENGTHS: std::ops::Range<usize> = 0..1100;
/// The kernel's test runs have room for so many in the first buffer.
const LONG: std::ops::Range<usize> = 1100..3000;
/// So many of the last bytes are each damaged once: what no whole piece covers.
const LAST: usize = 40;

/// A packet with a payload of so many bytes behind its inner header.
fn packet(len: usize) -> Packet {
    // Each byte is another one than its neighbours', and sums carry.
    let bytes: Vec<u8> = (0..len).map(|index| (index * 151 + len) as u8 | 0x80).collect();
    Packet {
        link: Link::default(),
        outer: outers()[0].clone(),
        gre: Gre {
            checksum: GreChecksum::Right,
            ..Gre::default()
        },
        // Congestion experienced already: the outer header has nothing to add.
        payload: Ipv4 {
            tos: 0b11,
            ..Ipv4::default()
        }
        .packet(&bytes),
        padding: Vec::new(),
    }
}

fn counted(outcome: &Outcome, counter: Counter) -> bool {
    outcome.counted.keys().any(|(_, counted)| *counted == counter)
}

#[test]
fn right_and_wrong_are_told_apart_at_every_length() -> Result<()> {
    load_or_return!();
    let mut kernel = Kernel::load(CONFIG)?;
    for len in LENGTHS.chain(LONG.step_by(61)) {
        let packet = packet(len);
        let frame = packet.frame();
        let outcome = kernel.run(&frame).with_context(|| format!("{len} bytes"))?;
        ensure!(
            outcome.passed == Some(packet.link.frame(packet.gre.protocol, &packet.payload)),
            "{len} bytes: not delivered, counted {:?}",
            outcome.counted
        );
        let inner = packet.payload_offset();
        let tail = frame.len().saturating_sub(LAST).max(inner)..frame.len();
        for damaged_at in [packet.gre_offset() + 4, inner, inner + (frame.len() - inner) / 2]
            .into_iter()
            .chain(tail)
        {
            let mut damaged = frame.clone();
            damaged[damaged_at] ^= 0x01;
            let outcome = kernel.run(&damaged)?;
            ensure!(
                outcome.passed.is_none() && counted(&outcome, Counter::of(Reason::ChecksumBad)),
                "{len} bytes, damaged at {damaged_at}: not dropped for its checksum, counted {:?}",
                outcome.counted
            );
        }
    }
    Ok(())
}
