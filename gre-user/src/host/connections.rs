//! Who talks to this host now, by what the kernel lists of TCP connections, and who would answer its questions.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use anyhow::{Context, Result};

/// The port of BGP (RFC 4271 section 4).
const BGP: u16 = 179;
/// The port of SSH (RFC 4253 section 4.1).
const SSH: u16 = 22;
/// The port of DNS.
const DNS: u16 = 53;

/// `TCP_ESTABLISHED` of `net/tcp_states.h`.
const ESTABLISHED: &str = "01";

/// Where the host's resolvers are listed, the first that there is: the second is systemd-resolved's list of those that it asks for others.
const RESOLVERS: [&str; 2] = ["/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"];

/// A TCP connection that is established.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Connection {
    /// This host's end.
    pub(super) local: SocketAddr,
    /// The other end.
    pub(super) remote: SocketAddr,
}

impl Connection {
    /// Whether it is a BGP session.
    pub(super) fn is_bgp(&self) -> bool {
        self.local.port() == BGP || self.remote.port() == BGP
    }

    /// Whether somebody is logged in by it.
    pub(super) fn is_ssh(&self) -> bool {
        self.local.port() == SSH
    }
}

/// A server that this host asks, and the address that it asks from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resolver {
    pub(super) address: IpAddr,
    pub(super) asked_from: IpAddr,
}

/// Those of the TCP connections of the calling thread's network namespace that are `wanted`. A busy origin has hundreds of thousands,
/// most of which nobody wants: the list is read line by line, and no more of it is kept.
pub(super) fn connections(wanted: impl Fn(&Connection) -> bool) -> Result<Vec<Connection>> {
    let mut connections = Vec::new();
    for path in ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"] {
        let file = match File::open(path) {
            Ok(file) => file,
            // A kernel without IPv6 has no list of it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).context(path),
        };
        for line in BufReader::new(file).lines() {
            let line = line.context(path)?;
            connections.extend(established(&line).filter(&wanted));
        }
    }
    Ok(connections)
}

/// A line of the list, if it is of an established connection: `sl local_address rem_address st …`.
fn established(line: &str) -> Option<Connection> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, remote) = (fields.next()?, fields.next()?);
    if fields.next()? != ESTABLISHED {
        return None;
    }
    Some(Connection {
        local: end(local)?,
        remote: end(remote)?,
    })
}

/// `0100007F:0016`: the address as words of the host's byte order, the port as a number. IPv4 may be mapped into IPv6.
fn end(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |start: usize| {
        let digits = address.get(start..start + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let address = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let octets: [u8; 16] = words.concat().try_into().ok()?;
            Ipv6Addr::from(octets).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?))
}

/// The connection that this process was started by: `SSH_CONNECTION` as sshd(8) sets it, its own or that of the process that
/// started it, since sudo(8) takes it away.
pub(super) fn login() -> Option<Connection> {
    if let Some(own) = env::var("SSH_CONNECTION").ok().as_deref().and_then(ssh_connection) {
        return Some(own);
    }
    let mut process = "self".to_owned();
    loop {
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let parent = status
            .lines()
            .find_map(|line| line.strip_prefix("PPid:"))?
            .trim()
            .to_owned();
        if parent == "0" {
            return None;
        }
        // Of those that may not be looked at, the parents may.
        let environment = fs::read(format!("/proc/{parent}/environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        let connection = variables.find_map(|variable| {
            let value = str::from_utf8(variable).ok()?.strip_prefix("SSH_CONNECTION=")?;
            ssh_connection(value)
        });
        if connection.is_some() {
            return connection;
        }
        process = parent;
    }
}

/// The client's address and port, then the server's.
fn ssh_connection(text: &str) -> Option<Connection> {
    let mut fields = text.split_ascii_whitespace();
    let mut end = || {
        let address: IpAddr = fields.next()?.parse().ok()?;
        Some(SocketAddr::new(address.to_canonical(), fields.next()?.parse().ok()?))
    };
    let (remote, local) = (end()?, end()?);
    Some(Connection { local, remote })
}

