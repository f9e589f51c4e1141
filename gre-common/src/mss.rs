//! The maximum segment size that the SYN of a TCP connection announces (RFC 9293 section 3.7.1), and lowering it: only the first
//! option of its kind, as the kernel's `xt_TCPMSS` does, and only where nothing about it is in doubt.

use network_types::ip::{IpProto, Ipv4Hdr, Ipv6Hdr};

use crate::{
    Packet, checksum,
    endian::Be16,
    link::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6},
};

/// What lowering changes in a packet: two bytes of an option, and the checksum over them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lowered {
    /// Offset of the option's value.
    pub value_at: usize,
    /// The new value, as it lies in the packet.
    pub value: [u8; 2],
    /// Offset of the TCP checksum.
    pub check_at: usize,
    /// The checksum as it was.
    pub check: [u8; 2],
    /// What the checksum covers before and after, as its words of 16 bits have it: swapped where the value lies across two of
    /// them, which for the sum is the same (RFC 1071 section 2 B).
    pub words: ([u8; 2], [u8; 2]),
}

impl Lowered {
    /// The new checksum: equation 3 of RFC 1624.
    #[inline(always)]
    pub const fn new_check(&self) -> [u8; 2] {
        checksum::update(self.check, self.words.0, self.words.1)
    }
}

const TCP: u8 = IpProto::Tcp as u8;
const MORE_FRAGMENTS_OR_OFFSET: u16 = 0x3fff;
/// Bytes of a TCP header without options.
const HEADER: usize = 20;
/// Offset in it of the header's length, the flags and the window.
const LENGTH_AND_FLAGS: usize = 12;
/// Offset in it of the checksum and the urgent pointer.
const CHECK: usize = 16;
const SYN: u8 = 1 << 1;
/// Most bytes of options: at least so many steps lead behind the last.
const OPTIONS: usize = 40;
/// Kinds of options.
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const MSS: u8 = 2;
/// Bytes of the option that holds the MSS.
const MSS_LEN: u8 = 4;

/// What the program on an interface's way out is to do: how many bytes a SYN may announce, by the IP version.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clamp {
    /// What the configuration says: bytes, or 0, which leaves it to userspace to set the others by the interface's MTU.
    pub configured: u32,
    /// Over IPv4.
    pub v4: u16,
    /// Over IPv6.
    pub v6: u16,
}

/// A SYN with a whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syn {
    /// Where the TCP header begins.
    segment: usize,
    /// Its length, 20 to 60 bytes.
    header_len: usize,
}

/// How to lower the MSS of the IP packet at `start`, whose EtherType is `protocol`, to `limit` bytes: [`Syn::of`] and
/// [`Syn::lower`].
#[inline(always)]
pub fn lower<P: Packet>(packet: &P, protocol: Be16, start: usize, limit: u16) -> Option<Lowered> {
    Syn::of(packet, protocol, start)?.lower(packet, limit)
}

/// Where the TCP segment of a whole IPv4 packet begins, and its length.
#[inline(always)]
fn v4<P: Packet>(packet: &P, start: usize) -> Option<(usize, usize)> {
    let ip: Ipv4Hdr = packet.load(start)?;
    let header_len = usize::from(ip.vihl & 0xf) * 4;
    let is_whole = u16::from_be_bytes(ip.frags) & MORE_FRAGMENTS_OR_OFFSET == 0;
    if ip.proto != TCP || !is_whole || ip.version() != 4 || header_len < Ipv4Hdr::LEN {
        return None;
    }
    let len = usize::from(u16::from_be_bytes(ip.tot_len)).checked_sub(header_len)?;
    Some((start + header_len, len))
}

/// The same of IPv6.
#[inline(always)]
fn v6<P: Packet>(packet: &P, start: usize) -> Option<(usize, usize)> {
    let ip: Ipv6Hdr = packet.load(start)?;
    if ip.next_hdr != TCP || ip.version() != 6 {
        return None;
    }
    Some((start + Ipv6Hdr::LEN, usize::from(u16::from_be_bytes(ip.payload_len))))
}

impl Syn {
    /// The SYN in the IP packet at `start`, whose EtherType is `protocol`. `None`: it is none, or a fragment, or has lengths that are
    /// not right.
    ///
    /// Of IPv6 only a TCP header right behind the fixed one is looked at.
    #[inline(always)]
    pub fn of<P: Packet>(packet: &P, protocol: Be16, start: usize) -> Option<Self> {
        let (segment, len) = match protocol {
            ETHER_TYPE_IPV4 => v4(packet, start)?,
            ETHER_TYPE_IPV6 => v6(packet, start)?,
            _ => return None,
        };
        let [words, flags, _, _]: [u8; 4] = packet.load_far(segment + LENGTH_AND_FLAGS)?;
        let header_len = usize::from(words >> 4) * 4;
        if flags & SYN == 0 || header_len < HEADER || header_len > len {
            return None;
        }
        Some(Self { segment, header_len })
    }

    /// How to lower its MSS to `limit` bytes. `None`: it announces none or none that is larger, or has options that are not right.
    #[inline(always)]
    pub fn lower<P: Packet>(&self, packet: &P, limit: u16) -> Option<Lowered> {
        let Self { segment, header_len } = *self;
        let mut at = HEADER;
        for _ in 0..OPTIONS {
            // One that is shorter than what is looked for needs no look.
            if at + usize::from(MSS_LEN) > header_len {
                return None;
            }
            let [kind, option_len, high, low]: [u8; 4] = packet.load_far(segment + at)?;
            at += match (kind, option_len) {
                (NO_OPERATION, _) => 1,
                (MSS, MSS_LEN) if u16::from_be_bytes([high, low]) > limit => {
                    let [check_high, check_low, _, _]: [u8; 4] = packet.load_far(segment + CHECK)?;
                    let value = limit.to_be_bytes();
                    let swap = |[a, b]: [u8; 2]| if at & 1 == 0 { [a, b] } else { [b, a] };
                    return Some(Lowered {
                        value_at: segment + at + 2,
                        value,
                        check_at: segment + CHECK,
                        check: [check_high, check_low],
                        words: (swap([high, low]), swap(value)),
                    });
                }
                (END | MSS, _) | (_, 0 | 1) => return None,
                (_, option_len) => usize::from(option_len),
            };
        }
        None
    }
}
