//! What the datapath looks packets up in: the content of the tunnel maps, made from a configuration or read from the
//! kernel. Equal values are equal behaviour.

mod address;
mod change;
mod cores;
mod few;
mod ids;
mod kernel;
mod next_hop;
mod overhead;
mod policy;
mod protect;
mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use anyhow::Result;
use gre_common::endian::Be32;
use gre_common::endpoints::{Endpoints, EndpointsPrefix, Ipv4, Ipv6};
use gre_common::tunnel::{Deliver, InnerTypes, Tunnel};
use ipnet::IpNet;

use crate::config::{self, Config, Keepalive};

use self::address::{v4, v6};
use self::cores::CoreLists;

pub use self::address::Address;
pub(crate) use self::few::Few;
pub use self::ids::Ids;
pub use self::kernel::read_names;
pub(crate) use self::kernel::{Names, V4, V6, cannot_fill, data, map, open, read_all, slots, unusable};
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

#[cfg(test)]
mod tests {
    use gre_common::tunnel::{ChecksumPolicy, Cores, Policy};

    use super::*;

    /// Those of a file.
    pub(super) fn tables(text: &str) -> Tables {
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
}