/// The resolvers that this host uses. Those that no route leads to are left out, as are those on this host.
pub(super) fn resolvers() -> Result<Vec<Resolver>> {
    for file in RESOLVERS {
        match fs::read_to_string(file) {
            Ok(text) => {
                let addresses = text.lines().filter_map(nameserver);
                let resolver = |address| {
                    let asked_from = source_towards(SocketAddr::new(address, DNS))?;
                    Some(Resolver { address, asked_from })
                };
                return Ok(addresses.filter_map(resolver).collect());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).context(file),
        }
    }
    Ok(Vec::new())
}

/// `nameserver ADDRESS` of resolv.conf(5).
fn nameserver(line: &str) -> Option<IpAddr> {
    let mut words = line.split_ascii_whitespace();
    let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
    // A link-local one has a zone.
    let (address, _) = address.split_once('%').unwrap_or((address, ""));
    address.parse().ok().filter(|address: &IpAddr| !address.is_loopback())
}

/// The address that this host takes to talk to another; none if no route leads there. Nothing is sent.
fn source_towards(to: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn lines_of_the_kernel() {
        let v4 = "   1: 0100007F:0016 0200007F:D431 01 00000000:00000000 02:000AD5DE 00000000     0        0 22 2 0 20 4 30 10 -1";
        let v6 = "   0: 0000000000000000FFFF00000100007F:00B3 B80D0120000000000000000001000000:C350 01 00000000:00000000 00:0 0 0 0 0 1";
        if cfg!(target_endian = "little") {
            let both = [v4, v6].map(|line| established(line).expect(line));
            assert_eq!(
                both.map(|connection| (connection.local.to_string(), connection.remote.to_string())),
                [
                    ("127.0.0.1:22".to_owned(), "127.0.0.2:54321".to_owned()),
                    ("127.0.0.1:179".to_owned(), "[2001:db8::1]:50000".to_owned()),
                ]
            );
            assert_eq!(
                both.map(|connection| (connection.is_ssh(), connection.is_bgp())),
                [(true, false), (false, true)]
            );
        }
        for line in [
            "  sl  local_address rem_address   st tx_queue rx_queue",
            "   0: 0100007F:0016 00000000:0000 0A 00000000:00000000",
            "   0: 0100007F 0200007F:D431 01",
            "   0: 0100007:0016 0200007F:D431 01",
            "   0: ßß00007F:0016 0200007F:D431 01",
            "",
        ] {
            assert_eq!(established(line), None, "{line}");
        }
    }

    #[test]
    fn a_connection_is_listed() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let stream = TcpStream::connect(listener.local_addr().expect("its address")).expect("a connection");
        let wanted = Connection {
            local: stream.local_addr().expect("its address"),
            remote: stream.peer_addr().expect("its address"),
        };
        let all = connections(|_| true).expect("a list");
        assert!(all.contains(&wanted), "{wanted:?}");
        let chosen = connections(|connection| *connection == wanted).expect("a list");
        assert_eq!(chosen, [wanted]);
    }

    #[test]
    fn what_sshd_says() {
        let connection = ssh_connection("203.0.113.7 50022 192.0.2.80 22").expect("a connection");
        assert_eq!(connection.remote.to_string(), "203.0.113.7:50022");
        assert_eq!(connection.local.to_string(), "192.0.2.80:22");
        let mapped = ssh_connection("::ffff:203.0.113.7 1 ::ffff:192.0.2.80 22").expect("a connection");
        assert_eq!(mapped.remote.ip().to_string(), "203.0.113.7");
        for text in ["", "203.0.113.7", "203.0.113.7 x 192.0.2.80 22", "UNKNOWN 1 UNKNOWN 2"] {
            assert_eq!(ssh_connection(text), None, "{text}");
        }
    }

    #[test]
    fn lines_of_resolv_conf() {
        for (line, address) in [
            ("nameserver 203.0.113.53", Some("203.0.113.53")),
            ("  nameserver\tfe80::1%eth0 # comment", Some("fe80::1")),
            ("nameserver 127.0.0.53", None),
            ("nameserver", None),
            ("# nameserver 203.0.113.53", None),
            ("search example.com", None),
        ] {
            assert_eq!(
                nameserver(line),
                address.map(|address| address.parse().expect(address)),
                "{line}"
            );
        }
    }

    #[test]
    fn a_source_is_found_without_sending() {
        let source = source_towards("127.0.0.9:53".parse().expect("an address"));
        assert_eq!(source, Some(IpAddr::from([127, 0, 0, 1])));
    }
}
