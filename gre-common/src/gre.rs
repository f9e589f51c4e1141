//! The GRE header (RFC 2784, RFC 2890).

use crate::{
    Packet, Reason,
    endian::{Be16, Be32},
    outer::Payload,
};

/// The four bytes that every GRE header begins with.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct GreHdr {
    /// Flags, reserved bits and version.
    pub flags: Be16,
    /// Protocol type of the payload: an EtherType.
    pub protocol: Be16,
}

/// Checksum present (bit 0).
pub const CHECKSUM: u16 = 0x8000;
/// Routing present (bit 1 of RFC 1701; reserved since).
pub const ROUTING: u16 = 0x4000;
/// Key present (bit 2).
pub const KEY: u16 = 0x2000;
/// Sequence number present (bit 3).
pub const SEQUENCE: u16 = 0x1000;
/// Bits 4 and 5, which a receiver that does not implement RFC 1701 must refuse (RFC 2784 section 2.3).
pub const MUST_BE_ZERO: u16 = 0x0c00;
/// Version.
pub const VERSION: u16 = 0x0007;

/// A GRE header whose form is right.
pub(crate) struct Gre {
    flags: u16,
    pub(crate) protocol: Be16,
    pub(crate) key: Option<Be32>,
    /// 0 if there is none, which [`Self::sequence`] tells apart.
    number: u32,
    /// Offset of the GRE payload in the frame.
    pub(crate) payload: usize,
}

impl Gre {
    /// Reads the header. The optional fields come in the order checksum and reserved1, key, sequence number, each only if its
    /// flag is set (RFC 2890 section 2).
    #[inline(always)]
    pub(crate) fn parse<P: Packet>(packet: &P, at: &Payload) -> Result<Self, Reason> {
        if at.gre + size_of::<GreHdr>() > at.end {
            return Err(Reason::GreTruncated);
        }
        let header: GreHdr = packet.load(at.gre).ok_or(Reason::Headroom)?;
        let flags = header.flags.get();
        let key_at = at.gre + size_of::<GreHdr>() + field_len(flags, CHECKSUM);
        let sequence_at = key_at + field_len(flags, KEY);
        let payload = sequence_at + field_len(flags, SEQUENCE);
        if payload > at.end {
            return Err(Reason::GreTruncated);
        }
        match flags & VERSION {
            0 => {}
            1 => return Err(Reason::GreVersionPptp),
            _ => return Err(Reason::GreVersionUndefined),
        }
        if flags & (ROUTING | MUST_BE_ZERO) != 0 {
            return Err(Reason::GreReserved);
        }
        let key = if flags & KEY != 0 {
            Some(packet.load(key_at).ok_or(Reason::Headroom)?)
        } else {
            None
        };
        // A number even where there is none: Linux 6.1's verifier does not know, far behind this, which of its paths have one, and
        // takes no register that may hold anything.
        let number = if flags & SEQUENCE != 0 {
            let number: Be32 = packet.load(sequence_at).ok_or(Reason::Headroom)?;
            number.get()
        } else {
            0
        };
        Ok(Self {
            flags,
            protocol: header.protocol,
            key,
            number,
            payload,
        })
    }

    /// The sequence number, if the field is there.
    #[inline(always)]
    pub(crate) fn sequence(&self) -> Option<u32> {
        (self.flags & SEQUENCE != 0).then_some(self.number)
    }

    /// Whether the checksum field is there.
    #[inline(always)]
    pub(crate) fn has_checksum(&self) -> bool {
        self.flags & CHECKSUM != 0
    }
}

/// Bytes of the optional field that `flag` announces.
#[inline(always)]
fn field_len(flags: u16, flag: u16) -> usize {
    if flags & flag != 0 { 4 } else { 0 }
}
