//! One tunnel over many cores: who gets what, in which order, and what is lost when a queue is full.

mod flows;

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gre_tests::frame::ETHERTYPE_IPV4;
use gre_tests::lab::PATIENCE;
use gre_tests::skip::{say, skip};
use gre_tests::traffic::flows::Flows;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::bench::{Bench, Way, datagram_v4, inner_v4};
use crate::net::{SCRUB_V4, SERVER_V4, SERVER_V6, config, net_or_return, tunnel_v4};

const STACK: &str = "deliver = \"stack\"";
const ROUTE: &str = "deliver = \"route\"";
const INTERFACE: &str = "inner = [\"ipv4\", \"ipv6\", \"ethernet\"]\ndeliver = { interface = \"lan0\" }";

fn over(deliver: &str, cores: &str) -> String {
    format!("{deliver}\nspread = \"{cores}\"")
}

/// The cores that are online, as the kernel lists them and one by one.
fn cores() -> Result<(String, Vec<usize>)> {
    let path = "/sys/devices/system/cpu/online";
    let list = std::fs::read_to_string(path).context(path)?.trim().to_owned();
    let mut cores = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cores.extend(first.parse::<usize>()?..=last.parse()?);
    }
    Ok((list, cores))
}

/// The cores, or none, loudly, where there is but one.
fn several_cores(test: &str) -> Result<Option<Vec<usize>>> {
    let (_, cores) = cores()?;
    if cores.len() < 2 {
        skip(test, "a second core");
        return Ok(None);
    }
    Ok(Some(cores))
}

/// The router is the origin itself: its own sockets say on which core they got their datagrams.
#[test]
fn every_configured_core_receives_and_each_flow_stays_on_one() -> Result<()> {
    let net = net_or_return!();
    let Some(cores) = several_cores("every_configured_core_receives_and_each_flow_stays_on_one")? else {
        return Ok(());
    };
    net.router.ip("address add 192.0.2.90/32 dev lo")?;
    net.router.ip("address add 2001:db8:2::90/128 dev lo nodad")?;
    let last = cores[cores.len() - 1];
    let lists = [
        ("all".to_owned(), cores.clone()),
        (format!("0,{last}"), vec![0, last]),
        (last.to_string(), vec![last]),
        ("0".to_owned(), vec![0]),
    ];
    let _scrubber = net.scrubber(&tunnel_v4())?;
    for (list, cores) in &lists {
        net.program.load(&config("native", &over(STACK, list)))?;
        for service in [IpAddr::from([192, 0, 2, 90]), "2001:db8:2::90".parse()?] {
            let flows = Flows::open(&net.client, &net.router, service, 64, 200)?.start(64)?;
            flows.wait_for(6400)?;
            let received = flows.stop()?;
            say(&format!("spread over {list}, to {service}: {received}"));
            ensure!(received.overtaken() == 0, "{list}: {received:?}");
            ensure!(
                received.flows.iter().all(|flow| flow.cores.len() == 1),
                "{list}: {received:?}"
            );
            ensure!(
                received.cores() == cores.iter().copied().collect(),
                "{list}: {received:?}"
            );
        }
    }
    Ok(())
}

