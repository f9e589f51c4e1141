//! The internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! Sums are kept in the byte order of the packet: the one's complement sum does not mind (RFC 1071 section 2 B).

use network_types::ip::Ipv4Hdr;

use crate::endian::Be32;

/// Folds a sum of 16-bit or 32-bit words to 16 bits.
#[inline(always)]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// Whether a folded sum over data that includes its own checksum says that nothing was damaged.
#[inline(always)]
pub const fn is_valid(folded: u16) -> bool {
    folded == 0xffff
}

/// Whether a sum of 16-bit or 32-bit words would, folded, say that nothing was damaged: whether it is a multiple of 0xffff, but not
/// zero. A multiplication by the inverse of 0xffff modulo 2^64 tells, which gives the quotient of multiples, and of nothing else so
/// small a number.
#[inline(always)]
pub const fn is_valid_unfolded(sum: u64) -> bool {
    const INVERSE: u64 = 0xfffe_fffe_fffe_ffff;
    const LARGEST: u64 = u64::MAX / 0xffff;
    sum.wrapping_mul(INVERSE).wrapping_sub(1) < LARGEST
}

/// The folded sum of bytes that start at an even offset of what is summed.
pub fn sum(bytes: &[u8]) -> u16 {
    let (words, rest) = bytes.as_chunks::<2>();
    let sum: u64 = words.iter().map(|w| u64::from(u16::from_ne_bytes(*w))).sum();
    // An odd last byte counts as if a zero byte followed (RFC 1071 section 4.1).
    let last = rest.first().map_or(0, |b| u64::from(u16::from_ne_bytes([*b, 0])));
    fold(sum + last)
}

/// The unfolded sum of four bytes.
#[inline(always)]
pub fn sum_word(word: Be32) -> u64 {
    u64::from(u32::from_ne_bytes(word.to_bytes()))
}

/// The unfolded sum of an IPv4 header without its options.
#[inline(always)]
pub fn sum_ipv4(ip: &Ipv4Hdr) -> u64 {
    let word = |a: [u8; 2]| u64::from(u16::from_ne_bytes(a));
    let long = |a: [u8; 4]| u64::from(u32::from_ne_bytes(a));
    word([ip.vihl, ip.tos])
        + word(ip.tot_len)
        + word(ip.id)
        + word(ip.frags)
        + word([ip.ttl, ip.proto])
        + word(ip.check)
        + long(ip.src_addr)
        + long(ip.dst_addr)
}

/// The checksum field after one 16-bit word of what it covers changed from `old` to `new`: equation 3 of RFC 1624. All are
/// as they lie in the packet.
#[inline(always)]
pub const fn update(check: [u8; 2], old: [u8; 2], new: [u8; 2]) -> [u8; 2] {
    let sum = (!u16::from_ne_bytes(check)) as u64 + (!u16::from_ne_bytes(old)) as u64 + u16::from_ne_bytes(new) as u64;
    (!fold(sum)).to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sums_the_example_of_rfc_1071() {
        // Section 3: 00 01 f2 03 f4 f5 f6 f7 sums to ddf2 in network order.
        assert_eq!(
            sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]).to_ne_bytes(),
            [0xdd, 0xf2]
        );
        assert_eq!(sum(&[0x12]).to_ne_bytes(), [0x12, 0x00]);
        assert_eq!(sum(&[]), 0);
    }

    #[test]
    fn folds_the_largest_sums() {
        assert_eq!(fold(u64::MAX), 0xffff);
        assert_eq!(fold(0xffff_ffff), 0xffff);
        assert_eq!(fold(0x1_0000), 1);
    }

    proptest! {
        #[test]
        fn a_sum_is_as_valid_as_it_is_folded(sum: u64, quotient in 0..=u64::MAX / 0xffff) {
            for sum in [sum, sum >> 24, quotient * 0xffff, quotient * 0xffff + 1, (quotient >> 32) * 0xffff] {
                prop_assert_eq!(is_valid_unfolded(sum), is_valid(fold(sum)), "{:#x}", sum);
            }
        }

        #[test]
        fn update_equals_full_computation(mut header in prop::array::uniform20(any::<u8>()), word in 0usize..10, new: [u8; 2]) {
            prop_assume!(word != 5);
            header[10..12].fill(0);
            let check = (!sum(&header)).to_ne_bytes();
            let old = [header[2 * word], header[2 * word + 1]];
            header[2 * word..2 * word + 2].copy_from_slice(&new);
            let updated = update(check, old, new);
            header[10..12].copy_from_slice(&updated);
            // An all-zero header is the one case where 0 and ffff, both zero in one's complement, can differ.
            prop_assert!(is_valid(sum(&header)) || header.iter().all(|b| *b == 0));
        }
    }
}
