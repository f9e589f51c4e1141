//! Row 17: frames in more than one buffer.

use anyhow::{Context, Result, anyhow, bail, ensure};
use gre_common::{Reason, Verdict, decide};
use gre_tests::frame::{Gre, GreChecksum, Ipv4, Link, Outer, Packet};

use crate::kernel::{Kernel, SHORTEST, load_or_return};
use crate::support::bytes::Bytes;
use crate::support::outcome::{Counter, Outcome, hex};
use crate::support::reference::Reference;
use crate::support::split::{CONFIG, links, outers, packets};
use gre_tests::skip::skip_on_this_kernel;

/// A kernel with the packets' tunnels that splits frames at will, or none, after saying so.
macro_rules! split_or_return {
    () => {{
        load_or_return!();
        let mut kernel = Kernel::load(CONFIG)?;
        if !kernel.can_split()? {
            skip_on_this_kernel(
                module_path!(),
                "test runs of frames with a first buffer of a given size (Linux 6.18)",
            );
            return Ok(());
        }
        kernel
    }};
}

/// Wherever the first buffer ends, a good packet is delivered or passed as it came, and it is clear which.
#[test]
fn a_good_packet_is_delivered_if_and_only_if_its_headers_are_there() -> Result<()> {
    let mut kernel = split_or_return!();
    let reference = Reference::new(CONFIG)?;
    for packet in packets() {
        let frame = &packet.frame;
        let Verdict::Deliver(whole) = decide(&Bytes::whole(frame), &reference) else {
            bail!("not delivered when whole: {}", hex(frame));
        };
        for first in SHORTEST..=frame.len() {
            let context = || format!("{first} bytes in the first buffer: {}", hex(frame));
            let verdict = decide(&Bytes::split(frame, first), &reference);
            packet
                .judge(first, &whole, &verdict)
                .map_err(|difference| anyhow!(difference))
                .with_context(context)?;
            let outcome = kernel.run_split(frame, first).with_context(context)?;
            let on_host = Outcome::of(&verdict, frame);
            ensure!(
                outcome == on_host,
                "{}:\non the host   {on_host:?}\nin the kernel {outcome:?}",
                context()
            );
        }
    }
    Ok(())
}

/// Bytes of inner header that the packets here have in the first buffer.
const INNER_HEADER: usize = 20;
/// Bytes behind that. A page is 4096, a block of the program's checksum 512, and 65,000 is about what a packet can have.
const PAYLOADS: [usize; 9] = [1, 480, 511, 3001, 4096, 8191, 8192, 9001, 65_000];
/// Bytes of padding; more than a page is a whole buffer or several to be cut off.
const PADDINGS: [usize; 4] = [0, 1, 46, 9000];

/// Only headers in the first buffer, or some of the payload: checksums are verified over all buffers, the ECN field is
/// carried over, and padding is cut off wherever it begins.
#[test]
fn payload_may_lie_anywhere() -> Result<()> {
    let mut kernel = split_or_return!();
    for (outer, link) in outers().iter().zip(links().iter().cycle()) {
        for payload in PAYLOADS {
            for padding in PADDINGS.into_iter().filter(|padding| padding + payload <= 65_000) {
                for checksum in [GreChecksum::Absent, GreChecksum::Right] {
                    let good = Good::new(link, outer, checksum, payload, padding);
                    good.check(&mut kernel)?;
                }
            }
        }
    }
    Ok(())
}

/// A packet from an ECN-marking path, and what comes out.
struct Good {
    packet: Packet,
    delivered: Vec<u8>,
}

impl Good {
    fn new(link: &Link, outer: &Outer, checksum: GreChecksum, payload: usize, padding: usize) -> Self {
        let bytes: Vec<u8> = (0..payload).map(|index| (index % 251) as u8).collect();
        let inner = |tos| Ipv4 { tos, ..Ipv4::default() }.packet(&bytes);
        let gre = Gre {
            checksum,
            sequence: Some(1),
            ..Gre::default()
        };
        // ECT(0) becomes congestion experienced, which the outer header says.
        let (sent, received) = (inner(0b10), inner(0b11));
        Self {
            delivered: link.frame(gre.protocol, &received),
            packet: Packet {
                link: link.clone(),
                outer: outer.clone(),
                gre,
                payload: sent,
                padding: vec![0xee; padding],
            },
        }
    }

    /// Runs the packet, and damaged copies of it, with first buffers of several sizes. The kernel makes none longer than a
    /// page has room for.
    fn check(&self, kernel: &mut Kernel) -> Result<()> {
        let frame = self.packet.frame();
        let padding = self.packet.padding.len();
        let headers = self.packet.payload_offset() + INNER_HEADER;
        let end = frame.len() - padding;
        for first in [headers, headers + 1, 600, 3000, frame.len()] {
            let first = first.clamp(headers, frame.len());
            let place = format!(
                "{first} of {} bytes in the first buffer, {padding} of padding",
                frame.len()
            );
            let outcome = kernel.run_split(&frame, first).context(place.clone())?;
            ensure!(
                outcome.passed.as_ref() == Some(&self.delivered),
                "{place}: not delivered as it should be, counted {:?}",
                outcome.counted
            );
            ensure!(counters(&outcome) == self.counted(), "{place}: {:?}", outcome.counted);
            if self.packet.gre.checksum == GreChecksum::Absent {
                continue;
            }
            for damaged_at in [headers, first.min(end - 1), end - 1] {
                let mut damaged = frame.clone();
                damaged[damaged_at] ^= 0x10;
                let outcome = kernel.run_split(&damaged, first).context(place.clone())?;
                let bad = (Counter::of(Reason::ChecksumBad), 1);
                ensure!(
                    outcome.passed.is_none() && counters(&outcome) == [bad],
                    "{place}, damaged at {damaged_at}: not dropped for its checksum, counted {:?}",
                    outcome.counted
                );
            }
        }
        Ok(())
    }

    /// What its delivery counts.
    fn counted(&self) -> [(Counter, u64); 3] {
        [
            (Counter::Packets, 1),
            (Counter::Bytes, self.packet.payload.len() as u64),
            (Counter::OuterBytes, self.packet.ip_packet().len() as u64),
        ]
    }
}

/// What was counted, for whichever tunnel.
fn counters(outcome: &Outcome) -> Vec<(Counter, u64)> {
    let counted = outcome.counted.iter();
    counted.map(|((_, counter), count)| (*counter, *count)).collect()
}
