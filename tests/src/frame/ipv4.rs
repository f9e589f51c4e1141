//! IPv4 headers (RFC 791).

use std::net::Ipv4Addr;

use super::{PROTOCOL_UDP, internet_checksum};

/// An IPv4 header, of an outer or an inner packet. Fields that are `None` are computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// Version nibble; the lower four bits count.
    pub version: u8,
    /// Internet header length in 32-bit words, as the field says it; by default what the header really has.
    pub ihl: Option<u8>,
    /// TOS byte: DSCP in the upper six bits, ECN in the lower two.
    pub tos: u8,
    /// Total length in bytes, as the field says it.
    pub total_length: Option<u16>,
    /// Identification.
    pub identification: u16,
    /// The flag that RFC 791 reserves.
    pub reserved_flag: bool,
    /// Don't fragment.
    pub dont_fragment: bool,
    /// More fragments.
    pub more_fragments: bool,
    /// Fragment offset in units of 8 bytes, 13 bits.
    pub fragment_offset: u16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol number of what follows.
    pub protocol: u8,
    /// Header checksum, as the field says it.
    pub checksum: Option<u16>,
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Options; filled up with end-of-options bytes to a multiple of four.
    pub options: Vec<u8>,
}

impl Ipv4 {
    /// The same header as a fragment's: `offset` in units of 8 bytes, and whether more fragments follow. DF is cleared.
    #[must_use]
    pub fn fragment(self, offset: u16, more: bool) -> Self {
        Self {
            fragment_offset: offset,
            more_fragments: more,
            dont_fragment: false,
            ..self
        }
    }

    /// Bytes of header that are really there, whatever `ihl` says.
    pub fn header_len(&self) -> usize {
        20 + self.options.len().next_multiple_of(4)
    }

    /// The header followed by `payload`.
    ///
    /// # Panics
    /// If the packet is too long for an IPv4 total length and none was given.
    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let header_len = self.header_len();
        let ihl = self.ihl.unwrap_or((header_len / 4) as u8);
        let total_length = self.total_length.unwrap_or_else(|| {
            u16::try_from(header_len + payload.len()).expect("an IPv4 packet holds at most 65,535 bytes")
        });
        let flags_and_offset = u16::from(self.reserved_flag) << 15
            | u16::from(self.dont_fragment) << 14
            | u16::from(self.more_fragments) << 13
            | self.fragment_offset & 0x1fff;

        let mut packet = vec![self.version << 4 | ihl & 0x0f, self.tos];
        packet.extend_from_slice(&total_length.to_be_bytes());
        packet.extend_from_slice(&self.identification.to_be_bytes());
        packet.extend_from_slice(&flags_and_offset.to_be_bytes());
        packet.extend_from_slice(&[self.ttl, self.protocol, 0, 0]);
        packet.extend_from_slice(&self.source.octets());
        packet.extend_from_slice(&self.destination.octets());
        packet.extend_from_slice(&self.options);
        packet.resize(header_len, 0);

        let checksum = self.checksum.unwrap_or_else(|| internet_checksum(&packet));
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        packet.extend_from_slice(payload);
        packet
    }
}

impl Default for Ipv4 {
    /// A UDP packet between two documentation addresses (RFC 5737), unfragmented.
    fn default() -> Self {
        Self {
            version: 4,
            ihl: None,
            tos: 0,
            total_length: None,
            identification: 0x1d0c,
            reserved_flag: false,
            dont_fragment: false,
            more_fragments: false,
            fragment_offset: 0,
            ttl: 64,
            protocol: PROTOCOL_UDP,
            checksum: None,
            source: Ipv4Addr::new(192, 0, 2, 1),
            destination: Ipv4Addr::new(192, 0, 2, 2),
            options: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of the vector in `checksum.rs`, whose checksum was added by hand.
    #[test]
    fn every_field_has_its_place() {
        let header = Ipv4 {
            identification: 0,
            dont_fragment: true,
            source: Ipv4Addr::new(192, 168, 0, 1),
            destination: Ipv4Addr::new(192, 168, 0, 199),
            ..Ipv4::default()
        };
        let packet = header.packet(&[0x5a; 0x73 - 20]);
        assert_eq!(
            packet[..20],
            [
                0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00, 0x01, 0xc0,
                0xa8, 0x00, 0xc7
            ]
        );
        assert_eq!(packet[20..], [0x5a; 0x73 - 20]);
    }

    #[test]
    fn options_lengthen_the_header_in_words() {
        let header = Ipv4 {
            options: vec![1; 5],
            ..Ipv4::default()
        };
        let packet = header.packet(&[]);
        assert_eq!(packet[0], 0x47);
        assert_eq!(packet[20..], [1, 1, 1, 1, 1, 0, 0, 0]);
        assert_eq!(internet_checksum(&packet), 0);
    }

    #[test]
    fn overrides_are_written_as_given_and_covered_by_the_checksum() {
        let header = Ipv4 {
            version: 6,
            ihl: Some(3),
            total_length: Some(7),
            reserved_flag: true,
            more_fragments: true,
            fragment_offset: 0x1fff,
            ..Ipv4::default()
        };
        let packet = header.packet(&[]);
        assert_eq!(packet[0], 0x63);
        assert_eq!(packet[2..4], [0, 7]);
        assert_eq!(packet[6..8], [0xbf, 0xff]);
        assert_eq!(internet_checksum(&packet), 0);
        let given = Ipv4 {
            checksum: Some(0xbeef),
            ..header
        };
        assert_eq!(given.packet(&[])[10..12], [0xbe, 0xef]);
    }
}
