//! GRE headers (RFC 2784, RFC 2890).

use super::{ETHERTYPE_IPV4, internet_checksum};

/// The checksum field of a GRE header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GreChecksum {
    /// No checksum: the C bit is clear.
    Absent,
    /// The right one, over the GRE header and its payload.
    Right,
    /// This value, right or wrong.
    Given(u16),
}

/// A GRE header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gre {
    /// The checksum field, with its C bit.
    pub checksum: GreChecksum,
    /// Reserved1, the 16 bits after the checksum; only there if the checksum is.
    pub reserved1: u16,
    /// The key field, with its K bit.
    pub key: Option<u32>,
    /// The sequence number field, with its S bit.
    pub sequence: Option<u32>,
    /// Protocol type of the payload.
    pub protocol: u16,
    /// Version, the lowest three bits of the first word.
    pub version: u8,
    /// More bits to set in the first word: see [`Gre::bit`]. Bit 1 is RFC 1701's routing bit.
    pub bits: u16,
}

impl Gre {
    /// Bit `number` of the first word, counted as the RFCs do: 0 is the most significant.
    pub fn bit(number: u32) -> u16 {
        0x8000 >> number
    }

    /// Bytes of header: 4, and 4 for each of checksum, key and sequence number.
    pub fn header_len(&self) -> usize {
        let checksum = self.checksum != GreChecksum::Absent;
        4 + 4 * (usize::from(checksum) + usize::from(self.key.is_some()) + usize::from(self.sequence.is_some()))
    }

    /// The header followed by `payload`.
    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let mut first_word = self.bits | u16::from(self.version & 0b111);
        let mut optional = Vec::new();
        if self.checksum != GreChecksum::Absent {
            first_word |= Self::bit(0);
            optional.extend_from_slice(&[0, 0]);
            optional.extend_from_slice(&self.reserved1.to_be_bytes());
        }
        if let Some(key) = self.key {
            first_word |= Self::bit(2);
            optional.extend_from_slice(&key.to_be_bytes());
        }
        if let Some(sequence) = self.sequence {
            first_word |= Self::bit(3);
            optional.extend_from_slice(&sequence.to_be_bytes());
        }

        let mut packet = first_word.to_be_bytes().to_vec();
        packet.extend_from_slice(&self.protocol.to_be_bytes());
        packet.extend_from_slice(&optional);
        packet.extend_from_slice(payload);
        match self.checksum {
            GreChecksum::Absent => {}
            GreChecksum::Right => {
                let checksum = internet_checksum(&packet);
                packet[4..6].copy_from_slice(&checksum.to_be_bytes());
            }
            GreChecksum::Given(checksum) => packet[4..6].copy_from_slice(&checksum.to_be_bytes()),
        }
        packet
    }
}

impl Default for Gre {
    /// The plainest header: four bytes, IPv4.
    fn default() -> Self {
        Self {
            checksum: GreChecksum::Absent,
            reserved1: 0,
            key: None,
            sequence: None,
            protocol: ETHERTYPE_IPV4,
            version: 0,
            bits: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_header() {
        assert_eq!(Gre::default().packet(&[0xaa]), [0, 0, 8, 0, 0xaa]);
    }

    #[test]
    fn optional_fields_stand_in_the_rfcs_order() {
        let gre = Gre {
            checksum: GreChecksum::Given(0x1122),
            reserved1: 0x3344,
            key: Some(0x5566_7788),
            sequence: Some(0x99aa_bbcc),
            ..Gre::default()
        };
        let packet = gre.packet(&[]);
        assert_eq!(
            packet,
            [
                0xb0, 0, 8, 0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc
            ]
        );
        assert_eq!(gre.header_len(), packet.len());
    }

    /// 0x8000 + 0x0800 + 0xff00 (the odd byte) = 0x18700, folded 0x8701, inverted 0x78fe.
    #[test]
    fn checksum_covers_header_and_an_odd_payload() {
        let gre = Gre {
            checksum: GreChecksum::Right,
            ..Gre::default()
        };
        assert_eq!(gre.packet(&[0xff]), [0x80, 0, 8, 0, 0x78, 0xfe, 0, 0, 0xff]);
    }

    #[test]
    fn bits_are_counted_from_the_most_significant() {
        assert_eq!(Gre::bit(0), 0x8000);
        assert_eq!(Gre::bit(4), 0x0800);
        let gre = Gre {
            bits: Gre::bit(1) | Gre::bit(12),
            version: 7,
            ..Gre::default()
        };
        assert_eq!(gre.packet(&[])[..2], [0x40, 0x0f]);
    }
}
