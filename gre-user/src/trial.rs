//! The new program on trial, before it gets the first packet: one of each tunnel, which the kernel runs through it
//! (BPF_PROG_TEST_RUN) and then throws away.
//!
//! The program and its tunnel maps are those that go into force; only for the run do the tunnels on trial have the id
//! [`TRIAL`], by which nothing is counted or sampled, and let any order of numbers pass. Where the program compares packets with few
//! tunnels, they stand so in the array of those. What the program must do is what the same decision does outside the kernel.

mod packet;

use std::collections::HashSet;
use std::fmt;

use anyhow::{Context, Result, bail, ensure};
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, LpmTrie};
use aya::programs::{TestRun, TestRunOptions};
use aya::{Ebpf, Pod};
use gre_common::endpoints::{Endpoints, EndpointsPrefix};
use gre_common::link::Mac;
use gre_common::maps::{INTERFACE_SLOTS, INTERFACES};
use gre_common::slots::{Key as SlotKey, Slot};
use gre_common::tunnel::{Cores, Deliver, Policy, TRIAL, Tunnel};
use gre_common::{Action, Delivery, Verdict};

use self::packet::{MAC, Packet};
use crate::config::Config;
use crate::datapath::Datapath;
use crate::offline::{Judgement, Offline};
use crate::settings::LogLevel;
use crate::slots::Slots;
use crate::tables::{Address, Entries, Names, Tables, V4, V6, map};

/// How many tunnels are tried at most, beside one of each [`Shape`]: a run takes some microseconds.
const MOST: usize = 256;
/// The loopback interface's index in every network namespace (LOOPBACK_IFINDEX of include/net/net_namespace.h): packets that
/// are run come from there.
const LOOPBACK: u32 = 1;

/// What makes one tunnel's packets take another way through the program than another's.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Shape {
    is_v6: bool,
    is_prefix: bool,
    has_key: bool,
    policy: Policy,
    is_spread: bool,
}

/// A tunnel on trial, by one of its remotes.
struct Candidate<K> {
    key: K,
    tunnel: Tunnel,
    packet: Packet,
}

/// Runs a packet of each tunnel, of many tunnels a sample, through a program whose maps are filled and that is attached to
/// nothing yet.
///
/// # Errors
///
/// If the program does anything else with one than it must, or the kernel does not run it.
pub fn run(datapath: &mut Datapath, config: &Config, tables: &Tables, log_level: LogLevel) -> Result<()> {
    // Such a program tells of every packet, which here would be of ones that nobody has sent.
    if log_level as u32 >= LogLevel::Debug as u32 {
        return Ok(());
    }
    let (v4, v6) = (candidates(config, &tables.v4)?, candidates(config, &tables.v6)?);
    let mut on_trial = tables.clone();
    on_trial.v4.try_out(&v4);
    on_trial.v6.try_out(&v6);
    let offline = Offline::new(config, on_trial);

    let (maps4, maps6) = (LookedUp::of(&tables.v4, &V4), LookedUp::of(&tables.v6, &V6));
    maps4.put(datapath.ebpf(), &v4, try_out)?;
    maps6.put(datapath.ebpf(), &v6, try_out)?;
    let own = own_mac(datapath.ebpf(), Some(Mac::from_bytes(MAC)))?;
    let tried = v4
        .iter()
        .map(|candidate| (&candidate.tunnel, &candidate.packet))
        .chain(v6.iter().map(|candidate| (&candidate.tunnel, &candidate.packet)))
        .try_for_each(|(tunnel, packet)| try_one(datapath, &offline, tunnel, packet));
    // What fails is thrown away with its maps.
    tried?;
    own_mac(datapath.ebpf(), own)?;
    maps4.put(datapath.ebpf(), &v4, |tunnel| tunnel)?;
    maps6.put(datapath.ebpf(), &v6, |tunnel| tunnel)
}

/// A tunnel as it is tried.
fn try_out(tunnel: Tunnel) -> Tunnel {
    Tunnel {
        id: TRIAL,
        policy: tunnel.policy.in_any_order(),
        ..tunnel
    }
}

/// The remote of a candidate: an address, or a prefix.
enum Remote<A> {
    Exact(Endpoints<A>),
    Prefix(EndpointsPrefix<A>),
}

