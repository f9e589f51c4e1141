//! All that is read of this host to check a configuration, read once.
//!
//! What cannot be read is kept as the reason why, for the findings to tell.

mod clsact;
mod egress;
mod lockdown;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result};
use ipnet::IpNet;

use crate::attach::pinned_links;
use crate::config::{ClampMss, Config, Deliver, Spread};
use crate::state::Root;

use super::addresses;
use super::bpf::{self, Bpf};
use super::capabilities::{Capability, missing_capabilities};
use super::cpus::{online_cpus, possible_cpus};
use super::ethtool::{self, Channels};
use super::firewall::{self, Rule};
use super::gre_device::{GreDevice, gre_devices};
use super::interface::{Interface, interfaces};
use super::kernel_types::{KernelTypes, VMLINUX_BTF};
use super::sysctl;
use super::xdp_features::{self, XdpFeatures};

pub(super) use self::clsact::ClsactFacts;
pub(super) use self::egress::EgressFacts;
pub(super) use self::lockdown::{Closed, LockdownFacts};

#[derive(Debug)]
pub(super) struct Facts {
    pub(super) kernel: KernelFacts,
    pub(super) memory: MemoryFacts,
    /// Names of all interfaces.
    pub(super) interface_names: Result<Vec<String>>,
    /// The interfaces of the configuration, by the names that it has for them; none where there is no such interface.
    pub(super) interfaces: BTreeMap<String, Result<Option<InterfaceFacts>>>,
    /// Ids of the programs that are attached by links in the folder for the pinned state.
    pub(super) own_programs: Result<BTreeSet<u32>>,
    /// Which of the tunnels' `local` are addresses of this host.
    pub(super) local: Result<BTreeSet<IpAddr>>,
    /// In which of the protected prefixes this host has addresses.
    pub(super) protected_here: Result<BTreeSet<IpNet>>,
    pub(super) gre_devices: Result<Vec<GreDevice>>,
    /// The parameters, as sysctl(8) takes them, without which the kernel answers no keepalive that comes by a GRE device over
    /// IPv4; by the device's name.
    pub(super) keepalives: BTreeMap<String, Result<Vec<String>>>,
    /// Firewall rules about incoming GRE.
    pub(super) rules: Result<Vec<Rule>>,
    pub(super) egress: EgressFacts,
    /// Of interfaces with `clamp_mss`, where that is done by filters.
    pub(super) clsact: BTreeMap<String, Result<ClsactFacts>>,
    pub(super) lockdown: LockdownFacts,
}

#[derive(Debug)]
pub(super) struct MemoryFacts {
    /// Each has counters of its own.
    pub(super) possible_cpus: Result<u32>,
    /// Bytes that may be had without anybody being sent to swap (MemAvailable of proc_meminfo(5)).
    pub(super) available: Result<u64>,
}

impl MemoryFacts {
    fn read() -> Self {
        Self {
            possible_cpus: possible_cpus(),
            available: available_memory(),
        }
    }
}

fn available_memory() -> Result<u64> {
    const FILE: &str = "/proc/meminfo";
    let text = fs::read_to_string(FILE).context(FILE)?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
    kilobytes
        .map(|kilobytes: u64| 1024 * kilobytes)
        .context("/proc/meminfo: has no MemAvailable")
}

#[derive(Debug)]
pub(super) struct KernelFacts {
    pub(super) bpf: Result<Bpf>,
    /// Whether the kernel describes its own types.
    pub(super) btf: Result<bool>,
    /// Those that loading needs.
    pub(super) missing_capabilities: Result<Vec<&'static str>>,
    /// Whether the folder for the pinned state is in a BPF filesystem.
    pub(super) root_in_bpffs: Result<bool>,
    /// Whether packets that are handed to another CPU go through GRO there; none if that does not matter, or the kernel
    /// does not describe its types.
    pub(super) cpumap_gro: Result<Option<bool>>,
    /// How many CPUs are online.
    pub(super) cpus: Result<usize>,
    /// Whether the kernel has TCX; none if nothing needs it.
    pub(super) tcx: Result<Option<bool>>,
}

#[derive(Debug)]
pub(super) struct InterfaceFacts {
    pub(super) interface: Interface,
    pub(super) xdp: Result<XdpFeatures>,
    /// The offloads that are on, as the kernel calls them.
    pub(super) offloads: Result<BTreeSet<String>>,
    /// Its queues; none if the driver does not tell.
    pub(super) channels: Result<Option<Channels>>,
    /// Reverse path filtering in force (`IN_DEV_RPFILTER()`): 0 none, 1 strict, 2 loose.
    pub(super) rp_filter: Result<u32>,
    /// Whether packets with impossible source addresses are logged (`IN_DEV_LOG_MARTIANS()`).
    pub(super) logs_martians: Result<bool>,
    /// Whether what comes in here is forwarded.
    pub(super) forwarding: Forwarding,
}

#[derive(Debug)]
pub(super) struct Forwarding {
    /// IPv4 (`IN_DEV_FORWARD()`).
    pub(super) ipv4: Result<bool>,
    /// IPv6: the kernel asks for all interfaces (`ip6_forward()`), XDP for the one (`bpf_ipv6_fib_lookup()`).
    pub(super) ipv6: Result<bool>,
}

