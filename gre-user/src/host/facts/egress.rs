//! What is read of the interfaces that tunnels deliver to.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::Result;

use crate::config::{Config, Deliver, InnerType, NextHop, Tunnel};

use super::super::egress::{PATIENCE, Resolved, Way, next_hop, ways};

/// Empty if no tunnel delivers elsewhere than to the stack.
#[derive(Debug)]
pub(in super::super) struct EgressFacts {
    /// All interfaces.
    pub(in super::super) ways: Result<Vec<Way>>,
    /// Whom frames are for, by the interface and the next hop that the configuration has; of interfaces that are there.
    pub(in super::super) next_hops: HashMap<(String, Option<NextHop>), Result<Resolved>>,
}

impl EgressFacts {
    /// The answer to the question whom frames of a tunnel are for; none if it was not asked.
    pub(in super::super) fn next_hop(&self, tunnel: &Tunnel) -> Option<&Result<Resolved>> {
        let Deliver::Interface { name, next_hop } = &tunnel.deliver else {
            return None;
        };
        self.next_hops
            .get(&(name.clone(), *next_hop))
            .filter(|_| needs_next_hop(tunnel))
    }

    pub(super) fn read(config: &Config) -> Self {
        let mut onward = config
            .tunnels
            .iter()
            .filter(|tunnel| tunnel.enabled && tunnel.deliver != Deliver::Stack)
            .peekable();
        if onward.peek().is_none() {
            return Self {
                ways: Ok(Vec::new()),
                next_hops: HashMap::new(),
            };
        }
        let ways = ways();
        let deadline = Instant::now() + PATIENCE;
        let mut next_hops = HashMap::new();
        for tunnel in onward {
            let (Ok(ways), Deliver::Interface { name, next_hop: hop }) = (&ways, &tunnel.deliver) else {
                continue;
            };
            // Many tunnels may share a next hop, and each question takes its time.
            let question = (name.clone(), *hop);
            if !needs_next_hop(tunnel) || next_hops.contains_key(&question) {
                continue;
            }
            if let Some(way) = ways.iter().find(|way| way.interface.name == *name) {
                next_hops.insert(question, next_hop(&way.interface, *hop, deadline));
            }
        }
        Self { ways, next_hops }
    }
}

/// Inner Ethernet frames say themselves whom they are for.
fn needs_next_hop(tunnel: &Tunnel) -> bool {
    tunnel.inner.iter().any(|kind| kind != InnerType::Ethernet)
}
