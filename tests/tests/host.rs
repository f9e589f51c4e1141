//! What `gre-decap check` finds on a host, here network namespaces whose state is known.

use std::fs;
use std::mem;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use caps::{CapSet, Capability};
use gre_tests::lab::{Lab, Namespace};
use gre_tests::lab_or_skip;
use gre_user::bpf::{AttachMode, InterfaceLink};
use gre_user::config::Config;
use gre_user::host::{Interface, XdpMode, findings};
use nix::errno::Errno;
use nix::libc;

/// In every lab's own BPF filesystem.
const ROOT: &str = "/sys/fs/bpf/gre-decap";

const CONFIG: &str = "
[[interface]]
name = 'wan0'
[[tunnel]]
name = 'a'
local = '198.51.100.20'
remote = '203.0.113.10'
";

const VETH: &str = "note: wan0: is a veth: what its other end sends may lack checksums, which no network card is there to fill \
                    in; run `ethtool -K NAME tx off` at the other end";

/// An origin whose `wan0` has room for GRE on a path of 1500 bytes, so that nothing is to be said about that; after it the
/// namespace of the wire's other end, with which the wire would go.
fn origin(lab: &Lab) -> Result<(Namespace, Namespace)> {
    let (scrub, origin) = (lab.namespace("scrub")?, lab.namespace("origin")?);
    lab.veth(
        scrub.end("wan").mtu(1600).address("198.51.100.10/24"),
        origin.end("wan0").mtu(1600).address("198.51.100.20/24"),
    )?;
    for scope in ["all", "wan0"] {
        // A new namespace may take this from the host.
        origin.sysctl(&format!("net.ipv4.conf.{scope}.log_martians"), "0")?;
    }
    Ok((origin, scrub))
}

/// What is found in a namespace about anything but the kernel, which is not the lab's.
fn found(namespace: &Namespace, config: &str) -> Result<Vec<String>> {
    found_with(namespace, config, Path::new(ROOT))
}

fn found_with(namespace: &Namespace, config: &str, root: &Path) -> Result<Vec<String>> {
    let config = Config::from_str(config, "config.toml")?;
    let findings = namespace.run(|| Ok(findings(&config, root)))?;
    let others = findings.iter().filter(|finding| finding.subject != "kernel");
    Ok(others.map(ToString::to_string).collect())
}

#[test]
fn a_veth_has_native_xdp() -> Result<()> {
    let Some(lab) = lab_or_skip!() else { return Ok(()) };
    let (origin, _scrub) = origin(&lab)?;
    assert_eq!(found(&origin, CONFIG)?, [VETH]);

    let generic = CONFIG.replace("'wan0'", "'wan0'\nmode = 'generic'");
    let slow = "warning: wan0: generic mode is slow: the kernel has built an skb for each packet before the program sees it; \
                set `mode = \"native\"`";
    assert_eq!(found(&origin, &generic)?, [slow, VETH]);

    let lo = CONFIG.replace("wan0", "lo");
    let none = "error: lo: its driver has no native XDP; use a network card whose driver has XDP, or set `mode = \"generic\"`, \
                which is slow";
    assert_eq!(found(&origin, &lo)?, [none]);
    Ok(())
}

#[test]
fn an_interface_that_cannot_serve() -> Result<()> {
    let Some(lab) = lab_or_skip!() else { return Ok(()) };
    let (origin, _scrub) = origin(&lab)?;
    let missing =
        "error: eth9: there is no such interface in this network namespace; set `name` to one of those here: ";
    let lines = found(&origin, &CONFIG.replace("wan0", "eth9"))?;
    assert!(
        lines.len() == 1 && lines[0].starts_with(missing) && lines[0].contains("wan0"),
        "{lines:?}"
    );

    origin.ip("link set wan0 down")?;
    assert_eq!(
        found(&origin, CONFIG)?,
        ["error: wan0: is down; run `ip link set dev wan0 up`", VETH]
    );

    origin.ip("link set wan0 up mtu 1400")?;
    let fragments = "note: tunnel a: of MTU 1400 the outer headers take 24 bytes (IPv4 20, GRE 4): inner packets of more than \
                     1376 come in outer fragments, which go to the kernel as they are; set `clamp_mss = \"auto\"` on the \
               interface that answers leave by, or have this host's TCP announce an MSS of at most 1336 (IPv4) or 1316 (IPv6), by `advmss` of ip-route(8)";
    assert_eq!(found(&origin, CONFIG)?, [VETH, fragments]);
    Ok(())
}

