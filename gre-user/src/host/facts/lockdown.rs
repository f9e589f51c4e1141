//! Who uses this host now, and could be cut off by lockdown.

use std::net::IpAddr;

use anyhow::Result;
use ipnet::IpNet;

use crate::config::{Config, Guard, Protect};
use crate::nets::Nets;

use super::super::connections::{self, Connection, Resolver};

/// Whom lockdown keeps out.
pub(in super::super) struct Closed {
    protected: Nets,
    allowed: Nets,
}

impl Closed {
    pub(in super::super) fn of(protect: &Protect) -> Self {
        Self {
            protected: protect.prefixes.iter().copied().collect(),
            allowed: protect.allow.iter().copied().collect(),
        }
    }

    /// Whether what comes from there to here by no tunnel breaks the rule.
    pub(in super::super) fn is_broken(&self, from: IpAddr, to: IpAddr) -> bool {
        self.protected.have(to) && !self.allowed.have(from)
    }

    /// Whether a connection's packets do.
    pub(in super::super) fn has(&self, connection: &Connection) -> bool {
        self.is_broken(connection.remote.ip(), connection.local.ip())
    }

    /// Whether all of these sources are let in.
    pub(in super::super) fn allows(&self, sources: IpNet) -> bool {
        self.allowed.cover(sources)
    }

    /// Whether this is protected.
    pub(in super::super) fn protects(&self, address: IpAddr) -> bool {
        self.protected.have(address)
    }
}

#[derive(Debug)]
pub(in super::super) struct LockdownFacts {
    /// The connection that somebody is logged in by who runs this.
    pub(in super::super) login: Option<Connection>,
    /// The TCP connections of this host that it concerns.
    pub(in super::super) connections: Result<Vec<Connection>>,
    /// The DNS resolvers that it asks.
    pub(in super::super) resolvers: Result<Vec<Resolver>>,
}

impl LockdownFacts {
    /// What nobody needs to know.
    pub(in super::super) fn none() -> Self {
        Self {
            login: None,
            connections: Ok(Vec::new()),
            resolvers: Ok(Vec::new()),
        }
    }

    /// Reads them, if there is a lockdown.
    pub(in super::super) fn read(config: &Config) -> Self {
        if config.protect.lockdown == Guard::Off {
            return Self::none();
        }
        let closed = Closed::of(&config.protect);
        Self {
            login: connections::login(),
            connections: connections::connections(|connection| closed.has(connection)),
            resolvers: connections::resolvers(),
        }
    }
}
