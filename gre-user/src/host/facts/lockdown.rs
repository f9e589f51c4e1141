//! Who uses this host now, and could be cut off by lockdown.

use anyhow::Result;

use crate::config::{Config, Guard};

use super::super::connections::{self, Connection, Resolver};

#[derive(Debug)]
pub(in super::super) struct LockdownFacts {
    /// The connection that somebody is logged in by who runs this.
    pub(in super::super) login: Option<Connection>,
    /// The TCP connections of this host.
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
        Self {
            login: connections::login(),
            connections: connections::connections(),
            resolvers: connections::resolvers(),
        }
    }
}