/// With a sender that leaves its core to nobody, the queue of that core fills up.
#[test]
fn a_full_queue_is_counted() -> Result<()> {
    let net = net_or_return!();
    let (_, cores) = cores()?;
    let core = cores[cores.len() - 1];
    let spread = over(ROUTE, &core.to_string());
    net.program
        .load(&format!("spread_queue = 8\n{}", config("native", &spread)))?;
    let bench = Bench::open(&net)?;
    let data = b"one too many";
    let packet = datagram_v4(&inner_v4(), data);
    let frame = bench.frame(Way::V4, ETHERTYPE_IPV4, &packet);
    let (mut sent, mut received) = (0_u64, 0);
    let deadline = Instant::now() + PATIENCE;
    loop {
        thread::scope(|scope| {
            let burst = scope.spawn(|| {
                let mut set = CpuSet::new();
                set.set(core)?;
                sched_setaffinity(Pid::from_raw(0), &set).context("stay on one core")?;
                (0..1000).try_for_each(|_| bench.centre.send(&frame))
            });
            burst.join().expect("the sender does not panic")
        })?;
        sent += 1000;
        let lost = net.lost_on_the_wire()?;
        // Whatever is neither lost by the wire nor counted arrives.
        loop {
            let full = net.program.stats()?.reason("spread_full");
            while received + full + lost < sent {
                let Some(seen) = bench.server.next(Duration::from_millis(20))? else {
                    break;
                };
                received += u64::from(!seen.outgoing && seen.bytes.ends_with(data));
            }
            ensure!(
                received + full + lost <= sent,
                "{received} received, {full} counted, {lost} lost by the wire, of {sent}"
            );
            if received + full + lost == sent {
                break;
            }
            ensure!(
                Instant::now() < deadline,
                "{received} received, {full} counted, {lost} lost by the wire, of {sent}"
            );
        }
        let stats = net.program.stats()?;
        let full = stats.reason("spread_full");
        if full > 0 {
            say(&format!(
                "a queue of 8: of {sent} packets {received} delivered, {full} counted"
            ));
            let packets = stats.tunnel(SCRUB_V4, "packets").unwrap_or(0);
            ensure!(
                packets == received,
                "{packets} counted as delivered, {received} were, of {sent}: {full} counted, {lost} lost by the wire"
            );
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the queue of 8 was never full: {stats:?}");
    }
}

#[test]
fn nothing_is_lost_while_spread_and_deliver_change() -> Result<()> {
    let net = net_or_return!();
    let (_, cores) = cores()?;
    let last = cores[cores.len() - 1].to_string();
    // One after the other, in each order that matters: among ways to deliver, and among sets of cores.
    let changes = [
        STACK.to_owned(),
        over(STACK, "all"),
        over(ROUTE, "all"),
        ROUTE.to_owned(),
        over(ROUTE, &last),
        over(ROUTE, "0"),
        over(INTERFACE, "0"),
        INTERFACE.to_owned(),
        over(INTERFACE, "all"),
        over(STACK, &last),
        ROUTE.to_owned(),
        STACK.to_owned(),
    ];
    const WINDOW: u64 = 64;
    net.fix_neighbours()?;
    let _scrubber = net.scrubber(&tunnel_v4())?;
    for service in [IpAddr::from(SERVER_V4), SERVER_V6.into()] {
        net.program.load(&config("native", &changes[0]))?;
        let flows = Flows::open(&net.client, &net.server, service, 16, 300)?.start(WINDOW)?;
        for change in &changes {
            flows.wait_for(300)?;
            net.program
                .load(&config("native", change))
                .with_context(|| change.clone())?;
        }
        flows.wait_for(300)?;
        let received = flows.stop()?;
        let overtaken = received.overtaken();
        say(&format!("{} loads: {received}; {overtaken} overtaken", changes.len()));
        // What is on the way at a change may be overtaken, and nothing else.
        ensure!(overtaken <= WINDOW * changes.len() as u64, "{received:?}");
    }
    let lost = net.lost_on_the_wire()?;
    ensure!(lost == 0, "the wire itself lost {lost}");
    Ok(())
}

#[test]
fn cores_that_are_not_there_are_a_mistake_in_the_file() -> Result<()> {
    let net = net_or_return!();
    let (list, cores) = cores()?;
    let absent = cores[cores.len() - 1] + 90;
    for command in ["load", "check"] {
        let said = net
            .program
            .refused(&config("native", &over(ROUTE, &format!("0-{absent}"))), command, 2)?;
        ensure!(said.contains(&list) && said.contains("spread"), "{said}");
    }
    Ok(())
}
