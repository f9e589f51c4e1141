//! Two receivers of the same frames: the kernel's GRE devices, and our program with the same tunnels.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use gre_tests::frame::{
    Addresses, ETHERTYPE_IPV4, Gre, Ipv4, Link, Outer, PROTOCOL_GRE, PROTOCOL_UDP, Packet, udp_datagram,
};
use gre_tests::lab::{Captured, Lab, Namespace, Wire};
use gre_tests::skip::binary_or_skip;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::ends::{LOCAL_V4, LOCAL_V6, TUNNELS, config};

/// The far end of a tunnel for nothing but markers, which no generated frame comes from but by chance.
const MARKER_REMOTE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
/// What fits into one buffer, as far as which the decision on the host and in the driver see the same.
const MTU: u32 = 3000;
/// The first interface of every namespace. What the kernel answers to itself passes it.
const LOOPBACK: u32 = 1;
/// Both receivers have this address, and all frames are sent to it.
pub(crate) const MAC: [u8; 6] = [2, 0, 0, 0, 0xd0, 1];
/// An EtherType for experiments (IEEE 802), which no stack answers.
const MARKER_TYPE: u16 = 0x88b5;
const TAGS: [[u8; 2]; 2] = [[0x81, 0x00], [0x88, 0xa8]];
const MAC_ADDRESSES: usize = 12;
const TAG: usize = 4;
const ETHERNET_HEADER: usize = 14;

/// What both receivers made of a frame.
#[derive(Debug)]
pub(crate) struct Received {
    /// The frames that came through our program.
    pub(crate) ours: Vec<Vec<u8>>,
    /// What the kernel's GRE devices received.
    pub(crate) kernels: Vec<Vec<u8>>,
}

/// The receivers, and wires to and from them.
pub(crate) struct Pair {
    to_ours: Wire,
    from_ours: Wire,
    to_kernel: Wire,
    from_kernel: Wire,
    /// The wire's own interface at the kernel's receiver.
    kernels_wire: u32,
    /// The index of the device that receives markers, and how many have been sent.
    marker: u32,
    sent: u64,
    // What keeps all alive.
    _namespaces: [Namespace; 3],
    _lab: Lab,
}

impl Pair {
    pub(crate) fn new() -> Result<Self> {
        const NAME: &str = "differential";
        let lab = Lab::for_test(NAME).context("a laboratory")?;
        let binary = binary_or_skip(NAME).context("a gre-decap to test")?;
        let (sender, ours, kernel) = (
            lab.namespace("sender")?,
            lab.namespace("ours")?,
            lab.namespace("kernel")?,
        );
        let (to_ours, _) = lab.veth(sender.end("ours").mtu(MTU), ours.end("wan0").mtu(MTU))?;
        let (to_kernel, wire) = lab.veth(sender.end("kernel").mtu(MTU), kernel.end("wan0").mtu(MTU))?;
        for receiver in [&ours, &kernel] {
            let mac = MAC.map(|octet| format!("{octet:02x}")).join(":");
            receiver.ip(&format!("link set dev wan0 address {mac}"))?;
        }
        kernel.ip(&format!("address add {LOCAL_V4}/32 dev wan0"))?;
        kernel.ip(&format!("address add {LOCAL_V6}/128 dev wan0 nodad"))?;
        for (number, ends) in TUNNELS.iter().enumerate() {
            for tap in ["", "tap"] {
                let name = format!("gre{tap}-{number}");
                kernel.ip(&format!("link add name {name} {}", ends.device(tap)))?;
                kernel.ip(&format!("link set dev {name} addrgenmode none up"))?;
            }
        }
        kernel.ip(&format!(
            "link add name marker type gre local {LOCAL_V4} remote {MARKER_REMOTE} ttl 64"
        ))?;
        kernel.ip("link set dev marker addrgenmode none up")?;

        let text = format!("{}\n[[interface]]\nname = \"wan0\"\n", config());
        let file = lab.write_file("config.toml", &text)?;
        let mut load = ours.command(binary);
        let done = load.arg("--config").arg(file).arg("load").output()?;
        ensure!(done.status.success(), "load: {}", String::from_utf8_lossy(&done.stderr));
        // What is received is handled on the processor that sends. On one, in order.
        let mut first = CpuSet::new();
        first.set(0)?;
        sched_setaffinity(Pid::from_raw(0), &first).context("stay on one processor")?;
        let marker = kernel.run(|| Ok(nix::net::if_::if_nametoindex("marker")?))?;
        Ok(Self {
            to_ours: Wire::open(&sender, &to_ours.name)?,
            from_ours: Wire::open(&ours, "wan0")?,
            to_kernel: Wire::open(&sender, &to_kernel.name)?,
            from_kernel: Wire::open_all(&kernel)?,
            kernels_wire: wire.index,
            marker,
            sent: 0,
            _namespaces: [sender, ours, kernel],
            _lab: lab,
        })
    }

