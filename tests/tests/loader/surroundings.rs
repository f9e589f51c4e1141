//! What loading finds out about the host to forward by: the maps of interfaces and next hops.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, DevMapHash, HashMap, MapData};
use gre_common::link::Mac;
use gre_common::maps::{CORES, DEVICES, INTERFACES, TARGETS};
use gre_common::target::{Macs, Target};
use gre_tests::lab::{Interface, Namespace};
use gre_user::config::Spread;
use gre_user::host::cpus::online_cpus;

use crate::site::{CONFIG, ROOT, Site, WAN, site_or_return};

/// The lab's second pair of interfaces has this address at the servers' end.
const SERVER: [u8; 6] = [2, 0, 0, 0, 2, 2];
/// The address of [`WAN`].
const OWN: [u8; 6] = [2, 0, 0, 0, 1, 2];
const UNKNOWN: [u8; 6] = [0; 6];

const LOADED: &str = "loaded 1 tunnel on wan0 (native)\n";
const UPDATED: &str = "updated interfaces and next hops\n";
const NOTHING: &str = "nothing changed\n";

/// A site with a second interface, `lan0`, whose other end takes what XDP sends.
struct Router {
    site: Site,
    servers: Namespace,
    lan: Interface,
    wan: u32,
}

impl Router {
    fn new(site: Site) -> Result<Self> {
        let servers = site.lab.namespace("servers")?;
        let lan = site.origin.end("lan0").address("10.0.0.1/24");
        let (lan, _) = site.lab.veth(lan, servers.end("eth0").gro())?;
        let wan = index(&site, WAN)?;
        Ok(Self {
            site,
            servers,
            lan,
            wan,
        })
    }

    /// What the maps hold: the program's interfaces, those that can be redirected to, and the tunnels' targets.
    fn maps(&self) -> Result<Maps> {
        let [_, targets, interfaces] = self.site.slots()?;
        for (taken, elements) in [targets, interfaces] {
            ensure!(taken == elements, "{taken} of {elements} have slots");
        }
        let interfaces: HashMap<MapData, u32, Mac> = self.site.pinned(INTERFACES)?.try_into()?;
        let devices: DevMapHash<MapData> = self.site.pinned(DEVICES)?.try_into()?;
        let targets: HashMap<MapData, u32, Target> = self.site.pinned(TARGETS)?.try_into()?;
        Ok(Maps {
            interfaces: interfaces.iter().collect::<Result<_, _>>()?,
            devices: devices.keys().collect::<Result<_, _>>()?,
            targets: targets
                .iter()
                .map(|entry| entry.map(|(tunnel, target)| (tunnel, (target.interface, target.macs.0))))
                .collect::<Result<_, _>>()?,
        })
    }

    /// What the maps are to hold.
    fn wanted(&self, devices: &[u32], targets: &[(u32, [u8; 6])]) -> Maps {
        let target = |&(tunnel, destination)| {
            let macs = Macs::new(destination, self.lan.mac);
            (tunnel, (self.lan.index, macs.0))
        };
        Maps {
            interfaces: BTreeMap::from([(self.wan, Mac::from_bytes(OWN))]),
            devices: devices.iter().copied().collect(),
            targets: targets.iter().map(target).collect(),
        }
    }

    fn program_id(&self) -> Result<serde_json::Value> {
        Ok(self.site.json("status")?["program"]["id"].clone())
    }

