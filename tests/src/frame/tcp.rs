//! TCP headers with options (RFC 9293 section 3.1).

use super::{Addresses, PROTOCOL_TCP};

/// A TCP header, between ports 40000 and 443.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Sequence number: where its payload begins in the stream.
    pub sequence: u32,
    /// The eight flags of byte 13: [`Tcp::SYN`] and others.
    pub flags: u8,
    /// Length of the header in 32-bit words, as the field says it; by default what the header really has.
    pub data_offset: Option<u8>,
    /// Options; filled up with end-of-options bytes to a multiple of four.
    pub options: Vec<u8>,
    /// Window.
    pub window: u16,
    /// What is added to the checksum, for it to be wrong.
    pub spoil: u16,
}

impl Tcp {
    /// Synchronize: the first segment of each direction.
    pub const SYN: u8 = 1 << 1;
    /// Acknowledgment.
    pub const ACK: u8 = 1 << 4;

    /// Options that a SYN usually has, without its MSS: SACK permitted (RFC 2018), timestamps and a window scale (RFC 7323).
    pub const USUAL: [u8; 15] = [4, 2, 8, 10, 0x11, 0x22, 0x33, 0x44, 0, 0, 0, 0, 3, 3, 7];

    /// A SYN with these options.
    pub fn syn(options: &[u8]) -> Self {
        Self {
            sequence: 0x1001,
            flags: Self::SYN,
            data_offset: None,
            options: options.to_vec(),
            window: 0xfaf0,
            spoil: 0,
        }
    }

    /// The option that announces an MSS.
    pub fn mss(bytes: u16) -> [u8; 4] {
        let [high, low] = bytes.to_be_bytes();
        [2, 4, high, low]
    }

    /// The header followed by `payload`.
    pub fn segment(&self, addresses: Addresses, payload: &[u8]) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        let words = self.data_offset.unwrap_or((5 + options.len() / 4) as u8);
        let mut segment = [40_000_u16, 443].map(u16::to_be_bytes).concat();
        segment.extend_from_slice(&self.sequence.to_be_bytes());
        segment.extend_from_slice(&0x2002_u32.to_be_bytes());
        segment.extend_from_slice(&[words << 4, self.flags]);
        segment.extend_from_slice(&self.window.to_be_bytes());
        segment.extend_from_slice(&[0; 4]);
        segment.extend_from_slice(&options);
        segment.extend_from_slice(payload);
        let checksum = addresses.checksum(PROTOCOL_TCP, &segment).wrapping_add(self.spoil);
        segment[16..18].copy_from_slice(&checksum.to_be_bytes());
        segment
    }
}