    /// The frame with the receivers' address; none if no packet socket sends it, or shows it whole.
    pub(crate) fn addressed(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let mut frame = frame.to_vec();
        frame.get_mut(..MAC.len())?.copy_from_slice(&MAC);
        let is_sendable = (ETHERNET_HEADER..=MTU as usize).contains(&frame.len());
        (is_sendable && is_shown(&frame) && without_tags(&frame).len() >= ETHERNET_HEADER).then_some(frame)
    }

    /// Sends a frame to both, and waits until both have received it. The kernel gets it without its VLAN tags, for which it
    /// has no device. No more than one is on its way: of a burst, packet sockets are shown frames that nobody else wants after those
    /// that somebody does (__netif_receive_skb_list_core()).
    pub(crate) fn receive(&mut self, frame: &[u8]) -> Result<Received> {
        self.sent += 1;
        let (marker, packet) = (marker_frame(self.sent), marker_packet(self.sent));
        self.to_ours.send(frame)?;
        self.to_ours.send(&marker)?;
        self.to_kernel.send(&without_tags(frame))?;
        self.to_kernel.send(&packet.frame())?;

        let came = |seen: &Captured| !seen.outgoing;
        let ours = self
            .from_ours
            .until("the marker", |seen| came(seen) && seen.bytes == marker)?;
        let kernels = self.from_kernel.until("the marker in GRE", |seen| {
            came(seen) && seen.interface == self.marker && seen.bytes == packet.payload
        })?;
        let bytes = |seen: Vec<Captured>, is_wanted: &dyn Fn(&Captured) -> bool| {
            let wanted = seen.into_iter().filter(|seen| came(seen) && is_wanted(seen));
            wanted.map(|seen| seen.bytes).collect()
        };
        Ok(Received {
            ours: bytes(ours, &|seen| seen.bytes != marker),
            kernels: bytes(kernels, &|seen| {
                ![LOOPBACK, self.kernels_wire, self.marker].contains(&seen.interface)
            }),
        })
    }
}

/// Whether a socket sees a frame: the kernel drops one whose outermost tag is cut short before (skb_vlan_untag()).
pub(crate) fn is_shown(frame: &[u8]) -> bool {
    !is_tagged(frame) || frame.len() >= ETHERNET_HEADER + TAG + 2
}

fn is_tagged(frame: &[u8]) -> bool {
    frame
        .get(MAC_ADDRESSES..)
        .and_then(<[u8]>::first_chunk)
        .is_some_and(|ether_type| TAGS.contains(ether_type))
}

/// The frame without the tags that our program looks behind.
fn without_tags(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    for _ in 0..2 {
        if is_tagged(&frame) && frame.len() >= MAC_ADDRESSES + TAG {
            frame.drain(MAC_ADDRESSES..MAC_ADDRESSES + TAG);
        }
    }
    frame
}

/// What follows a frame, each with a number of its own, so that none is taken for another.
fn marker_frame(number: u64) -> Vec<u8> {
    let header = [&MAC[..], &[2, 0, 0, 0, 0xee, 0xee], &MARKER_TYPE.to_be_bytes()].concat();
    [header, number.to_be_bytes().to_vec(), vec![0x5a; 38]].concat()
}

/// The same, in GRE.
fn marker_packet(number: u64) -> Packet {
    let inner = Ipv4 {
        protocol: PROTOCOL_UDP,
        ..Ipv4::default()
    };
    let addresses = Addresses::V4(inner.source, inner.destination);
    let payload = inner.packet(&udp_datagram(addresses, &number.to_be_bytes()));
    Packet {
        link: Link {
            destination: MAC,
            ..Link::default()
        },
        outer: Outer::V4(Ipv4 {
            source: MARKER_REMOTE,
            destination: [198, 51, 100, 20].into(),
            protocol: PROTOCOL_GRE,
            ..Ipv4::default()
        }),
        gre: Gre {
            protocol: ETHERTYPE_IPV4,
            ..Gre::default()
        },
        payload,
        padding: Vec::new(),
    }
}
