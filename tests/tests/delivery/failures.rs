//! Redirects that fail once the program has decided on them: each is counted, by the interface it was to leave by.

use anyhow::{Context, Result, ensure};
use gre_tests::frame::ETHERTYPE_IPV4;

use crate::bench::{Bench, Way, datagram_v4, inner_v4};
use crate::net::{Net, config, net_or_return};

const ROUTE: &str = "deliver = \"route\"";
const INTERFACE: &str = "deliver = { interface = \"lan0\" }";
/// Packets sent in vain.
const PACKETS: usize = 10;

/// A veth takes redirected frames only while its other end runs NAPI.
#[test]
fn an_interface_whose_other_end_no_longer_takes_frames() -> Result<()> {
    let net = net_or_return!();
    for lines in [ROUTE, INTERFACE, &format!("{ROUTE}\nspread = \"all\"")] {
        net.program.load(&config("native", lines))?;
        fails(&net, 100, || net.server.set_gro("eth0", false))?;
        net.server.set_gro("eth0", true)?;
        flows(&net).context(lines.to_owned())?;
    }
    Ok(())
}

#[test]
fn an_interface_that_is_down() -> Result<()> {
    let net = net_or_return!();
    for (mode, lines) in [
        ("native", INTERFACE),
        ("native", &format!("{INTERFACE}\nspread = \"all\"")),
        ("generic", INTERFACE),
    ] {
        net.program.load(&config(mode, lines))?;
        fails(&net, 100, || net.router.ip("link set dev lan0 down").map(drop))?;
        net.router.ip("link set dev lan0 up")?;
        flows(&net).context(lines.to_owned())?;
        net.program.run("", "unload")?;
    }
    Ok(())
}

/// No route is looked up that could say how much fits.
#[test]
fn packets_that_are_too_big_for_the_interface() -> Result<()> {
    let net = net_or_return!();
    for (mode, lines) in [
        ("native", INTERFACE),
        ("native", &format!("{INTERFACE}\nspread = \"all\"")),
        ("generic", INTERFACE),
    ] {
        net.program.load(&config(mode, lines))?;
        for mtu in [1300, 1500] {
            let set = || -> Result<()> {
                net.server.ip(&format!("link set dev eth0 mtu {mtu}"))?;
                net.router.ip(&format!("link set dev lan0 mtu {mtu}")).map(drop)
            };
            if mtu == 1300 {
                fails(&net, 1400, set)?;
            } else {
                set()?;
            }
            flows(&net).context(lines.to_owned())?;
        }
        net.program.run("", "unload")?;
    }
    Ok(())
}

/// Checks that packets of so many bytes fail, each counted, after `before`.
fn fails(net: &Net, length: usize, before: impl FnOnce() -> Result<()>) -> Result<()> {
    let bench = Bench::open(net)?;
    let packet = datagram_v4(&inner_v4(), &vec![7; length - 28]);
    let earlier = net.program.stats()?;
    before()?;
    for _ in 0..PACKETS {
        bench.centre.send(&bench.frame(Way::V4, ETHERTYPE_IPV4, &packet))?;
    }
    let failed = |stats: &gre_tests::program::Stats| stats.failed_redirects("lan0") - earlier.failed_redirects("lan0");
    let stats = net
        .program
        .stats_when("each failure to be counted", |stats| failed(stats) >= PACKETS as u64)?;
    ensure!(failed(&stats) == PACKETS as u64, "{stats:?}");
    Ok(())
}

/// Checks that a packet arrives.
fn flows(net: &Net) -> Result<()> {
    let bench = Bench::open(net)?;
    let data = b"well again";
    let packet = datagram_v4(&inner_v4(), data);
    bench.centre.send(&bench.frame(Way::V4, ETHERTYPE_IPV4, &packet))?;
    let arrived = bench
        .server
        .expect("a packet", |seen| !seen.outgoing && seen.bytes.ends_with(data));
    arrived.map(drop)
}
