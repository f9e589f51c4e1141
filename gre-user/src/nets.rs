//! Sets of prefixes of both families.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

/// Many prefixes; a look-up asks once for each length among them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Nets {
    all: HashSet<IpNet>,
    /// The lengths that prefixes have.
    lengths: BTreeSet<u8>,
}

impl Nets {
    /// Whether the address is in any of them.
    pub(crate) fn have(&self, address: IpAddr) -> bool {
        self.cover(address.into())
    }

    /// Whether all of a prefix is in one of them.
    pub(crate) fn cover(&self, net: IpNet) -> bool {
        let lengths = self.lengths.range(..=net.prefix_len());
        let mut prefixes = lengths.filter_map(|length| Some(IpNet::new(net.addr(), *length).ok()?.trunc()));
        prefixes.any(|prefix| self.all.contains(&prefix))
    }
}

impl FromIterator<IpNet> for Nets {
    fn from_iter<I: IntoIterator<Item = IpNet>>(nets: I) -> Self {
        let all: HashSet<_> = nets.into_iter().map(|net| net.trunc()).collect();
        Self {
            lengths: all.iter().map(IpNet::prefix_len).collect(),
            all,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_prefixes_within() {
        let nets: Nets = ["192.0.2.0/24", "192.0.2.7/32", "10.0.0.0/8", "2001:db8::/32", "::1/128"]
            .map(|net| net.parse().expect(net))
            .into_iter()
            .collect();
        for (address, have) in [
            ("192.0.2.0", true),
            ("192.0.2.255", true),
            ("192.0.3.0", false),
            ("10.255.0.1", true),
            ("11.0.0.0", false),
            ("2001:db8:ffff::", true),
            ("2001:db9::", false),
            ("::1", true),
            ("::", false),
            ("0.0.0.0", false),
        ] {
            assert_eq!(nets.have(address.parse().expect(address)), have, "{address}");
        }
        for (net, cover) in [
            ("10.1.0.0/16", true),
            ("10.0.0.0/8", true),
            ("10.0.0.0/7", false),
            ("::/0", false),
        ] {
            assert_eq!(nets.cover(net.parse().expect(net)), cover, "{net}");
        }
        assert!(!Nets::default().have("192.0.2.1".parse().expect("an address")));
    }
}
