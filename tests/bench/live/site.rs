//! A host that receives, with a wire to it and a wire out of it.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, anyhow, ensure};
use aya::programs::tc::TcAttachType;
use aya::{Ebpf, EbpfLoader};
use gre_tests::figures::kernel::Receiver;
use gre_tests::frame::{Addresses, ETHERTYPE_IPV4, Ipv4, Link, Mac, PROTOCOL_UDP, Packet, udp_datagram};
use gre_tests::lab::{Interface, Lab, Namespace};
use nix::sys::socket::{self, sockopt};
use serde_json::Value;

use super::attach::{attach_tc, attach_xdp};
use crate::shapes::{LOCAL, REMOTE, plain};

/// The host's way to the rest of the world.
const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// Where inner packets come from.
pub(super) const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 7);
/// Inner destinations: a route there says that they are thrown away, a socket receives them, a route leads on.
const NOWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 180);
const BEHIND: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 240);
/// The UDP port.
const PORT: u16 = 443;
/// Bytes of the inner packets' UDP payload.
const PAYLOAD: usize = 100;
/// Bytes that the socket holds, and that the kernel takes for a packet at most: a page and a `struct sk_buff`.
const ROOM: usize = 256 << 20;

/// The host's interfaces.
pub(crate) const WAN: &str = "wan0";
pub(crate) const LAN: &str = "lan0";
/// Its neighbours' ends of the wires.
const NET: &str = "net0";
const RACK: &str = "rack0";
/// The kernel's GRE device.
const DEVICE: &str = "gre1";

/// What an inner packet is to meet at the end of its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A blackhole route.
    Nowhere,
    /// The queue of a UDP socket.
    Socket,
    /// The wire out.
    Behind,
}

impl End {
    fn address(self) -> Ipv4Addr {
        match self {
            Self::Nowhere => NOWHERE,
            Self::Socket => SERVER,
            Self::Behind => BEHIND,
        }
    }
}

/// The host, and who it is connected to.
pub(crate) struct Site {
    /// Whence frames come.
    pub(crate) net: Namespace,
    pub(crate) host: Namespace,
    /// Whither they go: all are dropped on arrival.
    rack: Namespace,
    pub(crate) net_end: Interface,
    pub(crate) wan: Interface,
    pub(crate) lan: Interface,
    rack_mac: Mac,
    socket: UdpSocket,
    binary: PathBuf,
    lab: Lab,
    /// What is attached as long as this lives.
    _attached: Vec<Ebpf>,
}

impl Site {
    /// A host with no receiver of GRE yet, on whose wire so many queues carry each direction.
    pub(crate) fn new(binary: PathBuf, queues: u32) -> Result<Self> {
        let lab = Lab::new()?;
        let (net, host, rack) = (lab.namespace("net")?, lab.namespace("host")?, lab.namespace("rack")?);
        for namespace in [&net, &host, &rack] {
            // Else the kernel tells its neighbours of multicast groups in its own time, which would be counted.
            namespace.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        }
        let wan_address = format!("{LOCAL}/24");
        let (net_end, wan) = lab.veth(
            net.end(NET).gro().queues(queues),
            host.end(WAN).gro().queues(queues).address(&wan_address),
        )?;
        let (lan, rack_end) = lab.veth(
            host.end(LAN).gro().queues(queues).address("10.0.0.1/24"),
            rack.end(RACK).gro().queues(queues),
        )?;
        host.sysctl("net.ipv4.ip_forward", "1")?;
        let rack_mac = text(rack_end.mac);
        host.ip(&format!(
            "neighbour replace 10.0.0.2 lladdr {rack_mac} dev {LAN} nud permanent"
        ))?;
        host.ip(&format!("route add {BEHIND} via 10.0.0.2"))?;
        host.ip(&format!("route add blackhole {NOWHERE}"))?;
        host.ip(&format!("address add {SERVER}/32 dev lo"))?;
        let net_mac = text(net_end.mac);
        host.ip(&format!(
            "neighbour replace {ROUTER} lladdr {net_mac} dev {WAN} nud permanent"
        ))?;
        host.ip(&format!("route add default via {ROUTER} dev {WAN}"))?;
        let socket = host.run(|| {
            let socket = UdpSocket::bind((SERVER, PORT)).context("the socket")?;
            socket.set_nonblocking(true)?;
            socket::setsockopt(&socket, sockopt::RcvBufForce, &ROOM).context("room in the socket's queue")?;
            Ok(socket)
        })?;
        let sink = rack.run(|| attach_xdp("sink", RACK))?;
        Ok(Self {
            net,
            host,
            rack,
            net_end,
            wan,
            lan,
            rack_mac: rack_end.mac,
            socket,
            binary,
            lab,
            _attached: vec![sink],
        })
    }