impl Facts {
    /// Reads what matters for a configuration whose state is to be pinned in the folder `root`.
    pub(super) fn read(config: &Config, root: &Path) -> Self {
        let interface = |name: &str| Ok(Interface::by_name(name)?.map(InterfaceFacts::read));
        let gre_devices = gre_devices().map_err(Into::into);
        let names: BTreeSet<_> = config
            .interfaces
            .iter()
            .map(|interface| interface.name.clone())
            .collect();
        let kernel = KernelFacts::read(config, root);
        Self {
            clsact: ClsactFacts::read(config, &kernel.tcx),
            kernel,
            memory: MemoryFacts::read(),
            interface_names: interfaces().map(|all| all.into_iter().map(|interface| interface.name).collect()),
            interfaces: names.into_iter().map(|name| (name.clone(), interface(&name))).collect(),
            own_programs: own_programs(root),
            local: addresses::local(&config.tunnels.iter().map(|tunnel| tunnel.local).collect()).map_err(Into::into),
            protected_here: addresses::within(&config.protect.prefixes).map_err(Into::into),
            keepalives: keepalives(gre_devices.as_deref().unwrap_or_default()),
            gre_devices,
            rules: firewall::rules().map_err(Into::into),
            egress: EgressFacts::read(config),
            lockdown: LockdownFacts::read(config),
        }
    }
}

/// A keepalive's inner packet is from an address of this host (`__fib_validate_source()`), and is to be sent on to the other end.
fn keepalives(devices: &[GreDevice]) -> BTreeMap<String, Result<Vec<String>>> {
    let lacking = |name: &str| {
        let both = |parameter| Ok::<_, io::Error>((sysctl::ipv4("all", parameter)?, sysctl::ipv4(name, parameter)?));
        let (accept_all, accept) = both("accept_local")?;
        let (filter_all, filter) = both("rp_filter")?;
        let parameters = [
            ("accept_local=1", is_on(accept_all) || is_on(accept)),
            ("forwarding=1", is_on(sysctl::ipv4(name, "forwarding")?)),
            ("rp_filter=2", filter_all.max(filter) != 1),
        ];
        let lacking = parameters.into_iter().filter(|(_, is_set)| !is_set);
        Ok(lacking.map(|(parameter, _)| sysctl::name(name, parameter)).collect())
    };
    let devices = devices
        .iter()
        .filter(|device| device.is_ipv4 && !device.carries_ethernet);
    devices
        .map(|device| (device.name.clone(), lacking(&device.name)))
        .collect()
}

fn own_programs(root: &Path) -> Result<BTreeSet<u32>> {
    Ok(pinned_links(&Root::new(root))?
        .into_iter()
        .map(|link| link.info.program_id)
        .collect())
}

impl KernelFacts {
    fn read(config: &Config, root: &Path) -> Self {
        let spread_to_stack = config
            .tunnels
            .iter()
            .any(|tunnel| tunnel.enabled && tunnel.spread != Spread::Off && tunnel.deliver == Deliver::Stack);
        let clamps = config
            .interfaces
            .iter()
            .any(|interface| interface.clamp_mss != ClampMss::Off);
        Self {
            bpf: Bpf::probe().map_err(Into::into),
            btf: Path::new(VMLINUX_BTF).try_exists().context(VMLINUX_BTF),
            missing_capabilities: missing_capabilities(&Capability::FOR_LOADING),
            root_in_bpffs: bpf::is_in_bpffs(root).map_err(Into::into),
            cpumap_gro: if spread_to_stack { cpumap_gro() } else { Ok(None) },
            cpus: online_cpus().map(|cpus| cpus.len()),
            tcx: if clamps {
                bpf::has_tcx().map(Some).map_err(Into::into)
            } else {
                Ok(None)
            },
        }
    }
}

fn cpumap_gro() -> Result<Option<bool>> {
    KernelTypes::read()?.map(|types| types.cpumap_has_gro()).transpose()
}

impl Forwarding {
    fn read(interface: &str) -> Self {
        let ipv6 = |interface| sysctl::ipv6(interface, "forwarding");
        Self {
            ipv4: sysctl::ipv4(interface, "forwarding").map(is_on).map_err(Into::into),
            ipv6: ipv6("all")
                .and_then(|all| Ok(is_on(all) && is_on(ipv6(interface)?)))
                .map_err(Into::into),
        }
    }
}

fn is_on(parameter: u32) -> bool {
    parameter != 0
}

impl InterfaceFacts {
    fn read(interface: Interface) -> Self {
        // The kernel combines what is set for all and for one interface in two ways (`linux/inetdevice.h`).
        let both = |parameter| {
            Ok((
                sysctl::ipv4("all", parameter)?,
                sysctl::ipv4(&interface.name, parameter)?,
            ))
        };
        Self {
            xdp: xdp_features::read(interface.index).map_err(Into::into),
            offloads: ethtool::active_offloads(interface.index).map_err(Into::into),
            channels: ethtool::channels(interface.index).map_err(Into::into),
            rp_filter: both("rp_filter").map(|(all, one)| all.max(one)),
            logs_martians: both("log_martians").map(|(all, one)| is_on(all) || is_on(one)),
            forwarding: Forwarding::read(&interface.name),
            interface,
        }
    }
}
