//! The kernel's own GRE devices (ip_gre, ip6_gre), which lose what the XDP program takes.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use libc::{IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO};
use netlink_packet_core::{DecodeError, parse_ip, parse_u16_be, parse_u32_be};

use crate::config::{InnerType, Tunnel};

use super::interface::{IFINFOMSG, links};
use super::netlink::{Attributes, Message, text};

// Attributes in IFLA_INFO_DATA of a GRE device, and the flag for a key (`linux/if_tunnel.h`).
const IFLA_GRE_IFLAGS: u16 = 2;
const IFLA_GRE_IKEY: u16 = 4;
const IFLA_GRE_LOCAL: u16 = 6;
const IFLA_GRE_REMOTE: u16 = 7;
const IFLA_GRE_COLLECT_METADATA: u16 = 18;
const GRE_KEY: u16 = 0x2000;

/// A GRE device of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GreDevice {
    pub(super) name: String,
    /// Its index.
    pub(super) index: u32,
    /// Whether it is set up: only then packets go to it.
    pub(super) is_up: bool,
    /// Whether its packets carry Ethernet frames.
    pub(super) carries_ethernet: bool,
    /// Whether its outer packets are IPv4.
    pub(super) is_ipv4: bool,
    /// Its own end; none for any.
    pub(super) local: Option<IpAddr>,
    /// The far end; none for any.
    pub(super) remote: Option<IpAddr>,
    pub(super) key: Key,
}

/// Which packets a device takes by their key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// Those without one.
    None,
    /// Those with this one.
    Is(u32),
    /// All (`external`).
    Any,
}

impl GreDevice {
    /// Whether it would get packets that a tunnel takes.
    pub(super) fn shares_packets_with(&self, tunnel: &Tunnel) -> bool {
        let of_kind = |kind| tunnel.inner.contains(kind);
        let inner = if self.carries_ethernet {
            of_kind(InnerType::Ethernet)
        } else {
            of_kind(InnerType::Ipv4) || of_kind(InnerType::Ipv6) || of_kind(InnerType::Mpls)
        };
        let key = match self.key {
            Key::Any => true,
            Key::None => tunnel.key.is_none(),
            Key::Is(key) => tunnel.key == Some(key),
        };
        let from = |remote| tunnel.remotes.iter().any(|prefix: &IpNet| prefix.contains(&remote));
        self.is_up
            && inner
            && key
            && self.is_ipv4 == tunnel.local.is_ipv4()
            && self.local.is_none_or(|local| local == tunnel.local)
            && self.remote.is_none_or(from)
    }

    /// The device that an answer is about, if that is one.
    fn decode(link: &Message) -> Result<Option<Self>, DecodeError> {
        let (header, attributes) = link.split::<IFINFOMSG>()?;
        let info = attributes.get(IFLA_LINKINFO, Attributes::parse)?.unwrap_or_default();
        let (is_ipv4, carries_ethernet) = match info.get(IFLA_INFO_KIND, text)?.as_deref() {
            Some("gre") => (true, false),
            Some("gretap") => (true, true),
            Some("ip6gre") => (false, false),
            Some("ip6gretap") => (false, true),
            _ => return Ok(None),
        };
        let data = info.get(IFLA_INFO_DATA, Attributes::parse)?.unwrap_or_default();
        let has_key = data
            .get(IFLA_GRE_IFLAGS, parse_u16_be)?
            .is_some_and(|flags| flags & GRE_KEY != 0);
        let key = if data.get(IFLA_GRE_COLLECT_METADATA, |_| Ok(()))?.is_some() {
            Key::Any
        } else if has_key {
            Key::Is(data.get(IFLA_GRE_IKEY, parse_u32_be)?.unwrap_or(0))
        } else {
            Key::None
        };
        // The kernel's word for any is the address 0.
        let end = |attribute| Ok::<_, DecodeError>(data.get(attribute, parse_ip)?.filter(|ip| !ip.is_unspecified()));
        let [_, _, _, _, i0, i1, i2, i3, f0, f1, f2, f3, ..] = *header;
        Ok(Some(Self {
            name: attributes.require(IFLA_IFNAME, text)?,
            index: u32::from_ne_bytes([i0, i1, i2, i3]),
            is_up: u32::from_ne_bytes([f0, f1, f2, f3]) & libc::IFF_UP.cast_unsigned() != 0,
            carries_ethernet,
            is_ipv4,
            local: end(IFLA_GRE_LOCAL)?,
            remote: end(IFLA_GRE_REMOTE)?,
            key,
        }))
    }
}

