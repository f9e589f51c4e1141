//! Packets sent to a router that delivers in one way, and what is to come of them.

use anyhow::{Context, Result, ensure};
use gre_tests::frame::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use gre_tests::lab::Interface;
use gre_tests::program::Stats;

use super::STACK;
use crate::bench::{Bench, Seen, Way, forwarded, hex};
use crate::net::{Net, config};

/// A bench whose program delivers as these lines say, and the counters it started from.
pub(super) struct Trial<'a> {
    pub(super) bench: Bench<'a>,
    /// Whether the program looks the route up, and so counts how that went.
    pub(super) counts: bool,
    before: Stats,
}

impl<'a> Trial<'a> {
    pub(super) fn new(net: &'a Net, lines: &str) -> Result<Self> {
        let bench = Bench::open(net)?;
        net.program.load(&config("native", lines))?;
        Ok(Self {
            before: net.program.stats()?,
            counts: lines != STACK,
            bench,
        })
    }

    /// Sends a packet by every way, and returns what came out each time.
    pub(super) fn send(&self, packet: &[u8]) -> Result<Vec<Seen>> {
        let protocol = if packet[0] >> 4 == 4 {
            ETHERTYPE_IPV4
        } else {
            ETHERTYPE_IPV6
        };
        [Way::V4, Way::V6]
            .map(|way| self.bench.pass(&self.bench.frame(way, protocol, packet)))
            .into_iter()
            .collect()
    }

    /// Checks that a packet sent by every way comes out as a router forwards it, to this interface from that one.
    pub(super) fn forwards(&self, packet: &[u8], to: &Interface, from: &Interface) -> Result<()> {
        let frame = forwarded(packet, to.mac, from.mac)?;
        for seen in self.send(packet)? {
            ensure!(
                seen.server == [frame.clone()] && seen.centre.is_empty(),
                "{}\nwanted {}\nseen {seen:?}",
                hex(packet),
                hex(&frame)
            );
        }
        Ok(())
    }

    /// Checks that a packet sent by every way is answered with this ICMP message about it, and returns the message's
    /// second word: the MTU where there is one.
    pub(super) fn answers(&self, packet: &[u8], kind: [u8; 2]) -> Result<u32> {
        let mut word = 0;
        for seen in self.send(packet)? {
            let [answer] = seen.centre.as_slice() else {
                anyhow::bail!("{}: seen {seen:?}", hex(packet));
            };
            ensure!(seen.server.is_empty(), "{seen:?}");
            let message = answer.get(if packet[0] >> 4 == 4 { 34.. } else { 54.. });
            let message = message.context("an ICMP message")?;
            ensure!(
                message[..2] == kind,
                "type and code {:?}: {}",
                &message[..2],
                hex(answer)
            );
            word = u32::from_be_bytes([message[4], message[5], message[6], message[7]]);
            // As it was inside the tunnel, nothing decremented.
            let quoted = &message[8..];
            ensure!(
                packet.starts_with(quoted) && quoted.len() >= 28,
                "{} quoted as {}",
                hex(packet),
                hex(quoted)
            );
        }
        Ok(word)
    }

    /// Checks that nothing comes of a packet, whatever the way.
    pub(super) fn drops(&self, packet: &[u8]) -> Result<()> {
        for seen in self.send(packet)? {
            ensure!(seen == Seen::default(), "{}: seen {seen:?}", hex(packet));
        }
        Ok(())
    }

    /// Checks that since the start so many packets had this reason and none another, where the program looks up.
    pub(super) fn counted(&self, reason: &str, count: u64) -> Result<()> {
        self.counted_all(&[(reason, count)])
    }

    /// The same for several reasons.
    pub(super) fn counted_all(&self, wanted: &[(&str, u64)]) -> Result<()> {
        if !self.counts {
            return Ok(());
        }
        let stats = self.bench.net.program.stats()?;
        let reasons = stats.0["reasons"].as_object().context("reasons")?;
        let changed: Vec<_> = reasons
            .keys()
            .map(|name| (name.as_str(), stats.reason(name) - self.before.reason(name)))
            .filter(|(_, more)| *more > 0)
            .collect();
        ensure!(changed == wanted, "wanted {wanted:?}, counted {changed:?}");
        Ok(())
    }
}
