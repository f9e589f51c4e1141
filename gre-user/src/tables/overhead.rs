//! How many bytes tunnels add to a packet.

use gre_common::tunnel::{ChecksumPolicy, InnerTypes, Tunnel};

use super::{Address, Entries, Tables};

// Bytes of headers, and of each optional field of GRE's.
const IPV4_HEADER: u32 = 20;
const IPV6_HEADER: u32 = 40;
const GRE_HEADER: u32 = 4;
const GRE_FIELD: u32 = 4;
const ETHERNET_HEADER: u32 = 14;
const MPLS_LABEL: u32 = 4;

impl Tables {
    /// Bytes that the tunnel adds whose headers are longest: from the outer IP header to the inner one, with the fields that its
    /// packets must have.
    pub fn overhead(&self) -> u32 {
        let v4 = self.v4.keyed().map(|(key, tunnel)| overhead(IPV4_HEADER, key, tunnel));
        let v6 = self.v6.keyed().map(|(key, tunnel)| overhead(IPV6_HEADER, key, tunnel));
        v4.chain(v6).max().unwrap_or(0)
    }
}

impl<A: Address> Entries<A> {
    /// Whether packets must have a key, for each tunnel.
    fn keyed(&self) -> impl Iterator<Item = (bool, &Tunnel)> {
        let exact = self.exact.iter();
        let prefixes = self.prefixes.iter().map(|(prefix, tunnel)| (&prefix.endpoints, tunnel));
        exact
            .chain(prefixes)
            .map(|(endpoints, tunnel)| (endpoints.key().is_some(), tunnel))
    }
}

fn overhead(ip: u32, has_key: bool, tunnel: &Tunnel) -> u32 {
    let policy = tunnel.policy;
    let fields = [has_key, policy.checksum() == ChecksumPolicy::Required, policy.ordered()];
    let fields = fields.into_iter().filter(|is_there| *is_there).count() as u32;
    let within = if policy.inner().contains(InnerTypes::ETHERNET) {
        ETHERNET_HEADER
    } else if policy.inner().contains(InnerTypes::MPLS) {
        MPLS_LABEL
    } else {
        0
    };
    ip + GRE_HEADER + fields * GRE_FIELD + within
}

#[cfg(test)]
mod tests {
    use crate::tables::tests::tables;

    #[test]
    fn overhead_is_that_of_the_longest_headers() {
        let with = |local: &str, lines: &str| {
            format!("[[tunnel]]\nname = '{local}{lines:.3}'\nlocal = '{local}'\nremote = 'any'\n{lines}\n")
        };
        assert_eq!(tables("").overhead(), 0);
        let (v4, v6) = ("198.51.100.20", "2001:db8::1");
        for (lines, bytes) in [
            ("", 24),
            ("checksum = 'optional'", 24),
            ("key = 0", 28),
            ("checksum = 'required'", 28),
            ("sequence = 'ordered'", 28),
            ("key = 7\nchecksum = 'required'\nsequence = 'ordered'", 36),
            ("inner = ['ipv4', 'ethernet']", 38),
            ("inner = ['mpls']", 28),
        ] {
            assert_eq!(tables(&with(v4, lines)).overhead(), bytes, "{lines}");
            assert_eq!(tables(&with(v6, lines)).overhead(), bytes + 20, "{lines}");
            let both = with(v6, "") + &with(v4, lines);
            assert_eq!(tables(&both).overhead(), bytes.max(44), "{lines}");
        }
    }
}
