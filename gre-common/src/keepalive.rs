//! GRE keepalives: a router at the tunnel's far end asks whether we are there by sending us, through the tunnel, the packet that
//! it wants to get. Decapsulated and forwarded like any other, that packet goes straight back: it is IP with GRE in it, from our
//! end to the far end.
//!
//! RFC 2784 knows no keepalives. Cisco's have GRE protocol type 0 ("GRE Tunnel Keepalives", document 64565), MikroTik's over IPv6
//! 0x86dd, Huawei's 4; nothing follows the GRE header, which has the tunnel's optional fields.

use core::mem::offset_of;

use network_types::ip::{IpProto, Ipv4Hdr, Ipv6Hdr};

use crate::{
    Delivery, Packet, Reason, Tables,
    ecn::Codepoint,
    endian::{Be16, Be32},
    gre::{CHECKSUM, Gre, GreHdr, KEY, MUST_BE_ZERO, ROUTING, SEQUENCE, VERSION},
    inner::{self, Remark},
    link::{ETHER_TYPE_IPV6, Link, Mac},
    outer::Payload,
    protect::Passage,
    tunnel::{Cores, Deliver, Tunnel},
};

/// A packet whose inner destination is the outer source. Decapsulated, it would leave for where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Returning {
    /// The tunnel it belongs to.
    pub tunnel: u32,
    /// Whether the tunnel answers keepalives.
    pub answers: bool,
    /// The link header it came with; inside and outside are of the family that this says.
    pub link: Link,
    /// Where the inner packet begins.
    pub inner: usize,
    /// The outer ECN field.
    pub ecn: Codepoint,
}

impl Returning {
    #[inline(always)]
    pub(crate) fn of(tunnel: Tunnel, link: Link, at: &Payload, gre: &Gre) -> Self {
        Self {
            tunnel: tunnel.id,
            answers: tunnel.policy.answers(),
            link,
            inner: gre.payload,
            ecn: at.ecn,
        }
    }

    /// It is a keepalive, or else would go round in a loop (RFC 2784 section 3.1). Gives the delivery that, turned round,
    /// answers it.
    ///
    /// # Errors
    ///
    /// Why it is not answered.
    #[inline(always)]
    pub fn judge<P: Packet, T: Tables>(&self, packet: &P, tables: &T) -> Result<Delivery, Reason> {
        let header = if self.link.ether_type == ETHER_TYPE_IPV6 {
            self.v6(packet)
        } else {
            self.v4(packet)
        };
        let (header, remark) = header?;
        let len = self.keepalive_len(packet, &header)?;
        if !tables.answers() || !self.answers {
            return Err(Reason::Keepalive);
        }
        // What was sent to another host is that one's to answer.
        match Mac::destination(packet) {
            Some(mac) if tables.is_own_mac(mac) => {}
            _ => return Err(Reason::OtherHost),
        }
        if !tables.may_answer(self.tunnel) {
            return Err(Reason::KeepaliveRate);
        }
        // Nothing leaves but the keepalive itself.
        let end = self.inner + len;
        Ok(Delivery {
            tunnel: self.tunnel,
            link: self.link,
            ether_type: Some(self.link.ether_type),
            inner: self.inner,
            end,
            padding: packet.len().wrapping_sub(end),
            remark,
            outer_bytes: 0,
            restart: false,
            passage: Passage::PLAIN,
            mss: 0,
            fragment: 0,
            deliver: Deliver::Stack,
            cores: Cores::NONE,
        })
    }

