//! Keepalives that are answered, by the loaded program: every byte that goes back, and a flood of them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use aya::programs::{TestRun, TestRunOptions, Xdp};
use gre_common::Reason;
use gre_tests::frame::{Addresses, Gre, GreChecksum, Link, Packet, TPID_8021AD, TPID_8021Q, keepalive};
use gre_tests::skip::say;
use gre_user::host::cpus::online_cpus;
use gre_user::surroundings::Surroundings;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::ClockId;
use nix::unistd::Pid;

use crate::kernel::{Kernel, XDP_DROP, XDP_TX, load_or_return, now};
use crate::support::outcome::{Counter, hex};

/// The loopback interface, which test runs come in on.
const INGRESS: u32 = 1;

const V4: Addresses = Addresses::V4(Ipv4Addr::new(203, 0, 113, 10), Ipv4Addr::new(198, 51, 100, 20));
const V6: Addresses = Addresses::V6(
    Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x10),
    Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 0x20),
);

fn config(lines: &str) -> String {
    format!(
        "[[tunnel]]\nname = 'over4'\nlocal = '198.51.100.20'\nremote = '203.0.113.10'\n{lines}\n\
         [[tunnel]]\nname = 'over6'\nlocal = '2001:db8:51::20'\nremote = '2001:db8:113::10'\n{lines}\n"
    )
}

/// The program on an interface with the frames' MAC address.
fn load(lines: &str) -> Result<Kernel> {
    let surroundings = Surroundings {
        macs: BTreeMap::from([(INGRESS, Link::DESTINATION)]),
        ..Surroundings::default()
    };
    Kernel::load_in(&config(lines), &surroundings)
}

fn gre(protocol: u16) -> Gre {
    Gre {
        protocol,
        ..Gre::default()
    }
}

fn answer(packet: &Packet, payload: &[u8]) -> Vec<u8> {
    let back = Link {
        destination: packet.link.source,
        source: packet.link.destination,
        ..packet.link.clone()
    };
    back.frame(packet.outer.ethertype(), payload)
}

#[test]
fn the_answer_is_the_inner_packet_in_the_frame_turned_round() -> Result<()> {
    load_or_return!();
    let links = [
        Link::default(),
        Link::default().tagged(TPID_8021Q, 100),
        Link::default().tagged(TPID_8021AD, 200).tagged(TPID_8021Q, 100),
    ];
    let deliveries = ["", "deliver = 'route'", "deliver = 'route'\nspread = 'all'"];
    for lines in deliveries {
        let mut kernel = load(&format!("keepalive = 'reply'\nkeepalive_rate = 10000\n{lines}"))?;
        for (id, ends, kinds) in [(1, V4, &[0, 4][..]), (2, V6, &[0, 4, 0x86dd])] {
            for (link, kind) in links.iter().flat_map(|link| kinds.iter().map(move |kind| (link, kind))) {
                for (padding, slack, ecn) in [(0, 0, 0), (40, 0, 0), (0, 9, 0), (40, 9, 1)] {
                    let mut packet = keepalive(ends, &gre(*kind));
                    packet.link = link.clone();
                    let wanted = answer(&packet, &packet.payload);
                    packet.payload.extend(vec![0xee; slack]);
                    packet.padding = vec![0xee; padding];
                    packet.outer.set_traffic_class(ecn);
                    let outcome = kernel.run(&packet.frame())?;
                    ensure!(
                        outcome.returned && outcome.passed.as_ref() == Some(&wanted),
                        "{lines}: {}\nwanted {}\ngot {outcome:?}",
                        hex(&packet.frame()),
                        hex(&wanted)
                    );
                    let counted = [((id, Counter::of(Reason::Keepalive)), 1)];
                    ensure!(outcome.counted == BTreeMap::from(counted), "{outcome:?}");
                }
            }
        }
    }
    Ok(())
}

/// A router marked congestion on the way here: the answer says so.
#[test]
fn marks_are_combined() -> Result<()> {
    load_or_return!();
    let mut kernel = load("keepalive = 'reply'")?;
    for ends in [V4, V6] {
        let mut packet = keepalive(ends, &gre(0));
        let (mut marked, check) = (packet.payload.clone(), 11);
        let (before, after) = match ends {
            Addresses::V4(..) => (0b10, 0b11),
            Addresses::V6(..) => (0b10_0000, 0b11_0000),
        };
        packet.payload[1] |= before;
        marked[1] |= after;
        if matches!(ends, Addresses::V4(..)) {
            packet.payload[check] -= before;
            marked[check] -= after;
        }
        packet.outer.set_traffic_class(0b11);
        let outcome = kernel.run(&packet.frame())?;
        ensure!(
            outcome.returned && outcome.passed == Some(answer(&packet, &marked)),
            "{outcome:?}, not {}",
            hex(&marked)
        );
    }
    Ok(())
}

