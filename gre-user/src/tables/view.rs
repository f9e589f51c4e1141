//! The tables tunnel by tunnel, in the configuration's words.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, Result};
use gre_common::endpoints::{Endpoints, EndpointsPrefix};
use gre_common::tunnel::Tunnel;
use ipnet::IpNet;

use super::{Address, Entries, Tables, policy};
use crate::config::{Checksum, InnerTypes, Sequence};

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
    /// Whether it decapsulates.
    pub enabled: bool,
}

impl Tables {
    /// The tunnels in the order of their names.
    ///
    /// # Errors
    ///
    /// If a map holds what gre-decap never writes.
    pub fn tunnels(&self) -> Result<Vec<TunnelView>> {
        let mut tunnels = BTreeMap::new();
        self.v4.gather(&self.names, &mut tunnels)?;
        self.v6.gather(&self.names, &mut tunnels)?;
        let mut tunnels: Vec<_> = tunnels.into_values().collect();
        for tunnel in &mut tunnels {
            tunnel.remotes.sort();
        }
        tunnels.sort_by(|a: &TunnelView, b| a.name.cmp(&b.name));
        Ok(tunnels)
    }
}

impl<A: Address> Entries<A> {
    fn gather(&self, names: &BTreeMap<u32, String>, tunnels: &mut BTreeMap<u32, TunnelView>) -> Result<()> {
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
            let name = names
                .get(&tunnel.id)
                .with_context(|| format!("tunnel {}: has no name; load anew", tunnel.id))?;
            let view = tunnels
                .entry(tunnel.id)
                .or_insert_with(|| view(name, &prefix.endpoints, tunnel));
            view.remotes.push(remote);
        }
        Ok(())
    }
}

fn view<A: Address>(name: &str, endpoints: &Endpoints<A>, tunnel: &Tunnel) -> TunnelView {
    TunnelView {
        id: tunnel.id,
        name: name.to_owned(),
        local: endpoints.local.to_ip(),
        remotes: Vec::new(),
        key: endpoints.key().map(|key| key.get()),
        checksum: policy::checksum(tunnel.policy),
        sequence: policy::sequence(tunnel.policy),
        inner: policy::inner(tunnel.policy),
        enabled: tunnel.policy.enabled(),
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
             [[tunnel]]\nname = 'a'\nlocal = '2001:db8::1'\nremote = '2001:db8::2'",
            "test",
        )
        .unwrap();
        let ids = Ids::assign(["b", "a"].into_iter(), &BTreeMap::new(), 8).unwrap();
        let tunnels = Tables::of(&config, &ids).tunnels().unwrap();
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
        }
    }

    #[test]
    fn a_tunnel_without_a_name_is_an_error() {
        let config = Config::from_str(
            "[[tunnel]]\nname = 'b'\nlocal = '198.51.100.20'\nremote = 'any'",
            "test",
        )
        .unwrap();
        let mut tables = Tables::of(&config, &Ids::assign(["b"].into_iter(), &BTreeMap::new(), 8).unwrap());
        tables.names.clear();
        assert_eq!(
            tables.tunnels().unwrap_err().to_string(),
            "tunnel 1: has no name; load anew"
        );
    }
}
