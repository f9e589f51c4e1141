//! Inner datagrams reach the sockets of the origin's programs: from frames on a wire through the loaded `gre-decap` and the
//! kernel's own stack, which checks what it is given once more.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use gre_tests::frame::{
    Addresses, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_TEB, Gre, GreChecksum, Ipv4, Ipv6, Link, Mac, Outer,
    PROTOCOL_GRE, Packet, udp_datagram,
};
use gre_tests::lab::{Lab, Namespace, PATIENCE, Wire};
use gre_tests::skip::binary_or_skip;
use serde_json::{Value, json};

/// Bytes of the largest IP packet on the wire: more than a page, so that such a frame comes in several buffers.
const MTU: u32 = 9000;
/// The origin's interface.
const WAN: &str = "wan0";
const CONFIG: &str = r#"
[[tunnel]]
name = "scrub4"
local = "198.51.100.20"
remote = "203.0.113.10"
inner = ["ipv4", "ipv6", "ethernet"]

[[tunnel]]
name = "scrub6"
local = "2001:db8:51::20"
remote = "2001:db8:113::10"
key = 7
checksum = "required"
"#;
/// Its tunnels.
const SCRUB_V4: &str = "scrub4";
const SCRUB_V6: &str = "scrub6";
const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 5, 7);
const ORIGIN_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);
const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, 7);
const ORIGIN_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x80);
/// Where [`udp_datagram`] sends to.
const PORT: u16 = 443;
/// The key of the tunnel over IPv6.
const KEY: u32 = 7;
/// The longest message that fits the wire in the most headers: IPv6, GRE with checksum and key, IPv6, UDP.
const LONGEST: usize = MTU as usize - 40 - 12 - 40 - 8;

#[test]
fn datagrams_reach_sockets_in_native_mode() -> Result<()> {
    let Some(lab) = gre_tests::lab_or_skip!() else {
        return Ok(());
    };
    match binary_or_skip("datagrams_reach_sockets_in_native_mode") {
        Some(binary) => datagrams_reach_sockets(&lab, &binary, "native"),
        None => Ok(()),
    }
}

#[test]
fn datagrams_reach_sockets_in_generic_mode() -> Result<()> {
    let Some(lab) = gre_tests::lab_or_skip!() else {
        return Ok(());
    };
    match binary_or_skip("datagrams_reach_sockets_in_generic_mode") {
        Some(binary) => datagrams_reach_sockets(&lab, &binary, "generic"),
        None => Ok(()),
    }
}

fn datagrams_reach_sockets(lab: &Lab, binary: &Path, mode: &str) -> Result<()> {
    let (centre, origin) = (lab.namespace("centre")?, lab.namespace("origin")?);
    let (addresses_v4, addresses_v6) = (format!("{ORIGIN_V4}/32"), format!("{ORIGIN_V6}/128"));
    let wan = origin.end(WAN).mtu(MTU).address(&addresses_v4).address(&addresses_v6);
    let (_, interface) = lab.veth(centre.end("wan").mtu(MTU), wan)?;
    let wire = Wire::open(&centre, "wan")?;
    let (v4, v6) = origin.run(|| Ok((bind(ORIGIN_V4.into())?, bind(ORIGIN_V6.into())?)))?;
    let config = format!("{CONFIG}\n[[interface]]\nname = \"{WAN}\"\nmode = \"{mode}\"\n");
    let config = lab.write_file("config.toml", &config)?;
    gre_decap(&origin, binary, &["--config".as_ref(), &config, "load".as_ref()])?;

    // Were it delivered, it would be received before all others.
    let mut damaged = packet(outer_v4(), ETHERTYPE_IPV4, inner_v4(b"damaged"), interface.mac);
    damaged.gre.checksum = GreChecksum::Given(0x1234);
    wire.send(&damaged.frame())?;

    let mut counts = [(SCRUB_V4, [0; 3]), (SCRUB_V6, [0; 3])];
    for length in [0, 1, 26, 1400, LONGEST] {
        let message: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
        for (receiver, tunnel, outer, protocol) in [
            (&v4, 0, outer_v4(), ETHERTYPE_IPV4),
            (&v6, 0, outer_v4(), ETHERTYPE_IPV6),
            (&v4, 0, outer_v4(), ETHERTYPE_TEB),
            (&v4, 1, outer_v6(), ETHERTYPE_IPV4),
            (&v6, 1, outer_v6(), ETHERTYPE_IPV6),
        ] {
            let payload = match protocol {
                ETHERTYPE_IPV4 => inner_v4(&message),
                ETHERTYPE_IPV6 => inner_v6(&message),
                _ => inner_frame(&message, interface.mac),
            };
            let packet = packet(outer, protocol, payload, interface.mac);
            wire.send(&packet.frame())?;
            let (name, counts) = &mut counts[tunnel];
            let context = || format!("{length} bytes through {name} as {protocol:#06x}");
            let received = receive(receiver).with_context(context)?;
            ensure!(received == message, "{}: other bytes arrived", context());
            let added = [1, packet.payload.len(), packet.ip_packet().len()];
            counts.iter_mut().zip(added).for_each(|(sum, more)| *sum += more);
        }
    }

    let stats = gre_decap(&origin, binary, &["stats".as_ref(), "--json".as_ref()])?;
    check(&serde_json::from_str(&stats)?, mode, counts)
}

