//! The MSS, on real TCP connections: what both ends negotiate, and the largest segment that is sent.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use anyhow::{Context, Result, ensure};
use gre_tests::frame::{ETHERTYPE_IPV4, PROTOCOL_TCP, internet_checksum};
use gre_tests::lab::{Captured, Namespace, PATIENCE, Wire};
use gre_tests::traffic::tcp::{Direction, transfer};
use nix::sys::socket::{getsockopt, sockopt};

use crate::net::{
    CLIENT_V4, CLIENT_V6, GATEWAY_V4, GATEWAY_V6, Net, ROUTER_V4, SCRUB_V4, SCRUB_V6, SERVER_V4, SERVER_V6, config,
    net_or_return, tunnel_v4, tunnel_v6,
};

/// Enough for both ends to send full segments.
const LENGTH: usize = 200_000;
/// What each segment has beside its data once both ends have agreed on timestamps (RFC 7323 section 3.2), in bytes.
const TIMESTAMPS: u32 = 12;
/// Less than what hosts on these wires announce, which depends on what they have found out about the path.
const LIMIT: u32 = 1000;

/// The most that each end may send in a segment, by what the other has announced and the path's MTU.
struct Negotiated {
    client: u32,
    server: u32,
}

/// Connects a client to a service that runs elsewhere.
fn negotiate(client: &Namespace, server: &Namespace, address: IpAddr) -> Result<Negotiated> {
    let listener = server.run(|| TcpListener::bind((address, 0)).with_context(|| format!("serve {address}")))?;
    let address: SocketAddr = listener.local_addr().context("the service's port")?;
    let client = client
        .run(|| TcpStream::connect_timeout(&address, PATIENCE).with_context(|| format!("a connection to {address}")))?;
    let (server, _) = listener.accept().context("a connection")?;
    let most = |stream: &TcpStream| getsockopt(stream, sockopt::TcpMaxSeg).context("read TCP_MAXSEG");
    Ok(Negotiated {
        client: most(&client)?,
        server: most(&server)?,
    })
}

/// Bytes of data of a TCP segment in an untagged frame from this address; none if it is something else.
fn segment_from(source: IpAddr, frame: &Captured) -> Option<u32> {
    let bytes = &frame.bytes;
    let ip = bytes.get(14..)?;
    let (protocol, from, header, length) = if bytes.get(12..14)? == ETHERTYPE_IPV4.to_be_bytes() {
        let from: [u8; 4] = ip.get(12..16)?.try_into().ok()?;
        let length = u16::from_be_bytes([ip[2], ip[3]]);
        (
            ip[9],
            IpAddr::from(from),
            usize::from(ip[0] & 0xf) * 4,
            usize::from(length),
        )
    } else {
        let from: [u8; 16] = ip.get(8..24)?.try_into().ok()?;
        let length = u16::from_be_bytes([ip[4], ip[5]]);
        (ip[6], IpAddr::from(from), 40, 40 + usize::from(length))
    };
    if protocol != PROTOCOL_TCP || from != source {
        return None;
    }
    let tcp = ip.get(header..)?;
    Some((length - header - usize::from(tcp.get(12)? >> 4) * 4) as u32)
}

/// The largest segment from an address that has passed so far.
fn largest(wire: &Wire, source: IpAddr) -> Result<u32> {
    let mut largest = 0;
    while let Some(frame) = wire.next(std::time::Duration::ZERO)? {
        largest = segment_from(source, &frame).unwrap_or(0).max(largest);
    }
    ensure!(wire.lost()? == 0, "frames were lost for want of room");
    Ok(largest)
}

/// What the client announces is lowered in the tunnel: the server sends segments that are no larger, although straight to the client.
#[test]
fn what_arrives_in_a_tunnel_announces_no_more_than_its_mss() -> Result<()> {
    let net = net_or_return!();
    for lines in [
        "deliver = \"stack\"",
        "deliver = \"route\"",
        "deliver = { interface = \"lan0\" }",
        "deliver = \"route\"\nspread = \"all\"",
    ] {
        net.program.load(&config("native", lines))?;
        for (name, tunnel) in [(SCRUB_V4, tunnel_v4()), (SCRUB_V6, tunnel_v6())] {
            let scrubber = net.scrubber(&tunnel)?;
            for service in [IpAddr::from(SERVER_V4), SERVER_V6.into()] {
                let server = negotiate(&net.client, &net.server, service)?.server;
                ensure!(server > LIMIT, "{lines}, {name}, {service}: {server}, unlimited");
            }
            drop(scrubber);
        }
        net.program
            .load(&config("native", &format!("{lines}\nmss = {LIMIT}")))?;
        for (name, tunnel) in [(SCRUB_V4, tunnel_v4()), (SCRUB_V6, tunnel_v6())] {
            let scrubber = net.scrubber(&tunnel)?;
            for (client, service) in [
                (IpAddr::from(CLIENT_V4), IpAddr::from(SERVER_V4)),
                (CLIENT_V6.into(), SERVER_V6.into()),
            ] {
                check_limited(&net, name, client, service).with_context(|| format!("{lines}, {name}, {service}"))?;
            }
            drop(scrubber);
        }
    }
    Ok(())
}