#[test]
fn a_local_address_is_one_that_packets_are_delivered_to() -> Result<()> {
    let Some(lab) = lab_or_skip!() else { return Ok(()) };
    let (origin, _scrub) = origin(&lab)?;
    let missing = |address: &str| {
        format!(
            "warning: tunnel a: `local` {address} is no address of this host: only what a router sends here all the same will \
             arrive; set `local` to the address that the other end sends to, or run `ip address add {address} dev INTERFACE`"
        )
    };
    let config4 = CONFIG.replace("198.51.100.20", "192.0.2.1");
    assert_eq!(found(&origin, &config4)?, [VETH.to_owned(), missing("192.0.2.1")]);
    // A route to elsewhere, or to nowhere, does not make it local.
    for route in [
        "192.0.2.0/24 via 198.51.100.10",
        "unreachable 192.0.2.1",
        "blackhole 192.0.2.1",
        "prohibit 192.0.2.1",
    ] {
        origin.ip(&format!("route add {route}"))?;
        assert_eq!(
            found(&origin, &config4)?,
            [VETH.to_owned(), missing("192.0.2.1")],
            "{route}"
        );
        origin.ip(&format!("route delete {route}"))?;
    }
    // A route of type local does, as an address would.
    origin.ip("route add local 192.0.2.0/24 dev lo")?;
    assert_eq!(found(&origin, &config4)?, [VETH]);

    let config6 = CONFIG
        .replace("198.51.100.20", "2001:db8::20")
        .replace("203.0.113.10", "2001:db8::10");
    assert_eq!(found(&origin, &config6)?, [VETH.to_owned(), missing("2001:db8::20")]);
    origin.ip("address add 2001:db8::20/128 dev lo")?;
    assert_eq!(found(&origin, &config6)?, [VETH]);
    Ok(())
}

#[test]
fn reverse_path_filtering_is_strict_if_either_setting_is() -> Result<()> {
    let Some(lab) = lab_or_skip!() else { return Ok(()) };
    let (origin, _scrub) = origin(&lab)?;
    let strict = "warning: wan0: strict reverse path filtering (rp_filter = 1) drops inner IPv4 packets whose source this host \
                  would answer by another interface; run `sysctl -w net.ipv4.conf.wan0.rp_filter=2` (`nstat -az \
                  TcpExtIPReversePathFilter` counts the drops)";
    origin.sysctl("net.ipv4.conf.all.rp_filter", "1")?;
    origin.sysctl("net.ipv4.conf.wan0.rp_filter", "0")?;
    assert_eq!(found(&origin, CONFIG)?, [VETH, strict]);
    // The remedy, as it is told.
    origin.sysctl("net.ipv4.conf.wan0.rp_filter", "2")?;
    assert_eq!(found(&origin, CONFIG)?, [VETH]);

    origin.sysctl("net.ipv4.conf.all.log_martians", "1")?;
    let lines = found(&origin, CONFIG)?;
    assert_eq!(lines.len(), 2);
    assert!(lines[1].starts_with("note: wan0: log_martians is on: "), "{lines:?}");
    Ok(())
}