    fn neighbour(&self, mac: &str) -> Result<()> {
        let arguments = format!("neighbour replace 10.0.0.2 lladdr {mac} dev lan0 nud permanent");
        self.site.origin.ip(&arguments).map(drop)
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Maps {
    interfaces: BTreeMap<u32, Mac>,
    devices: BTreeSet<u32>,
    targets: BTreeMap<u32, (u32, [u32; 3])>,
}

fn index(site: &Site, name: &str) -> Result<u32> {
    let path = format!("/sys/class/net/{name}/ifindex");
    let text = site.origin.run(|| std::fs::read_to_string(&path).context(path))?;
    Ok(text.trim().parse()?)
}

/// [`CONFIG`] with more lines for its tunnel.
fn config(lines: &str) -> String {
    format!("{CONFIG}{lines}\n")
}

fn to_lan(next_hop: &str) -> String {
    config(&format!("deliver = {{ interface = 'lan0', next_hop = '{next_hop}' }}"))
}

#[test]
fn delivery_to_the_stack_needs_to_know_nothing() -> Result<()> {
    let router = Router::new(site_or_return!())?;
    router.site.ok(CONFIG, "load")?;
    let maps = router.maps()?;
    assert!(
        maps.interfaces.is_empty() && maps.devices.is_empty() && maps.targets.is_empty(),
        "{maps:?}"
    );
    Ok(())
}

/// Interfaces that are down, or whose other ends take nothing, are none to send by.
#[test]
fn routes_may_lead_by_every_interface_that_sends() -> Result<()> {
    let router = Router::new(site_or_return!())?;
    let (site, others) = (&router.site, &router.servers);
    let (second, _) = site.lab.veth(site.origin.end("lan1"), others.end("eth1").gro())?;
    site.lab.veth(site.origin.end("deaf"), others.end("eth2"))?;
    site.lab.veth(site.origin.end("lan3"), others.end("eth3").gro())?;
    site.origin.ip("link set lan3 down")?;

    let route = config("deliver = 'route'");
    assert_eq!(site.ok(&route, "load")?, LOADED);
    assert_eq!(router.maps()?, router.wanted(&[router.lan.index, second.index], &[]));
    assert_eq!(site.ok(&route, "load")?, NOTHING);

    // Interfaces come, go and change, and the program stays.
    let program = router.program_id()?;
    let (third, _) = site.lab.veth(site.origin.end("lan2"), others.end("eth4").gro())?;
    site.origin.ip("link delete lan1")?;
    assert_eq!(site.ok(&route, "load")?, UPDATED);
    assert_eq!(router.maps()?, router.wanted(&[router.lan.index, third.index], &[]));
    assert_eq!(site.ok(&route, "load")?, NOTHING);

    site.origin.ip("link set wan0 address 02:00:00:00:99:99")?;
    assert_eq!(site.ok(&route, "load")?, UPDATED);
    let own = Mac::from_bytes([2, 0, 0, 0, 0x99, 0x99]);
    assert_eq!(router.maps()?.interfaces, BTreeMap::from([(router.wan, own)]));
    assert_eq!(router.program_id()?, program);
    Ok(())
}

#[test]
fn next_hops_are_found_by_mac_address_and_by_neighbour() -> Result<()> {
    let router = Router::new(site_or_return!())?;
    let site = &router.site;
    for (config, mac) in [
        (to_lan("02:00:00:00:aa:01"), [2, 0, 0, 0, 0xaa, 1]),
        // A veth's other end needs no telling.
        (config("deliver = { interface = 'lan0' }"), SERVER),
    ] {
        assert_eq!(site.ok(&config, "load")?, LOADED);
        assert_eq!(router.maps()?, router.wanted(&[router.lan.index], &[(1, mac)]));
        assert_eq!(site.ok(&config, "load")?, NOTHING);
    }

    router.neighbour("02:00:00:00:bb:01")?;
    let by_address = to_lan("10.0.0.2");
    assert_eq!(site.ok(&by_address, "load")?, LOADED);
    assert_eq!(
        router.maps()?,
        router.wanted(&[router.lan.index], &[(1, [2, 0, 0, 0, 0xbb, 1])])
    );
    let program = router.program_id()?;
    router.neighbour("02:00:00:00:bb:02")?;
    assert_eq!(site.ok(&by_address, "load")?, UPDATED);
    assert_eq!(
        router.maps()?,
        router.wanted(&[router.lan.index], &[(1, [2, 0, 0, 0, 0xbb, 2])])
    );
    assert_eq!(router.program_id()?, program);
    assert_eq!(site.ok(&by_address, "load")?, NOTHING);
    Ok(())
}

/// Each tunnel has its own, and one that carries frames needs none.
#[test]
fn every_tunnel_has_a_target_of_its_own() -> Result<()> {
    let router = Router::new(site_or_return!())?;
    let tunnel = |number: u8, lines: &str| {
        format!("[[tunnel]]\nname = 't{number}'\nlocal = '198.51.100.{number}'\nremote = 'any'\n{lines}\n")
    };
    let text = [
        CONFIG.to_owned(),
        tunnel(2, "deliver = { interface = 'lan0', next_hop = '02:00:00:00:aa:02' }"),
        tunnel(3, "deliver = { interface = 'lan0' }\ninner = ['ethernet']"),
        tunnel(4, "deliver = 'route'"),
        tunnel(
            5,
            "deliver = { interface = 'lan0' }\ninner = ['ethernet', 'ipv4']\nspread = '0'",
        ),
    ];
    assert_eq!(
        router.site.ok(&text.concat(), "load")?,
        "loaded 5 tunnels on wan0 (native)\n"
    );
    let targets = [(2, [2, 0, 0, 0, 0xaa, 2]), (3, UNKNOWN), (5, SERVER)];
    assert_eq!(router.maps()?, router.wanted(&[router.lan.index], &targets));
    Ok(())
}

#[test]
fn a_next_hop_that_does_not_answer_is_waited_for_by_the_kernel() -> Result<()> {
    let router = Router::new(site_or_return!())?;
    let config = to_lan("10.0.0.2");
    let line = "warning: lan0: next hop 10.0.0.2 has not answered for its MAC address, so the kernel forwards what tunnels \
                deliver to it; `gre-decap run` goes on looking, or load again when it answers\n";
    for stdout in [LOADED, NOTHING] {
        let done = router.site.run(&config, "load")?;
        assert_eq!(
            (done.status, done.stdout.as_str(), done.stderr.as_str()),
            (Some(0), stdout, line)
        );
    }
    assert_eq!(router.maps()?, router.wanted(&[router.lan.index], &[(1, UNKNOWN)]));
    // It answers.
    router.servers.ip("address add 10.0.0.2/24 dev eth0")?;
    assert_eq!(router.site.ok(&config, "load")?, UPDATED);
    assert_eq!(router.maps()?, router.wanted(&[router.lan.index], &[(1, SERVER)]));
    Ok(())
}

/// The kernel sends what cannot be redirected, so that it is a warning, with the remedy, and no device.
#[test]
fn an_interface_that_takes_no_redirected_frames_is_warned_of() -> Result<()> {
    let router = Router::new(site_or_return!())?;
    router.servers.set_gro("eth0", false)?;
    let config = to_lan("02:00:00:00:aa:01");
    let line = "warning: lan0: is a veth whose other end takes no redirected frames: it has neither GRO nor an XDP program, so \
                the kernel forwards what tunnels deliver there; run `ethtool -K PEER gro on` for its other end PEER, in that \
                one's network namespace (off first if it was on before both were up), or attach an XDP program there, which \
                may be one that passes all\n";
    let done = router.site.run(&config, "load")?;
    assert_eq!(
        (done.status, done.stdout.as_str(), done.stderr.as_str()),
        (Some(0), LOADED, line)
    );
    let mac = [2, 0, 0, 0, 0xaa, 1];
    assert_eq!(router.maps()?, router.wanted(&[], &[(1, mac)]));
    // The remedy, as it is told.
    router.servers.set_gro("eth0", true)?;
    assert_eq!(router.site.ok(&config, "load")?, UPDATED);
    assert_eq!(router.maps()?, router.wanted(&[router.lan.index], &[(1, mac)]));
    Ok(())
}

#[test]
fn what_cannot_be_delivered_to_is_an_error_that_changes_nothing() -> Result<()> {
    let router = Router::new(site_or_return!())?;
    let site = &router.site;
    let missing = "tunnel scrub-fra: delivers to lan9, which is not on this host (in this network namespace); it has: lo, wan0, \
                   lan0";
    let nobody = "tunnel scrub-fra: lo: no default route with a gateway leaves by it: set `next_hop` in `deliver` to the IP or \
                  MAC address that its frames are for";
    // Kernels with tunnels built in give every namespace their fallback devices.
    let only_ours = site.origin.ip("-oneline link show")?.lines().count() == 3;
    for loaded in [false, true] {
        let rest = if loaded {
            "; what was running goes on as before"
        } else {
            ""
        };
        if loaded {
            site.ok(&config("deliver = 'route'"), "load")?;
        }
        if only_ours {
            let config = config("deliver = { interface = 'lan9' }");
            site.refused(&config, "load", 1, &format!("{missing}{rest}"))?;
        }
        let config = config("deliver = { interface = 'lo' }");
        site.refused(&config, "load", 1, &format!("{nobody}{rest}"))?;
        if !loaded {
            assert!(!site.files("/sys/fs/bpf")?.iter().any(|file| file.starts_with(ROOT)));
        }
    }
    Ok(())
}

#[test]
fn cores_that_are_not_online_are_a_wrong_configuration() -> Result<()> {
    let site = site_or_return!();
    let online = Spread::Cpus(online_cpus()?);
    let line = CONFIG.lines().count() + 1;
    for loaded in [false, true] {
        for (spread, absent) in [("8191", "8191"), ("0,8000-8002,8191", "8000-8002,8191")] {
            site.refused(
                &config(&format!("spread = '{spread}'")),
                "load",
                2,
                &format!(
                    "/dev/shm/config.toml:{line}: [[tunnel]] \"scrub-fra\": key `spread`: no core {absent} is online on this \
                     host; it has {online}, or write \"all\""
                ),
            )?;
        }
        if !loaded {
            site.ok(CONFIG, "load")?;
        }
    }
    Ok(())
}

#[test]
fn cores_are_listed_once() -> Result<()> {
    let site = site_or_return!();
    let cores = || {
        let cores: Array<MapData, u32> = site.pinned(CORES)?.try_into()?;
        anyhow::Ok(cores.iter().collect::<Result<Vec<_>, _>>()?)
    };
    for (spread, wanted) in [("all", online_cpus()?), ("0", vec![0])] {
        let spread = config(&format!("spread = '{spread}'"));
        assert_eq!(site.ok(&spread, "load")?, LOADED);
        assert_eq!(cores()?, wanted);
        assert_eq!(site.ok(&spread, "load")?, NOTHING);
    }
    Ok(())
}

/// Whatever was set up to deliver, nothing is left of it.
#[test]
fn unload_removes_all() -> Result<()> {
    let router = Router::new(site_or_return!())?;
    let site = &router.site;
    let before = site.everything()?;
    for lines in [
        "deliver = 'route'",
        "deliver = { interface = 'lan0' }",
        "spread = 'all'",
        "deliver = 'route'\nspread = 'all'",
    ] {
        assert_eq!(site.ok(&config(lines), "load")?, LOADED);
        assert_eq!(site.ok("", "unload")?, "unloaded from wan0\n");
        assert_eq!(site.everything()?, before, "{lines}");
    }
    Ok(())
}
