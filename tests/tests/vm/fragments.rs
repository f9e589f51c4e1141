//! Outer fragments, which the kernel makes where a tunnel may ignore the path's MTU. Our program leaves them to the origin's
//! kernel (row 2), which reassembles them and has a use for the whole only if it has a GRE device too.

use std::net::{Ipv6Addr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gre_tests::frame::{
    Addresses, ETHERTYPE_IPV6, Extension, Gre, Ipv6, Link, PROTOCOL_GRE, PROTOCOL_UDP, udp_datagram,
};
use gre_tests::lab::{PATIENCE, Wire as Sender};

use crate::device::{DEVICE, Device};
use crate::site::{
    CENTRE_V4, CENTRE_V6, INNER_CENTRE, INNER_ORIGIN, ORIGIN_V4, ORIGIN_V6, Site, WAN, Wire, wait_until,
};

/// Makes packets longer than the wire takes, and lets them be fragmented.
const FRAGMENTING: Device = Device {
    kind: "gre",
    options: "ttl 64 nopmtudisc ignore-df",
};
/// Too long for the wire's MTU of 1,500 with GRE around it.
const LONG: u16 = 1900;

/// The kernel sends no fragments of this kind by itself: they are made here.
const OVER_IPV6: Device = Device {
    kind: "ip6gre",
    options: "encaplimit none",
};
/// Where the datagrams of [`udp_datagram`] go.
const PORT: u16 = 443;

#[test]
fn outer_fragments_go_to_the_origins_own_device() -> Result<()> {
    let site = Site::new("outer_fragments_go_to_the_origins_own_device", Wire::Veth)?;
    site.join(FRAGMENTING)?;
    site.centre.ip(&format!("link set dev {DEVICE} mtu 2000"))?;
    let origin = INNER_ORIGIN[0].parse()?;
    site.centre.ping(origin, 56).context("a short one")?;

    let unanswered = site.centre.send_ping(origin, LONG)?;
    wait_for_fragments(&site, 2)?;
    // What comes after the fragments is answered after them.
    site.centre
        .ping(origin, 56)
        .context("a short one behind the fragments")?;
    ensure!(
        unanswered.reply(Duration::ZERO)?.is_none(),
        "answered, though nobody decapsulates what is reassembled"
    );

    site.origin.ip(&format!(
        "link add name {DEVICE} type gre local {ORIGIN_V4} remote {CENTRE_V4} ttl 64"
    ))?;
    site.origin.ip(&format!("link set dev {DEVICE} addrgenmode none up"))?;
    site.centre
        .ping(origin, LONG)
        .context("a long one, with a device at the origin")?;
    wait_for_fragments(&site, 4)?;
    // What is whole is still ours: the device sees none of it.
    let (before, _) = site.counted()?;
    site.centre
        .ping(origin, 56)
        .context("a short one, with a device at the origin")?;
    ensure!(site.counted()?.0 == before + 1, "a whole packet went by our program");
    site.part(FRAGMENTING)
}

/// Waits until our program has counted so many.
fn wait_for_fragments(site: &Site, count: u64) -> Result<()> {
    wait_until("the fragments are counted", || {
        Ok(site.counted()?.1["outer_fragment"].as_u64() == Some(count))
    })
}

#[test]
fn outer_fragments_of_ipv6_go_to_the_origins_own_device() -> Result<()> {
    let site = Site::new("outer_fragments_of_ipv6_go_to_the_origins_own_device", Wire::Veth)?;
    site.load(&OVER_IPV6.tunnel())?;
    let address: Ipv6Addr = INNER_ORIGIN[1].parse()?;
    let service = site.origin.run(|| Ok(UdpSocket::bind((address, PORT))?))?;
    service.set_read_timeout(Some(PATIENCE))?;
    let sender = Sender::open(&site.centre, WAN[0])?;
    let send = |message: &[u8]| {
        for fragment in in_two(&site, message)? {
            sender.send(&fragment)?;
        }
        Ok::<_, anyhow::Error>(())
    };

    send(&[1; 600])?;
    wait_for_fragments(&site, 2)?;
    site.origin.ip(&format!(
        "link add name {DEVICE} type ip6gre local {ORIGIN_V6} remote {CENTRE_V6} encaplimit none"
    ))?;
    site.origin.ip(&format!("link set dev {DEVICE} addrgenmode none up"))?;
    send(&[2; 600])?;
    wait_for_fragments(&site, 4)?;
    let mut buffer = [0; 1024];
    let length = service
        .recv(&mut buffer)
        .context("the second one, with a device at the origin")?;
    ensure!(
        buffer[..length] == [2; 600],
        "received another one, which nobody could have decapsulated: {:?}",
        &buffer[..length]
    );
    Ok(())
}

/// A datagram in GRE from the centre to the origin, in two fragments.
fn in_two(site: &Site, message: &[u8]) -> Result<[Vec<u8>; 2]> {
    /// Bytes in the first one.
    const FIRST: usize = 304;
    let (source, destination) = (INNER_CENTRE[1].parse()?, INNER_ORIGIN[1].parse()?);
    let inner = Ipv6 {
        source,
        destination,
        next_header: PROTOCOL_UDP,
        ..Ipv6::default()
    };
    let gre = Gre {
        protocol: ETHERTYPE_IPV6,
        ..Gre::default()
    };
    let datagram = udp_datagram(Addresses::V6(source, destination), message);
    let packet = gre.packet(&inner.packet(&datagram));
    let outer = Ipv6 {
        source: CENTRE_V6.parse()?,
        destination: ORIGIN_V6.parse()?,
        next_header: PROTOCOL_GRE,
        ..Ipv6::default()
    };
    let link = Link {
        destination: site.mac_octets()?,
        ..Link::default()
    };
    // Each message has another.
    let identification = u32::from(message[0]);
    let fragment = |offset: usize, more, part: &[u8]| {
        let outer = Ipv6 {
            extensions: vec![Extension::fragment((offset / 8) as u16, more, identification)],
            ..outer.clone()
        };
        link.frame(ETHERTYPE_IPV6, &outer.packet(part))
    };
    Ok([
        fragment(0, true, &packet[..FIRST]),
        fragment(FIRST, false, &packet[FIRST..]),
    ])
}
