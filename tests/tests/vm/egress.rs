//! `clamp_mss` on kernels with TCX and without, by what TCP connections negotiate: through the kernel's own GRE and straight back, over
//! VLANs, while the program is replaced, and when a load is killed.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use gre_tests::lab::{Lab, Namespace, PATIENCE};
use gre_tests::program::Program;
use gre_tests::skip::{binary_or_skip, say, skip_on_this_kernel};
use gre_user::host::clsact::{self, Hook};
use gre_user::host::{Interface, has_tcx};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::Pid;

use crate::device::FEW;
use crate::site::{INNER_ORIGIN, Site, WAN, Wire};

/// What each segment has beside its data once both ends have agreed on timestamps (RFC 7323 section 3.2), in bytes.
const TIMESTAMPS: u32 = 12;

/// What a client may send at most to a service, by what that announced, or by the client's own way.
fn limit(client: &Namespace, server: &Namespace, address: IpAddr) -> Result<u32> {
    let listener = server.run(|| TcpListener::bind((address, 0)).with_context(|| format!("serve {address}")))?;
    let service: SocketAddr = listener.local_addr()?;
    let stream = client
        .run(|| TcpStream::connect_timeout(&service, PATIENCE).with_context(|| format!("a connection to {address}")))?;
    Ok(getsockopt(&stream, sockopt::TcpMaxSeg)? + TIMESTAMPS)
}

/// How the program gets on ways out here.
fn means() -> Result<&'static str> {
    Ok(if has_tcx()? { "tcx" } else { "clsact" })
}

/// How many filters are on the origin's way out, and what holds them.
fn filters(origin: &Namespace, interface: &str) -> Result<(usize, Option<String>)> {
    origin.run(|| {
        let index = Interface::by_name(interface)?.context("the interface")?.index;
        let filters = clsact::filters(index, Hook::Egress)?;
        let programs = filters.iter().filter(|filter| filter.program_id.is_some());
        Ok((programs.count(), clsact::standing(index)?))
    })
}

/// Clients come through the tunnel, and are answered straight.
#[test]
fn what_answers_a_tunnel_is_clamped() -> Result<()> {
    let site = Site::new("what_answers_a_tunnel_is_clamped", Wire::Veth)?;
    let device = FEW[0];
    site.join(device)?;
    let load = |clamp_mss: &str| {
        let protect = format!(
            "[protect]\nprefixes = [\"{}/32\", \"{}/128\"]\n",
            INNER_ORIGIN[0], INNER_ORIGIN[1]
        );
        site.load(&format!("clamp_mss = {clamp_mss}\n{}\n{protect}", device.tunnel()))
    };
    let limits = || {
        let [v4, v6] = INNER_ORIGIN.map(|address| limit(&site.centre, &site.origin, address.parse()?));
        anyhow::Ok([v4?, v6?])
    };
    load("\"off\"")?;
    let free = limits()?;
    ensure!(free[0] > 1100 && free[1] > 1100, "{free:?} without a limit");
    let on_way_out = usize::from(!has_tcx()?);
    for clamp_mss in [1000, 1100] {
        load(&clamp_mss.to_string())?;
        ensure!(limits()? == [clamp_mss; 2], "{:?} with {clamp_mss}", limits()?);
        ensure!(filters(&site.origin, WAN[1])?.0 == on_way_out);
        let status: serde_json::Value = serde_json::from_str(&site.gre_decap("", "status --json")?)?;
        let egress = &status["interfaces"][0]["egress"];
        ensure!(
            egress["attached_by"] == means()? && egress["mss_ipv4"] == clamp_mss && egress["program_id"].is_u64(),
            "{egress}"
        );
    }
    let stats: serde_json::Value = serde_json::from_str(&site.gre_decap("", "stats --json")?)?;
    ensure!(stats["interfaces"][0]["mss_clamped"].as_u64() >= Some(4), "{stats}");
    site.gre_decap(
        &format!(
            "clamp_mss = 1100\n{}\n[protect]\nprefixes = [\"{}/32\"]\n",
            device.tunnel(),
            INNER_ORIGIN[0]
        ),
        "check",
    )?;

    load("\"off\"")?;
    ensure!(limits()? == free, "{:?} after it was taken away", limits()?);
    ensure!(filters(&site.origin, WAN[1])? == (0, None));
    load("1000")?;
    site.part(device)?;
    ensure!(filters(&site.origin, WAN[1])? == (0, None));
    say(&format!("clamped by {}", means()?));
    Ok(())
}

/// Two hosts that talk straight: an origin, whose address is protected, and a client.
struct Pair {
    _lab: Lab,
    client: Namespace,
    origin: Namespace,
    program: Program,
}

impl Pair {
    fn new(name: &str) -> Result<Self> {
        let lab = Lab::for_test(name).context("a laboratory")?;
        let binary = binary_or_skip(name).context("a gre-decap to test")?;
        let (client, origin) = (lab.namespace("client")?, lab.namespace("origin")?);
        lab.veth(client.end(WAN[0]), origin.end(WAN[1]))?;
        let program = Program::new(&origin, binary);
        Ok(Self {
            _lab: lab,
            client,
            origin,
            program,
        })
    }

