//! The loader's own trial of the program, before it gets the first packet.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray};
use gre_common::counters::Counters;
use gre_common::endpoints::{Endpoints, Ipv4, Ipv6};
use gre_common::few::MOST;
use gre_common::link::Mac;
use gre_common::maps::{COMPARED4, COMPARED6, COUNTERS, INTERFACES, TUNNELS4, TUNNELS6};
use gre_common::tunnel::Tunnel;
use gre_user::config::Config;
use gre_user::datapath::Datapath;
use gre_user::host::cpus::online_cpus;
use gre_user::settings::{LogLevel, Settings};
use gre_user::surroundings::Surroundings;
use gre_user::tables::{Ids, Tables};
use gre_user::trial;

use crate::kernel::load_or_return;
use crate::support::frames::CONFIGS;

struct Loaded {
    config: Config,
    tables: Tables,
    datapath: Datapath,
}

impl Loaded {
    /// A program for a configuration, pruned by settings that are changed by `change`.
    fn new(text: &str, change: impl FnOnce(&mut Settings)) -> Result<Self> {
        let config = Config::from_str(text, "fixture")?;
        let names = config.tunnels.iter().map(|tunnel| tunnel.name.as_str());
        let ids = Ids::assign(names, &BTreeMap::new(), config.max_tunnels)?;
        let tables = Tables::of(&config, &ids, &online_cpus()?)?;
        let mut settings = Settings::of(&config, &tables, LogLevel::Off, [0; 2]);
        change(&mut settings);
        let mut datapath = Datapath::load(&settings, &tables, None)?;
        datapath.fill(&tables, &Surroundings::default())?;
        Ok(Self {
            config,
            tables,
            datapath,
        })
    }

    fn on_trial(&mut self) -> Result<()> {
        trial::run(&mut self.datapath, &self.config, &self.tables, LogLevel::Off)
    }

    fn map<M: TryFrom<Map, Error = aya::maps::MapError>>(&mut self, name: &str) -> Result<M> {
        let map = self.datapath.ebpf().map(name).context("a map of this name")?;
        let fd = match map {
            Map::Array(data) | Map::HashMap(data) | Map::PerCpuArray(data) => data.fd().as_fd().try_clone_to_owned()?,
            _ => anyhow::bail!("{name}: another kind of map"),
        };
        Ok(M::try_from(Map::from_map_data(MapData::from_fd(fd)?)?)?)
    }

    /// What a trial must leave as it was: all that is counted, and the tunnels.
    fn state(&mut self) -> Result<(u64, Tables)> {
        let counters: PerCpuArray<MapData, Counters> = self.map(COUNTERS)?;
        let mut counted = 0;
        for values in counters.iter() {
            counted += values?.iter().filter(|counters| **counters != Counters::ZERO).count() as u64;
        }
        let interfaces: HashMap<MapData, u32, Mac> = self.map(INTERFACES)?;
        ensure!(interfaces.keys().count() == 0, "no interface has the program");
        let v4: HashMap<MapData, Endpoints<Ipv4>, Tunnel> = self.map(TUNNELS4)?;
        let v6: HashMap<MapData, Endpoints<Ipv6>, Tunnel> = self.map(TUNNELS6)?;
        let mut tables = self.tables.clone();
        tables.v4.exact = v4.iter().collect::<Result<_, _>>()?;
        tables.v6.exact = v6.iter().collect::<Result<_, _>>()?;
        Ok((counted, tables))
    }

    /// The ids of those that packets are compared with, and how often each is to be there: once for each of its whole addresses.
    fn compared(&mut self) -> Result<[Vec<u32>; 2]> {
        let v4: Array<MapData, Tunnel> = self.map(COMPARED4)?;
        let v6: Array<MapData, Tunnel> = self.map(COMPARED6)?;
        let ids = |array: Array<MapData, Tunnel>| -> Result<Vec<u32>> {
            let tunnels: Vec<_> = array.iter().collect::<Result<_, _>>()?;
            Ok(tunnels.iter().map(|tunnel| tunnel.id).filter(|id| *id != 0).collect())
        };
        Ok([ids(v4)?, ids(v6)?])
    }

    fn to_compare(&self) -> [Vec<u32>; 2] {
        let few = |mut ids: Vec<u32>| {
            ids.sort_unstable();
            if ids.len() <= MOST { ids } else { Vec::new() }
        };
        [
            few(self.tables.v4.exact.values().map(|tunnel| tunnel.id).collect()),
            few(self.tables.v6.exact.values().map(|tunnel| tunnel.id).collect()),
        ]
    }
}

