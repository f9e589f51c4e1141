//! IPv6 headers and extension headers (RFC 8200).

use std::net::Ipv6Addr;

use super::PROTOCOL_UDP;

/// An IPv6 header with its extension headers, of an outer or an inner packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipv6 {
    /// Version nibble; the lower four bits count.
    pub version: u8,
    /// Traffic class byte: DSCP in the upper six bits, ECN in the lower two.
    pub traffic_class: u8,
    /// Flow label, 20 bits.
    pub flow_label: u32,
    /// Payload length in bytes (extension headers included), as the field says it; `None` computes it.
    pub payload_length: Option<u16>,
    /// Extension headers, in order.
    pub extensions: Vec<Extension>,
    /// Protocol number of what follows the last extension header.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
}

impl Ipv6 {
    /// Bytes of header and extension headers.
    pub fn header_len(&self) -> usize {
        40 + self.extensions.iter().map(Extension::len).sum::<usize>()
    }

    /// The headers followed by `payload`.
    ///
    /// # Panics
    /// If the packet is too long for an IPv6 payload length and none was given.
    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let payload_length = self.payload_length.unwrap_or_else(|| {
            u16::try_from(self.header_len() - 40 + payload.len()).expect("an IPv6 payload holds at most 65,535 bytes")
        });
        let first_word =
            u32::from(self.version) << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & 0xf_ffff;
        // Each header names the one after it, so the chain of numbers runs one ahead of the headers.
        let mut numbers = self
            .extensions
            .iter()
            .map(|extension| extension.number)
            .chain([self.next_header]);
        let mut next_number = || numbers.next().expect("one number more than extension headers");

        let mut packet = first_word.to_be_bytes().to_vec();
        packet.extend_from_slice(&payload_length.to_be_bytes());
        packet.extend_from_slice(&[next_number(), self.hop_limit]);
        packet.extend_from_slice(&self.source.octets());
        packet.extend_from_slice(&self.destination.octets());
        for extension in &self.extensions {
            packet.push(next_number());
            packet.extend_from_slice(&extension.body);
        }
        packet.extend_from_slice(payload);
        packet
    }
}

impl Default for Ipv6 {
    /// A UDP packet between two documentation addresses (RFC 3849).
    fn default() -> Self {
        Self {
            version: 6,
            traffic_class: 0,
            flow_label: 0,
            payload_length: None,
            extensions: Vec::new(),
            next_header: PROTOCOL_UDP,
            hop_limit: 64,
            source: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
            destination: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2),
        }
    }
}

/// An extension header. Its Next Header byte is filled in by [`Ipv6::packet`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    number: u8,
    body: Vec<u8>,
}

impl Extension {
    /// Next Header number of the hop-by-hop options header.
    pub const HOP_BY_HOP: u8 = 0;
    /// Next Header number of the routing header.
    pub const ROUTING: u8 = 43;
    /// Next Header number of the fragment header.
    pub const FRAGMENT: u8 = 44;
    /// Next Header number of the authentication header (RFC 4302).
    pub const AUTHENTICATION: u8 = 51;
    /// Next Header number of the destination options header.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// Next Header number of the mobility header (RFC 6275).
    pub const MOBILITY: u8 = 135;
    /// A number that RFC 3692 sets aside for experiments: no receiver knows its layout.
    pub const EXPERIMENT: u8 = 253;

    /// An extension header of any kind: its number, and its bytes after the Next Header byte.
    pub fn new(number: u8, body: Vec<u8>) -> Self {
        Self { number, body }
    }

    /// A header of options (hop-by-hop, destination), filled up with padding options to `length` bytes.
    ///
    /// # Panics
    /// If `length` is no multiple of 8 from 8 to 2048, or the options do not fit.
    pub fn options(number: u8, options: &[u8], length: usize) -> Self {
        assert!(
            length.is_multiple_of(8) && (8..=2048).contains(&length),
            "no length of an options header: {length}"
        );
        let mut body = vec![(length / 8 - 1) as u8];
        body.extend_from_slice(options);
        let mut left = (length - 1)
            .checked_sub(body.len())
            .expect("the options fit the header");
        while left > 0 {
            // Pad1 has no length byte; PadN (RFC 8200 section 4.2) counts the bytes after its own two.
            let take = left.min(257);
            match take {
                1 => body.push(0),
                _ => body.extend(
                    [1, (take - 2) as u8]
                        .into_iter()
                        .chain(std::iter::repeat_n(0, take - 2)),
                ),
            }
            left -= take;
        }
        Self::new(number, body)
    }