    fn address(&self, interfaces: [&str; 2]) -> Result<()> {
        for (namespace, (interface, host)) in [&self.client, &self.origin]
            .into_iter()
            .zip(interfaces.iter().zip([2, 1]))
        {
            namespace.ip(&format!("link set dev {interface} up"))?;
            namespace.ip(&format!("address add 192.0.2.{host}/24 dev {interface}"))?;
            namespace.ip(&format!("address add 2001:db8:2::{host}/64 dev {interface} nodad"))?;
        }
        Ok(())
    }

    fn limits(&self) -> Result<[u32; 2]> {
        let limit = |address: &str| limit(&self.client, &self.origin, address.parse()?);
        Ok([limit("192.0.2.1")?, limit("2001:db8:2::1")?])
    }
}

fn config(interfaces: &str) -> String {
    format!(
        "{interfaces}[[tunnel]]\nname = \"a\"\nlocal = \"198.51.100.20\"\nremote = \"203.0.113.10\"\n[protect]\n\
         prefixes = [\"192.0.2.0/24\", \"2001:db8:2::/48\"]\n"
    )
}

fn interface(name: &str, mode: &str, clamp_mss: u32) -> String {
    format!("[[interface]]\nname = \"{name}\"\nmode = \"{mode}\"\nclamp_mss = {clamp_mss}\n")
}

/// Set on the VLAN device, on the device below, or on both, of which the lower limit counts; with the tag in the packet's metadata below,
/// or, where the VLAN device writes it itself (`reorder_hdr off`), in the packet; and within another tag.
#[test]
fn what_leaves_by_a_vlan_is_clamped() -> Result<()> {
    let mut clamped = 0;
    for (vlan, over) in [
        (&["type vlan id 5"][..], 1),
        (&["type vlan id 5 reorder_hdr off"], 1),
        (&["type vlan proto 802.1ad id 7", "type vlan id 5"], 2),
        (&["type vlan id 7 reorder_hdr off", "type vlan id 5 reorder_hdr off"], 2),
    ] {
        let pair = Pair::new("what_leaves_by_a_vlan_is_clamped")?;
        let mut ends = WAN.map(str::to_owned);
        for options in vlan {
            for (namespace, end) in [&pair.client, &pair.origin].into_iter().zip(&mut ends) {
                let name = format!("{end}.v");
                namespace.ip(&format!("link add link {end} name {name} {options}"))?;
                namespace.ip(&format!("link set dev {name} up"))?;
                *end = name;
            }
        }
        ensure!(ends[1].matches(".v").count() == over);
        pair.address([&ends[0], &ends[1]])?;
        let (below, above) = (WAN[1], ends[1].as_str());
        let free = match pair.limits() {
            // On Linux 6.18 nothing comes through by tags that both devices write themselves.
            Err(error) if is_unreachable(&error) => {
                let name = format!("what_leaves_by_a_vlan_is_clamped, {vlan:?}");
                skip_on_this_kernel(&name, "such VLAN devices that carry anything, before any load");
                continue;
            }
            limits => limits.with_context(|| format!("{vlan:?}, before any load"))?,
        };
        for (interfaces, wanted) in [
            (interface(below, "native", 1000), 1000),
            (interface(above, "generic", 1100), 1100),
            (
                interface(below, "native", 1200) + &interface(above, "generic", 1100),
                1100,
            ),
            (
                interface(below, "native", 1000) + &interface(above, "generic", 1100),
                1000,
            ),
        ] {
            pair.program.run(&config(&interfaces), "load")?;
            let limits = pair.limits().with_context(|| format!("{vlan:?}, {interfaces}"))?;
            ensure!(limits == [wanted; 2], "{vlan:?}, {interfaces}: {limits:?}");
            pair.program.run("", "unload")?;
        }
        let unloaded = pair.limits().with_context(|| format!("{vlan:?}, unloaded"))?;
        ensure!(unloaded == free, "{vlan:?}, unloaded: {unloaded:?}");
        clamped += 1;
    }
    ensure!(clamped >= 3, "only {clamped} kinds of VLAN devices carry anything");
    Ok(())
}

fn is_unreachable(error: &anyhow::Error) -> bool {
    let cause = error.root_cause().downcast_ref::<io::Error>();
    cause.is_some_and(|error| error.kind() == ErrorKind::HostUnreachable)
}