#[test]
fn others_are_not_answered() -> Result<()> {
    load_or_return!();
    let mut kernel = load("keepalive = 'reply'\nkeepalive_rate = 2")?;
    let good = keepalive(V4, &gre(0));
    let mut expect = |packet: &Packet, passed: bool, reason: Reason| {
        let outcome = kernel.run(&packet.frame())?;
        let frame = passed.then(|| packet.frame());
        let counted = BTreeMap::from([((1, Counter::of(reason)), 1)]);
        ensure!(
            !outcome.returned && outcome.passed == frame && outcome.counted == counted,
            "{reason:?}: {outcome:?}"
        );
        anyhow::Ok(())
    };
    let mut for_another = good.clone();
    for_another.link.destination[5] ^= 1;
    expect(&for_another, true, Reason::OtherHost)?;
    let mut with_payload = good.clone();
    with_payload.payload = keepalive(V4, &gre(0)).payload;
    with_payload.payload[3] += 1;
    with_payload.payload.push(0);
    expect(&with_payload, false, Reason::Loop)?;
    expect(&keepalive(V4, &gre(0x86dd)), false, Reason::Loop)?;

    // The rate, of which nothing was used up.
    let results: Vec<_> = (0..4).map(|_| kernel.run(&good.frame())).collect::<Result<_>>()?;
    let answered: Vec<_> = results.iter().map(|outcome| outcome.returned).collect();
    assert_eq!(answered, [true, true, false, false]);
    let dropped = BTreeMap::from([((1, Counter::of(Reason::KeepaliveRate)), 1)]);
    ensure!(
        results[3].passed.is_none() && results[3].counted == dropped,
        "{results:?}"
    );
    ensure!(
        kernel.run(&keepalive(V6, &gre(0)).frame())?.returned,
        "the rate is each tunnel's own"
    );
    Ok(())
}

const SECOND: u64 = 1_000_000_000;
const RATE: u64 = 2_000;
/// Between replies that come evenly.
const INTERVAL: u64 = SECOND / RATE;
const FLOOD: Duration = Duration::from_secs(2);

/// However many CPUs keepalives come in on, and whenever each gets to run: the replies are as many as the rate says, none is refused
/// without cause, and each CPU has its part.
#[test]
fn a_flood_gets_the_rate() -> Result<()> {
    load_or_return!();
    let cpus = online_cpus()?;
    let frame = keepalive(V4, &gre(0)).frame();
    for cpus in [&cpus[..1], &cpus[..]] {
        let mut kernel = load(&format!("keepalive = 'reply'\nkeepalive_rate = {RATE}"))?;
        let begun = now(ClockId::CLOCK_MONOTONIC)?;
        let flooded = flood(kernel.program()?, &frame, cpus)?;
        let lasted = now(ClockId::CLOCK_MONOTONIC)? - begun;
        let count =
            |flooded: &[Asked], answered| flooded.iter().filter(|asked| asked.answered == answered).count() as u64;
        let sum = |answered| flooded.iter().map(|cpu| count(cpu, answered)).sum::<u64>();
        let (answered, dropped) = (sum(true), sum(false));
        let counted = (
            kernel.counted(Reason::Keepalive)?,
            kernel.counted(Reason::KeepaliveRate)?,
        );
        ensure!(
            counted == (answered, dropped),
            "{counted:?} counted, not {answered} and {dropped}"
        );
        let by_cpu: Vec<_> = flooded.iter().map(|cpu| count(cpu, true)).collect();
        say(&format!(
            "{} CPUs flooded with {} keepalives in {} ms: {answered} answered at a rate of {RATE}; by CPU: {by_cpu:?}",
            cpus.len(),
            answered + dropped,
            lasted / 1_000_000,
        ));
        // What was saved up before, and what came in meanwhile.
        let most = RATE + lasted / INTERVAL + 1;
        ensure!(
            (RATE..=most).contains(&answered),
            "{answered} answered, not {RATE} to {most}"
        );
        ensure!(dropped > 0, "this was no flood");
        let early = dropped_early(flooded.concat());
        ensure!(
            early == 0,
            "{early} of {dropped} dropped though the rate was not used up"
        );
        ensure!(by_cpu.iter().all(|answered| *answered > 0), "one got none: {by_cpu:?}");
    }
    Ok(())
}

/// A keepalive that the program was given, and whether it was answered: at some time between the two, in nanoseconds of
/// `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug)]
struct Asked {
    before: u64,
    after: u64,
    answered: bool,
}