fn check_limited(net: &Net, tunnel: &str, client: IpAddr, service: IpAddr) -> Result<()> {
    let clamped = |stats: &gre_tests::program::Stats| stats.tunnel(tunnel, "mss_clamped").unwrap_or(0);
    let before = clamped(&net.program.stats()?);
    let server = negotiate(&net.client, &net.server, service)?.server;
    ensure!(server == LIMIT - TIMESTAMPS, "the server may send {server} bytes");

    let (direct, tunnelled) = (Wire::open(&net.client, "direct0")?, Wire::open(&net.client, "isp0")?);
    for direction in [Direction::Download, Direction::Upload] {
        transfer(&net.client, &net.server, service, direction, LENGTH)?;
    }
    let (down, up) = (largest(&direct, service)?, largest(&tunnelled, client)?);
    ensure!(
        down == LIMIT - TIMESTAMPS,
        "the largest segment to the client has {down} bytes"
    );
    ensure!(
        up > LIMIT,
        "the client's segments have {up} bytes at most: its own limit is another"
    );
    // Three connections, and perhaps SYNs that were sent again.
    net.program
        .stats_when("each SYN to be counted", |stats| clamped(stats) >= before + 3)?;
    Ok(())
}

/// The router is the origin itself: its own addresses are protected, and what it answers leaves by `wan0`.
fn origin(clamp_mss: &str) -> String {
    let protect = "[protect]\nprefixes = [\"192.0.2.0/24\", \"2001:db8:2::/64\"]\n";
    let lines = format!("mode = \"native\"\nclamp_mss = {clamp_mss}\n");
    config("native", "").replace("mode = \"native\"\n", &lines) + protect
}

/// What a client may send to the origin, which the origin announces.
fn to_origin(net: &Net, service: IpAddr) -> Result<u32> {
    Ok(negotiate(&net.client, &net.router, service)?.client)
}

const ORIGIN: [IpAddr; 2] = [IpAddr::V4(GATEWAY_V4), IpAddr::V6(GATEWAY_V6)];

/// The limits over IPv4 and IPv6 of the longer of both tunnels' headers: IPv6, GRE, key and checksum.
const AUTOMATIC: [u32; 2] = [1500 - 52 - 40, 1500 - 52 - 60];

fn clamped_on_the_way_out(net: &Net) -> Result<u64> {
    let stats = net.program.stats()?;
    Ok(stats.0["interfaces"][0]["mss_clamped"].as_u64().unwrap_or(0))
}

/// The program on the way out is put there, told something else, told to follow the MTU, and taken away.
#[test]
fn what_leaves_from_protected_addresses_announces_no_more_than_clamp_mss() -> Result<()> {
    let net = net_or_return!();
    let scrubber = net.scrubber(&tunnel_v4())?;
    net.program.load(&origin("\"off\""))?;
    for service in ORIGIN {
        let may = to_origin(&net, service)?;
        ensure!(may > AUTOMATIC[0], "{service}: {may} without a limit");
    }
    ensure!(clamped_on_the_way_out(&net)? == 0, "without a program");

    for (limits, clamp_mss) in [([LIMIT; 2], "1000"), (AUTOMATIC, "\"auto\"")] {
        net.program.load(&origin(clamp_mss))?;
        let before = clamped_on_the_way_out(&net)?;
        for (limit, service) in limits.into_iter().zip(ORIGIN) {
            let may = to_origin(&net, service)?;
            ensure!(
                may == limit - TIMESTAMPS,
                "{service}: {may} with clamp_mss = {clamp_mss}"
            );
        }
        let after = clamped_on_the_way_out(&net)?;
        ensure!(after >= before + 2, "{clamp_mss}: {before} and then {after} counted");
        // An address that is not protected, to which no tunnel leads.
        let may = to_origin(&net, ROUTER_V4.into())?;
        ensure!(may > AUTOMATIC[0], "{may} to what is not protected");
    }

    // What the client sends is no larger, and arrives.
    net.program.load(&origin("1000"))?;
    for (client, service) in [IpAddr::from(CLIENT_V4), CLIENT_V6.into()].into_iter().zip(ORIGIN) {
        let wire = Wire::open(&net.client, "isp0")?;
        transfer(&net.client, &net.router, service, Direction::Upload, LENGTH)?;
        let largest = largest(&wire, client)?;
        ensure!(largest == LIMIT - TIMESTAMPS, "{service}: a segment of {largest} bytes");
    }

    net.program.load(&origin("\"off\""))?;
    let may = to_origin(&net, ROUTER_V4.into())?;
    ensure!(may > AUTOMATIC[0], "{may} after it was taken away");
    let before = clamped_on_the_way_out(&net)?;
    to_origin(&net, ORIGIN[0])?;
    ensure!(
        clamped_on_the_way_out(&net)? == before,
        "counted after it was taken away"
    );
    drop(scrubber);
    Ok(())
}

