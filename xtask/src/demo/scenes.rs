//! The demo's scenes but for TCP: each checks one claim, and returns the figure that shows it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gre_tests::lab::{Captured, PATIENCE, Tunnel, Wire};

use super::program::{Program, Stats};
use super::topology::{SERVICE_V4, Topology, strangers_tunnel, tunnel};

const PINGS: u16 = 10;
const DATAGRAMS: usize = 200;
const ECHO_PORT: u16 = 7;
/// Length of the Ethernet and the outer IPv4 header.
const OUTER: usize = 14 + 20;

/// Without the program a ping does not come through: the origin's kernel gets GRE that it has no tunnel for, and says
/// so. That answer is waited for, since no wait for a reply that does not come could be long enough.
pub(super) fn refused(net: &Topology) -> Result<String> {
    let wire = Wire::open(&net.scrub, "wan")?;
    let ping = net.client.send_ping(SERVICE_V4, 56)?;
    let unreachable = wire.expect("the kernel's refusal of GRE (ICMP destination unreachable)", |seen| {
        !seen.outgoing
            && seen.bytes.get(12..14) == Some(&[8, 0])
            && seen.bytes.get(23) == Some(&1)
            && icmp_type(seen) == Some(3)
    })?;
    ensure!(
        ping.reply(Duration::from_millis(1))?.is_none(),
        "the ping was answered all the same"
    );
    let code = unreachable.bytes[OUTER + 1];
    let what = if code == 2 {
        "protocol".to_owned()
    } else {
        format!("code {code}")
    };
    Ok(format!(
        "a ping in GRE: refused by the origin's kernel (ICMP {what} unreachable)"
    ))
}

fn icmp_type(frame: &Captured) -> Option<u8> {
    frame.bytes.get(OUTER).copied()
}

/// Echo requests of growing size, each answered with the data that it carried.
pub(super) fn pings(net: &Topology, service: IpAddr) -> Result<String> {
    let mut total = Duration::ZERO;
    for number in 0..PINGS {
        total += net.client.ping(service, 16 + number * 100)?;
    }
    let average = total.as_secs_f64() * 1000.0 / f64::from(PINGS);
    Ok(format!("{PINGS} of {PINGS} answered, in {average:.2} ms on average"))
}

/// A UDP service, and the client's socket that talks to it.
pub(super) struct Echo {
    service: UdpSocket,
    client: UdpSocket,
}

impl Echo {
    pub(super) fn open(net: &Topology, service: IpAddr) -> Result<Self> {
        let address = SocketAddr::new(service, ECHO_PORT);
        let any: IpAddr = if service.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let service = net
            .server
            .run(|| UdpSocket::bind(address).with_context(|| format!("serve {address}")))?;
        let client = net.client.run(|| {
            let client = UdpSocket::bind(SocketAddr::new(any, 0)).context("open the client's socket")?;
            client.connect(address).with_context(|| format!("reach {address}"))?;
            Ok(client)
        })?;
        for socket in [&service, &client] {
            socket.set_read_timeout(Some(PATIENCE)).context("set a timeout")?;
        }
        Ok(Self { service, client })
    }

    fn send(&self, data: &[u8]) -> Result<()> {
        self.client.send(data).map(drop).context("send a datagram")
    }

    /// What the service gets next, and where from.
    fn serve(&self) -> Result<(Vec<u8>, SocketAddr)> {
        let mut data = vec![0; 2048];
        let (length, from) = self
            .service
            .recv_from(&mut data)
            .context("wait for a datagram at the service")?;
        data.truncate(length);
        Ok((data, from))
    }

    /// Sends a datagram to the service and its answer back, and compares.
    pub(super) fn round_trip(&self, data: &[u8]) -> Result<()> {
        self.send(data)?;
        let (asked, from) = self.serve()?;
        ensure!(
            asked == data,
            "the service got {} bytes that are not the {} sent",
            asked.len(),
            data.len()
        );
        self.service.send_to(&asked, from).context("answer")?;
        let mut answer = vec![0; 2048];
        let length = self.client.recv(&mut answer).context("wait for the answer")?;
        ensure!(
            answer[..length] == *data,
            "the client got {length} bytes that are not the {} sent",
            data.len()
        );
        Ok(())
    }
}

