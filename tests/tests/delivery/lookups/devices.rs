//! Devices that take no redirected frames, or have no link layer.

use anyhow::{Context, Result, ensure};
use gre_tests::frame::{Ipv4, Ipv6};
use gre_tests::lab::{Tun, Wire};
use gre_tests::skip::say;
use gre_user::host::xdp_features;

use super::trial::Trial;
use super::{ROUTE, STACK};
use crate::bench::{datagram_v4, datagram_v6, forwarded, hex, inner_v4, inner_v6};
use crate::net::{Net, mac_text, net_or_return};

#[test]
fn the_kernel_forwards_to_any_device() -> Result<()> {
    to_devices_without_redirects(&net_or_return!(), STACK)
}

#[test]
fn what_takes_no_redirected_frames_gets_them_from_the_kernel() -> Result<()> {
    to_devices_without_redirects(&net_or_return!(), ROUTE)
}

/// Bridges and macvlans, which have no `ndo_xdp_xmit`, and a veth whose other end runs no NAPI.
fn to_devices_without_redirects(net: &Net, lines: &str) -> Result<()> {
    let (router, server) = (&net.router, &net.server);
    for (number, kind) in ["bridge", "macvlan", "veth"].into_iter().enumerate() {
        // Each on a wire of its own to the server.
        let (port, far, net_number) = (format!("port{number}"), format!("far{number}"), 10 + number);
        let far_end = server.end(&far);
        let far_end = if kind == "veth" { far_end } else { far_end.napi() };
        let ends = net.lab.veth(router.end(&port), far_end)?;
        let (mut device, mut mac) = (format!("out{number}"), [2, 0, 0, 1, 0, number as u8]);
        let address = mac_text(mac);
        match kind {
            "bridge" => {
                router.ip(&format!("link add {device} address {address} type bridge"))?;
                router.ip(&format!("link set {port} master {device}"))?;
            }
            "macvlan" => {
                router.ip(&format!(
                    "link add {device} link {port} address {address} type macvlan mode bridge"
                ))?;
            }
            _ => (device, mac) = (port, ends.0.mac),
        }
        router.ip(&format!("address add 10.{net_number}.0.1/24 dev {device}"))?;
        router.ip(&format!("address add 2001:db8:{net_number}::1/64 dev {device} nodad"))?;
        router.ip(&format!("link set {device} up"))?;
        for address in [format!("10.{net_number}.0.80"), format!("2001:db8:{net_number}::80")] {
            let far_mac = mac_text(ends.1.mac);
            router.ip(&format!(
                "neighbour add {address} lladdr {far_mac} dev {device} nud permanent"
            ))?;
        }
        let trial = Trial::new(net, lines)?;
        let wire = Wire::open(server, &far)?;
        if kind == "veth" && trial.counts && !router.run(|| Ok(xdp_features::are_told()?))? {
            say(
                "this kernel does not tell which veth takes no redirected frames (Linux 6.3 does): they are lost, and counted",
            );
            for packet in to_network(net_number as u8)? {
                trial.drops(&packet)?;
            }
            trial.counted("redirect_failed", 4).context(kind)?;
            continue;
        }
        for packet in to_network(net_number as u8)? {
            trial.drops(&packet)?;
            let frame = forwarded(&packet, ends.1.mac, mac)?;
            for _ in 0..2 {
                wire.expect(kind, |seen| seen.bytes == frame)?;
            }
        }
        trial.counted("route_other", 4).context(kind)?;
    }
    Ok(())
}

/// Packets to a neighbour in the network of a number.
fn to_network(number: u8) -> Result<[Vec<u8>; 2]> {
    let v4 = Ipv4 {
        destination: [10, number, 0, 80].into(),
        ..inner_v4()
    };
    let v6 = Ipv6 {
        destination: format!("2001:db8:{number}::80").parse()?,
        ..inner_v6()
    };
    Ok([datagram_v4(&v4, b"by a device"), datagram_v6(&v6, b"by a device")])
}

#[test]
fn the_kernel_forwards_to_a_tun_device() -> Result<()> {
    to_a_tun_device(&net_or_return!(), STACK)
}

#[test]
fn a_tun_device_gets_packets_from_the_kernel() -> Result<()> {
    to_a_tun_device(&net_or_return!(), ROUTE)
}

/// What has no link-layer addresses has no neighbours either: the look-up may stop at that, or at the device.
fn to_a_tun_device(net: &Net, lines: &str) -> Result<()> {
    let tun = Tun::create(&net.router, "vpn0", 1500)?;
    net.router.ip("route add 10.20.0.0/24 dev vpn0")?;
    net.router.ip("route add 2001:db8:20::/64 dev vpn0")?;
    let trial = Trial::new(net, lines)?;
    for packet in to_network(20)? {
        trial.drops(&packet)?;
        // Without the link header that is not there.
        let wanted = &forwarded(&packet, [0; 6], [0; 6])?[14..];
        let mut found = 0;
        let mut buffer = [0; 1500];
        // They came before the markers, which have been seen; the kernel's own multicast reports may, too.
        while let Ok(length) = tun.receive(&mut buffer) {
            found += usize::from(buffer[..length] == *wanted);
        }
        ensure!(found == 2, "{found} of {} by the device", hex(wanted));
    }
    let stats = net.program.stats()?;
    let counted: u64 = ["route_no_neighbour", "route_other"]
        .map(|reason| stats.reason(reason))
        .iter()
        .sum();
    ensure!(counted == if trial.counts { 4 } else { 0 }, "{stats:?}");
    Ok(())
}
