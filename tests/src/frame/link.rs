//! Ethernet headers with VLAN tags (IEEE 802.3, 802.1Q, 802.1ad).

/// A MAC address, first byte first.
pub type Mac = [u8; 6];

/// Tag protocol identifier of 802.1Q, the customer tag.
pub const TPID_8021Q: u16 = 0x8100;
/// Tag protocol identifier of 802.1ad, the service tag of QinQ.
pub const TPID_8021AD: u16 = 0x88a8;

/// One VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Tag protocol identifier: the EtherType that announces the tag.
    pub tpid: u16,
    /// Tag control information: priority (3 bits), drop eligible (1), VLAN identifier (12).
    pub tci: u16,
}

/// A frame's addresses and tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Who the frame is for.
    pub destination: Mac,
    /// Who sent it.
    pub source: Mac,
    /// VLAN tags, outermost first.
    pub tags: Vec<Tag>,
}

impl Link {
    /// Destination of a [`Link::default`]: a locally administered address.
    pub const DESTINATION: Mac = [0x02, 0, 0, 0, 0x02, 0x02];
    /// Source of a [`Link::default`]: a locally administered address.
    pub const SOURCE: Mac = [0x02, 0, 0, 0, 0x01, 0x01];

    /// The same with one more tag, inside those already there.
    #[must_use]
    pub fn tagged(mut self, tpid: u16, tci: u16) -> Self {
        self.tags.push(Tag { tpid, tci });
        self
    }

    /// Bytes from the frame's start to what it carries.
    pub fn header_len(&self) -> usize {
        14 + 4 * self.tags.len()
    }

    /// The header, whose last two bytes are `ethertype`, followed by `payload`.
    pub fn frame(&self, ethertype: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = [self.destination, self.source].concat();
        for tag in &self.tags {
            frame.extend_from_slice(&tag.tpid.to_be_bytes());
            frame.extend_from_slice(&tag.tci.to_be_bytes());
        }
        frame.extend_from_slice(&ethertype.to_be_bytes());
        frame.extend_from_slice(payload);
        frame
    }
}

impl Default for Link {
    fn default() -> Self {
        Self {
            destination: Self::DESTINATION,
            source: Self::SOURCE,
            tags: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untagged_frame() {
        let frame = Link::default().frame(0x0800, &[0xaa]);
        assert_eq!(frame, [2, 0, 0, 0, 2, 2, 2, 0, 0, 0, 1, 1, 0x08, 0x00, 0xaa]);
    }

    #[test]
    fn tags_stand_outermost_first_before_the_ethertype() {
        let link = Link::default().tagged(TPID_8021AD, 0x0064).tagged(TPID_8021Q, 0xe00a);
        assert_eq!(
            link.frame(0x86dd, &[])[12..],
            [0x88, 0xa8, 0x00, 0x64, 0x81, 0x00, 0xe0, 0x0a, 0x86, 0xdd]
        );
        assert_eq!(link.header_len(), 22);
    }
}