    /// Makes a GRE device of the kernel's.
    pub(crate) fn add_device(&self) -> Result<()> {
        self.host.ip(&format!(
            "link add name {DEVICE} type gre local {LOCAL} remote {REMOTE} ttl 64"
        ))?;
        self.host.ip(&format!("link set dev {DEVICE} addrgenmode none up"))?;
        // The namespace's own device, and this one, take their settings from where they were made.
        self.host.sysctl(&format!("net.ipv4.conf.{DEVICE}.rp_filter"), "0")
    }

    /// Drops what the kernel's device has received, at the first place there is.
    pub(crate) fn drop_behind_device(&self) -> Result<Ebpf> {
        self.host
            .run(|| attach_tc(EbpfLoader::new(), "sink_behind", DEVICE, TcAttachType::Ingress))
    }

    /// Gives the client an address where frames come from, and a way to the server with room for outer headers on it.
    pub(crate) fn connect_client(&self) -> Result<()> {
        for (namespace, interface) in [(&self.net, NET), (&self.host, WAN)] {
            namespace.ip(&format!("link set dev {interface} mtu 1600"))?;
        }
        let mac = text(self.wan.mac);
        self.net.ip(&format!("address add {CLIENT}/32 dev {NET}"))?;
        self.net.ip(&format!(
            "neighbour replace {LOCAL} lladdr {mac} dev {NET} nud permanent"
        ))?;
        self.net
            .ip(&format!("route add {SERVER} via {LOCAL} dev {NET} onlink mtu 1500"))
            .map(drop)
    }

    /// Puts what leaves for here into GRE.
    pub(crate) fn encapsulate(&self) -> Result<Ebpf> {
        let mut outer = in_gre(&[]).ip_packet();
        // Length and checksum are those of each packet.
        for field in [2, 10] {
            outer[field..field + 2].fill(0);
        }
        let outer: [u8; 24] = outer
            .try_into()
            .map_err(|_| anyhow!("the outer headers are not of 24 bytes"))?;
        let words = outer[..20].as_chunks::<2>().0;
        let sum: u32 = words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum();
        self.net.run(|| {
            let mut loader = EbpfLoader::new();
            loader.override_global("OUTER", &outer, true);
            loader.override_global("OUTER_SUM", &sum, true);
            attach_tc(loader, "encapsulate", NET, TcAttachType::Egress)
        })
    }

    /// Attaches one of the benchmark's own programs to the wire's end here.
    pub(crate) fn attach(&self, program: &str) -> Result<Ebpf> {
        self.host.run(|| attach_xdp(program, WAN))
    }

    /// Loads our program, with one tunnel and these more lines of its own, and after it these.
    pub(crate) fn load(&self, tunnel: &str, more: &str) -> Result<()> {
        let next_hop = text(self.rack_mac);
        let tunnel = tunnel.replace("NEXT_HOP", &next_hop);
        let config = format!(
            "[[interface]]\nname = \"{WAN}\"\n[[tunnel]]\nname = \"scrub\"\nlocal = \"{LOCAL}\"\nremote = \"{REMOTE}\"\n\
             {tunnel}\n{more}\n"
        );
        let file = self.lab.write_file("config.toml", &config)?;
        self.gre_decap(&["--config", &file.to_string_lossy(), "load"]).map(drop)
    }

    pub(crate) fn unload(&self) -> Result<()> {
        self.gre_decap(&["unload"]).map(drop)
    }

    /// The id of our program.
    pub(crate) fn program_id(&self) -> Result<u32> {
        let status: Value = serde_json::from_str(&self.gre_decap(&["status", "--json"])?)?;
        let id = status["program"]["id"]
            .as_u64()
            .context("`status --json` names no program")?;
        Ok(u32::try_from(id)?)
    }

