//! The Internet checksum (RFC 1071), the slow and obvious way.

/// The Internet checksum of `bytes`: what a header's checksum field holds when the field itself was zero in
/// `bytes`. Over bytes that include a right checksum the result is 0.
///
/// An odd last byte is the upper half of a word whose lower half is zero (RFC 1071 section 1).
pub fn internet_checksum(bytes: &[u8]) -> u16 {
    let mut sum: u64 = 0;
    for word in bytes.chunks(2) {
        sum += u64::from(word[0]) << 8;
        if let Some(low) = word.get(1) {
            sum += u64::from(*low);
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1071 section 3: the example's words add up to 0xddf2.
    #[test]
    fn rfc_1071_example() {
        assert_eq!(
            internet_checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            !0xddf2
        );
    }

    /// Added by hand: 0x4500 + 0x0073 + 0x4000 + 0x4011 + 0xc0a8 + 0x0001 + 0xc0a8 + 0x00c7 = 0x2479c,
    /// folded 0x479e, inverted 0xb861.
    #[test]
    fn ipv4_header_added_by_hand() {
        let header = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0x00, 0x00, 0xc0, 0xa8, 0x00, 0x01, 0xc0, 0xa8,
            0x00, 0xc7,
        ];
        assert_eq!(internet_checksum(&header), 0xb861);
    }

    #[test]
    fn odd_last_byte_is_an_upper_half() {
        assert_eq!(internet_checksum(&[0x12, 0x34, 0x56]), !(0x1234 + 0x5600));
        assert_eq!(
            internet_checksum(&[0x12, 0x34, 0x56, 0x00]),
            internet_checksum(&[0x12, 0x34, 0x56])
        );
    }

    /// The carry of the first folding produces a second one: 3 × 0xffff + 0x0003 = 0x30000, folded 0x0003.
    #[test]
    fn carries_are_folded_until_none_is_left() {
        assert_eq!(
            internet_checksum(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00, 0x03]),
            !0x0003
        );
        // 2 × 0xffff + 0x0001 = 0x1ffff, folded once 0x10000, twice 0x0001.
        assert_eq!(internet_checksum(&[0xff, 0xff, 0xff, 0xff, 0x00, 0x01]), !0x0001);
    }

    #[test]
    fn nothing_sums_to_all_ones() {
        assert_eq!(internet_checksum(&[]), 0xffff);
    }
}