/// How many were dropped when it was not the rate that forbade to answer: it does when the last reply of those so far is due more than
/// a second ahead. As nobody knows when between its two times each was answered, and in which order, the latest that can be is taken.
fn dropped_early(asked: Vec<Asked>) -> usize {
    let (mut answered, mut dropped): (Vec<_>, Vec<_>) = asked.into_iter().partition(|asked| asked.answered);
    answered.sort_unstable_by_key(|asked| asked.before);
    dropped.sort_unstable_by_key(|asked| asked.after);
    let (mut answered, mut due) = (answered.into_iter().peekable(), 0);
    let early = dropped.into_iter().filter(|dropped| {
        while let Some(reply) = answered.next_if(|reply| reply.before <= dropped.after) {
            due = reply.after.max(due) + INTERVAL;
        }
        due <= dropped.before + (SECOND - INTERVAL)
    });
    early.count()
}

#[test]
fn what_was_dropped_without_cause_is_found() {
    let asked = |at: u64, answered| Asked {
        before: at,
        after: at + 1000,
        answered,
    };
    let flood: Vec<_> = (0..RATE).map(|n| asked(SECOND + n, true)).collect();
    let then = |at, answered| dropped_early([&flood[..], &[asked(at, answered)]].concat());
    assert_eq!(then(SECOND + INTERVAL / 2, false), 0);
    // As much again was saved up, or a single reply.
    for later in [2 * INTERVAL, SECOND, 10 * SECOND] {
        assert_eq!((then(SECOND + later, false), then(SECOND + later, true)), (1, 0));
    }
    assert_eq!(dropped_early(vec![asked(SECOND, false)]), 1);
}

/// Runs the program on the frame on each of these CPUs, again and again.
fn flood(program: &Xdp, frame: &[u8], cpus: &[u32]) -> Result<Vec<Vec<Asked>>> {
    let deadline = Instant::now() + FLOOD;
    let on = |cpu: u32| {
        let mut set = CpuSet::new();
        set.set(cpu as usize)?;
        sched_setaffinity(Pid::from_raw(0), &set).context("stay on one CPU")?;
        let mut flooded = Vec::new();
        while Instant::now() < deadline {
            let options = TestRunOptions {
                data_in: Some(frame),
                ..TestRunOptions::new()
            };
            let before = now(ClockId::CLOCK_MONOTONIC)?;
            let action = program.test_run(options)?.return_value;
            let after = now(ClockId::CLOCK_MONOTONIC)?;
            let answered = match action {
                XDP_TX => true,
                XDP_DROP => false,
                other => bail!("XDP action {other}"),
            };
            flooded.push(Asked {
                before,
                after,
                answered,
            });
        }
        Ok(flooded)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = cpus.iter().map(|&cpu| scope.spawn(move || on(cpu))).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined
            .map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

const PACKETS: u32 = 100_000;
const ROUNDS: usize = 5;

/// What a packet costs in floods that the program must bear.
#[test]
fn what_a_keepalive_costs() -> Result<()> {
    load_or_return!();
    let frame = keepalive(V4, &gre(0)).frame();
    let mut going_round = keepalive(V4, &gre(0x88be)).frame();
    let mut damaged = keepalive(V4, &gre(0));
    damaged.gre.checksum = GreChecksum::Given(0xdead);
    let damaged = damaged.frame();
    going_round.truncate(frame.len());
    let (mut silent, mut answering) = (load("")?, load("keepalive = 'reply'\nkeepalive_rate = 1")?);
    let mut costs: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for _ in 0..ROUNDS {
        let mut measure = |what, kernel: &mut Kernel, frame: &[u8], reason| {
            // An answer changes the frame, so that the rest of the flood is something else: then it does not count.
            for _ in 0..ROUNDS {
                let before = kernel.counted(reason)?;
                let cost = kernel.flood(frame, PACKETS)?;
                if kernel.counted(reason)? - before == u64::from(PACKETS) {
                    costs.entry(what).or_default().push(cost);
                    return anyhow::Ok(());
                }
            }
            bail!("{what}: no flood of {PACKETS} packets met one fate")
        };
        measure("left alone", &mut silent, &frame, Reason::Keepalive)?;
        measure("beyond the rate", &mut answering, &frame, Reason::KeepaliveRate)?;
        measure("a loop", &mut silent, &going_round, Reason::Loop)?;
        measure("a wrong checksum", &mut silent, &damaged, Reason::ChecksumBad)?;
    }
    let costs: BTreeMap<_, _> = costs
        .into_iter()
        .map(|(what, mut costs)| {
            costs.sort_unstable();
            (what, costs[costs.len() / 2])
        })
        .collect();
    say(&format!("nanoseconds for a keepalive, and others beside: {costs:?}"));
    Ok(())
}