#[test]
fn another_program_is_in_the_way_and_ours_is_not() -> Result<()> {
    let Some(lab) = lab_or_skip!() else { return Ok(()) };
    let (origin, _scrub) = origin(&lab)?;
    for (mode, name) in [
        (AttachMode::Native, XdpMode::Native),
        (AttachMode::Generic, XdpMode::Generic),
    ] {
        let link = origin.run(|| {
            let index = Interface::by_name("wan0")?.context("wan0")?.index;
            InterfaceLink::attach(pass_program()?.as_fd(), index, mode).context("attach")
        })?;
        let attached = origin.run(|| Interface::by_name("wan0"))?.context("wan0")?.xdp;
        let id = link.info()?.program_id;
        assert_eq!(
            attached
                .iter()
                .map(|xdp| (xdp.mode, xdp.program_id))
                .collect::<Vec<_>>(),
            [(name, id)]
        );
        let other = format!(
            "error: wan0: XDP program {id} is attached already, in {name} mode; see whose it is with `bpftool prog show id \
             {id}`, and detach it with the tool that attached it"
        );
        assert_eq!(found(&origin, CONFIG)?, [other, VETH.to_owned()]);

        // A link that is pinned where `load` pins its own is its own.
        origin.run(|| {
            fs::create_dir_all(format!("{ROOT}/links"))?;
            link.pin(Path::new(&format!("{ROOT}/links/wan0"))).context("pin")
        })?;
        let expected = match mode {
            AttachMode::Native => vec![VETH],
            AttachMode::Generic => vec![
                "error: wan0: the program runs in generic mode, which cannot be changed while it is attached; run `gre-decap \
                 unload`, then `gre-decap load`",
                VETH,
            ],
        };
        assert_eq!(found(&origin, CONFIG)?, expected);
        link.detach()?;
        origin.run(|| Ok(fs::remove_dir_all(ROOT)?))?;
        assert_eq!(found(&origin, CONFIG)?, [VETH]);
    }
    Ok(())
}

#[test]
fn state_is_pinned_in_a_bpf_filesystem_only() -> Result<()> {
    let Some(lab) = lab_or_skip!() else { return Ok(()) };
    let (origin, _scrub) = origin(&lab)?;
    let lines = found_with(&origin, CONFIG, Path::new("/dev/shm/gre-decap"))?;
    assert_eq!(lines.len(), 2);
    assert!(
        lines[0].starts_with("error: --root /dev/shm/gre-decap: no BPF filesystem is mounted there; "),
        "{lines:?}"
    );
    Ok(())
}

#[test]
fn without_capabilities_all_is_told_that_can_be_read() -> Result<()> {
    let Some(lab) = lab_or_skip!() else { return Ok(()) };
    let (origin, _scrub) = origin(&lab)?;
    let config = Config::from_str(&CONFIG.replace("198.51.100.20", "192.0.2.1"), "config.toml")?;
    let findings = origin.run(|| {
        // Of this thread, which ends with it.
        caps::clear(None, CapSet::Effective)?;
        Ok(findings(&config, Path::new(ROOT)))
    })?;
    let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
    let missing = "error: capabilities: CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON missing, without which nothing can be loaded; run \
                   as root, or with these capabilities";
    assert_eq!(lines[0], missing);
    for start in [
        "note: kernel: cannot tell whether it compiles BPF programs and has XDP for frames in several buffers: ",
        "warning: tunnel a: `local` 192.0.2.1 is no address of this host",
        "note: firewall: cannot tell which rules are about GRE, and will not see what a tunnel takes: ",
    ] {
        assert!(lines.iter().any(|line| line.starts_with(start)), "{start}: {lines:#?}");
    }
    assert!(lines.contains(&VETH.to_owned()), "{lines:#?}");
    // The test itself still has them.
    assert!(caps::has_cap(None, CapSet::Effective, Capability::CAP_NET_ADMIN)?);
    Ok(())
}

/// `union bpf_attr` as BPF_PROG_LOAD takes it, as far as the log.
#[repr(C)]
struct ProgramLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log: [u64; 2],
}

/// An XDP program that passes everything: what another tool might have attached.
fn pass_program() -> Result<OwnedFd> {
    const BPF_PROG_LOAD: libc::c_int = 5;
    const BPF_PROG_TYPE_XDP: u32 = 6;
    // `r0 = 2` (XDP_PASS), then `exit`.
    let instructions: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, 2, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
    let request = ProgramLoad {
        program_type: BPF_PROG_TYPE_XDP,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log: [0; 2],
    };
    // SAFETY: the request has the layout of this command; the instructions outlive the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_LOAD,
            &raw const request,
            mem::size_of::<ProgramLoad>(),
        )
    };
    let fd = Errno::result(fd).context("load a program")?;
    // SAFETY: the kernel has just opened it for this call alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

