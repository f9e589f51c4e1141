//! The decision's tables as a plain search over the configuration: nothing of how the loader lays them out for the kernel,
//! so that the two can be compared.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use gre_common::Tables;
use gre_common::endpoints::{Endpoints, Ipv4, Ipv6};
use gre_common::keepalive::Quota;
use gre_common::link::Mac;
use gre_common::protect::Guard;
use gre_common::sequence::{self, Order, SequenceState};
use gre_common::tunnel::{ChecksumPolicy, Cores, Deliver, InnerTypes, Policy, Tunnel};
use gre_user::config::{self, Checksum, Config, ConfigError, InnerType, Keepalive, Mss, Probes, Sequence, Unknown};

/// A time at which no silence is too short, in nanoseconds. Any other would do.
const START: u64 = 1 << 50;

/// A configuration to decide by, with the state of its tunnels and a clock that only moves when told to.
pub(crate) struct Reference {
    config: Config,
    /// The MAC address of the interface that packets come in on.
    own_mac: Option<Mac>,
    states: RefCell<Vec<SequenceState>>,
    /// The numbers, each with its tunnel, that have come by tunnels that do not enforce order.
    pub(crate) arrived: RefCell<Vec<(u32, u32)>>,
    quotas: RefCell<Vec<Quota>>,
    now: Cell<u64>,
}

impl Reference {
    /// Tunnels have ids from 1 on, in the order of the text. Packets come in on an interface whose MAC address nobody has
    /// told, so that no frame is for this host.
    ///
    /// # Errors
    /// If the text is no valid configuration.
    pub(crate) fn new(text: &str) -> Result<Self, ConfigError> {
        Self::on(None, text)
    }

    /// The same on an interface with this MAC address.
    ///
    /// # Errors
    /// If the text is no valid configuration.
    pub(crate) fn on(own_mac: Option<Mac>, text: &str) -> Result<Self, ConfigError> {
        let config = Config::from_str(text, "fixture")?;
        let states = RefCell::new(vec![SequenceState::default(); config.tunnels.len()]);
        let rates = config.tunnels.iter().map(|tunnel| tunnel.keepalive_rate.into());
        let quotas = RefCell::new(rates.map(|rate| Quota { due: 0, rate }).collect());
        Ok(Self {
            config,
            own_mac,
            states,
            arrived: RefCell::default(),
            quotas,
            now: Cell::new(START),
        })
    }

    /// The tunnel's id. 0, which is none's, if there is no tunnel of this name.
    pub(crate) fn id(&self, name: &str) -> u32 {
        let place = self.config.tunnels.iter().position(|tunnel| tunnel.name == name);
        place.map_or(0, |place| place as u32 + 1)
    }

    /// Lets time pass.
    pub(crate) fn advance(&self, time: Duration) {
        self.now.set(self.now.get() + time.as_nanos() as u64);
    }

    /// Lets every tunnel have received what leaves such a cursor, too long ago for order to be kept, or else just now.
    pub(crate) fn receive_after(&self, cursor: u64, silent: bool) {
        let accepted_at = if silent { 0 } else { self.now.get() };
        self.states.borrow_mut().fill(SequenceState {
            cursor,
            accepted_at,
            tick: 0,
        });
        self.arrived.borrow_mut().clear();
    }

    /// The state of every tunnel's sequence numbers, from id 1 on.
    pub(crate) fn states(&self) -> Vec<SequenceState> {
        self.states.borrow().clone()
    }

    /// The most specific tunnel by the rules of the configuration file: an address before longer prefixes before shorter
    /// ones before "any", which is the shortest.
    fn tunnel(&self, local: IpAddr, remote: IpAddr, key: Option<u32>) -> Option<Tunnel> {
        let candidates = self.config.tunnels.iter().zip(1..).flat_map(|(tunnel, id)| {
            let matching = tunnel.local == local && tunnel.key == key;
            let remotes = tunnel
                .remotes
                .iter()
                .filter(move |net| matching && net.contains(&remote));
            remotes.map(move |net| (net.prefix_len(), id, tunnel))
        });
        let (_, id, tunnel) = candidates.max_by_key(|(length, _, _)| *length)?;
        Some(Tunnel {
            id,
            policy: policy(tunnel),
            // Which core a flow meets is no part of the decision.
            cores: Cores::NONE,
        })
    }

    fn is_local(&self, address: IpAddr) -> bool {
        self.config.tunnels.iter().any(|tunnel| tunnel.local == address)
    }

    fn is_protected(&self, address: IpAddr) -> bool {
        self.config.protect.prefixes.iter().any(|net| net.contains(&address))
    }

    fn is_allowed(&self, address: IpAddr) -> bool {
        self.config.protect.allow.iter().any(|net| net.contains(&address))
    }

    fn is_bypassed(&self, tunnel: u32, address: IpAddr) -> bool {
        let tunnel = &self.config.tunnels[tunnel as usize - 1];
        tunnel.bypass.iter().any(|net| net.contains(&address))
    }
}

impl Tables for Reference {
    fn tunnel4(&self, endpoints: &Endpoints<Ipv4>) -> Option<Tunnel> {
        let key = endpoints.key().map(|key| key.get());
        self.tunnel(v4(&endpoints.local), v4(&endpoints.remote), key)
    }