    /// Reads the inner IPv4 header. With options it is no keepalive: a source route would take the reply to somebody else.
    #[inline(always)]
    fn v4<P: Packet>(&self, packet: &P) -> Result<(Header, Remark), Reason> {
        const PLAIN: u8 = 0x45;
        const MORE_FRAGMENTS_OR_OFFSET: u16 = 0x3fff;
        const SOURCE: usize = offset_of!(Ipv4Hdr, src_addr);
        const DESTINATION: usize = offset_of!(Ipv4Hdr, dst_addr);

        let ip: Ipv4Hdr = packet.load(self.inner).ok_or(Reason::Headroom)?;
        let remark = inner::remark_v4(&ip, self.ecn)?;
        let is_fragment = u16::from_be_bytes(ip.frags) & MORE_FRAGMENTS_OR_OFFSET != 0;
        let header = Header {
            len: Ipv4Hdr::LEN,
            total_len: usize::from(u16::from_be_bytes(ip.tot_len)),
            goes_back: ip.proto == IpProto::Gre as u8
                && ip.vihl == PLAIN
                && !is_fragment
                && self.is_answer::<P, 1>(packet, SOURCE, DESTINATION),
        };
        Ok((header, remark))
    }

    /// Reads the inner IPv6 header. With extension headers it is no keepalive.
    #[inline(always)]
    fn v6<P: Packet>(&self, packet: &P) -> Result<(Header, Remark), Reason> {
        const SOURCE: usize = offset_of!(Ipv6Hdr, src_addr);
        const DESTINATION: usize = offset_of!(Ipv6Hdr, dst_addr);

        let ip: Ipv6Hdr = packet.load(self.inner).ok_or(Reason::Headroom)?;
        let remark = inner::remark_v6(&ip, self.ecn)?;
        let header = Header {
            len: Ipv6Hdr::LEN,
            total_len: Ipv6Hdr::LEN + usize::from(u16::from_be_bytes(ip.payload_len)),
            goes_back: ip.next_hdr == IpProto::Gre as u8 && self.is_answer::<P, 4>(packet, SOURCE, DESTINATION),
        };
        Ok((header, remark))
    }

    /// Whether the inner addresses, which are of so many words and lie at these offsets, are the outer ones exchanged.
    #[inline(always)]
    fn is_answer<P: Packet, const WORDS: usize>(&self, packet: &P, source: usize, destination: usize) -> bool {
        let outer = self.link.len();
        let differ = |word: usize, outer_at: usize, inner_at: usize| {
            let outer: Option<Be32> = packet.load_far(outer + outer_at + size_of::<Be32>() * word);
            outer != packet.load_far(self.inner + inner_at + size_of::<Be32>() * word)
        };
        !(0..WORDS).any(|word| differ(word, destination, source) || differ(word, source, destination))
    }

    /// Bytes of the inner packet if it is a keepalive, [`Reason::Loop`] if it is none, and [`Reason::Headroom`] if that cannot be
    /// told because it does not lie within the first buffer.
    #[inline(always)]
    fn keepalive_len<P: Packet>(&self, packet: &P, header: &Header) -> Result<usize, Reason> {
        if !header.goes_back || header.total_len < header.len + size_of::<GreHdr>() {
            return Err(Reason::Loop);
        }
        let gre: GreHdr = packet.load(self.inner + header.len).ok_or(Reason::Headroom)?;
        let is_v6 = self.link.ether_type == ETHER_TYPE_IPV6;
        if is_empty(&gre, header.total_len - header.len) && is_type(gre.protocol, is_v6) {
            Ok(header.total_len)
        } else {
            Err(Reason::Loop)
        }
    }
}

/// An inner IP header.
struct Header {
    len: usize,
    /// Bytes of the whole packet.
    total_len: usize,
    /// Whether it says: unfragmented GRE from the outer destination to the outer source.
    goes_back: bool,
}

/// Whether a GRE header is sound, and all that there is in `room` bytes.
#[inline(always)]
fn is_empty(gre: &GreHdr, room: usize) -> bool {
    let flags = gre.flags.get();
    let fields = [CHECKSUM, KEY, SEQUENCE].map(|flag| usize::from(flags & flag != 0));
    let len = size_of::<GreHdr>() + 4 * (fields[0] + fields[1] + fields[2]);
    flags & (VERSION | ROUTING | MUST_BE_ZERO) == 0 && len == room
}