/// The statistics, but for when a tunnel was last seen, must be exactly these.
fn check(stats: &Value, mode: &str, counts: [(&str, [usize; 3]); 2]) -> Result<()> {
    let damaged = json!({"checksum_bad": 1});
    let reasons = [&damaged, &json!({})];
    let tunnels = counts.into_iter().zip(reasons).map(|((name, [packets, bytes, outer_bytes]), reasons)| {
        json!({"name": name, "packets": packets, "bytes": bytes, "outer_bytes": outer_bytes, "reasons": reasons})
    });
    let wanted = json!({
        "interfaces": [{"name": WAN, "mode": mode}],
        "tunnels": tunnels.collect::<Vec<_>>(),
        "reasons": damaged,
    });
    let mut found = stats.clone();
    for tunnel in found["tunnels"].as_array_mut().context("tunnels are an array")? {
        let tunnel = tunnel.as_object_mut().context("a tunnel is an object")?;
        let seen = tunnel.remove("last_seen_seconds").context("a tunnel was seen")?;
        ensure!(seen.is_number(), "seen {seen} ago");
        let sizes = tunnel.remove("sizes").context("a tunnel's packets have lengths")?;
        let sizes = sizes.as_array().map_or(&[][..], Vec::as_slice);
        let packets: u64 = sizes.iter().filter_map(|size| size["packets"].as_u64()).sum();
        ensure!(tunnel["packets"] == packets, "{packets} packets by length: {tunnel:?}");
    }
    ensure!(found == wanted, "wanted {wanted}\ngot    {found}");
    Ok(())
}

/// Runs `gre-decap` in the origin, and gives what it prints.
fn gre_decap(origin: &Namespace, binary: &Path, arguments: &[&Path]) -> Result<String> {
    let output = origin
        .command(binary)
        .args(arguments)
        .output()
        .context("run gre-decap")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "gre-decap {arguments:?}: {}", said.trim());
    Ok(String::from_utf8(output.stdout)?)
}

fn bind(address: IpAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((address, PORT)).with_context(|| format!("bind to {address}"))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn receive(socket: &UdpSocket) -> Result<Vec<u8>> {
    let mut buffer = vec![0; LONGEST + 1];
    let length = socket.recv(&mut buffer).context("nothing was received")?;
    buffer.truncate(length);
    Ok(buffer)
}

/// To the origin's interface, with what its tunnel asks for.
fn packet(outer: Outer, protocol: u16, payload: Vec<u8>, mac: Mac) -> Packet {
    let gre = match outer {
        Outer::V4(_) => Gre::default(),
        Outer::V6(_) => Gre {
            key: Some(KEY),
            checksum: GreChecksum::Right,
            ..Gre::default()
        },
    };
    Packet {
        link: link(mac),
        outer,
        gre: Gre { protocol, ..gre },
        payload,
        padding: Vec::new(),
    }
}

fn link(mac: Mac) -> Link {
    Link {
        destination: mac,
        ..Link::default()
    }
}

fn outer_v4() -> Outer {
    Outer::V4(Ipv4 {
        source: Ipv4Addr::new(203, 0, 113, 10),
        destination: Ipv4Addr::new(198, 51, 100, 20),
        protocol: PROTOCOL_GRE,
        ..Ipv4::default()
    })
}

fn outer_v6() -> Outer {
    Outer::V6(Ipv6 {
        source: Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x10),
        destination: Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 0x20),
        next_header: PROTOCOL_GRE,
        ..Ipv6::default()
    })
}

fn inner_v4(message: &[u8]) -> Vec<u8> {
    let header = Ipv4 {
        source: CLIENT_V4,
        destination: ORIGIN_V4,
        ..Ipv4::default()
    };
    header.packet(&udp_datagram(Addresses::V4(CLIENT_V4, ORIGIN_V4), message))
}

fn inner_v6(message: &[u8]) -> Vec<u8> {
    let header = Ipv6 {
        source: CLIENT_V6,
        destination: ORIGIN_V6,
        ..Ipv6::default()
    };
    header.packet(&udp_datagram(Addresses::V6(CLIENT_V6, ORIGIN_V6), message))
}

fn inner_frame(message: &[u8], mac: Mac) -> Vec<u8> {
    link(mac).frame(ETHERTYPE_IPV4, &inner_v4(message))
}
