//! A network card with several queues, among which the hash of what it receives decides: to it a tunnel is one flow, whatever is
//! inside, and so one queue's, and one processor's. With `spread` every processor works.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, ensure};
use gre_tests::frame::{Addresses, Ipv4, Link, PROTOCOL_UDP, udp_datagram};
use gre_tests::guest::QUEUES;
use gre_tests::lab::Wire as Sender;
use gre_tests::skip::say;
use gre_tests::traffic::flows::{Flows, Received};
use gre_user::host::cpus::online_cpus;

use crate::device::{DEVICE, DEVICES};
use crate::site::{INNER_ORIGIN, ORIGIN_V4, Site, WAN, Wire, wait_until};

const FLOWS: u16 = 64;
const DATAGRAMS: u64 = 6400;
/// Datagrams on their way at the same time: fewer than a card's ring holds.
const WINDOW: u64 = 64;
/// Sources of packets without a tunnel, from which the hash must choose more than one queue.
const SOURCES: u8 = 64;

#[test]
fn one_tunnel_is_one_queue_and_with_spread_every_processor_works() -> Result<()> {
    let site = Site::new(
        "one_tunnel_is_one_queue_and_with_spread_every_processor_works",
        Wire::Queues,
    )?;
    let processors: BTreeSet<usize> = online_cpus()?.into_iter().map(|cpu| cpu as usize).collect();
    ensure!(processors.len() == QUEUES, "{QUEUES} processors, not {processors:?}");
    let device = DEVICES[0];
    site.join(device)?;
    choose_by_hash(&site)?;

    // That the card does choose, by addresses.
    let before = queues(&site)?;
    send_from_many(&site)?;
    wait_until("every queue has received something", || {
        Ok(more(&queues(&site)?, &before).iter().all(|count| *count > 0))
    })
    .with_context(|| format!("from {SOURCES} sources: {:?}", queues(&site)))?;
    say(&format!(
        "{SOURCES} sources without a tunnel: {:?} packets on the card's queues",
        more(&queues(&site)?, &before)
    ));

    let (received, used) = exchange(&site)?;
    say(&format!(
        "one tunnel: {received}; {used:?} packets on the card's queues"
    ));
    let busy = used.iter().filter(|count| **count >= DATAGRAMS).count();
    let others: u64 = used.iter().filter(|count| **count < DATAGRAMS).sum();
    ensure!(
        busy == 1 && others < DATAGRAMS / 100,
        "one tunnel came on several queues: {used:?}"
    );
    ensure!(
        received.cores().len() == 1,
        "one queue's packets were handled on several processors: {received:?}"
    );
    site.check_counts(device)?;

    site.load(&format!("{}spread = \"all\"\n", device.tunnel()))?;
    choose_by_hash(&site)?;
    let (received, used) = exchange(&site)?;
    say(&format!(
        "with spread: {received}; {used:?} packets on the card's queues"
    ));
    ensure!(
        used.iter().filter(|count| **count >= DATAGRAMS).count() == 1,
        "one tunnel came on several queues: {used:?}"
    );
    ensure!(
        received.cores() == processors,
        "not every processor works: {received:?}"
    );
    ensure!(
        received.flows.iter().all(|flow| flow.cores.len() == 1),
        "a flow met several processors: {received:?}"
    );
    ensure!(received.overtaken() == 0, "{received:?}");
    site.check_counts(device)?;
    site.part(device)
}

/// The driver of older kernels forgets the hash each time that a program is attached, and then the tap chooses, which looks for flows
/// inside tunnels, too.
fn choose_by_hash(site: &Site) -> Result<()> {
    site.origin.choose_queues_by_hash(WAN[1])
}

/// Sends many inner flows through the tunnel: what became of them, and how many packets each of the card's queues received.
fn exchange(site: &Site) -> Result<(Received, Vec<u64>)> {
    let service: IpAddr = INNER_ORIGIN[0].parse()?;
    let before = queues(site)?;
    let flows = Flows::open(&site.centre, &site.origin, service, FLOWS, 200)?.start(WINDOW)?;
    let arrived = flows.wait_for(DATAGRAMS).and_then(|()| flows.stop());
    let used = more(&queues(site)?, &before);
    let received = arrived.with_context(|| format!("{used:?} packets on the card's queues; {}", whereabouts(site)))?;
    Ok((received, used))
}

/// What the origin knows of packets that have gone astray.
fn whereabouts(site: &Site) -> String {
    let errors = site.origin.driver_statistics(WAN[1]).map(|statistics| {
        let errors = statistics
            .into_iter()
            .filter(|(name, count)| *count > 0 && ["drop", "err", "fail"].iter().any(|what| name.contains(what)));
        errors.collect::<Vec<_>>()
    });
    let udp = site.origin.run(|| {
        let counters = std::fs::read_to_string("/proc/net/snmp")?;
        Ok(counters
            .lines()
            .filter(|line| line.starts_with("Udp:"))
            .collect::<Vec<_>>()
            .join(" "))
    });
    let sent = site.centre.ip(&format!("-statistics link show dev {DEVICE}"));
    format!(
        "our program's counts {:?}; the card's {errors:?}; {udp:?}; the centre's {sent:?}",
        site.counted()
    )
}

/// Sends a datagram from each of many addresses straight to the origin, which has no use for it.
fn send_from_many(site: &Site) -> Result<()> {
    let wire = Sender::open(&site.centre, WAN[0])?;
    let destination: Ipv4Addr = ORIGIN_V4.parse()?;
    let address = site.mac_octets()?;
    for number in 0..SOURCES {
        let source = Ipv4Addr::new(198, 18, 5, number);
        let packet = Ipv4 {
            source,
            destination,
            protocol: PROTOCOL_UDP,
            ..Ipv4::default()
        }
        .packet(&udp_datagram(Addresses::V4(source, destination), b"hello"));
        let link = Link {
            destination: address,
            ..Link::default()
        };
        wire.send(&link.frame(0x0800, &packet))?;
    }
    Ok(())
}

/// Packets that our program was given by each of the card's queues.
fn queues(site: &Site) -> Result<Vec<u64>> {
    let statistics = site.origin.driver_statistics(WAN[1])?;
    (0..QUEUES)
        .map(|queue| {
            // Its name has changed in Linux 6.7.
            let names = [
                format!("rx{queue}_xdp_packets"),
                format!("rx_queue_{queue}_xdp_packets"),
            ];
            let count = names.iter().find_map(|name| statistics.get(name)).copied();
            count.with_context(|| format!("no packets of queue {queue} among {statistics:?}"))
        })
        .collect()
}

fn more(now: &[u64], before: &[u64]) -> Vec<u64> {
    now.iter().zip(before).map(|(now, before)| now - before).collect()
}
