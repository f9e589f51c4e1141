//! What the datapath looks packets up in: the content of the tunnel maps, made from a configuration or read from the
//! kernel. Equal values are equal behaviour.

mod change;
mod cores;
mod few;
mod ids;
mod kernel;
mod next_hop;
mod policy;
mod protect;
mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use aya::Pod;
use gre_common::endian::Be32;
use gre_common::endpoints::{Endpoints, EndpointsPrefix, Ipv4, Ipv6};
use gre_common::tunnel::{ChecksumPolicy, Deliver, InnerTypes, Tunnel};
use ipnet::IpNet;

use crate::config::{self, Config, Keepalive};

use self::cores::CoreLists;

pub(crate) use self::few::Few;
pub use self::ids::Ids;
pub use self::kernel::read_names;
pub(crate) use self::kernel::{Names, V4, V6, data, map, open, read_all, slots, unusable};
pub use self::next_hop::Onward;
pub use self::view::TunnelView;

/// The content of all tunnel maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Each tunnel's name by its id.
    pub names: BTreeMap<u32, String>,
    /// Tunnels that are gone, by the ids that still hold what they have counted: one that comes back counts on.
    pub former: BTreeMap<u32, String>,
    /// Tunnels over IPv4.
    pub v4: Entries<Ipv4>,
    /// Tunnels over IPv6.
    pub v6: Entries<Ipv6>,
    /// Where the tunnels that deliver to an interface do so, by their ids.
    pub onward: BTreeMap<u32, Onward>,
    /// The lists of cores that tunnels are spread over.
    pub cores: Vec<u32>,
    /// `protect.prefixes`.
    pub protected: BTreeSet<IpNet>,
    /// `protect.allow`.
    pub allowed: BTreeSet<IpNet>,
    /// The inner destinations of tunnels that stay encapsulated, by the tunnels' ids; tunnels without any are not in it.
    pub bypass: BTreeMap<u32, BTreeSet<IpNet>>,
    /// How many keepalives a second the tunnels answer that do, by their ids.
    pub keepalives: BTreeMap<u32, u32>,
}

/// The content of the maps of one outer family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entries<A: Address> {
    /// Tunnels whose remote is a whole address.
    pub exact: HashMap<Endpoints<A>, Tunnel>,
    /// Tunnels whose remote is a shorter prefix; "any" is the shortest.
    pub prefixes: HashMap<EndpointsPrefix<A>, Tunnel>,
    /// How many tunnels each local address has.
    pub locals: HashMap<A, u32>,
}

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

impl Tables {
    /// The tables of a configuration whose tunnels, in the file's order, have these ids, on a host with these cores `online`.
    ///
    /// # Errors
    ///
    /// If there are too many lists of cores.
    pub fn of(config: &Config, ids: &Ids, online: &[u32]) -> Result<Self> {
        let mut tables = Self {
            protected: config.protect.prefixes.iter().copied().collect(),
            former: ids.former().clone(),
            allowed: config.protect.allow.iter().copied().collect(),
            ..Self::default()
        };
        let mut cores = CoreLists::new(online);
        for (tunnel, id) in config.tunnels.iter().zip(ids.iter()) {
            tables.names.insert(id, tunnel.name.clone());
            if let config::Deliver::Interface { name, next_hop } = &tunnel.deliver {
                let onward = Onward {
                    interface: name.clone(),
                    next_hop: *next_hop,
                };
                tables.onward.insert(id, onward);
            }
            if !tunnel.bypass.is_empty() {
                tables.bypass.insert(id, tunnel.bypass.iter().copied().collect());
            }
            if tunnel.keepalive == Keepalive::Reply {
                tables.keepalives.insert(id, tunnel.keepalive_rate);
            }
            let value = Tunnel {
                id,
                policy: policy::of(tunnel),
                cores: cores.place(&tunnel.spread)?,
            };
            // The configuration's remotes are of the local's family.
            match tunnel.local {
                IpAddr::V4(local) => tables.v4.add(v4(local), tunnel, value, |remote| match remote {
                    IpNet::V4(net) => Some(v4(net.addr())),
                    IpNet::V6(_) => None,
                }),
                IpAddr::V6(local) => tables.v6.add(v6(local), tunnel, value, |remote| match remote {
                    IpNet::V6(net) => Some(v6(net.addr())),
                    IpNet::V4(_) => None,
                }),
            }
        }
        tables.cores = cores.into_cores();
        Ok(tables)
    }

