//! `deliver`: where a tunnel's inner packets go.

use std::fmt;
use std::net::IpAddr;

use super::error::{ConfigError, excerpt};
use super::item::Item;
use super::text::string;
use super::{address, interface};

/// Keys of `deliver` where it is a table.
const KEYS: &[&str] = &["interface", "next_hop"];

/// Where a tunnel's inner packets go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deliver {
    /// To this host's network stack.
    Stack,
    /// On by this host's routes.
    Route,
    /// Out of an interface, without a route look-up.
    Interface {
        /// The interface's name, as the kernel takes it.
        name: String,
        /// To whom; without, the peer of a veth or the configured gateway.
        next_hop: Option<NextHop>,
    },
}

/// Whom frames to an interface are addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NextHop {
    /// A neighbour's unicast address, of either family: its MAC address is resolved.
    Address(IpAddr),
    /// A neighbour's MAC address.
    Mac(MacAddress),
}

/// A unicast MAC address other than zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MacAddress([u8; 6]);

impl MacAddress {
    /// The bytes in the order of transmission.
    pub fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl From<[u8; 6]> for MacAddress {
    /// From an address that the kernel keeps for us; the file's are checked where they are read.
    fn from(octets: [u8; 6]) -> Self {
        Self(octets)
    }
}

impl Deliver {
    pub(super) fn read(item: &Item<'_>) -> Result<Self, ConfigError> {
        match item.string() {
            Some("stack") => return Ok(Self::Stack),
            Some("route") => return Ok(Self::Route),
            _ => {}
        }
        let wanted = "\"stack\", \"route\" or a table such as { interface = \"eth1\", next_hop = \"10.0.0.2\" }";
        let table = item.nested(KEYS).ok_or_else(|| item.expected(wanted))??;
        Ok(Self::Interface {
            name: interface::name(&table.require("interface", "\"eth1\"")?)?,
            next_hop: table.optional("next_hop", None, |item| next_hop(item).map(Some))?,
        })
    }
}

fn next_hop(item: &Item<'_>) -> Result<NextHop, ConfigError> {
    let text = item.string().ok_or_else(|| item.expected("an IP or MAC address"))?;
    let Some(octets) = mac(text) else {
        // What is no IP address either is told what both look like.
        text.parse::<IpAddr>()
            .map_err(|_| item.expected("an IP or MAC address"))?;
        return address::host(item).map(NextHop::Address);
    };
    // IEEE 802: the lowest bit of the first byte marks a group.
    if octets[0] & 1 != 0 || octets == [0; 6] {
        let kind = if octets == [0; 6] { "the zero" } else { "a multicast" };
        return Err(item.error(format!(
            "{} is {kind} MAC address; write the next hop's own",
            item.written()
        )));
    }
    Ok(NextHop::Mac(MacAddress(octets)))
}

/// Six bytes of two hexadecimal digits with colons between. No IPv6 address looks like this.
fn mac(text: &str) -> Option<[u8; 6]> {
    let mut octets = [0; 6];
    let mut groups = text.split(':');
    for octet in &mut octets {
        let digits = groups.next().filter(|group| group.len() == 2)?;
        // `from_str_radix` alone would take a sign.
        digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(())?;
        *octet = u8::from_str_radix(digits, 16).ok()?;
    }
    groups.next().is_none().then_some(octets)
}

/// The value as the file has it, without the quotes of a word.
impl fmt::Display for Deliver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stack => f.write_str("stack"),
            Self::Route => f.write_str("route"),
            Self::Interface { name, next_hop } => {
                write!(f, "{{ interface = {}", excerpt(&string(name)))?;
                if let Some(next_hop) = next_hop {
                    write!(f, ", next_hop = \"{next_hop}\"")?;
                }
                f.write_str(" }")
            }
        }
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Mac(mac) => mac.fmt(f),
        }
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_tunnel_errors, valid_tunnel};
    use super::*;

    #[test]
    fn values() {
        for (text, next_hop, shown) in [
            ("{ interface = 'eth1' }", None, "{ interface = \"eth1\" }"),
            (
                "{ interface = 'eth1', next_hop = '10.0.0.2' }",
                Some(NextHop::Address([10, 0, 0, 2].into())),
                "{ interface = \"eth1\", next_hop = \"10.0.0.2\" }",
            ),
            (
                "{ interface = 'eth1', next_hop = 'fe80::2' }",
                Some(NextHop::Address([0xfe80, 0, 0, 0, 0, 0, 0, 2].into())),
                "{ interface = \"eth1\", next_hop = \"fe80::2\" }",
            ),
            (
                "{ interface = 'eth1', next_hop = '02:0A:00:00:00:01' }",
                Some(NextHop::Mac(MacAddress([2, 10, 0, 0, 0, 1]))),
                "{ interface = \"eth1\", next_hop = \"02:0a:00:00:00:01\" }",
            ),
        ] {
            let deliver = valid_tunnel(&format!("deliver = {text}")).deliver;
            assert_eq!(deliver.to_string(), shown);
            assert_eq!(
                deliver,
                Deliver::Interface {
                    name: "eth1".to_owned(),
                    next_hop
                }
            );
        }
        assert_eq!(valid_tunnel("deliver = 'stack'").deliver, Deliver::Stack);
        assert_eq!(valid_tunnel("deliver = 'route'").deliver.to_string(), "route");
    }

    #[test]
    fn a_table_may_be_written_in_dotted_keys() {
        let dotted = valid_tunnel("deliver.interface = 'eth1'\ndeliver.next_hop = '10.0.0.2'").deliver;
        assert_eq!(dotted.to_string(), "{ interface = \"eth1\", next_hop = \"10.0.0.2\" }");
    }

    #[test]
    fn errors() {
        const DELIVER: &str = "key `deliver`: expected \"stack\", \"route\" or a table such as \
                               { interface = \"eth1\", next_hop = \"10.0.0.2\" }, found";
        const HOP: &str = "key `deliver.next_hop`:";
        let hop = |next_hop: &str| format!("deliver = {{ interface = 'eth1', next_hop = {next_hop} }}");
        assert_tunnel_errors(&[
            ("deliver = 'eth1'", &format!("{DELIVER} 'eth1'")),
            ("deliver = ['stack']", &format!("{DELIVER} ['stack']")),
            (
                "deliver = { next_hop = '10.0.0.2' }",
                "key `deliver.interface` is missing; write for example interface = \"eth1\"",
            ),
            (
                "deliver = { interface = '' }",
                "key `deliver.interface`: expected an interface name: 1 to 15 bytes without '/', ':' or white space, \
                 not \".\" or \"..\", found ''",
            ),
            (
                "deliver = { interface = 'eth1', nexthop = '10.0.0.2' }",
                "unknown key `deliver.nexthop`; did you mean `next_hop`? allowed: interface, next_hop",
            ),
            (&hop("2"), &format!("{HOP} expected an IP or MAC address, found 2")),
            (
                &hop("'gw'"),
                &format!("{HOP} expected an IP or MAC address, found 'gw'"),
            ),
            (
                &hop("'10.0.0.2/24'"),
                &format!("{HOP} expected an IP or MAC address, found '10.0.0.2/24'"),
            ),
            (
                &hop("'02:00:00:00:00'"),
                &format!("{HOP} expected an IP or MAC address, found '02:00:00:00:00'"),
            ),
            (
                &hop("'02:00:00:00:00:+1'"),
                &format!("{HOP} expected an IP or MAC address, found '02:00:00:00:00:+1'"),
            ),
            (
                &hop("'02:00:00:00:00:01:02'"),
                &format!("{HOP} expected an IP or MAC address, found '02:00:00:00:00:01:02'"),
            ),
            (
                &hop("'01:00:5e:00:00:01'"),
                &format!("{HOP} '01:00:5e:00:00:01' is a multicast MAC address; write the next hop's own"),
            ),
            (
                &hop("'00:00:00:00:00:00'"),
                &format!("{HOP} '00:00:00:00:00:00' is the zero MAC address; write the next hop's own"),
            ),
            (
                &hop("'0.0.0.0'"),
                &format!("{HOP} '0.0.0.0' is the unspecified address; write the address of a host"),
            ),
        ]);
    }
}