fn candidates<A: Address>(config: &Config, entries: &Entries<A>) -> Result<Vec<Candidate<Remote<A>>>> {
    let exact = entries.exact.iter();
    let exact = exact.map(|(key, tunnel)| (Remote::Exact(*key), *key, tunnel));
    let prefixes = entries.prefixes.iter();
    let prefixes = prefixes.map(|(key, tunnel)| (Remote::Prefix(*key), key.endpoints, tunnel));
    let (mut shapes, mut ids) = (HashSet::new(), HashSet::new());
    let mut chosen = Vec::new();
    for (key, endpoints, tunnel) in exact.chain(prefixes) {
        let (local, remote) = (endpoints.local.to_ip(), endpoints.remote.to_ip());
        let is_new_shape = shapes.insert(Shape {
            is_v6: local.is_ipv6(),
            is_prefix: matches!(key, Remote::Prefix(_)),
            has_key: endpoints.key().is_some(),
            policy: tunnel.policy,
            is_spread: tunnel.cores != Cores::NONE,
        });
        if is_new_shape || ids.len() < MOST && ids.insert(tunnel.id) {
            let tunnel = *tunnel;
            let packet = Packet::new(config, (local, remote), endpoints.key(), tunnel.policy)?;
            chosen.push(Candidate { key, tunnel, packet });
        }
    }
    Ok(chosen)
}

impl<A: Address> Entries<A> {
    fn try_out(&mut self, candidates: &[Candidate<Remote<A>>]) {
        for Candidate { key, tunnel, .. } in candidates {
            let tunnel = try_out(*tunnel);
            match key {
                Remote::Exact(endpoints) => drop(self.exact.insert(*endpoints, tunnel)),
                Remote::Prefix(prefix) => drop(self.prefixes.insert(*prefix, tunnel)),
            }
        }
    }
}

/// Where the program finds the tunnels of a family.
struct LookedUp<A> {
    names: &'static Names,
    /// The endpoints that packets are compared with, in the order of their tunnels in the array; none if there are too many.
    compared: Option<Vec<Endpoints<A>>>,
}

impl<A: Address> LookedUp<A>
where
    Endpoints<A>: Pod + SlotKey,
    Slot<Endpoints<A>, Tunnel>: Pod,
{
    fn of(entries: &Entries<A>, names: &'static Names) -> Self {
        let compared = entries.compared();
        let endpoints = compared.map(|compared| compared.into_iter().map(|(endpoints, _)| endpoints).collect());
        Self {
            names,
            compared: endpoints,
        }
    }

    /// Writes the candidates' tunnels, changed by `change`, over themselves.
    fn put(
        &self,
        ebpf: &mut Ebpf,
        candidates: &[Candidate<Remote<A>>],
        change: impl Fn(Tunnel) -> Tunnel,
    ) -> Result<()> {
        let mut exact = Vec::new();
        let mut prefixes = Vec::new();
        for Candidate { key, tunnel, .. } in candidates {
            match key {
                Remote::Exact(endpoints) => exact.push((*endpoints, change(*tunnel))),
                Remote::Prefix(prefix) => prefixes.push((*prefix, change(*tunnel))),
            }
        }
        self.put_exact(ebpf, exact)?;
        let name = self.names.prefixes;
        let mut map: LpmTrie<_, Endpoints<A>, Tunnel> = LpmTrie::try_from(map(ebpf, name)?)?;
        for (prefix, tunnel) in prefixes {
            map.insert(&Key::new(prefix.prefix_len, prefix.endpoints), tunnel, 0)
                .with_context(|| cannot_write(name))?;
        }
        Ok(())
    }

    fn put_exact(&self, ebpf: &mut Ebpf, tunnels: Vec<(Endpoints<A>, Tunnel)>) -> Result<()> {
        let Some(compared) = &self.compared else {
            let name = self.names.tunnels;
            let mut map: HashMap<_, Endpoints<A>, Tunnel> = HashMap::try_from(map(ebpf, name)?)?;
            for (endpoints, tunnel) in &tunnels {
                map.insert(endpoints, tunnel, 0).with_context(|| cannot_write(name))?;
            }
            let mut slots = Slots::of(ebpf, self.names.slots)?;
            return tunnels
                .into_iter()
                .try_for_each(|(endpoints, tunnel)| slots.overwrite(endpoints, tunnel));
        };
        let name = self.names.compared;
        let mut map: Array<_, Tunnel> = Array::try_from(map(ebpf, name)?)?;
        for (endpoints, tunnel) in tunnels {
            let place = compared.iter().position(|compared| *compared == endpoints);
            let place = place.with_context(|| format!("map {name}: has no place for a tunnel on trial"))?;
            map.set(place as u32, tunnel, 0).with_context(|| cannot_write(name))?;
        }
        Ok(())
    }
}

fn cannot_write(map: &str) -> String {
    format!("map {map}: cannot be written")
}