/// All GRE devices. ERSPAN's are none: no tunnel of ours takes their packets.
pub(super) fn gre_devices() -> io::Result<Vec<GreDevice>> {
    links()?
        .iter()
        .filter_map(|link| GreDevice::decode(link).transpose())
        .collect::<Result<_, _>>()
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::super::recorded::{LINKS, message};
    use super::*;
    use crate::config::Config;

    fn recorded(name: &str) -> Option<GreDevice> {
        GreDevice::decode(&message(LINKS, name)).expect("decodable")
    }

    #[test]
    fn decodes_what_the_kernel_answers() {
        let gre1 = GreDevice {
            name: "gre1".to_owned(),
            index: 7,
            is_up: true,
            carries_ethernet: false,
            is_ipv4: true,
            local: Some("198.51.100.20".parse().expect("an address")),
            remote: Some("203.0.113.10".parse().expect("an address")),
            key: Key::Is(4200),
        };
        assert_eq!(recorded("gre1"), Some(gre1));
        let gre2 = recorded("gre2").expect("a GRE device");
        assert_eq!((gre2.key, gre2.is_up), (Key::Is(0), false));
        let tap1 = recorded("tap1").expect("a GRE device");
        assert_eq!((tap1.carries_ethernet, tap1.key), (true, Key::None));
        let gre6 = recorded("gre6").expect("a GRE device");
        assert_eq!((gre6.is_ipv4, gre6.local), (false, "2001:db8::20".parse().ok()));
        let ext1 = recorded("ext1").expect("a GRE device");
        assert_eq!((ext1.local, ext1.remote, ext1.key), (None, None, Key::Any));
        let gre0 = recorded("gre0").expect("a GRE device");
        assert_eq!((gre0.local, gre0.remote, gre0.key), (None, None, Key::None));
        for other in ["ers1", "v0", "lo"] {
            assert_eq!(recorded(other), None, "{other}");
        }
    }

    #[test]
    fn shares_packets_with_a_tunnel_of_the_same_ends_and_key() {
        let shares = |name: &str, lines: &str| {
            let text = format!("[[tunnel]]\nname = 'a'\n{lines}");
            let config = Config::from_str(&text, "f.toml").unwrap_or_else(|error| panic!("{error}"));
            let device = GreDevice {
                is_up: true,
                ..recorded(name).expect("a GRE device")
            };
            assert!(
                !GreDevice {
                    is_up: false,
                    ..device.clone()
                }
                .shares_packets_with(&config.tunnels[0])
            );
            device.shares_packets_with(&config.tunnels[0])
        };
        let ends = "local = '198.51.100.20'\nremote = '203.0.113.10'";
        let keyed = &format!("{ends}\nkey = 4200");
        assert!(shares("gre1", keyed));
        assert!(shares(
            "gre1",
            "local = '198.51.100.20'\nremote = '203.0.113.0/24'\nkey = 4200"
        ));
        assert!(shares(
            "gre1",
            "local = '198.51.100.20'\nremote = 'any'\nkey = 4200\ninner = ['mpls']"
        ));
        assert!(!shares("gre1", ends));
        assert!(!shares("gre1", &format!("{ends}\nkey = 4201")));
        assert!(!shares(
            "gre1",
            "local = '198.51.100.21'\nremote = '203.0.113.10'\nkey = 4200"
        ));
        assert!(!shares(
            "gre1",
            "local = '198.51.100.20'\nremote = '203.0.113.11'\nkey = 4200"
        ));
        assert!(!shares("gre1", &format!("{keyed}\ninner = ['ethernet']")));

        assert!(shares("tap1", &format!("{ends}\ninner = ['ethernet']")));
        assert!(!shares("tap1", ends));
        assert!(shares("ext1", &format!("{keyed}\ninner = ['ethernet']")));
        assert!(shares("gre0", ends));
        assert!(!shares("gre0", keyed));
        let ends6 = "local = '2001:db8::20'\nremote = '2001:db8::10'";
        assert!(shares("gre6", ends6));
        assert!(!shares("gre0", ends6));
    }
}
