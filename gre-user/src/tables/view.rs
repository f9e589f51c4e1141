//! The tables tunnel by tunnel, in the configuration's words.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

use anyhow::{Context, Result};
use gre_common::endpoints::{Endpoints, EndpointsPrefix};
use gre_common::tunnel::{Cores, Deliver, Tunnel};
use ipnet::IpNet;

use super::{Address, Entries, Tables, cores, policy};
use crate::config::{self, Checksum, InnerTypes, Mss, Probes, Sequence, Spread};

/// A tunnel as it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelView {
    /// The index of its counters.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// This host's end.
    pub local: IpAddr,
    /// The far ends, in order; an address is a prefix of full length, "any" one of length 0.
    pub remotes: Vec<IpNet>,
    /// The key, as a number.
    pub key: Option<u32>,
    /// How the checksum field is treated.
    pub checksum: Checksum,
    /// How sequence numbers are treated.
    pub sequence: Sequence,
    /// What it may carry.
    pub inner: InnerTypes,
    /// Where inner packets go.
    pub deliver: config::Deliver,
    /// Over which cores inner flows are spread; "all" is the list that it stood for.
    pub spread: Spread,
    /// The most that TCP SYNs may announce as their MSS.
    pub mss: Mss,
    /// How many keepalives a second are answered; none if they are left alone.
    pub keepalive_rate: Option<u32>,
    /// What becomes of replies to health probes.
    pub probes: Probes,
    /// Whether it decapsulates.
    pub enabled: bool,
    /// Inner destinations that stay encapsulated, in order.
    pub bypass: Vec<IpNet>,
}

impl TunnelView {
    /// The tunnel as a file would have it.
    pub fn to_config(&self) -> config::Tunnel {
        let Self {
            id: _,
            name,
            local,
            remotes,
            key,
            checksum,
            sequence,
            inner,
            deliver,
            spread,
            mss,
            keepalive_rate,
            probes,
            enabled,
            bypass,
        } = self;
        let plain = config::Tunnel::plain(name.clone(), *local, remotes.clone());
        config::Tunnel {
            key: *key,
            checksum: *checksum,
            sequence: *sequence,
            inner: *inner,
            deliver: deliver.clone(),
            spread: spread.clone(),
            mss: *mss,
            enabled: *enabled,
            bypass: bypass.clone(),
            keepalive: match keepalive_rate {
                Some(_) => config::Keepalive::Reply,
                None => config::Keepalive::Ignore,
            },
            keepalive_rate: keepalive_rate.unwrap_or(plain.keepalive_rate),
            probes: *probes,
            name: plain.name,
            local: plain.local,
            remotes: plain.remotes,
        }
    }
}

impl Tables {
    /// The tunnels in the order of their names.
    ///
    /// # Errors
    ///
    /// If a map holds what gre-decap never writes.
    pub fn tunnels(&self) -> Result<Vec<TunnelView>> {
        let mut tunnels = BTreeMap::new();
        self.v4.gather(self, &mut tunnels)?;
        self.v6.gather(self, &mut tunnels)?;
        let mut tunnels: Vec<_> = tunnels.into_values().collect();
        for tunnel in &mut tunnels {
            tunnel.remotes.sort();
        }
        tunnels.sort_by(|a: &TunnelView, b| a.name.cmp(&b.name));
        Ok(tunnels)
    }
}

impl<A: Address> Entries<A> {
    fn gather(&self, tables: &Tables, tunnels: &mut BTreeMap<u32, TunnelView>) -> Result<()> {
        let exact = self
            .exact
            .iter()
            .map(|(endpoints, tunnel)| (EndpointsPrefix::new(*endpoints, 8 * size_of::<A>() as u32), tunnel));
        let prefixes = self.prefixes.iter().map(|(endpoints, tunnel)| (*endpoints, tunnel));
        for (prefix, tunnel) in exact.chain(prefixes) {
            let remote = u8::try_from(prefix.remote_bits())
                .ok()
                .and_then(|bits| IpNet::new(prefix.endpoints.remote.to_ip(), bits).ok())
                .with_context(|| format!("tunnel {}: its remote is no prefix; load anew", tunnel.id))?;
            let view = match tunnels.entry(tunnel.id) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(tables.view(&prefix.endpoints, tunnel)?),
            };
            view.remotes.push(remote);
        }
        Ok(())
    }
}

