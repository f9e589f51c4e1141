//! The link header: Ethernet with up to two VLAN tags (IEEE 802.1Q, 802.1ad).

use network_types::eth::{EthHdr, EtherType};

use crate::{
    Packet,
    endian::{Be16, Be32},
};

/// EtherType and GRE protocol type of IPv4.
pub const ETHER_TYPE_IPV4: Be16 = Be16::new(0x0800);
/// EtherType and GRE protocol type of IPv6 (RFC 7676).
pub const ETHER_TYPE_IPV6: Be16 = Be16::new(0x86dd);
/// GRE protocol type of transparent Ethernet bridging.
pub const ETHER_TYPE_TEB: Be16 = Be16::new(0x6558);
/// EtherType and GRE protocol type of MPLS, unicast (RFC 4023).
pub const ETHER_TYPE_MPLS_UNICAST: Be16 = Be16::new(0x8847);
/// EtherType and GRE protocol type of MPLS, multicast (RFC 4023, RFC 5332).
pub const ETHER_TYPE_MPLS_MULTICAST: Be16 = Be16::new(0x8848);

/// A MAC address as a number, its first byte the highest of 48 bits.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(u64);

impl Mac {
    /// From the bytes as they lie in a frame.
    pub const fn from_bytes([a, b, c, d, e, f]: [u8; 6]) -> Self {
        Self(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }

    /// Whom a frame is addressed to; none if it is too short to say.
    #[inline(always)]
    pub fn destination<P: Packet>(packet: &P) -> Option<Self> {
        let (first, last): (Be32, Be16) = (packet.load(0)?, packet.load(size_of::<Be32>())?);
        Some(Self::of(first, last))
    }

    /// The same once something farther in the frame was read: the compiler would leave out the check of bounds, for which verifiers
    /// look at each place alone. See [`Packet::load_far`].
    #[inline(always)]
    pub fn destination_at_last<P: Packet>(packet: &P) -> Option<Self> {
        let (first, last): (Be32, Be16) = (packet.load_far(0)?, packet.load_far(size_of::<Be32>())?);
        Some(Self::of(first, last))
    }

    #[inline(always)]
    fn of(first: Be32, last: Be16) -> Self {
        Self(u64::from(first.get()) << 16 | u64::from(last.get()))
    }
}

/// A VLAN tag as it follows a tag protocol identifier.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct VlanTag {
    /// Priority, drop eligibility and VLAN identifier.
    pub control: Be16,
    /// EtherType of what follows.
    pub ether_type: Be16,
}

/// How many VLAN tags a frame carries within its bytes. A tag that the NIC took out is not among them.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VlanTags {
    /// Untagged.
    None = 0,
    /// 802.1Q or 802.1ad.
    One = 1,
    /// QinQ.
    Two = 2,
}

impl VlanTags {
    /// From their number; more than two are none that this program sees through, and taken for two.
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        match number {
            0 => Self::None,
            1 => Self::One,
            _ => Self::Two,
        }
    }
}

/// Where the link header ends and what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// VLAN tags.
    pub tags: VlanTags,
    /// EtherType after the last tag.
    pub ether_type: Be16,
}

impl Link {
    /// Bytes of the link header: 14, 18 or 22.
    #[inline(always)]
    pub const fn len(&self) -> usize {
        EthHdr::LEN + size_of::<VlanTag>() * self.tags as usize
    }

    /// Whether the header has no bytes: never.
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Reads the link header. `None`: the frame is too short to have one. More than two tags leave a tag protocol
    /// identifier as `ether_type`.
    #[inline(always)]
    pub fn parse<P: Packet>(packet: &P) -> Option<Self> {
        Self::parse_at(packet, 0)
    }

    /// The same, of a frame that begins at `start`.
    #[inline(always)]
    pub(crate) fn parse_at<P: Packet>(packet: &P, start: usize) -> Option<Self> {
        let ethernet: EthHdr = packet.load(start)?;
        let outermost = Be16::from_bytes(ethernet.ether_type.to_ne_bytes());
        if !is_tag(outermost) {
            return Some(Self {
                tags: VlanTags::None,
                ether_type: outermost,
            });
        }
        let first: VlanTag = packet.load(start + EthHdr::LEN)?;
        if !is_tag(first.ether_type) {
            return Some(Self {
                tags: VlanTags::One,
                ether_type: first.ether_type,
            });
        }
        let second: VlanTag = packet.load(start + EthHdr::LEN + size_of::<VlanTag>())?;
        Some(Self {
            tags: VlanTags::Two,
            ether_type: second.ether_type,
        })
    }
}

#[inline(always)]
pub(crate) fn is_tag(ether_type: Be16) -> bool {
    const DOT1Q: Be16 = Be16::from_bytes((EtherType::Ieee8021q as u16).to_ne_bytes());
    const DOT1AD: Be16 = Be16::from_bytes((EtherType::Ieee8021ad as u16).to_ne_bytes());
    ether_type == DOT1Q || ether_type == DOT1AD
}