    /// A hop-by-hop options header of 8 bytes with nothing but padding.
    pub fn hop_by_hop() -> Self {
        Self::options(Self::HOP_BY_HOP, &[], 8)
    }

    /// A destination options header of 8 bytes with nothing but padding.
    pub fn destination_options() -> Self {
        Self::options(Self::DESTINATION_OPTIONS, &[], 8)
    }

    /// What Linux's ip6gre sends by default: destination options with a tunnel encapsulation limit
    /// (RFC 2473 section 4.1.1), here of 4.
    pub fn tunnel_encapsulation_limit() -> Self {
        Self::options(Self::DESTINATION_OPTIONS, &[4, 1, 4], 8)
    }

    /// A segment routing header (RFC 8754) of one segment, all of them visited.
    pub fn routing() -> Self {
        let mut body = vec![2, 4, 0, 0, 0, 0, 0];
        body.extend_from_slice(&Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 0x20).octets());
        Self::new(Self::ROUTING, body)
    }

    /// A fragment header: `offset` in units of 8 bytes, and whether more fragments follow.
    pub fn fragment(offset: u16, more: bool, identification: u32) -> Self {
        let mut body = vec![0];
        body.extend_from_slice(&(offset << 3 | u16::from(more)).to_be_bytes());
        body.extend_from_slice(&identification.to_be_bytes());
        Self::new(Self::FRAGMENT, body)
    }

    /// An authentication header of 24 bytes. Its length field counts 32-bit words less two (RFC 4302 section 2.2).
    pub fn authentication() -> Self {
        let mut body = vec![4, 0, 0];
        body.extend_from_slice(&[0, 0, 1, 0, 0, 0, 0, 1]);
        body.extend_from_slice(&[0xa5; 12]);
        Self::new(Self::AUTHENTICATION, body)
    }

    /// A mobility header of 8 bytes.
    pub fn mobility() -> Self {
        Self::new(Self::MOBILITY, vec![0; 7])
    }

    /// Length in bytes, the Next Header byte included.
    #[expect(clippy::len_without_is_empty, reason = "a header is never empty")]
    pub fn len(&self) -> usize {
        1 + self.body.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::PROTOCOL_GRE;

    #[test]
    fn every_field_has_its_place() {
        let header = Ipv6 {
            traffic_class: 0xb9,
            flow_label: 0xabcde,
            hop_limit: 7,
            ..Ipv6::default()
        };
        let packet = header.packet(&[1, 2, 3]);
        assert_eq!(packet[..8], [0x6b, 0x9a, 0xbc, 0xde, 0, 3, 17, 7]);
        assert_eq!(packet[8..24], header.source.octets());
        assert_eq!(packet[24..40], header.destination.octets());
        assert_eq!(packet[40..], [1, 2, 3]);
    }

    #[test]
    fn extension_headers_are_chained() {
        let header = Ipv6 {
            extensions: vec![Extension::hop_by_hop(), Extension::tunnel_encapsulation_limit()],
            next_header: PROTOCOL_GRE,
            ..Ipv6::default()
        };
        let packet = header.packet(&[]);
        assert_eq!(packet[4..7], [0, 16, 0]);
        assert_eq!(packet[40..48], [60, 0, 1, 4, 0, 0, 0, 0]);
        // As seen on the wire from a Linux ip6gre device.
        assert_eq!(packet[48..], [0x2f, 0x00, 0x04, 0x01, 0x04, 0x01, 0x01, 0x00]);
        assert_eq!(header.header_len(), packet.len());
    }

    #[test]
    fn long_options_are_padded_with_several_options() {
        let extension = Extension::options(Extension::HOP_BY_HOP, &[], 264);
        assert_eq!(extension.len(), 264);
        assert_eq!(extension.body[..3], [32, 1, 255]);
        // 262 bytes of options: a PadN of 257 and one of 5.
        assert_eq!(extension.body[1 + 257..], [1, 3, 0, 0, 0]);
        assert_eq!(
            Extension::options(Extension::HOP_BY_HOP, &[4, 3, 0, 0, 0], 8).body,
            [0, 4, 3, 0, 0, 0, 0]
        );
    }

    #[test]
    fn lengths_follow_each_kinds_own_unit() {
        assert_eq!(Extension::routing().len(), 24);
        assert_eq!(Extension::authentication().len(), 24);
        assert_eq!(Extension::mobility().len(), 8);
        assert_eq!(
            Extension::fragment(0x1fff, true, 0x0102_0304).body,
            [0, 0xff, 0xf9, 1, 2, 3, 4]
        );
    }
}
