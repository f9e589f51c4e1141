//! The scrubber: that its packets are right to the last bit, and that TCP gets through it.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gre_tests::frame::{Gre, GreChecksum};
use gre_tests::lab::{Captured, Lab, Namespace, PATIENCE, Scrubber, Tun, Tunnel, Wire};
use gre_tests::lab_or_skip;

/// A client behind a scrubber, and an origin where what the tunnel brings can be captured.
struct Underlay {
    client: Namespace,
    scrub: Namespace,
    origin: Namespace,
}

const CLIENT: &str = "198.18.5.7";
const SERVICE: &str = "192.0.2.80";

fn underlay(lab: &Lab) -> Result<Underlay> {
    let (client, scrub, origin) = (
        lab.namespace("client")?,
        lab.namespace("scrub")?,
        lab.namespace("origin")?,
    );
    lab.veth(
        client.end("up").address("198.18.5.7/24").address("2001:db8:5::7/64"),
        scrub.end("down").address("198.18.5.1/24").address("2001:db8:5::1/64"),
    )?;
    lab.veth(
        scrub
            .end("wan")
            .address("203.0.113.10 peer 198.51.100.20")
            .address("2001:db8:a::10/64"),
        origin
            .end("wan0")
            .address("198.51.100.20 peer 203.0.113.10")
            .address("2001:db8:a::20/64"),
    )?;
    client.ip("route add default via 198.18.5.1")?;
    client.ip("route add default via 2001:db8:5::1")?;
    scrub.sysctl("net.ipv4.ip_forward", "1")?;
    scrub.sysctl("net.ipv6.conf.all.forwarding", "1")?;
    Ok(Underlay { client, scrub, origin })
}

fn tunnel(outer: &str) -> Result<Tunnel> {
    let (local, remote) = if outer == "ipv4" {
        ("203.0.113.10", "198.51.100.20")
    } else {
        ("2001:db8:a::10", "2001:db8:a::20")
    };
    Ok(Tunnel::new(local.parse()?, remote.parse()?))
}

#[test]
fn the_scrubber_sends_what_clients_sent_in_gre() -> Result<()> {
    let Some(lab) = lab_or_skip!() else { return Ok(()) };
    let net = underlay(&lab)?;
    // The client's datagrams as they leave it, with which what comes out of the tunnel is compared.
    let sent_wire = Wire::open(&net.client, "up")?;
    let origin_wire = Wire::open(&net.origin, "wan0")?;
    for outer in ["ipv4", "ipv6"] {
        for bits in 0..8 {
            let gre = Gre {
                checksum: if bits & 4 == 0 {
                    GreChecksum::Absent
                } else {
                    GreChecksum::Right
                },
                key: (bits & 2 != 0).then_some(4200),
                sequence: (bits & 1 != 0).then_some(u32::MAX),
                ..Gre::default()
            };
            let header_len = gre.header_len();
            let tunnel = tunnel(outer)?.with_gre(gre);
            let scrubber = Scrubber::start(&net.scrub, "gre-scrub", &tunnel)?;
            assert_eq!(scrubber.mtu() as usize, 1500 - tunnel.overhead());
            net.scrub.ip("route add 192.0.2.0/24 dev gre-scrub")?;
            net.scrub.ip("route add 2001:db8:2::/48 dev gre-scrub")?;

            for (number, service) in [(0, SERVICE), (1, "2001:db8:2::80"), (2, SERVICE)] {
                // Of odd length, for the checksum's sake.
                let payload = format!("{outer} {bits} {number} {}", "x".repeat(100 | 1));
                let any: SocketAddr = if service.contains(':') {
                    "[::]:0".parse()?
                } else {
                    "0.0.0.0:0".parse()?
                };
                let socket = net.client.run(|| Ok(UdpSocket::bind(any)?))?;
                socket.send_to(payload.as_bytes(), SocketAddr::new(service.parse()?, 7))?;

                let holds = |seen: &Captured| seen.bytes.ends_with(payload.as_bytes());
                let sent = sent_wire.expect("the client's datagram", holds)?;
                let came = origin_wire.expect("the datagram in GRE", holds)?;
                let inner = forwarded(&sent.bytes)?;
                // The sequence number wraps around after the first packet.
                let sequence = [u32::MAX, 0, 1][number as usize];
                let (outer_header, packet) = outer_parts(&came.bytes, outer)?;
                assert_eq!(&packet[header_len..], inner, "{tunnel:?}");
                let protocol = if service.contains(':') { 0x86dd } else { 0x0800 };
                assert_gre_header(packet, &tunnel.gre, sequence, protocol);
                let (source, destination) = ends(outer_header);
                assert_eq!((source, destination), (tunnel.local, tunnel.remote));
                if outer == "ipv4" {
                    assert_eq!(outer_header[6] & 0x40, 0x40, "Don't Fragment");
                }
            }
            let counts = scrubber.stop()?;
            assert_eq!((counts.packets, counts.dropped), (3, 0), "{tunnel:?}");
        }
    }
    Ok(())
}