/// Tunnels of every kind.
fn configs() -> impl Iterator<Item = String> {
    let policies = [
        "",
        "key = 7\nchecksum = 'required'\nsequence = 'ordered'",
        "checksum = 'forbidden'\ninner = ['ipv6']",
        "inner = ['ethernet']",
        "inner = ['mpls']\nenabled = false",
        "inner = ['mpls', 'ethernet']",
        "deliver = 'route'",
        "deliver = 'route'\ninner = ['ipv6']\nspread = 'all'",
        "deliver = { interface = 'lan0' }",
        "spread = 'all'\nsequence = 'ordered'",
        "bypass = ['0.0.0.0/0', '2001:db8::/32']",
        "mss = 1200",
        "keepalive = 'reply'",
    ];
    let tunnels = |ends: &str| -> String {
        let sections = policies.iter().enumerate().map(|(number, policy)| {
            let ends = ends.replace('#', &(20 + number).to_string());
            format!("[[tunnel]]\nname = 't{number}'\n{ends}\n{policy}\n")
        });
        sections.collect()
    };
    let all = [
        "local = '198.51.100.#'\nremote = '203.0.113.10'",
        "local = '198.51.100.#'\nremote = ['203.0.113.128/25', 'any']",
        "local = '2001:db8::#'\nremote = ['2001:db8:f::1', '2001:db8:f::/64']",
    ]
    .map(tunnels);
    let fixtures = CONFIGS.iter().map(|config| (*config).to_owned());
    let protected = ["off", "monitor", "enforce"].map(|guard| {
        format!(
            "{}\n[protect]\nprefixes = ['192.0.2.0/24']\ninner_destinations = '{guard}'\nlockdown = '{guard}'\n",
            "[[tunnel]]\nname = 't'\nlocal = '198.51.100.20'\nremote = '203.0.113.10'\nmss = 1200"
        )
    });
    let few = [1, MOST, MOST + 1].map(|count| {
        let tunnels = (0..count).map(|number| {
            format!(
                "[[tunnel]]\nname = 'v4{number}'\nlocal = '198.51.100.20'\nremote = '203.0.113.{number}'\nkey = {number}\n\
                 [[tunnel]]\nname = 'v6{number}'\nlocal = '2001:db8::20'\nremote = ['2001:db8:f::{number}']\nkeepalive = 'reply'\n"
            )
        });
        tunnels.collect::<String>()
    });
    fixtures.chain(all).chain(protected).chain(few)
}

#[test]
fn a_right_program_passes_and_nothing_is_counted() -> Result<()> {
    load_or_return!();
    for config in configs() {
        let mut loaded = Loaded::new(&config, |_| {})?;
        loaded.on_trial().with_context(|| format!("for{config}"))?;
        let (counted, tables) = loaded.state()?;
        ensure!(counted == 0, "{counted} elements have counted, for{config}");
        ensure!(tables == loaded.tables, "not the same tunnels, for{config}");
        ensure!(
            loaded.compared()? == loaded.to_compare(),
            "not the same few, for{config}"
        );
    }
    Ok(())
}

#[test]
fn a_program_that_was_pruned_too_far_does_not() -> Result<()> {
    load_or_return!();
    let tunnel = |lines: &str| format!("[[tunnel]]\nname = 't'\nlocal = '198.51.100.20'\nremote = 'any'\n{lines}\n");
    let refused = |lines: &str, change: fn(&mut Settings), said: &str| -> Result<()> {
        let error = Loaded::new(&tunnel(lines), change)?
            .on_trial()
            .err()
            .context("a refusal")?;
        let line = format!("{error:#}");
        ensure!(
            line.starts_with("tunnel t: a packet from 0.0.0.0 to 198.51.100.20: the new program has it ")
                && line.contains(said),
            "{line}"
        );
        Ok(())
    };
    let no_prefixes = |settings: &mut Settings| settings.features.prefixes = false;
    refused("", no_prefixes, "has it passed, ")?;
    // What no packet of a tunnel depends on is not judged.
    Loaded::new(&tunnel(""), |settings| settings.unknown_drop = true)?.on_trial()?;
    refused(
        "spread = 'all'",
        |settings| settings.features.spread = false,
        "has it passed, ",
    )
}

/// A program that compares packets with other tunnels than those on trial.
#[test]
fn a_program_for_other_endpoints_does_not() -> Result<()> {
    load_or_return!();
    let tunnel = |remote: &str| format!("[[tunnel]]\nname = 't'\nlocal = '198.51.100.20'\nremote = '{remote}'\n");
    let mut loaded = Loaded::new(&tunnel("203.0.113.10"), |_| {})?;
    let other = Loaded::new(&tunnel("203.0.113.11"), |_| {})?;
    let error = trial::run(&mut loaded.datapath, &other.config, &other.tables, LogLevel::Off).err();
    let line = format!("{:#}", error.context("a refusal")?);
    ensure!(
        line.starts_with("tunnel t: a packet from 203.0.113.11 to 198.51.100.20: the new program has it passed, "),
        "{line}"
    );
    Ok(())
}

/// A hundred thousand tunnels are not tried one by one.
#[test]
fn of_many_tunnels_some_are_tried() -> Result<()> {
    load_or_return!();
    let tunnel = |number: u32| {
        let local = Ipv4Addr::from(0x0a00_0000 + number);
        format!("[[tunnel]]\nname = 't{number}'\nlocal = '{local}'\nremote = '203.0.113.10'\n")
    };
    let config: String = (1..=2000).map(tunnel).collect();
    let mut loaded = Loaded::new(&format!("max_tunnels = 2000\n{config}"), |_| {})?;
    loaded.on_trial()?;
    let (counted, tables) = loaded.state()?;
    ensure!(counted == 0 && tables == loaded.tables);
    Ok(())
}