#[inline(always)]
fn is_type(protocol: Be16, is_v6: bool) -> bool {
    const CISCO: Be16 = Be16::new(0);
    const HUAWEI: Be16 = Be16::new(4);
    const MIKROTIK: Be16 = ETHER_TYPE_IPV6;

    protocol == CISCO || protocol == HUAWEI || is_v6 && protocol == MIKROTIK
}

/// How many keepalives a tunnel answers: the generic cell rate algorithm (ITU-T I.371 annex A), whose one word several CPUs
/// can move by compare-and-swap.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// When the next reply would be due if all came evenly, in nanoseconds of `CLOCK_MONOTONIC`. Zero at first.
    pub due: u64,
    /// Replies a second, and as many at once after a pause.
    pub rate: u64,
}

impl Quota {
    /// What [`Self::due`] becomes by a reply at the time `now`; none if there may be none.
    #[inline(always)]
    pub fn take(self, now: u64) -> Option<u64> {
        const SECOND: u64 = 1_000_000_000;

        if self.rate == 0 {
            return None;
        }
        let interval = SECOND / self.rate;
        let early = self.due.saturating_sub(now);
        if early > SECOND - interval {
            return None;
        }
        Some(now + early + interval)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Tries at these times, and gives those at which there was a reply.
    fn replies(rate: u64, times: impl Iterator<Item = u64>) -> std::vec::Vec<u64> {
        let mut quota = Quota { due: 0, rate };
        let take = |now: &u64| match quota.take(*now) {
            Some(due) => {
                quota.due = due;
                true
            }
            None => false,
        };
        times.filter(take).collect()
    }

    #[test]
    fn a_seconds_worth_at_once_and_then_the_rate() {
        for rate in [1, 3, 7, 10, 10_000] {
            let now = 5 * SECOND;
            let at_once = replies(rate, (0..2 * rate).map(|_| now)).len() as u64;
            assert_eq!(at_once, rate);
            // A flood for three seconds.
            let step = SECOND / rate / 3;
            let flood = replies(rate, (0..9 * rate).map(|n| now + n * step)).len() as u64;
            assert!((4 * rate - 1..=4 * rate).contains(&flood), "rate {rate}: {flood}");
        }
        assert_eq!(Quota::default().take(SECOND), None, "no rate, no replies");
    }

    proptest! {
        /// In no second more than what comes in during it and what was saved before: whatever the times.
        #[test]
        fn never_more_than_the_rate(rate in 1u64..200, steps in proptest::collection::vec(0u64..SECOND / 20, 1..800)) {
            let mut now = SECOND;
            let times = steps.iter().map(|step| { now += step; now });
            let replies = replies(rate, times);
            for (first, at) in replies.iter().enumerate() {
                let within = replies[first..].iter().take_while(|later| **later < at + SECOND).count() as u64;
                prop_assert!(within <= 2 * rate, "{within} replies in a second at a rate of {rate}");
            }
            // Nanoseconds are not divided, which makes one more in a long time.
            let all = (now - SECOND) * rate / SECOND + rate + 1;
            prop_assert!(replies.len() as u64 <= all);
        }

        /// Who asks no faster than the rate is always answered.
        #[test]
        fn within_the_rate_all_are_answered(rate in 1u64..1000, jitter in proptest::collection::vec(0u64..1000, 1..300)) {
            let interval = SECOND / rate;
            let times: std::vec::Vec<u64> = (1u64..)
                .zip(&jitter)
                .map(|(n, jitter)| SECOND + n * (interval + 1000) + jitter)
                .collect();
            prop_assert_eq!(replies(rate, times.iter().copied()).len(), times.len());
        }

        #[test]
        fn any_state_is_bearable(due: u64, rate in 0u64..100_000, now in 0u64..u64::MAX / 2) {
            Quota { due, rate }.take(now);
        }
    }
}
