//! What identifies a tunnel in a packet: outer addresses and key. These are the keys of the tunnel maps.

use crate::endian::Be32;

/// An IPv4 address as it lies in a packet.
pub type Ipv4 = [Be32; 1];
/// An IPv6 address as it lies in a packet.
pub type Ipv6 = [Be32; 4];

/// An outer address, to compare inner ones with.
pub trait Address: Copy {
    /// Whether this is the IPv4 address.
    fn is_v4(&self, _address: &Ipv4) -> bool {
        false
    }

    /// Whether this is the IPv6 address.
    fn is_v6(&self, _address: &Ipv6) -> bool {
        false
    }
}

impl Address for Ipv4 {
    #[inline(always)]
    fn is_v4(&self, address: &Ipv4) -> bool {
        self == address
    }
}

impl Address for Ipv6 {
    #[inline(always)]
    fn is_v6(&self, address: &Ipv6) -> bool {
        // By the word, mostly only the first: as a whole it would be a call.
        (0..address.len()).all(|word| self[word] == address[word])
    }
}

/// The outer addresses and the key of a packet or tunnel, laid out as the key of a hash map and as the data of a
/// longest-prefix map alike: what must match exactly comes first, the remote address last.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoints<A> {
    /// 1 if the packet carries a key, 0 if not. A keyed packet never matches a keyless tunnel (RFC 2890 section 2.1).
    pub keyed: u32,
    /// The key; zero without one.
    pub key: Be32,
    /// This host's end: the outer destination.
    pub local: A,
    /// The far end: the outer source.
    pub remote: A,
}

/// Endpoints whose remote is a prefix: the key of a longest-prefix map, as `struct bpf_lpm_trie_key_u8` has it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EndpointsPrefix<A> {
    /// Significant bits of `endpoints`, at most [`Endpoints::BITS`].
    pub prefix_len: u32,
    /// The endpoints; bits past the prefix are zero.
    pub endpoints: Endpoints<A>,
}

impl<A> Endpoints<A> {
    /// All bits, as a prefix length.
    pub const BITS: u32 = 8 * size_of::<Self>() as u32;

    /// Endpoints of a packet or tunnel with this key, or none.
    #[inline(always)]
    pub fn new(local: A, remote: A, key: Option<Be32>) -> Self {
        Self {
            keyed: key.is_some() as u32,
            key: key.unwrap_or_default(),
            local,
            remote,
        }
    }

    /// The key, if there is one.
    #[inline(always)]
    pub fn key(&self) -> Option<Be32> {
        (self.keyed != 0).then_some(self.key)
    }
}

impl<const WORDS: usize> Endpoints<[Be32; WORDS]> {
    /// All zero, what is in the place of none.
    pub const NOWHERE: Self = Self {
        keyed: 0,
        key: Be32::new(0),
        local: [Be32::new(0); WORDS],
        remote: [Be32::new(0); WORDS],
    };
}

impl<A> EndpointsPrefix<A> {
    /// Endpoints whose remote is the prefix of `remote_bits` bits.
    #[inline(always)]
    pub fn new(endpoints: Endpoints<A>, remote_bits: u32) -> Self {
        Self {
            prefix_len: Endpoints::<A>::BITS - 8 * size_of::<A>() as u32 + remote_bits,
            endpoints,
        }
    }

    /// Significant bits of the remote address.
    pub fn remote_bits(&self) -> u32 {
        self.prefix_len
            .saturating_sub(Endpoints::<A>::BITS - 8 * size_of::<A>() as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_has_no_padding() {
        assert_eq!(size_of::<Endpoints<Ipv4>>(), 16);
        assert_eq!(size_of::<Endpoints<Ipv6>>(), 40);
        assert_eq!(size_of::<EndpointsPrefix<Ipv4>>(), 20);
        assert_eq!(size_of::<EndpointsPrefix<Ipv6>>(), 44);
    }

    #[test]
    fn prefix_covers_all_but_the_rest_of_the_remote() {
        let endpoints = Endpoints::new([Be32::new(1)], [Be32::new(2)], None);
        assert_eq!(EndpointsPrefix::new(endpoints, 32).prefix_len, 128);
        assert_eq!(EndpointsPrefix::new(endpoints, 0).prefix_len, 96);
        assert_eq!(EndpointsPrefix::new(endpoints, 25).remote_bits(), 25);
    }
}