/// Connections that are made while the program is replaced over and over find the old one or the new one, never none.
#[test]
fn no_connection_meets_no_program_while_a_load_replaces_it() -> Result<()> {
    const RELOADS: u32 = 4;
    let pair = Pair::new("no_connection_meets_no_program_while_a_load_replaces_it")?;
    pair.address(WAN)?;
    let load = |clamp_mss| pair.program.load(&config(&interface(WAN[1], "native", clamp_mss)));
    load(1000)?;
    let done = AtomicBool::new(false);
    let connections = thread::scope(|scope| {
        let connecting = scope.spawn(|| {
            let mut connections = 0;
            while !done.load(Ordering::Relaxed) {
                let limits = pair.limits()?;
                ensure!(
                    limits.iter().all(|limit| (1000..1000 + RELOADS).contains(limit)),
                    "{limits:?}"
                );
                connections += 2;
            }
            anyhow::Ok(connections)
        });
        let loaded = (1..RELOADS).try_for_each(|reload| load(1000 + reload));
        done.store(true, Ordering::Relaxed);
        let connected = connecting.join().map_err(|_| anyhow!("a thread panicked"))?;
        loaded.and(connected)
    })?;
    ensure!(connections > RELOADS, "only {connections} connections");
    say(&format!(
        "{connections} connections during {RELOADS} loads by {}",
        means()?
    ));
    Ok(())
}

/// What a process writes, line by line.
fn lines_of(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Others may take away all filters of an interface: `run` puts ours back. From another network namespace they cannot be reached, and are
/// left alone, with all else. By TCX it is otherwise: nobody takes a link away, and it can be reached from everywhere.
#[test]
fn a_filter_that_others_take_away_is_put_back() -> Result<()> {
    if has_tcx()? {
        say("this kernel has TCX, by which links are attached: no filter is taken away");
        return Ok(());
    }
    let pair = Pair::new("a_filter_that_others_take_away_is_put_back")?;
    pair.address(WAN)?;
    let text = config(&interface(WAN[1], "native", 1000));
    let mut run = pair.program.command(&text, "run --listen off")?;
    let mut run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let said = lines_of(run.stdout.take().context("its output")?);
    let told = lines_of(run.stderr.take().context("its errors")?);
    let loaded = said.recv_timeout(PATIENCE).context("it says that it has loaded")?;
    ensure!(loaded == "loaded 1 tunnel on wan0 (native)", "{loaded}");
    ensure!(pair.limits()? == [1000; 2]);
    for _ in 0..2 {
        pair.origin.run(|| {
            let index = Interface::by_name(WAN[1])?.context("the interface")?.index;
            Ok(clsact::remove(index)?)
        })?;
        // It looks every half minute.
        let told = told.recv_timeout(4 * PATIENCE).context("it tells")?;
        let line = "warning: interface wan0: others had taken away the filter on its way out; it is there again";
        ensure!(told == line, "{told}");
        ensure!(pair.limits()? == [1000; 2], "{:?}", pair.limits()?);
    }

    let before = filters(&pair.origin, WAN[1])?;
    let elsewhere = Program::new(
        &pair.client,
        binary_or_skip("elsewhere").context("a gre-decap to test")?,
    );
    let line = elsewhere.refused(&text, "unload", 1)?;
    ensure!(
        line == "error: interface wan0: is in another network namespace, with a filter of ours on its way out; run gre-decap there\n",
        "{line}"
    );
    ensure!(filters(&pair.origin, WAN[1])? == before && pair.limits()? == [1000; 2]);
    kill(Pid::from_raw(run.id().cast_signed()), Signal::SIGTERM)?;
    ensure!(run.wait()?.success());
    ensure!(filters(&pair.origin, WAN[1])? == (0, None), "something is left");
    Ok(())
}

/// Killed ever later, over what runs and over nothing: the old limit or the new one is in force, and the next command goes on from there.
#[test]
fn a_killed_load_leaves_the_old_limit_or_the_new_one() -> Result<()> {
    const KILLS: u32 = 8;
    let pair = Pair::new("a_killed_load_leaves_the_old_limit_or_the_new_one")?;
    pair.address(WAN)?;
    let text = |clamp_mss| config(&interface(WAN[1], "native", clamp_mss));
    let free = pair.limits()?;
    let before = Instant::now();
    pair.program.load(&text(1000))?;
    let whole = before.elapsed();
    let mut old = 1000;
    for kill in 1..=2 * KILLS {
        let over_nothing = kill > KILLS;
        if over_nothing {
            pair.program.run("", "unload")?;
            ensure!(filters(&pair.origin, WAN[1])? == (0, None), "kill {kill}");
            ensure!(pair.limits()? == free, "kill {kill}");
        }
        let new = 1000 + kill;
        let mut load = pair.program.command(&text(new), "load")?;
        let mut load = load.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        thread::sleep(whole * (1 + (kill - 1) % KILLS) / KILLS);
        load.kill()?;
        load.wait()?;
        let limits = pair.limits()?;
        let allowed = if over_nothing { free } else { [old; 2] };
        ensure!(
            limits == [new; 2] || limits == allowed,
            "kill {kill}: {limits:?}, neither {allowed:?} nor {new}"
        );
        if kill % 2 == 0 {
            pair.program.load(&text(2 * new - 1000))?;
            old = 2 * new - 1000;
            ensure!(pair.limits()? == [old; 2], "kill {kill}");
            ensure!(filters(&pair.origin, WAN[1])?.0 <= 1, "kill {kill}");
        } else {
            old = limits[0];
        }
    }
    pair.program.run("", "unload")?;
    ensure!(filters(&pair.origin, WAN[1])? == (0, None), "something is left");
    ensure!(pair.limits()? == free);
    Ok(())
}
