//! Echo requests by the kernel's own ICMP socket, so that no `ping` needs to be installed.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Namespace, PATIENCE};

const ICMP_ECHO_REQUEST: u8 = 8;
const ICMPV6_ECHO_REQUEST: u8 = 128;

/// An echo request that is on its way; see [`Namespace::send_ping`].
#[derive(Debug)]
pub struct Ping {
    socket: Socket,
    target: IpAddr,
    data: Vec<u8>,
    sent: Instant,
}

impl Namespace {
    /// Sends one ICMP or ICMPv6 echo request with `length` bytes of data, and waits for the reply to come back with
    /// the same data. Returns the time that took.
    ///
    /// # Errors
    ///
    /// When it cannot be sent, or the reply is another or has not come within [`PATIENCE`].
    pub fn ping(&self, target: IpAddr, length: u16) -> Result<Duration> {
        self.send_ping(target, length)?
            .reply(PATIENCE)?
            .with_context(|| format!("no answer from {target}"))
    }

    /// Sends one ICMP or ICMPv6 echo request with `length` bytes of data.
    ///
    /// # Errors
    ///
    /// When it cannot be sent: for want of a route, say.
    pub fn send_ping(&self, target: IpAddr, length: u16) -> Result<Ping> {
        // Group 0 may open such sockets, without which none may in a new namespace.
        self.sysctl("net.ipv4.ping_group_range", "0 0")?;
        let (domain, protocol, kind) = match target {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, ICMP_ECHO_REQUEST),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, ICMPV6_ECHO_REQUEST),
        };
        let data: Vec<u8> = (0..length).map(|index| index as u8).collect();
        // Checksum and identifier are filled in by the kernel.
        let request = [&[kind, 0, 0, 0, 0, 0, 0, 1], data.as_slice()].concat();
        let (socket, sent) = self.run(|| {
            let socket = Socket::new(domain, Type::DGRAM, Some(protocol)).context("open an ICMP socket")?;
            socket
                .connect(&SocketAddr::new(target, 0).into())
                .with_context(|| format!("reach {target}"))?;
            let sent = Instant::now();
            socket
                .send(&request)
                .with_context(|| format!("send an echo request to {target}"))?;
            Ok((socket, sent))
        })?;
        Ok(Ping {
            socket,
            target,
            data,
            sent,
        })
    }
}

impl Ping {
    /// The time the reply took, or nothing if there is none for as long as `within`.
    ///
    /// # Errors
    ///
    /// When the network answers with an error, or the reply is not what was sent.
    pub fn reply(&self, within: Duration) -> Result<Option<Duration>> {
        let mut reply = vec![0; self.data.len() + 64];
        // A timeout of zero would mean none.
        self.socket
            .set_read_timeout(Some(within.max(Duration::from_millis(1))))
            .context("set the timeout")?;
        let read = loop {
            match (&self.socket).read(&mut reply) {
                // A wait with a limit ends so when the machine sleeps and wakes.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        match read {
            Ok(length) if reply.get(8..length) == Some(&self.data) => Ok(Some(self.sent.elapsed())),
            Ok(length) => bail!("{} answered with {length} bytes that were not sent to it", self.target),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("echo reply from {}", self.target)),
        }
    }
}