const TAGS: &str = "note: wan0: takes VLAN tags out of frames, which are then lost on the way to other cores and from answered \
                    keepalives, and the program cannot tell VLANs apart when it delivers elsewhere than to the stack; if GRE \
                    arrives in VLANs, run `ethtool -K wan0 rxvlan off`";

/// [`CONFIG`] with more lines for its tunnel.
fn with(lines: &str) -> String {
    format!("{CONFIG}{lines}\n")
}

#[test]
fn interfaces_that_tunnels_deliver_to() -> Result<()> {
    let Some(lab) = lab_or_skip!() else { return Ok(()) };
    let (origin, scrub) = origin(&lab)?;
    let config = with("deliver = { interface = 'lan0', next_hop = '10.0.0.2' }");
    let lines = found(&origin, &config)?;
    assert_eq!((lines.len(), lines[1].as_str()), (3, TAGS), "{lines:?}");
    assert!(
        lines[2].starts_with("error: lan0: tunnels deliver to it, but there is no such interface"),
        "{lines:?}"
    );

    lab.veth(
        origin.end("lan0").address("10.0.0.1/24"),
        scrub.end("eth0").address("10.0.0.3/24"),
    )?;
    let unanswered = "warning: tunnel a: lan0: next hop 10.0.0.2 has not answered for its MAC address: until then the kernel \
                      forwards what is delivered to it; see to it that it is up and on that link, or write another \
                      `next_hop` in `deliver`";
    let lines = found(&origin, &config)?;
    assert!(
        lines[2].starts_with("warning: lan0: is a veth whose other end takes no redirected frames"),
        "{lines:?}"
    );
    assert_eq!(lines[3..], [unanswered]);

    // The remedies, as they are told.
    scrub.set_gro("eth0", true)?;
    assert_eq!(found(&origin, &config)?, [VETH, TAGS, unanswered]);
    scrub.ip("address add 10.0.0.2/24 dev eth0")?;
    assert_eq!(found(&origin, &config)?, [VETH, TAGS]);
    let down = "error: lan0: tunnels deliver to it, but it is down; run `ip link set dev lan0 up`";
    origin.ip("link set lan0 down")?;
    assert_eq!(found(&origin, &config)?[2], down);

    // Of a device that is no veth nobody else knows whom its frames are for.
    origin.ip("tuntap add dev tap0 mode tap")?;
    origin.ip("link set tap0 up")?;
    let nobody = "error: tunnel a: delivers to tap0, but no default route with a gateway leaves by it; set `next_hop` in \
                  `deliver` to the IP or MAC address that its frames are for";
    let config = with("deliver = { interface = 'tap0' }");
    assert_eq!(found(&origin, &config)?, [VETH, TAGS, nobody]);
    Ok(())
}

#[test]
fn forwarding_is_on_where_packets_are_routed() -> Result<()> {
    let Some(lab) = lab_or_skip!() else { return Ok(()) };
    let (origin, scrub) = origin(&lab)?;
    let config = with("deliver = 'route'");
    let findings = |starts: &[&str]| {
        let lines = found(&origin, &config)?;
        let told = lines.len() == starts.len() && lines.iter().zip(starts).all(|(line, start)| line.starts_with(start));
        assert!(told, "{lines:?}");
        anyhow::Ok(())
    };
    // The interface itself is a way out as well.
    let deaf = "note: wan0: is a veth whose other end takes no redirected frames";
    findings(&[
        VETH,
        TAGS,
        "error: wan0: IPv4 forwarding is off: ",
        "error: wan0: IPv6 forwarding is off: ",
        deaf,
    ])?;
    // The remedies, as they are told.
    origin.sysctl("net.ipv4.conf.wan0.forwarding", "1")?;
    findings(&[VETH, TAGS, "warning: wan0: IPv6 forwarding is off: ", deaf])?;
    origin.sysctl("net.ipv6.conf.all.forwarding", "1")?;
    scrub.set_gro("wan", true)?;
    findings(&[VETH, TAGS])
}
