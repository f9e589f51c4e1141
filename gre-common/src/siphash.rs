//! SipHash-1-3 (Aumasson and Bernstein, 2012) over whole 64-bit words, without a state in memory.

/// A secret key.
pub type Key = [u64; 2];

/// The state.
#[derive(Clone, Copy)]
pub(crate) struct SipHash13 {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl SipHash13 {
    #[inline(always)]
    pub(crate) const fn new(key: Key) -> Self {
        Self {
            v0: key[0] ^ 0x736f_6d65_7073_6575,
            v1: key[1] ^ 0x646f_7261_6e64_6f6d,
            v2: key[0] ^ 0x6c79_6765_6e65_7261,
            v3: key[1] ^ 0x7465_6462_7974_6573,
        }
    }

    /// Takes in one word.
    #[inline(always)]
    pub(crate) const fn write(mut self, word: u64) -> Self {
        self.v3 ^= word;
        self = self.round();
        self.v0 ^= word;
        self
    }

    /// The hash of what was taken in, `words` words.
    #[inline(always)]
    pub(crate) const fn finish(self, words: u64) -> u64 {
        // The last block is the length in bytes, in its highest byte.
        let mut last = self.write((words * 8) << 56);
        last.v2 ^= 0xff;
        last = last.round().round().round();
        last.v0 ^ last.v1 ^ last.v2 ^ last.v3
    }

    #[inline(always)]
    const fn round(self) -> Self {
        let Self {
            mut v0,
            mut v1,
            mut v2,
            mut v3,
        } = self;
        v0 = v0.wrapping_add(v1);
        v1 = v1.rotate_left(13) ^ v0;
        v0 = v0.rotate_left(32);
        v2 = v2.wrapping_add(v3);
        v3 = v3.rotate_left(16) ^ v2;
        v0 = v0.wrapping_add(v3);
        v3 = v3.rotate_left(21) ^ v0;
        v2 = v2.wrapping_add(v1);
        v1 = v1.rotate_left(17) ^ v2;
        v2 = v2.rotate_left(32);
        Self { v0, v1, v2, v3 }
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hasher};
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Rust's standard library has the same function, with a key of zeros.
        #[test]
        fn equals_the_standard_library(words: Vec<u64>) {
            let mut standard = DefaultHasher::new();
            let mut ours = SipHash13::new([0, 0]);
            for word in &words {
                standard.write(&word.to_le_bytes());
                ours = ours.write(*word);
            }
            prop_assert_eq!(ours.finish(words.len() as u64), standard.finish());
        }

        #[test]
        fn depends_on_the_key(key: Key, bit in 0..64, word: u64) {
            let other = [key[0] ^ 1u64 << bit, key[1]];
            let hash = |key| SipHash13::new(key).write(word).finish(1);
            prop_assert_ne!(hash(key), hash(other));
        }
    }
}
