//! What the datapath must know of this host to forward and to answer: the MAC addresses of the interfaces that it is on, the
//! interfaces that take redirected frames, and the next hops.
//!
//! Unlike the tables this is no matter of the configuration alone. It is found out when loading, and followed by `run`.

mod kernel;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Instant;

use anyhow::{Error, Result, anyhow};
use gre_common::target::{Macs, Target};
use gre_common::tunnel::{Deliver, InnerTypes};

use crate::config::NextHop;
use crate::host::Interface;
use crate::host::egress::{PATIENCE, Resolved, Transmit, Way, next_hop};
use crate::host::neighbours::prompt;
use crate::tables::{Onward, Tables};

/// The content of the maps. Equal values are equal behaviour.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The MAC address of each interface that the program is on, by its index.
    pub macs: BTreeMap<u32, [u8; 6]>,
    /// The indices of the interfaces that frames are redirected to.
    pub devices: BTreeSet<u32>,
    /// Where each tunnel that delivers to an interface sends, by its id.
    pub targets: BTreeMap<u32, Target>,
}

/// What was found out.
#[derive(Debug, Default)]
pub struct Survey {
    /// For the maps.
    pub surroundings: Surroundings,
    /// Interfaces that take redirected frames once they have an XDP program.
    pub want_program: Vec<Interface>,
    /// Why a tunnel cannot deliver as configured, with the tunnel's id.
    pub errors: Vec<(u32, Error)>,
    /// Why a tunnel delivers by way of the kernel, a line each.
    pub warnings: Vec<String>,
}

impl Survey {
    /// Finds out what these tables need, with the program on the interfaces `on`. `ways` are all interfaces.
    ///
    /// # Errors
    ///
    /// If the kernel cannot be asked. What it answers is no error of this call.
    pub fn take<'a>(tables: &Tables, on: impl Iterator<Item = &'a Interface>, ways: &[Way]) -> Result<Self> {
        let mut survey = Self::default();
        let (route, interface) = (tables.have_routes(), tables.have(Deliver::Interface));
        if route || interface || !tables.keepalives.is_empty() {
            let macs = on.filter_map(|interface| Some((interface.index, interface.mac?)));
            survey.surroundings.macs = macs.collect();
        }
        if !route && !interface {
            return Ok(survey);
        }
        if route {
            // What is down sends nothing, and an XDP program can make a network card restart its link.
            for way in ways.iter().filter(|way| way.interface.is_up) {
                survey.add_device(way);
            }
        }
        survey.find_targets(tables, ways)?;
        Ok(survey)
    }

    /// Whether frames can be redirected to this interface, at least with a program on it.
    fn add_device(&mut self, Way { interface, transmit }: &Way) -> bool {
        match transmit {
            Transmit::Yes { .. } | Transmit::Unknown => {}
            // Where another one is in generic mode, none in native mode can be.
            Transmit::AfterProgram if !interface.xdp.is_empty() => return false,
            Transmit::AfterProgram => {
                if self.want_program.iter().all(|other| other.index != interface.index) {
                    self.want_program.push(interface.clone());
                }
            }
            Transmit::No { .. } => return false,
        }
        self.surroundings.devices.insert(interface.index);
        true
    }

    fn find_targets(&mut self, tables: &Tables, ways: &[Way]) -> Result<()> {
        let by_name: HashMap<_, _> = ways.iter().map(|way| (way.interface.name.as_str(), way)).collect();
        let find = |name: &str| by_name.get(name).copied();
        // All are asked for before the first is waited for, and once: many tunnels may share a next hop.
        let mut prompted = HashSet::new();
        for Onward { interface, next_hop } in tables.onward.values() {
            if let (Some(way), Some(NextHop::Address(address))) = (find(interface), next_hop)
                && prompted.insert((way.interface.index, address))
            {
                prompt(way.interface.index, *address)?;
            }
        }
        let deadline = Instant::now() + PATIENCE;
        let mut resolved: HashMap<(u32, Option<NextHop>), Option<[u8; 6]>> = HashMap::new();
        let mut judged = BTreeSet::new();
        let inner = tables.inner();
        for (
            id,
            Onward {
                interface: name,
                next_hop,
            },
        ) in &tables.onward
        {
            let tunnel = tables.names.get(id).map_or("?", String::as_str);
            let Some(way) = find(name) else {
                let names: Vec<_> = ways.iter().map(|way| way.interface.name.as_str()).collect();
                let error = anyhow!(
                    "tunnel {tunnel}: delivers to {name}, which is not on this host (in this network namespace); it has: {}",
                    names.join(", ")
                );
                self.errors.push((*id, error));
                continue;
            };
            let interface = &way.interface;
            if judged.insert(interface.index)
                && !self.add_device(way)
                && let Transmit::No { why, remedy } = &way.transmit
            {
                self.warnings.push(format!(
                    "{name}: {why}, so the kernel forwards what tunnels deliver there; {remedy}"
                ));
            }
            let destination = if inner.get(id) == Some(&InnerTypes::ETHERNET) {
                // Such a frame has its own.
                None
            } else if let Some(known) = resolved.get(&(interface.index, *next_hop)) {
                *known
            } else {
                let found = self.resolve((*id, tunnel), interface, *next_hop, deadline);
                resolved.insert((interface.index, *next_hop), found);
                found
            };
            let source = interface.mac.unwrap_or_default();
            let target = Target {
                interface: interface.index,
                macs: Macs::new(destination.unwrap_or_default(), source),
            };
            self.surroundings.targets.insert(*id, target);
        }
        Ok(())
    }

    fn resolve(
        &mut self,
        (id, tunnel): (u32, &str),
        interface: &Interface,
        hop: Option<NextHop>,
        deadline: Instant,
    ) -> Option<[u8; 6]> {
        match next_hop(interface, hop, deadline) {
            Ok(Resolved::Mac(mac)) => Some(mac),
            Ok(Resolved::Unresolved { awaited }) => {
                self.warnings.push(format!(
                    "{awaited}, so the kernel forwards what tunnels deliver to it; `gre-decap run` goes on looking, or load again \
                     when it answers"
                ));
                None
            }
            Err(error) => {
                self.errors.push((id, error.context(format!("tunnel {tunnel}"))));
                None
            }
        }
    }
}
