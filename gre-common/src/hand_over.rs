//! What travels with a decapsulated packet to the core that it is spread to: eight bytes in front of its frame, where the outer
//! headers were. Unlike XDP metadata, every driver takes that.

use crate::{Delivery, link::VlanTags, tunnel::Deliver};

/// The eight bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandOver {
    /// The tunnel.
    pub tunnel: u32,
    rest: u32,
}

/// Bits 0–15: bytes of the outer packet in front of the payload; they are far fewer than 65,536.
const OVERHEAD: u32 = 0xffff;
/// Bits 16–17: how to deliver.
const DELIVER_SHIFT: u32 = 16;
/// Bits 18–19: how many VLAN tags the link header has.
const TAGS_SHIFT: u32 = 18;
/// Bit 20: the payload is an Ethernet frame, which is the whole frame.
const ETHERNET: u32 = 1 << 20;
/// Bit 21: the sequence number told of a restarted sender.
const RESTART: u32 = 1 << 21;
/// Bit 22: the inner packet is a fragment.
const FRAGMENT: u32 = 1 << 22;
/// Bit 23: it is a reply to a health probe.
const PROBE: u32 = 1 << 23;

impl HandOver {
    /// What must be known about a packet after it was decapsulated.
    #[inline(always)]
    pub const fn of(delivery: &Delivery) -> Self {
        let overhead = (delivery.outer_bytes as usize).wrapping_sub(delivery.inner_bytes()) as u32 & OVERHEAD;
        let ethernet = if delivery.ether_type.is_none() { ETHERNET } else { 0 };
        let restart = if delivery.restart { RESTART } else { 0 };
        let fragment = if delivery.fragment != 0 { FRAGMENT } else { 0 };
        let probe = if delivery.passage.is_probe() { PROBE } else { 0 };
        Self {
            tunnel: delivery.tunnel,
            rest: overhead
                | (delivery.way() as u32) << DELIVER_SHIFT
                | (delivery.link.tags as u32) << TAGS_SHIFT
                | ethernet
                | restart
                | fragment
                | probe,
        }
    }

    /// Bytes of the outer packet in front of the payload.
    #[inline(always)]
    pub const fn overhead(&self) -> u32 {
        self.rest & OVERHEAD
    }

    /// How to deliver.
    #[inline(always)]
    pub const fn deliver(&self) -> Deliver {
        Deliver::from_bits(self.rest >> DELIVER_SHIFT)
    }

    /// VLAN tags of the link header.
    #[inline(always)]
    pub const fn tags(&self) -> VlanTags {
        VlanTags::from_number(self.rest >> TAGS_SHIFT & 3)
    }

    /// Whether the payload is an Ethernet frame.
    #[inline(always)]
    pub const fn is_ethernet(&self) -> bool {
        self.rest & ETHERNET != 0
    }

    /// Whether the sequence number told of a restarted sender.
    #[inline(always)]
    pub const fn restart(&self) -> bool {
        self.rest & RESTART != 0
    }

    /// Whether it is a reply to a health probe.
    #[inline(always)]
    pub const fn probe(&self) -> bool {
        self.rest & PROBE != 0
    }

    /// Not 0 if the inner packet is a fragment.
    #[inline(always)]
    pub const fn fragment(&self) -> u16 {
        (self.rest >> FRAGMENT.trailing_zeros() & 1) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        inner::Remark,
        link::{ETHER_TYPE_IPV4, Link},
        protect::Ruling,
        tunnel::Cores,
    };

    /// The shortest outer headers, IPv4 with all options, IPv6 with the longest extension headers, and all that fits.
    const OVERHEADS: [u32; 4] = [20 + 4, 60 + 16, 40 + 2 * 2048 + 16, 0xffff];

    #[test]
    fn it_gives_back_what_it_was_made_of() {
        for tunnel in [0, 1, 1_048_576, u32::MAX] {
            for overhead in OVERHEADS {
                for deliver in [Deliver::Stack, Deliver::Route, Deliver::Interface] {
                    for tags in [VlanTags::None, VlanTags::One, VlanTags::Two] {
                        for bits in 0..16 {
                            let (is_ethernet, restart, probe) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
                            let fragment = bits >> 3;
                            let delivery = Delivery {
                                tunnel,
                                link: Link {
                                    tags,
                                    ether_type: ETHER_TYPE_IPV4,
                                },
                                ether_type: (!is_ethernet).then_some(ETHER_TYPE_IPV4),
                                inner: 100,
                                end: 100 + 1400,
                                padding: 7,
                                remark: Remark::None,
                                outer_bytes: overhead + 1400,
                                restart,
                                fragment,
                                passage: if probe { Ruling::PROBE } else { Ruling::DELIVER }.settle().unwrap(),
                                deliver,
                                cores: Cores::new(3, 5),
                                mss: 1400,
                            };
                            let way = if probe { Deliver::Route } else { deliver };
                            let hand_over = HandOver::of(&delivery);
                            assert_eq!(
                                (
                                    hand_over.tunnel,
                                    hand_over.overhead(),
                                    hand_over.deliver(),
                                    hand_over.tags(),
                                    hand_over.is_ethernet(),
                                    hand_over.restart(),
                                    hand_over.fragment(),
                                    hand_over.probe(),
                                ),
                                (tunnel, overhead, way, tags, is_ethernet, restart, fragment, probe),
                                "{delivery:?}"
                            );
                        }
                    }
                }
            }
        }
    }

    /// The decapsulated frame must leave room for it where the outer headers were.
    #[test]
    fn it_is_shorter_than_the_shortest_outer_headers() {
        assert_eq!(size_of::<HandOver>(), 8);
        assert!(size_of::<HandOver>() < OVERHEADS[0] as usize);
    }
}