    fn gre_decap(&self, arguments: &[&str]) -> Result<String> {
        let mut command: Command = self.host.command(&self.binary);
        let done = command.args(arguments).output().context("run gre-decap")?;
        ensure!(
            done.status.success(),
            "gre-decap {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(String::from_utf8(done.stdout)?)
    }

    /// What stands in the places where packets are counted.
    pub(crate) fn counts(&self, receiver: Receiver) -> Result<Counts> {
        let snmp = "/proc/thread-self/net/snmp";
        let text = self.host.run(|| fs::read_to_string(snmp).context(snmp))?;
        let stack = ip_in_receives(&text).with_context(|| format!("{snmp} has no InReceives"))?;
        let (device, stats) = match receiver {
            Receiver::Nobody | Receiver::Strip | Receiver::StripCounted => (0, Value::Null),
            Receiver::Kernel => (self.host.statistic(DEVICE, "rx_packets")?, Value::Null),
            Receiver::Ours => (0, serde_json::from_str(&self.gre_decap(&["stats", "--json"])?)?),
        };
        let ours = |count: &Value| count.as_u64().unwrap_or(0);
        Ok(Counts {
            stack,
            device,
            decapsulated: ours(&stats["tunnels"][0]["packets"]),
            refused: ours(&stats["reasons"]["inner_destination"]),
            left: self.rack.statistic(RACK, "rx_packets")?,
            came: self.host.statistic(WAN, "rx_packets")?,
        })
    }

    /// Empties the socket's queue; gives how many packets were in it.
    pub(crate) fn drain(&self) -> Result<u64> {
        let mut buffer = [0; PAYLOAD + 1];
        let mut received = 0;
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(len) => {
                    ensure!(len == PAYLOAD, "a message of {len} bytes, not {PAYLOAD}");
                    received += 1;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(received),
                Err(error) => return Err(error).context("receive"),
            }
        }
    }

    /// An inner packet in a frame of its own.
    pub(crate) fn bare(&self, end: End) -> Frame {
        let link = self.link();
        Frame {
            bytes: link.frame(ETHERTYPE_IPV4, &inner(end)),
            inner_at: link.header_len(),
        }
    }

    /// The same in GRE.
    pub(crate) fn in_gre(&self, end: End) -> Frame {
        let packet = Packet {
            link: self.link(),
            ..in_gre(&inner(end))
        };
        Frame {
            bytes: packet.frame(),
            inner_at: packet.payload_offset(),
        }
    }

    fn link(&self) -> Link {
        Link {
            destination: self.wan.mac,
            source: self.net_end.mac,
            ..Link::default()
        }
    }
}

/// A frame, and where in it the inner IP header begins.
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
    pub(crate) inner_at: usize,
}

/// Where packets were counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// IP packets that the host's stack received, outer and inner ones.
    pub(crate) stack: u64,
    /// Packets that the kernel's GRE device received.
    pub(crate) device: u64,
    /// Packets that our program decapsulated.
    pub(crate) decapsulated: u64,
    /// Packets that it dropped for their inner destination.
    pub(crate) refused: u64,
    /// Frames that arrived where the wire out leads.
    pub(crate) left: u64,
    /// Frames that the wire brought.
    pub(crate) came: u64,
}

impl Counts {
    /// What was counted since.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            stack: self.stack - before.stack,
            device: self.device - before.device,
            decapsulated: self.decapsulated - before.decapsulated,
            refused: self.refused - before.refused,
            left: self.left - before.left,
            came: self.came - before.came,
        }
    }
}

fn in_gre(payload: &[u8]) -> Packet {
    Packet {
        payload: payload.to_vec(),
        ..plain()
    }
}

/// UDP without a checksum, so that the source can change, and no receiver pays for it.
fn inner(end: End) -> Vec<u8> {
    const CHECKSUM_AT: usize = 6;
    let header = Ipv4 {
        protocol: PROTOCOL_UDP,
        source: CLIENT,
        destination: end.address(),
        ..Ipv4::default()
    };
    let addresses = Addresses::V4(header.source, header.destination);
    let mut datagram = udp_datagram(addresses, &[0xa5; PAYLOAD]);
    datagram[CHECKSUM_AT..CHECKSUM_AT + 2].fill(0);
    header.packet(&datagram)
}

/// From two lines that begin with "Ip:", names and numbers.
fn ip_in_receives(snmp: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter(|line| line.starts_with("Ip: "));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let place = names.split(' ').position(|name| name == "InReceives")?;
    numbers.split(' ').nth(place)?.parse().ok()
}

fn text(mac: Mac) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}