    /// The names of all tunnels, former ones too, by their ids.
    pub fn all_names(&self) -> BTreeMap<u32, &str> {
        let all = self.former.iter().chain(&self.names);
        all.map(|(id, name)| (*id, name.as_str())).collect()
    }

    /// Whether any tunnel delivers in this way.
    pub fn have(&self, deliver: Deliver) -> bool {
        self.values().any(|tunnel| tunnel.policy.deliver() == deliver)
    }

    /// Whether any tunnel sends replies to health probes on by route.
    pub fn have_probes(&self) -> bool {
        self.values().any(|tunnel| tunnel.policy.routes_probes())
    }

    /// Whether any tunnel sends packets on by route: all of them, or replies to health probes.
    pub fn have_routes(&self) -> bool {
        self.have(Deliver::Route) || self.have_probes()
    }

    /// Whether any tunnel lowers the MSS of TCP SYNs.
    pub fn have_mss(&self) -> bool {
        self.values().any(|tunnel| tunnel.policy.mss() != 0)
    }

    /// Bytes that the tunnel adds whose headers are longest: from the outer IP header to the inner one, with the fields that its
    /// packets must have.
    pub fn overhead(&self) -> u32 {
        let v4 = self.v4.keyed().map(|(key, tunnel)| overhead(IPV4_HEADER, key, tunnel));
        let v6 = self.v6.keyed().map(|(key, tunnel)| overhead(IPV6_HEADER, key, tunnel));
        v4.chain(v6).max().unwrap_or(0)
    }

    /// What each tunnel may carry, by its id.
    pub fn inner(&self) -> HashMap<u32, InnerTypes> {
        self.values().map(|tunnel| (tunnel.id, tunnel.policy.inner())).collect()
    }

    /// What the datapath knows of each tunnel, once for each remote.
    fn values(&self) -> impl Iterator<Item = &Tunnel> {
        self.v4.values().chain(self.v6.values())
    }

    /// Whether any remote is a prefix.
    pub fn have_prefixes(&self) -> bool {
        !self.v4.prefixes.is_empty() || !self.v6.prefixes.is_empty()
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

    fn values(&self) -> impl Iterator<Item = &Tunnel> {
        self.exact.values().chain(self.prefixes.values())
    }

    fn add(&mut self, local: A, tunnel: &config::Tunnel, value: Tunnel, address: impl Fn(&IpNet) -> Option<A>) {
        *self.locals.entry(local).or_default() += 1;
        for remote in &tunnel.remotes {
            let Some(address) = address(remote) else { continue };
            let endpoints = Endpoints::new(local, address, tunnel.key.map(Be32::new));
            if remote.prefix_len() == remote.max_prefix_len() {
                self.exact.insert(endpoints, value);
            } else {
                self.prefixes
                    .insert(EndpointsPrefix::new(endpoints, remote.prefix_len().into()), value);
            }
        }
    }
}

// Bytes of headers, and of each optional field of GRE's.
const IPV4_HEADER: u32 = 20;
const IPV6_HEADER: u32 = 40;
const GRE_HEADER: u32 = 4;
const GRE_FIELD: u32 = 4;
const ETHERNET_HEADER: u32 = 14;
const MPLS_LABEL: u32 = 4;

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

// Not derived, which would ask the address for a default too.
impl<A: Address> Default for Entries<A> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            prefixes: HashMap::new(),
            locals: HashMap::new(),
        }
    }
}

fn v4(address: Ipv4Addr) -> Ipv4 {
    [Be32::new(address.to_bits())]
}

fn v6(address: Ipv6Addr) -> Ipv6 {
    let bits = address.to_bits();
    [96, 64, 32, 0].map(|shift| Be32::new((bits >> shift) as u32))
}

#[cfg(test)]
mod tests {
    use gre_common::tunnel::{Cores, Policy};

    use super::*;

    fn tables(text: &str) -> Tables {
        let config = Config::from_str(text, "test").unwrap();
        let ids = Ids::assign(
            config.tunnels.iter().map(|tunnel| tunnel.name.as_str()),
            &BTreeMap::new(),
            1024,
        )
        .unwrap();
        Tables::of(&config, &ids, &[0, 1]).unwrap()
    }

