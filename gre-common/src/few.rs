//! What the program compares a packet with, instead of looking it up in a map, where there is little of it, as on most hosts:
//! local addresses, the endpoints of tunnels whose remote is a whole address, and the prefixes that are protected. A tunnel is then
//! found without a call, GRE for others costs no look-up at all, and a family that no tunnel has is left out by the verifier with all
//! that follows.
//!
//! The loader sets all of them before the program is loaded, as constants. They stay while the program runs: a change in place keeps
//! the local addresses and what is protected as they are, and where endpoints are compared, another program takes over with any change
//! of such tunnels. What the compared tunnels are lies in an array, at the place of their endpoints, which nobody writes once the
//! program runs: an array's elements are not replaced as a whole, as those of a hash map are.

use crate::endian::Be32;

/// So many are compared.
pub const MOST: usize = 4;
/// In the place of their number: there are more, look them up.
pub const MANY: u32 = u32::MAX;

/// A prefix, as an address is compared with it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Masked<A> {
    /// The bits that count.
    pub mask: A,
    /// What they are; the others are zero.
    pub bits: A,
}

impl<const WORDS: usize> Masked<[Be32; WORDS]> {
    /// That of all addresses.
    pub const ALL: Self = Self {
        mask: [Be32::new(0); WORDS],
        bits: [Be32::new(0); WORDS],
    };

    /// Whether the address is within.
    #[inline(always)]
    pub fn has(&self, address: &[Be32; WORDS]) -> bool {
        (0..WORDS).all(|word| address[word].masked(self.mask[word]) == self.bits[word])
    }
}