#[test]
fn senders_of_large_packets_learn_the_tunnels_mtu() -> Result<()> {
    let Some(lab) = lab_or_skip!() else { return Ok(()) };
    let net = underlay(&lab)?;
    let gre = Gre {
        checksum: GreChecksum::Right,
        key: Some(1),
        sequence: Some(1),
        ..Gre::default()
    };
    let _scrubber = Scrubber::start(&net.scrub, "gre-scrub", &tunnel("ipv4")?.with_gre(gre))?;
    net.scrub.ip("route add 192.0.2.0/24 dev gre-scrub")?;
    let wire = Wire::open(&net.client, "up")?;
    let socket = net.client.run(|| Ok(UdpSocket::bind("0.0.0.0:0")?))?;
    // The kernel sets Don't Fragment on what fits the way as it is known so far.
    socket.send_to(&[0; 1472], (SERVICE, 7))?;
    let error = wire.expect("ICMP fragmentation needed", |seen| {
        seen.bytes.get(34..36) == Some(&[3, 4])
    })?;
    assert_eq!(
        error.bytes[40..42],
        1464u16.to_be_bytes(),
        "1500 less 20 of IPv4 and 16 of GRE"
    );
    Ok(())
}

/// A plain decapsulator, which stands in for the program under test.
fn decapsulate(origin: &Namespace, stop: &AtomicBool) -> Result<u64> {
    let tun = Tun::create(origin, "plain", 1500)?;
    let wire = Wire::open(origin, "wan0")?;
    let mut packets = 0;
    while !stop.load(Ordering::Relaxed) {
        let Some(seen) = wire.next(Duration::from_millis(20))? else {
            continue;
        };
        if !seen.outgoing && seen.bytes.get(12..14) == Some(&[8, 0]) && seen.bytes[23] == 47 {
            let total = usize::from(u16::from_be_bytes([seen.bytes[16], seen.bytes[17]]));
            tun.send(&seen.bytes[14 + 20 + 4..14 + total])?;
            packets += 1;
        }
    }
    Ok(packets)
}