    fn tunnel6(&self, endpoints: &Endpoints<Ipv6>) -> Option<Tunnel> {
        let key = endpoints.key().map(|key| key.get());
        self.tunnel(v6(&endpoints.local), v6(&endpoints.remote), key)
    }

    fn is_local4(&self, address: &Ipv4) -> bool {
        self.is_local(v4(address))
    }

    fn is_local6(&self, address: &Ipv6) -> bool {
        self.is_local(v6(address))
    }

    fn drop_unknown(&self) -> bool {
        self.config.unknown == Unknown::Drop
    }

    fn forwards(&self) -> bool {
        let mut tunnels = self.config.tunnels.iter();
        tunnels.any(|tunnel| tunnel.deliver != config::Deliver::Stack || tunnel.probes != Probes::Off)
    }

    fn is_own_mac(&self, mac: Mac) -> bool {
        self.own_mac == Some(mac)
    }

    fn order(&self, tunnel: u32, number: u32) -> Order {
        let mut states = self.states.borrow_mut();
        let state = &mut states[tunnel as usize - 1];
        let (order, cursor) = sequence::judge(*state, number, || self.now.get());
        state.cursor = cursor;
        if order != Order::Late {
            state.accepted_at = self.now.get();
        }
        order
    }

    fn arrived(&self, tunnel: u32, number: u32) {
        self.arrived.borrow_mut().push((tunnel, number));
    }

    fn answers(&self) -> bool {
        let mut tunnels = self.config.tunnels.iter();
        tunnels.any(|tunnel| tunnel.keepalive == Keepalive::Reply)
    }

    fn may_answer(&self, tunnel: u32) -> bool {
        let quota = &mut self.quotas.borrow_mut()[tunnel as usize - 1];
        let due = quota.take(self.now.get());
        quota.due = due.unwrap_or(quota.due);
        due.is_some()
    }

    fn inner_destinations(&self) -> Guard {
        guard(self.config.protect.inner_destinations)
    }

    fn is_protected4(&self, address: &Ipv4) -> bool {
        self.is_protected(v4(address))
    }

    fn is_protected6(&self, address: &Ipv6) -> bool {
        self.is_protected(v6(address))
    }

    fn lockdown(&self) -> Guard {
        guard(self.config.protect.lockdown)
    }

    fn is_allowed4(&self, address: &Ipv4) -> bool {
        self.is_allowed(v4(address))
    }

    fn is_allowed6(&self, address: &Ipv6) -> bool {
        self.is_allowed(v6(address))
    }

    fn is_bypassed4(&self, tunnel: u32, address: &Ipv4) -> bool {
        self.is_bypassed(tunnel, v4(address))
    }

    fn is_bypassed6(&self, tunnel: u32, address: &Ipv6) -> bool {
        self.is_bypassed(tunnel, v6(address))
    }
}

fn guard(guard: config::Guard) -> Guard {
    match guard {
        config::Guard::Off => Guard::Off,
        config::Guard::Monitor => Guard::Monitor,
        config::Guard::Enforce => Guard::Enforce,
    }
}

fn policy(tunnel: &config::Tunnel) -> Policy {
    let checksum = match tunnel.checksum {
        Checksum::Optional => ChecksumPolicy::Optional,
        Checksum::Required => ChecksumPolicy::Required,
        Checksum::Forbidden => ChecksumPolicy::Forbidden,
        Checksum::Ignore => ChecksumPolicy::Ignore,
    };
    let mut inner = InnerTypes::NONE;
    for kind in tunnel.inner.iter() {
        inner = inner.union(match kind {
            InnerType::Ipv4 => InnerTypes::IPV4,
            InnerType::Ipv6 => InnerTypes::IPV6,
            InnerType::Ethernet => InnerTypes::ETHERNET,
            InnerType::Mpls => InnerTypes::MPLS,
        });
    }
    let deliver = match tunnel.deliver {
        config::Deliver::Stack => Deliver::Stack,
        config::Deliver::Route => Deliver::Route,
        config::Deliver::Interface { .. } => Deliver::Interface,
    };
    let mss = match tunnel.mss {
        Mss::Off => 0,
        Mss::Bytes(bytes) => bytes,
    };
    let policy = Policy::new(checksum, tunnel.sequence == Sequence::Ordered, inner, tunnel.enabled)
        .delivering(deliver)
        .with_mss(mss);
    let policy = if tunnel.bypass.is_empty() {
        policy
    } else {
        policy.bypassing()
    };
    let policy = if tunnel.keepalive == Keepalive::Reply {
        policy.answering()
    } else {
        policy
    };
    if tunnel.probes == Probes::Route {
        policy.routing_probes()
    } else {
        policy
    }
}

fn v4(address: &Ipv4) -> IpAddr {
    Ipv4Addr::from(address[0].to_bytes()).into()
}

fn v6(address: &Ipv6) -> IpAddr {
    let mut octets = [0; 16];
    for (to, word) in octets.chunks_mut(4).zip(address) {
        to.copy_from_slice(&word.to_bytes());
    }
    Ipv6Addr::from(octets).into()
}
