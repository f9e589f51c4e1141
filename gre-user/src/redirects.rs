//! What becomes of packets after the program has sent them on: programs on the kernel's tracepoints count what interfaces
//! and the queues of cores did not take.
//!
//! They are attached by links that are pinned beside their maps, and so live exactly as long as these.

use anyhow::{Context, Result};
use aya::maps::{Array, Map};
use aya::programs::RawTracePoint;
use aya::programs::links::FdLink;
use aya::{Ebpf, EbpfLoader};
use gre_common::maps::{
    CPUS, CPUS_ID, DEVICES, DEVICES_ID, NET_DEVICE_IFINDEX, NET_DEVICE_NET, NET_INUM, OWN_NETNS, REDIRECT_MAPS,
};

use crate::datapath::load_patiently;
use crate::host::kernel_types::{KernelTypes, RedirectOffsets, own_netns_inum};
use crate::settings::Features;
use crate::state::Generation;
use crate::tables::map;

/// Tells of packets that went by a map of ours.
const BY_MAP: &str = "xdp_redirect_err";
/// Tell of packets that came from an interface of ours. Programs and tracepoints have the same names.
const BY_INTERFACE: [&str; 3] = ["xdp_devmap_xmit", "xdp_bulk_tx", "xdp_exception"];
/// Tell of packets that other cores are to go on with.
const BY_CORE: [&str; 2] = ["xdp_cpumap_enqueue", "xdp_cpumap_kthread"];

/// What is watched: as much as the features need and the kernel allows.
#[derive(Debug)]
pub(crate) struct Watch {
    tracepoints: Vec<&'static str>,
    offsets: RedirectOffsets,
    own_netns: u32,
    warnings: Vec<String>,
}

impl Watch {
    /// What there is to watch with these features. What the kernel does not describe is left out: `check` says so.
    pub(crate) fn of(features: Features) -> Self {
        let forwards = features.route || features.interface;
        let mut watch = Self {
            tracepoints: Vec::new(),
            offsets: RedirectOffsets::default(),
            own_netns: 0,
            warnings: Vec::new(),
        };
        if forwards || features.spread {
            watch.tracepoints.push(BY_MAP);
        }
        if features.spread {
            watch.tracepoints.extend(BY_CORE);
        }
        // Answers leave by the interface that the question came in on.
        if forwards || features.keepalive {
            match interfaces() {
                Ok(Some((offsets, own_netns))) => {
                    watch.tracepoints.extend(BY_INTERFACE);
                    (watch.offsets, watch.own_netns) = (offsets, own_netns);
                }
                Ok(None) => {}
                Err(error) => watch.warn(&error),
            }
        }
        watch
    }

    /// Sets what the programs must know before they are loaded.
    pub(crate) fn prepare<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        let RedirectOffsets {
            net_device_ifindex,
            net_device_net,
            net_inum,
        } = &self.offsets;
        loader
            .override_global(NET_DEVICE_IFINDEX, net_device_ifindex, true)
            .override_global(NET_DEVICE_NET, net_device_net, true)
            .override_global(NET_INUM, net_inum, true)
            .override_global(OWN_NETNS, &self.own_netns, true);
    }

    /// Attaches the programs of a loaded object, and pins them in its generation. Returns what an operator must know, a line
    /// each: that something is not counted is no reason not to forward.
    pub(crate) fn start(mut self, ebpf: &mut Ebpf, generation: &Generation) -> Vec<String> {
        if let Err(error) = self.attach(ebpf, generation) {
            self.warn(&error);
        }
        self.warnings
    }

    fn attach(&self, ebpf: &mut Ebpf, generation: &Generation) -> Result<()> {
        if self.tracepoints.is_empty() {
            return Ok(());
        }
        let ids = [(DEVICES_ID, id(ebpf, DEVICES)?), (CPUS_ID, id(ebpf, CPUS)?)];
        let mut maps: Array<_, u32> = Array::try_from(map(ebpf, REDIRECT_MAPS)?)?;
        for (place, id) in ids {
            maps.set(place, id, 0)
                .with_context(|| format!("map {REDIRECT_MAPS}: cannot be filled"))?;
        }
        for name in &self.tracepoints {
            attach(ebpf, name, generation).with_context(|| format!("tracepoint {name}"))?;
        }
        Ok(())
    }

    fn warn(&mut self, error: &anyhow::Error) {
        self.warnings.push(format!(
            "packets that interfaces or cores do not take are not all counted: {error:#}"
        ));
    }
}

/// What it takes to tell interfaces apart, and the network namespace that they are in.
fn interfaces() -> Result<Option<(RedirectOffsets, u32)>> {
    let Some(types) = KernelTypes::read()? else {
        return Ok(None);
    };
    Ok(Some((types.redirect_offsets()?, own_netns_inum()?)))
}

fn attach(ebpf: &mut Ebpf, name: &str, generation: &Generation) -> Result<()> {
    let program = ebpf
        .program_mut(name)
        .context("the eBPF object has no program for it")?;
    let program: &mut RawTracePoint = program.try_into()?;
    load_patiently(program, RawTracePoint::load)?;
    let link = program.attach(name)?;
    let path = generation.link(name);
    FdLink::from(program.take_link(link)?)
        .pin(&path)
        .with_context(|| format!("{}: cannot be pinned", path.display()))?;
    Ok(())
}

/// The kernel's id of a map.
fn id(ebpf: &mut Ebpf, name: &str) -> Result<u32> {
    let id = match map(ebpf, name)? {
        Map::DevMapHash(map) | Map::CpuMap(map) => map.info().map(|info| info.id()),
        _ => Ok(0),
    };
    id.with_context(|| format!("map {name}: cannot be looked at"))
}