/// Datagrams from 1 byte to the largest that the tunnel's MTU holds.
pub(super) fn echoes(net: &Topology, service: IpAddr) -> Result<String> {
    let headers = tunnel().overhead() + if service.is_ipv4() { 20 } else { 40 } + 8;
    let largest = 1500 - headers;
    let echo = Echo::open(net, service)?;
    for number in 0..DATAGRAMS {
        let length = 1 + number * (largest - 1) / (DATAGRAMS - 1);
        let data: Vec<u8> = (0..length).map(|index| (index * 7 + number) as u8).collect();
        echo.round_trip(&data)
            .with_context(|| format!("datagram {number}, of {length} bytes"))?;
    }
    Ok(format!(
        "{DATAGRAMS} of {DATAGRAMS} datagrams came back unchanged, of 1 to {largest} bytes"
    ))
}

/// A GRE packet that came through, sent again with one bit of its checksum turned over, is refused.
pub(super) fn wrong_checksum(net: &Topology, program: &Program) -> Result<String> {
    replay(net, program, &tunnel(), "checksum_bad", |packet| packet[5] ^= 1)
}

/// A GRE packet that came through, sent again by an address that is not configured, is refused.
pub(super) fn stranger(net: &Topology, program: &Program) -> Result<String> {
    replay(net, program, &strangers_tunnel(), "unknown_tunnel", |_| {})
}

/// Sends a real client's GRE packet once more, `altered`, through `by`, and shows that it comes to the counter of
/// `reason` and not to the service, although the same packet, unaltered and by the right tunnel, does.
fn replay(net: &Topology, program: &Program, by: &Tunnel, reason: &str, altered: impl Fn(&mut [u8])) -> Result<String> {
    let echo = Echo::open(net, SERVICE_V4)?;
    let wire = Wire::open(&net.scrub, "wan")?;
    let data = format!("once, and once more for {reason}").into_bytes();
    echo.round_trip(&data)?;
    let frame = wire.expect("the datagram in GRE", |seen| {
        seen.outgoing && seen.bytes.ends_with(&data)
    })?;
    let packet = &frame.bytes[OUTER..];

    tunnel()
        .socket(&net.scrub)?
        .send(packet)
        .context("send the packet again")?;
    ensure!(
        echo.serve()?.0 == data,
        "the packet sent again as it was did not come through"
    );

    let before = program.stats()?;
    let mut forged = packet.to_vec();
    altered(&mut forged);
    by.socket(&net.scrub)?
        .send(&forged)
        .context("send the packet that is to be refused")?;
    // Wires keep the order: whatever the service gets next was sent later, or the forged packet came through.
    let marker = b"sent after the forged packet";
    echo.round_trip(marker).context("the forged packet came through")?;
    let after = program.stats()?;
    let counted = after.reason(reason).saturating_sub(before.reason(reason));
    ensure!(counted == 1, "`{reason}` went up by {counted}, not by 1");
    let refused = after.refused().saturating_sub(before.refused());
    ensure!(refused == 1, "{refused} packets were refused, not 1");
    Ok(format!("not delivered, counted as {reason}: {counted}"))
}

/// Every GRE packet on the wire was decapsulated (and then perhaps handed to the kernel to find its way), refused for a reason,
/// or lost before the program saw it; and what was taken off each is the outer IPv4 header and a GRE header with checksum and
/// key.
pub(super) fn counters_agree(stats: &Stats, on_the_wire: u64, lost: u64) -> Result<String> {
    let tunnel_stats = stats.tunnel()?;
    let (packets, refused) = (
        tunnel_stats.packets,
        stats.refused() - stats.reason("route_no_neighbour"),
    );
    let sum = format!("{packets} decapsulated + {refused} refused + {lost} lost by the wire");
    ensure!(packets + refused + lost == on_the_wire, "{sum}, but {on_the_wire} sent");
    let overhead = tunnel().overhead() as u64;
    let taken_off = tunnel_stats.outer_bytes.saturating_sub(tunnel_stats.bytes);
    ensure!(
        taken_off == packets * overhead,
        "{taken_off} bytes of headers on {packets} packets, not {overhead} each"
    );
    Ok(format!("{sum} = {on_the_wire} sent"))
}
