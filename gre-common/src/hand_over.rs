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

impl HandOver {
    /// What must be known about a packet after it was decapsulated.
    #[inline(always)]
    pub const fn of(delivery: &Delivery) -> Self {
        let overhead = (delivery.outer_bytes as usize).wrapping_sub(delivery.inner_bytes()) as u32 & OVERHEAD;
        let ethernet = if delivery.ether_type.is_none() { ETHERNET } else { 0 };
        let restart = if delivery.restart { RESTART } else { 0 };
        Self {
            tunnel: delivery.tunnel,
            rest: overhead
                | (delivery.deliver as u32) << DELIVER_SHIFT
                | (delivery.link.tags as u32) << TAGS_SHIFT
                | ethernet
                | restart,
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
        match self.rest >> TAGS_SHIFT & 3 {
            0 => VlanTags::None,
            1 => VlanTags::One,
            _ => VlanTags::Two,
        }
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
}