    #[test]
    fn whole_addresses_and_prefixes_go_to_different_maps() {
        let tables = tables(
            "[[tunnel]]\nname = 'a'\nlocal = '198.51.100.20'\nkey = 4200\nchecksum = 'required'\nsequence = 'ordered'\n\
             remote = ['203.0.113.10', '203.0.113.128/25', 'any']\n\
             [[tunnel]]\nname = 'b'\nlocal = '198.51.100.20'\nremote = '203.0.113.10/32'\nenabled = false\n\
             [[tunnel]]\nname = 'c'\nlocal = '2001:db8::1'\nremote = ['2001:db8:f::/48', '2001:db8::2']\ninner = ['mpls']",
        );
        let ip = InnerTypes::IPV4.union(InnerTypes::IPV6);
        let a = Tunnel {
            id: 1,
            policy: Policy::new(ChecksumPolicy::Required, true, ip, true),
            cores: Cores::NONE,
        };
        let b = Tunnel {
            id: 2,
            policy: Policy::new(ChecksumPolicy::Optional, false, ip, false),
            cores: Cores::NONE,
        };
        let c = Tunnel {
            id: 3,
            policy: Policy::new(ChecksumPolicy::Optional, false, InnerTypes::MPLS, true),
            cores: Cores::NONE,
        };
        let local = [Be32::from_bytes([198, 51, 100, 20])];
        let remote = |last| [Be32::from_bytes([203, 0, 113, last])];
        let key = Some(Be32::new(4200));

        assert_eq!(
            tables.v4.exact,
            HashMap::from([
                (Endpoints::new(local, remote(10), key), a),
                (Endpoints::new(local, remote(10), None), b),
            ])
        );
        assert_eq!(
            tables.v4.prefixes,
            HashMap::from([
                (EndpointsPrefix::new(Endpoints::new(local, remote(128), key), 25), a),
                (EndpointsPrefix::new(Endpoints::new(local, [Be32::new(0)], key), 0), a),
            ])
        );
        assert_eq!(tables.v4.locals, HashMap::from([(local, 2)]));

        let address = |text: &str| v6(text.parse().unwrap());
        let local = address("2001:db8::1");
        assert_eq!(local[0].to_bytes(), [0x20, 1, 0xd, 0xb8]);
        assert_eq!(local[3].to_bytes(), [0, 0, 0, 1]);
        assert_eq!(
            tables.v6.exact,
            HashMap::from([(Endpoints::new(local, address("2001:db8::2"), None), c)])
        );
        assert_eq!(
            tables.v6.prefixes,
            HashMap::from([(
                EndpointsPrefix::new(Endpoints::new(local, address("2001:db8:f::"), None), 48),
                c
            )])
        );
        assert_eq!(tables.v6.locals, HashMap::from([(local, 1)]));
        assert_eq!(
            tables.names,
            BTreeMap::from([(1, "a".into()), (2, "b".into()), (3, "c".into())])
        );
        assert!(tables.have_prefixes());
    }

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

    #[test]
    fn only_prefixes_need_the_prefix_look_up() {
        let text = "[[tunnel]]\nname = 'a'\nlocal = '198.51.100.20'\nremote = '203.0.113.10'";
        assert!(!tables(text).have_prefixes());
    }

    #[test]
    fn delivery_is_known_by_tunnel() {
        let tables = tables(
            "[[tunnel]]\nname = 'a'\nlocal = '198.51.100.20'\nremote = 'any'\ndeliver = 'route'\nspread = 'all'\n\
             [[tunnel]]\nname = 'b'\nlocal = '198.51.100.21'\nremote = '203.0.113.10'\nspread = '1'\ninner = ['mpls']\n\
             deliver = { interface = 'eth1', next_hop = '10.0.0.2' }",
        );
        assert!(tables.have(Deliver::Route) && tables.have(Deliver::Interface) && !tables.have(Deliver::Stack));
        assert_eq!(tables.cores, [0, 1, 1]);
        let cores: BTreeMap<_, _> = tables.values().map(|tunnel| (tunnel.id, tunnel.cores)).collect();
        assert_eq!(cores, BTreeMap::from([(1, Cores::new(0, 2)), (2, Cores::new(2, 1))]));
        let onward = Onward {
            interface: "eth1".to_owned(),
            next_hop: Some(config::NextHop::Address([10, 0, 0, 2].into())),
        };
        assert_eq!(tables.onward, BTreeMap::from([(2, onward)]));
        let ip = InnerTypes::IPV4.union(InnerTypes::IPV6);
        assert_eq!(tables.inner(), HashMap::from([(1, ip), (2, InnerTypes::MPLS)]));
    }

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