/// Where the network card is to compute the checksum, only part of it is in the packet when the program sees it. What comes out at the
/// client's, behind an interface that computes it, must be right.
#[test]
fn a_checksum_that_the_card_completes_stays_right() -> Result<()> {
    let net = net_or_return!();
    let scrubber = net.scrubber(&tunnel_v4())?;
    net.program.load(&origin("1000"))?;
    for offloads in [false, true] {
        net.router.tx_checksum("wan0", offloads)?;
        let (wire, leaving) = (Wire::open(&net.client, "isp0")?, Wire::open(&net.centre, "wan")?);
        for service in ORIGIN {
            let may = to_origin(&net, service)?;
            ensure!(may == LIMIT - TIMESTAMPS, "{service}: {may}, offloads {offloads}");
            let answer = |frame: &Captured| !frame.outgoing && is_syn_ack(service, frame);
            let (left, came) = (leaving.expect("an answer", answer)?, wire.expect("an answer", answer)?);
            // That it is completed on the way says that the card was to do so.
            ensure!(
                has_right_checksum(service, &left) != offloads && has_right_checksum(service, &came),
                "{service}, offloads {offloads}: left as {:02x?}, came as {:02x?}",
                left.bytes,
                came.bytes
            );
        }
    }
    drop(scrubber);
    Ok(())
}

/// Where the TCP segment begins in an untagged frame without options or extension headers.
fn segment_at(source: IpAddr) -> usize {
    14 + if source.is_ipv4() { 20 } else { 40 }
}

fn is_syn_ack(source: IpAddr, frame: &Captured) -> bool {
    const SYN_ACK: u8 = 0x12;
    segment_from(source, frame).is_some() && frame.bytes.get(segment_at(source) + 13) == Some(&SYN_ACK)
}

/// Whether the segment and its pseudo-header (RFC 9293 section 3.1) sum up to nothing.
fn has_right_checksum(source: IpAddr, frame: &Captured) -> bool {
    let at = segment_at(source);
    let (ip, segment) = (&frame.bytes[14..at], &frame.bytes[at..]);
    // Both addresses lie together at the end of either header. A SYN has no padding.
    let addresses = if source.is_ipv4() { &ip[12..20] } else { &ip[8..40] };
    let rest = [0, PROTOCOL_TCP, 0, segment.len() as u8];
    internet_checksum(&[addresses, &rest, segment].concat()) == 0
}

/// Connections that are made while the program is replaced over and over find the old one or the new one, never none.
#[test]
fn no_connection_meets_no_program_while_it_is_replaced() -> Result<()> {
    const CONNECTIONS: usize = 200;
    let net = net_or_return!();
    let scrubber = net.scrubber(&tunnel_v4())?;
    net.program.load(&origin("1000"))?;
    let done = std::sync::atomic::AtomicBool::new(false);
    let reloads = std::thread::scope(|scope| {
        let reloading = scope.spawn(|| {
            let mut reloads = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                for limit in ["1100", "1000"] {
                    net.program.load(&origin(limit))?;
                    reloads += 1;
                }
            }
            anyhow::Ok(reloads)
        });
        let connecting = || {
            for connection in 0..CONNECTIONS {
                let may = to_origin(&net, ORIGIN[connection % 2])? + TIMESTAMPS;
                ensure!(
                    [1000, 1100].contains(&may),
                    "connection {connection} may send {may} bytes"
                );
            }
            Ok(())
        };
        let connected = connecting();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        let reloads = reloading
            .join()
            .map_err(|_| anyhow::anyhow!("the loader's thread panicked"))?;
        connected.and(reloads)
    })?;
    ensure!(reloads >= 2, "only {reloads} reloads");
    drop(scrubber);
    Ok(())
}
