//! Tunnels as `status` and `tunnel list` show them.

use serde::{Serialize, Serializer};

use crate::config::{Deliver, InnerType, Mss, prefix, remote};
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
    #[serde(serialize_with = "deliver")]
    deliver: Deliver,
    /// "off" or the list of cores.
    spread: String,
    /// "off" or a number of bytes.
    #[serde(serialize_with = "mss")]
    mss: Mss,
    /// "ignore" or "reply".
    keepalive: &'static str,
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
            deliver: view.deliver,
            spread: view.spread.to_string(),
            mss: view.mss,
            keepalive: if view.keepalive_rate.is_some() {
                "reply"
            } else {
                "ignore"
            },
            keepalive_rate: view.keepalive_rate,
            probes: view.probes.into(),
            enabled: view.enabled,
            bypass: view.bypass.iter().map(prefix).collect(),
        }
    }

    fn row(&self, seldom: &[Seldom]) -> Vec<String> {
        let key = self.key.map_or_else(|| "-".to_owned(), |key| key.to_string());
        let enabled = if self.enabled { "yes" } else { "no" };
        let (remote, inner) = (self.remote.join(" "), self.inner.join(" "));
        let (deliver, mss) = (self.deliver.to_string(), self.mss.to_string());
        let usual = [
            &self.name,
            &self.local,
            &remote,
            &key,
            self.checksum,
            self.sequence,
            &inner,
            &deliver,
            &self.spread,
            &mss,
            enabled,
        ];
        let seldom = seldom
            .iter()
            .map(|seldom| seldom.of(self).unwrap_or_else(|| "-".to_owned()));
        usual.map(str::to_owned).into_iter().chain(seldom).collect()
    }
}

/// A column that is left out where no tunnel has anything there.
#[derive(Clone, Copy)]
enum Seldom {
    Bypass,
    Keepalive,
    Probes,
}

impl Seldom {
    const ALL: [Self; 3] = [Self::Bypass, Self::Keepalive, Self::Probes];

    fn header(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Keepalive => "keepalive",
            Self::Probes => "probes",
        }
    }

    fn of(self, tunnel: &TunnelStatus) -> Option<String> {
        match self {
            Self::Bypass => (!tunnel.bypass.is_empty()).then(|| tunnel.bypass.join(" ")),
            Self::Keepalive => tunnel
                .keepalive_rate
                .map(|rate| format!("{}, {rate}/s", tunnel.keepalive)),
            Self::Probes => (tunnel.probes != "off").then(|| tunnel.probes.to_owned()),
        }
    }
}

/// A table with a line for each tunnel.
pub(in crate::commands) fn text(tunnels: &[TunnelStatus]) -> String {
    let mut header = vec![
        "tunnel", "local", "remote", "key", "checksum", "sequence", "inner", "deliver", "spread", "mss", "enabled",
    ];
    let mut seldom = Seldom::ALL.to_vec();
    seldom.retain(|seldom| tunnels.iter().any(|tunnel| seldom.of(tunnel).is_some()));
    header.extend(seldom.iter().map(|seldom| seldom.header()));
    table::render(&header, header.len(), tunnels.iter().map(|tunnel| tunnel.row(&seldom)))
}

/// As the file has it: a word, or a table.
fn deliver<S: Serializer>(deliver: &Deliver, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Table<'a> {
        interface: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_hop: Option<String>,
    }
    match deliver {
        Deliver::Stack | Deliver::Route => serializer.collect_str(deliver),
        Deliver::Interface { name, next_hop } => {
            let next_hop = next_hop.map(|next_hop| next_hop.to_string());
            let interface = name.as_str();
            Table { interface, next_hop }.serialize(serializer)
        }
    }
}

/// As the file has it: a word, or a number.
fn mss<S: Serializer>(mss: &Mss, serializer: S) -> Result<S::Ok, S::Error> {
    match mss {
        Mss::Off => serializer.collect_str(mss),
        Mss::Bytes(bytes) => serializer.serialize_u16(*bytes),
    }
}
