//! The program as the loader loads it.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use aya::maps::Array;
use aya::programs::{ProgramFd, TestRun, TestRunOptions};
use gre_common::maps::KEEPALIVES;
use gre_common::target::{Macs, Target};
use gre_common::tunnel::Deliver;
use gre_tests::frame::Link;
use gre_user::config::Config;
use gre_user::datapath::Datapath;
use gre_user::host::cpus::online_cpus;
use gre_user::settings::{LogLevel, Settings};
use gre_user::surroundings::Surroundings;
use gre_user::tables::{Ids, Tables};
use nix::net::if_::if_nametoindex;

use crate::shapes::{Build, Shape};

/// The loopback interface, where test runs come in.
pub(crate) const LOOPBACK: u32 = 1;
/// Where delivery to an interface sends.
const NEXT_HOP: [u8; 6] = [0x02, 0, 0, 0, 0xaa, 0x01];

/// A configuration's program, with its maps filled.
pub(crate) struct Loaded {
    pub(crate) datapath: Datapath,
    /// How long the loader took: mostly the verifier.
    pub(crate) took: Duration,
}

impl Loaded {
    /// Loads the program that a shape is to meet.
    pub(crate) fn load(shape: &Shape) -> Result<Self> {
        let text = shape.config.as_str();
        let config = Config::from_str(text, "bench")?;
        let names = config.tunnels.iter().map(|tunnel| tunnel.name.as_str());
        let ids = Ids::assign(names, &BTreeMap::new(), config.max_tunnels)?;
        let tables = Tables::of(&config, &ids, &online_cpus()?)?;
        let settings = Settings::of(&config, &tables, LogLevel::Off, [1, 2]);
        let started = Instant::now();
        let mut datapath = match shape.build {
            Build::Shipped => Datapath::load(&settings, &tables, None)?,
            Build::Bare => Datapath::load_object(&bare_object()?, &settings, &tables, None)?,
        };
        let took = started.elapsed();
        datapath.fill(&tables, &surroundings(&tables)?)?;
        if let Some(quota) = shape.quota {
            let mut quotas = Array::try_from(datapath.ebpf().map_mut(KEEPALIVES).context("map KEEPALIVES")?)?;
            for id in tables.keepalives.keys() {
                quotas.set(*id, quota, 0)?;
            }
        }
        Ok(Self { datapath, took })
    }

    pub(crate) fn fd(&mut self) -> Result<ProgramFd> {
        Ok(self.datapath.program()?.fd()?.try_clone()?)
    }

    /// Runs the program once: the XDP action, and the frame as it was left.
    pub(crate) fn run(&mut self, frame: &[u8]) -> Result<(u32, Vec<u8>)> {
        let mut out = vec![0; frame.len()];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..TestRunOptions::new()
        };
        let result = self.datapath.program()?.test_run(options).context("test-run a frame")?;
        out.truncate(result.data_size_out as usize);
        Ok((result.return_value, out))
    }
}

/// The object of `gre-ebpf` without what a configuration can switch on.
fn bare_object() -> Result<Vec<u8>> {
    let path = env::var_os("GRE_BARE_OBJECT").context("GRE_BARE_OBJECT is not set: use `cargo xtask bench`")?;
    fs::read(&path).with_context(|| format!("read {}", path.display()))
}

/// What tunnels that forward need: see `prepare` in the main file.
fn surroundings(tables: &Tables) -> Result<Surroundings> {
    let out = if_nametoindex("lan0").context("the way out")?;
    let mut surroundings = Surroundings::default();
    surroundings.macs.insert(LOOPBACK, Link::DESTINATION);
    surroundings.devices.insert(out);
    if tables.have(Deliver::Interface) {
        let target = Target {
            interface: out,
            macs: Macs::new(NEXT_HOP, Link::DESTINATION),
        };
        surroundings.targets = tables.onward.keys().map(|id| (*id, target)).collect();
    }
    Ok(surroundings)
}