#[test]
fn tcp_flows_through_the_scrubber() -> Result<()> {
    const LENGTH: usize = 8_000_000;
    let Some(lab) = lab_or_skip!() else { return Ok(()) };
    let net = underlay(&lab)?;
    lab.veth(
        net.origin.end("isp0").address("198.18.6.1/30"),
        net.client.end("direct").address("198.18.6.2/30"),
    )?;
    net.origin.ip("address add 192.0.2.80/32 dev lo")?;
    net.origin.ip("route add default via 198.18.6.2")?;
    let scrubber = Scrubber::start(&net.scrub, "gre-scrub", &tunnel("ipv4")?)?;
    net.scrub.ip("route add 192.0.2.0/24 dev gre-scrub")?;

    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let decapsulator = scope.spawn(|| decapsulate(&net.origin, &stop));
        let transfer = || -> Result<()> {
            let listener = net.origin.run(|| Ok(TcpListener::bind((SERVICE, 7001))?))?;
            let sender = scope.spawn(|| -> Result<()> {
                let mut stream = net.client.run(|| {
                    Ok(TcpStream::connect_timeout(
                        &SocketAddr::new(SERVICE.parse()?, 7001),
                        PATIENCE,
                    )?)
                })?;
                stream.set_write_timeout(Some(PATIENCE))?;
                let block: Vec<u8> = (0..LENGTH).map(|index| (index % 251) as u8).collect();
                Ok(stream.write_all(&block)?)
            });
            listener.set_nonblocking(false)?;
            socket2::SockRef::from(&listener).set_read_timeout(Some(PATIENCE))?;
            let (mut stream, peer) = listener.accept().context("the client's connection")?;
            assert_eq!(peer.ip(), CLIENT.parse::<IpAddr>()?);
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut received = Vec::new();
            stream.read_to_end(&mut received)?;
            sender.join().expect("the sender does not panic")?;
            ensure!(received.len() == LENGTH, "{} of {LENGTH} bytes came", received.len());
            let wrong = received
                .iter()
                .enumerate()
                .find(|(index, byte)| **byte != (index % 251) as u8);
            ensure!(wrong.is_none(), "the first wrong byte: {wrong:?}");
            Ok(())
        };
        let transferred = transfer();
        stop.store(true, Ordering::Relaxed);
        let decapsulated = decapsulator.join().expect("the decapsulator does not panic")?;
        transferred?;
        let counts = scrubber.stop()?;
        ensure!(counts.packets >= LENGTH as u64 / 1436, "{counts:?}");
        ensure!(decapsulated <= counts.packets, "{decapsulated} of {counts:?}");
        Ok(())
    })
}

/// The IP packet in an Ethernet frame as a router passes it on: TTL or hop limit one lower, the checksum with it.
fn forwarded(frame: &[u8]) -> Result<Vec<u8>> {
    let mut packet = frame.get(14..).context("an Ethernet header")?.to_vec();
    if packet[0] >> 4 == 4 {
        packet[8] -= 1;
        // RFC 1624 for a field that falls by 0x0100; the carry goes around.
        let sum = u32::from(u16::from_be_bytes([packet[10], packet[11]])) + 0x0100;
        packet[10..12].copy_from_slice(&((sum + (sum >> 16)) as u16).to_be_bytes());
    } else {
        packet[7] -= 1;
    }
    Ok(packet)
}

/// The outer IP header, and the GRE header with all that follows it.
fn outer_parts<'a>(frame: &'a [u8], outer: &str) -> Result<(&'a [u8], &'a [u8])> {
    let (ether_type, protocol, length) = if outer == "ipv4" {
        ([8, 0], 23, 20)
    } else {
        ([0x86, 0xdd], 20, 40)
    };
    ensure!(frame[12..14] == ether_type, "{frame:02x?}");
    ensure!(frame[protocol] == 47, "{frame:02x?}");
    Ok(frame[14..].split_at(length))
}

fn ends(header: &[u8]) -> (IpAddr, IpAddr) {
    let four = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&header[at..at + 4]).expect("four bytes"));
    let sixteen = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&header[at..at + 16]).expect("sixteen bytes"));
    if header.len() == 20 {
        (four(12), four(16))
    } else {
        (sixteen(8), sixteen(24))
    }
}

fn assert_gre_header(packet: &[u8], gre: &Gre, sequence: u32, protocol: u16) {
    let checksum = gre.checksum == GreChecksum::Right;
    let mut rest = packet;
    let mut word = || {
        let (first, after) = rest.split_first_chunk::<4>().expect("a whole header");
        rest = after;
        u32::from_be_bytes(*first)
    };
    let bit = |present: bool, bit: u32| u32::from(present) << bit;
    let flags = bit(checksum, 31) | bit(gre.key.is_some(), 29) | bit(gre.sequence.is_some(), 28);
    assert_eq!(word(), flags | u32::from(protocol));
    if checksum {
        assert_eq!(word() & 0xffff, 0, "Reserved1");
        // RFC 1071: the sum over all, the checksum included, is all ones.
        let sum: u32 = packet
            .chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |byte| u32::from(*byte)))
            .sum();
        assert_eq!((sum >> 16) + (sum & 0xffff), 0xffff);
    }
    if let Some(key) = gre.key {
        assert_eq!(word(), key);
    }
    if gre.sequence.is_some() {
        assert_eq!(word(), sequence);
    }
}