impl Tables {
    fn view<A: Address>(&self, endpoints: &Endpoints<A>, tunnel: &Tunnel) -> Result<TunnelView> {
        let Tunnel { id, policy, cores } = *tunnel;
        let name = self
            .names
            .get(&id)
            .with_context(|| format!("tunnel {id}: has no name; load anew"))?;
        let deliver = match policy.deliver() {
            Deliver::Stack => config::Deliver::Stack,
            Deliver::Route => config::Deliver::Route,
            Deliver::Interface => {
                let onward = self.onward.get(&id);
                let onward = onward.with_context(|| format!("tunnel {id}: has no interface; load anew"))?;
                config::Deliver::Interface {
                    name: onward.interface.clone(),
                    next_hop: onward.next_hop,
                }
            }
        };
        let spread = match cores {
            Cores::NONE => Spread::Off,
            cores => {
                let list = cores::at(&self.cores, cores);
                Spread::Cpus(
                    list.with_context(|| format!("tunnel {id}: has no cores; load anew"))?
                        .to_vec(),
                )
            }
        };
        Ok(TunnelView {
            id,
            name: name.clone(),
            local: endpoints.local.to_ip(),
            remotes: Vec::new(),
            key: endpoints.key().map(|key| key.get()),
            checksum: policy::checksum(policy),
            sequence: policy::sequence(policy),
            inner: policy::inner(policy),
            deliver,
            spread,
            mss: policy::mss(policy),
            keepalive_rate: self.keepalives.get(&id).copied(),
            probes: policy::probes(policy),
            enabled: policy.enabled(),
            bypass: self.bypass.get(&id).into_iter().flatten().copied().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::tables::Ids;

    #[test]
    fn tunnels_come_back_as_configured() {
        let config = Config::from_str(
            "[[tunnel]]\nname = 'b'\nlocal = '198.51.100.20'\nkey = 7\nchecksum = 'ignore'\nsequence = 'ordered'\n\
             remote = ['203.0.113.128/25', '203.0.113.10', 'any']\ninner = ['ethernet']\nenabled = false\n\
             deliver = { interface = 'eth1' }\nspread = '0,2'\n\
             [[tunnel]]\nname = 'a'\nlocal = '2001:db8::1'\nremote = '2001:db8::2'\ndeliver = 'route'\nmss = 1400\n\
             keepalive = 'reply'\nkeepalive_rate = 3\nprobes = 'route'\n[protect]\nprefixes = ['192.0.2.0/24']",
            "test",
        )
        .unwrap();
        let ids = Ids::assign(["b", "a"].into_iter(), &BTreeMap::new(), 8).unwrap();
        let tunnels = Tables::of(&config, &ids, &[0, 1, 2]).unwrap().tunnels().unwrap();
        assert_eq!(
            tunnels
                .iter()
                .map(|tunnel| (tunnel.id, tunnel.name.as_str()))
                .collect::<Vec<_>>(),
            [(2, "a"), (1, "b")]
        );
        for tunnel in tunnels {
            let configured = config
                .tunnels
                .iter()
                .find(|configured| configured.name == tunnel.name)
                .unwrap();
            let mut remotes = configured.remotes.clone();
            remotes.sort();
            assert_eq!(tunnel.remotes, remotes);
            assert_eq!((tunnel.local, tunnel.key), (configured.local, configured.key));
            assert_eq!(
                (tunnel.checksum, tunnel.sequence),
                (configured.checksum, configured.sequence)
            );
            assert_eq!((tunnel.inner, tunnel.enabled), (configured.inner, configured.enabled));
            assert_eq!(
                (&tunnel.deliver, &tunnel.spread, tunnel.mss),
                (&configured.deliver, &configured.spread, configured.mss)
            );
            assert_eq!(tunnel.probes, configured.probes);
            let answers = configured.keepalive == config::Keepalive::Reply;
            assert_eq!(tunnel.keepalive_rate, answers.then_some(configured.keepalive_rate));
        }
    }

    #[test]
    fn a_tunnel_without_a_name_is_an_error() {
        let config = Config::from_str(
            "[[tunnel]]\nname = 'b'\nlocal = '198.51.100.20'\nremote = 'any'",
            "test",
        )
        .unwrap();
        let mut tables = Tables::of(
            &config,
            &Ids::assign(["b"].into_iter(), &BTreeMap::new(), 8).unwrap(),
            &[0],
        )
        .unwrap();
        tables.names.clear();
        assert_eq!(
            tables.tunnels().unwrap_err().to_string(),
            "tunnel 1: has no name; load anew"
        );
    }
}
