//! Tunnels as `status` and `tunnel list` show them.

use serde::Serialize;

use crate::config::{InnerType, prefix, remote};
use crate::table;
use crate::tables::TunnelView;

/// A tunnel in JSON.
#[derive(Debug, Serialize)]
pub(in crate::commands) struct TunnelStatus {
    pub(in crate::commands) name: String,
    id: u32,
    local: String,
    remote: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<u32>,
    checksum: &'static str,
    sequence: &'static str,
    inner: Vec<&'static str>,
    /// As in the configuration file: "stack", "route", or the interface and next hop.
    deliver: String,
    /// "off" or the list of cores.
    spread: String,
    /// "off" or a number of bytes.
    mss: String,
    /// How many keepalives a second are answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    keepalive_rate: Option<u32>,
    /// "off" or "route".
    probes: &'static str,
    enabled: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bypass: Vec<String>,
}

impl TunnelStatus {
    pub(in crate::commands) fn of(view: TunnelView) -> Self {
        Self {
            name: view.name,
            id: view.id,
            local: view.local.to_string(),
            remote: view.remotes.iter().map(remote).collect(),
            key: view.key,
            checksum: view.checksum.into(),
            sequence: view.sequence.into(),
            inner: view.inner.iter().map(InnerType::into).collect(),
            deliver: view.deliver.to_string(),
            spread: view.spread.to_string(),
            mss: view.mss.to_string(),
            keepalive_rate: view.keepalive_rate,
            probes: view.probes.into(),
            enabled: view.enabled,
            bypass: view.bypass.iter().map(prefix).collect(),
        }
    }

    fn row(&self) -> Vec<String> {
        let key = self.key.map_or_else(|| "-".to_owned(), |key| key.to_string());
        let enabled = if self.enabled { "yes" } else { "no" };
        let (remote, inner) = (self.remote.join(" "), self.inner.join(" "));
        [
            &self.name,
            &self.local,
            &remote,
            &key,
            self.checksum,
            self.sequence,
            &inner,
            &self.deliver,
            &self.spread,
            &self.mss,
            enabled,
        ]
        .map(str::to_owned)
        .to_vec()
    }
}

/// A table with a line for each tunnel.
pub(in crate::commands) fn text(tunnels: &[TunnelStatus]) -> String {
    let header = [
        "tunnel", "local", "remote", "key", "checksum", "sequence", "inner", "deliver", "spread", "mss", "enabled",
    ];
    table::render(&header, header.len(), tunnels.iter().map(TunnelStatus::row))
}