/// Sets the MAC address that the program knows for the loopback interface, and gives the one that it knew.
fn own_mac(ebpf: &mut Ebpf, mac: Option<Mac>) -> Result<Option<Mac>> {
    let mut interfaces: HashMap<_, u32, Mac> = HashMap::try_from(map(ebpf, INTERFACES)?)?;
    let before = interfaces.get(&LOOPBACK, 0).ok();
    match mac {
        Some(mac) => interfaces.insert(LOOPBACK, mac, 0),
        None => interfaces.remove(&LOOPBACK),
    }
    .with_context(|| cannot_write(INTERFACES))?;
    if let Some(mac) = mac {
        Slots::of(ebpf, INTERFACE_SLOTS)?.overwrite(LOOPBACK, mac)?;
    }
    Ok(before)
}

fn try_one(datapath: &mut Datapath, offline: &Offline, tunnel: &Tunnel, packet: &Packet) -> Result<()> {
    let name = offline.name(tunnel.id).unwrap_or("?");
    let what = || format!("tunnel {name}: {packet}");
    let bytes = packet.bytes.as_slice();
    let Judgement::Decided(verdict) = offline.judge(bytes, bytes.len(), Default::default()) else {
        bail!("{}: cannot be judged", what());
    };
    let matched = match verdict {
        Verdict::NotOurs => 0,
        Verdict::Refuse { tunnel, .. } => tunnel,
        Verdict::Deliver(delivery) | Verdict::Reply(delivery) => delivery.tunnel,
    };
    if matched != TRIAL && matched != 0 {
        // Another tunnel has this address of the prefix; its counters must not be touched.
        return Ok(());
    }
    let mut left = vec![0; bytes.len()];
    let options = TestRunOptions {
        data_in: Some(bytes),
        data_out: Some(&mut left),
        ..TestRunOptions::new()
    };
    let result = datapath.program()?.test_run(options);
    let result = result.with_context(|| format!("{}: the kernel does not run the new program for it", what()))?;
    left.truncate(result.data_size_out as usize);
    let action = XdpAction(result.return_value);
    ensure!(
        is_right(verdict, bytes, action, &left),
        "{}: the new program has it {action}, {} bytes long, where the decision is {verdict:?}; it is not attached; please \
         report this",
        what(),
        left.len()
    );
    Ok(())
}

/// Whether this is what must become of a packet by the verdict on it.
fn is_right(verdict: Verdict, packet: &[u8], action: XdpAction, left: &[u8]) -> bool {
    let delivery = match verdict {
        // Each packet has a tunnel, and none is a keepalive.
        Verdict::NotOurs | Verdict::Refuse { tunnel: 0, .. } | Verdict::Reply(_) => return false,
        Verdict::Refuse { reason, .. } => {
            return match reason.action() {
                Action::Pass => action == XdpAction::PASS && left == packet,
                Action::Drop => action == XdpAction::DROP,
            };
        }
        Verdict::Deliver(delivery) => delivery,
    };
    let is_passed = action == XdpAction::PASS && left == decapsulated(packet, &delivery);
    if delivery.cores != Cores::NONE {
        return action == XdpAction::REDIRECT;
    }
    match delivery.way() {
        Deliver::Stack => is_passed,
        // As the host's routes and neighbours have it; what has no way is the kernel's.
        Deliver::Route => is_passed || action == XdpAction::REDIRECT || action == XdpAction::DROP,
        Deliver::Interface => is_passed || action == XdpAction::REDIRECT,
    }
}

/// The packet as the stack must get it. No packet on trial has anything to be remarked in its header.
fn decapsulated(packet: &[u8], delivery: &Delivery) -> Vec<u8> {
    let inner = &packet[delivery.inner..delivery.end];
    let Some(ether_type) = delivery.ether_type else {
        return inner.to_vec();
    };
    let macs = &packet[..delivery.link.len() - size_of_val(&ether_type)];
    [macs, &ether_type.to_bytes(), inner].concat()
}

/// `enum xdp_action` of linux/bpf.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct XdpAction(u32);

impl XdpAction {
    const DROP: Self = Self(1);
    const PASS: Self = Self(2);
    const REDIRECT: Self = Self(4);
}

impl fmt::Display for XdpAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::DROP => f.write_str("dropped"),
            Self::PASS => f.write_str("passed"),
            Self::REDIRECT => f.write_str("redirected"),
            Self(other) => write!(f, "treated by XDP action {other}"),
        }
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { local, remote, .. } = self;
        write!(f, "a packet from {remote} to {local}")
    }
}
