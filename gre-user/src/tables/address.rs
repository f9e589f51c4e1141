//! Addresses as the maps hold them.

use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aya::Pod;
use gre_common::endian::Be32;
use gre_common::endpoints::{Ipv4, Ipv6};

/// An address as the maps hold it.
pub trait Address: Pod + Eq + Hash {
    /// The address for people.
    fn to_ip(self) -> IpAddr;

    /// Its first bits, followed by zeros.
    fn prefix(self, bits: u32) -> Self;
}

impl Address for Ipv4 {
    fn to_ip(self) -> IpAddr {
        Ipv4Addr::from_bits(self[0].get()).into()
    }

    fn prefix(self, bits: u32) -> Self {
        prefix(self, bits)
    }
}

impl Address for Ipv6 {
    fn to_ip(self) -> IpAddr {
        Ipv6Addr::from(self.map(Be32::to_bytes).concat().try_into().unwrap_or([0; 16])).into()
    }

    fn prefix(self, bits: u32) -> Self {
        prefix(self, bits)
    }
}

fn prefix<const WORDS: usize>(address: [Be32; WORDS], bits: u32) -> [Be32; WORDS] {
    let mut left = bits;
    address.map(|word| {
        let here = left.min(u32::BITS);
        left -= here;
        let mask = u32::MAX.checked_shl(u32::BITS - here).unwrap_or(0);
        Be32::new(word.get() & mask)
    })
}

/// One as the maps hold it.
pub(super) fn v4(address: Ipv4Addr) -> Ipv4 {
    [Be32::new(address.to_bits())]
}

/// The same of the other family.
pub(super) fn v6(address: Ipv6Addr) -> Ipv6 {
    let bits = address.to_bits();
    [96, 64, 32, 0].map(|shift| Be32::new((bits >> shift) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_cut() {
        for (text, bits, cut) in [
            ("203.0.113.129", 32, "203.0.113.129"),
            ("203.0.113.129", 25, "203.0.113.128"),
            ("203.0.113.129", 0, "0.0.0.0"),
            ("2001:db8:1:2:ffff::9", 65, "2001:db8:1:2:8000::"),
            ("2001:db8:1:2:ffff::9", 128, "2001:db8:1:2:ffff::9"),
            ("2001:db8::", 0, "::"),
        ] {
            let back = match text.parse().unwrap() {
                IpAddr::V4(address) => v4(address).prefix(bits).to_ip(),
                IpAddr::V6(address) => v6(address).prefix(bits).to_ip(),
            };
            assert_eq!(back, cut.parse::<IpAddr>().unwrap(), "{text}/{bits}");
        }
    }

    #[test]
    fn addresses_survive() {
        for text in ["198.51.100.20", "0.0.0.0", "2001:db8:1:2:3:4:5:6", "::"] {
            let ip: IpAddr = text.parse().unwrap();
            let back = match ip {
                IpAddr::V4(address) => v4(address).to_ip(),
                IpAddr::V6(address) => v6(address).to_ip(),
            };
            assert_eq!(back, ip);
        }
    }
}
