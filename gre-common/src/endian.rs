//! Integers in network byte order. Mixing them with host integers does not compile.

macro_rules! network_order {
    ($name:ident, $host:ty, $bytes:literal) => {
        #[doc = concat!("A `", stringify!($host), "` in network byte order, as it lies in a packet.")]
        #[repr(transparent)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $name($host);

        impl $name {
            /// From a number in host order.
            #[inline(always)]
            pub const fn new(value: $host) -> Self {
                Self(value.to_be())
            }

            /// From the bytes of a packet.
            #[inline(always)]
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(<$host>::from_ne_bytes(bytes))
            }

            /// The number in host order.
            #[inline(always)]
            pub const fn get(self) -> $host {
                <$host>::from_be(self.0)
            }

            /// Whether those bits that are set in `mask` are these. Both are bytes of a packet.
            #[inline(always)]
            pub const fn has(self, mask: [u8; $bytes], bits: [u8; $bytes]) -> bool {
                self.0 & Self::from_bytes(mask).0 == Self::from_bytes(bits).0
            }

            /// Those bits that are set in `mask`; the others are zero.
            #[inline(always)]
            pub const fn masked(self, mask: Self) -> Self {
                Self(self.0 & mask.0)
            }

            /// Those bits that are set in either.
            #[inline(always)]
            pub const fn united(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// The bytes as they lie in a packet.
            #[inline(always)]
            pub const fn to_bytes(self) -> [u8; $bytes] {
                self.0.to_ne_bytes()
            }
        }
    };
}

network_order!(Be16, u16, 2);
network_order!(Be32, u32, 4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_lie_as_in_a_packet() {
        assert_eq!(Be16::new(0x86dd).to_bytes(), [0x86, 0xdd]);
        assert_eq!(Be32::new(4200).to_bytes(), [0, 0, 0x10, 0x68]);
        assert_eq!(Be32::from_bytes([0, 0, 0x10, 0x68]).get(), 4200);
    }
}
