//! A router in a network namespace, by whose interfaces, routes and neighbours the loaded program forwards.
//!
//! Its interfaces: `wan0`, where the tunnels come in; `lan0`, towards the servers, which takes packets of any size; `lan1`, with an
//! MTU of 1500; `lan2`, which takes no redirected frames.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use gre_common::Reason;
use gre_common::target::{Macs, Target};
use gre_tests::frame::{Link, Mac, Packet};
use gre_tests::lab::{Interface, Lab, Namespace};
use gre_user::bpf::InterfaceLink;
use gre_user::surroundings::Surroundings;

use crate::kernel::{Kernel, Run, XDP_DROP, XDP_PASS};
use crate::support::outcome::{Counted, Counter, hex};

/// The servers' router on `lan0`, and on the other interfaces.
pub(crate) const NEXT_HOP: Mac = [0x02, 0, 0, 0, 0xaa, 0x01];
/// The next hop on `wan0`.
pub(crate) const UPSTREAM: Mac = [0x02, 0, 0, 0, 0xbb, 0x01];

/// Prefixes of destinations, by what becomes of packets to them. The IPv6 ones have `2001:db8:N::/48` for `192.0.N.0/24`.
const ROUTES: [(&str, &str); 8] = [
    // By `lan0`.
    ("192.0.2.0/24", "via 10.0.0.2"),
    ("192.0.3.0/24", "via 10.0.0.3"),
    ("192.0.4.0/24", "via 10.1.0.2"),
    ("192.0.5.0/24", "via 10.2.0.2"),
    ("192.0.6.0/24", "via 198.51.100.10"),
    ("192.0.7.0/24", "blackhole"),
    ("192.0.8.0/24", "unreachable"),
    ("192.0.9.0/24", "prohibit"),
];
const ROUTES6: [(&str, &str); 8] = [
    ("2001:db8:2::/48", "via 2001:db8:a0::2"),
    ("2001:db8:3::/48", "via 2001:db8:a0::3"),
    ("2001:db8:4::/48", "via 2001:db8:a1::2"),
    ("2001:db8:5::/48", "via 2001:db8:a2::2"),
    ("2001:db8:6::/48", "via 2001:db8:51::10"),
    ("2001:db8:7::/48", "blackhole"),
    ("2001:db8:8::/48", "unreachable"),
    ("2001:db8:9::/48", "prohibit"),
];

/// Who answers, and where; `10.0.0.3` does not.
const NEIGHBOURS: [(&str, &str, Mac); 8] = [
    ("10.0.0.2", "lan0", NEXT_HOP),
    ("10.1.0.2", "lan1", NEXT_HOP),
    ("10.2.0.2", "lan2", NEXT_HOP),
    ("198.51.100.10", "wan0", UPSTREAM),
    ("2001:db8:a0::2", "lan0", NEXT_HOP),
    ("2001:db8:a1::2", "lan1", NEXT_HOP),
    ("2001:db8:a2::2", "lan2", NEXT_HOP),
    ("2001:db8:51::10", "wan0", UPSTREAM),
];

/// The router, with the program of a configuration on `wan0`.
pub(crate) struct Router {
    pub(crate) namespace: Namespace,
    pub(crate) kernel: Kernel,
    pub(crate) wan: Interface,
    pub(crate) lan: Interface,
    // The kernel takes `wan0` for an ingress interface only with a program.
    _link: InterfaceLink,
    // Keeps the interfaces' other ends.
    _others: Namespace,
}

/// Where tunnels deliver that do so to an interface.
pub(crate) enum To {
    /// By `lan0` to [`NEXT_HOP`].
    Lan,
    /// By `lan0` to nobody yet.
    Nobody,
    /// By `lan2`, which takes no redirected frames.
    Deaf,
    /// Back by `wan0` to [`UPSTREAM`].
    Back,
    /// Nowhere at the moment.
    Nowhere,
}

/// What is to become of a packet.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The XDP action.
    pub(crate) action: u32,
    /// The frame; whatever it is of one that is dropped.
    pub(crate) frame: Vec<u8>,
    /// What is counted beside its delivery, or instead.
    pub(crate) reason: Option<Reason>,
    /// Whether it is also counted as a reply to a health probe.
    pub(crate) is_probe: bool,
    /// Whether it is delivered, and counted so.
    pub(crate) is_delivered: bool,
}

impl Wanted {
    /// Sent on by an XDP action in an untagged frame between these addresses.
    pub(crate) fn sent(action: u32, destination: Mac, source: Mac, ethertype: u16, payload: &[u8]) -> Self {
        let link = Link {
            destination,
            source,
            tags: Vec::new(),
        };
        Self {
            action,
            frame: link.frame(ethertype, payload),
            reason: None,
            is_probe: false,
            is_delivered: true,
        }
    }

    /// Given to the kernel, decapsulated.
    pub(crate) fn kernels(packet: &Packet, reason: Reason) -> Self {
        Self {
            action: XDP_PASS,
            frame: packet.link.frame(packet.gre.protocol, &packet.payload),
            reason: Some(reason),
            is_probe: false,
            is_delivered: true,
        }
    }

    /// Passed as it came.
    pub(crate) fn passed(packet: &Packet, reason: Reason) -> Self {
        Self {
            action: XDP_PASS,
            frame: packet.frame(),
            reason: Some(reason),
            is_probe: false,
            is_delivered: false,
        }
    }

    /// The same of a reply to a health probe.
    pub(crate) fn probe(self) -> Self {
        Self { is_probe: true, ..self }
    }

    pub(crate) fn dropped(reason: Reason) -> Self {
        Self {
            action: XDP_DROP,
            frame: Vec::new(),
            reason: Some(reason),
            is_probe: false,
            is_delivered: false,
        }
    }
}

impl Router {
    /// The router, whose tunnels that deliver to an interface all do so `to` one place. Their ids are from 1 on.
    pub(crate) fn new(lab: &Lab, config: &str, to: &[To]) -> Result<Self> {
        Self::with(lab, config, to, Kernel::load_in)
    }

    /// The same with the program loaded that way.
    pub(crate) fn with(
        lab: &Lab,
        config: &str,
        to: &[To],
        load: impl FnOnce(&str, &Surroundings) -> Result<Kernel> + Send,
    ) -> Result<Self> {
        let (others, namespace) = (lab.namespace("others")?, lab.namespace("router")?);
        let wan = namespace.end("wan0").mtu(3000);
        let wan = wan.address("198.51.100.20/24").address("2001:db8:51::20/64");
        let (_, wan) = lab.veth(others.end("wan").mtu(3000), wan)?;
        let lan = namespace.end("lan0").mtu(65_535);
        let lan = lan.address("10.0.0.1/24").address("2001:db8:a0::1/64");
        let (_, lan) = lab.veth(others.end("lan").mtu(65_535), lan)?;
        let small = namespace
            .end("lan1")
            .address("10.1.0.1/24")
            .address("2001:db8:a1::1/64");
        let (_, small) = lab.veth(others.end("small"), small)?;
        let deaf = namespace
            .end("lan2")
            .address("10.2.0.1/24")
            .address("2001:db8:a2::1/64");
        let (_, deaf) = lab.veth(others.end("deaf"), deaf)?;
        for (address, interface, mac) in NEIGHBOURS {
            let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
            namespace.ip(&format!(
                "neighbour add {address} lladdr {mac} dev {interface} nud permanent"
            ))?;
        }
        for (prefix, way) in ROUTES.into_iter().chain(ROUTES6) {
            let (kind, way) = if way.starts_with("via") { ("", way) } else { (way, "") };
            namespace.ip(&format!("route add {kind} {prefix} {way}"))?;
        }
        for family in ["ipv4", "ipv6"] {
            namespace.sysctl(&format!("net.{family}.conf.all.forwarding"), "1")?;
        }

        let target = |to: &To| {
            let (interface, destination) = match to {
                To::Lan => (&lan, NEXT_HOP),
                To::Nobody => (&lan, [0; 6]),
                To::Deaf => (&deaf, NEXT_HOP),
                To::Back => (&wan, UPSTREAM),
                To::Nowhere => return None,
            };
            Some(Target {
                interface: interface.index,
                macs: Macs::new(destination, interface.mac),
            })
        };
        let targets = (1..).zip(to).filter_map(|(id, to)| Some((id, target(to)?)));
        let surroundings = Surroundings {
            macs: BTreeMap::from([(wan.index, wan.mac)]),
            devices: BTreeSet::from([lan.index, small.index]),
            targets: targets.collect(),
        };
        let (kernel, link) = namespace.run(|| {
            let mut kernel = load(config, &surroundings)?;
            let link = kernel.attach(wan.index)?;
            Ok((kernel, link))
        })?;
        Ok(Self {
            namespace,
            kernel,
            wan,
            lan,
            _link: link,
            _others: others,
        })
    }

    /// Runs the program on a frame that comes in on `wan0`.
    pub(crate) fn run(&mut self, frame: &[u8], first: usize) -> Result<Run> {
        let (namespace, kernel, wan) = (&self.namespace, &mut self.kernel, self.wan.index);
        namespace.run(|| kernel.run_on(wan, frame, first))
    }

    /// The packet in a frame for `wan0`.
    pub(crate) fn addressed(&self, mut packet: Packet) -> Packet {
        packet.link.destination = self.wan.mac;
        packet
    }

    /// Checks what becomes of a packet of the tunnel with this id.
    pub(crate) fn check(&mut self, tunnel: u32, packet: &Packet, wanted: &Wanted) -> Result<()> {
        self.check_split(tunnel, packet, packet.frame().len(), wanted)
    }

    /// The same with `first` bytes of it in the first buffer.
    pub(crate) fn check_split(&mut self, tunnel: u32, packet: &Packet, first: usize, wanted: &Wanted) -> Result<()> {
        let frame = packet.frame();
        let context = || {
            format!(
                "{first} of {} bytes in the first buffer: {}",
                frame.len(),
                hex(&frame[..frame.len().min(200)])
            )
        };
        let run = self.run(&frame, first).with_context(context)?;
        ensure!(
            run.action == wanted.action,
            "{}: XDP action {} instead of {}, counted {:?}",
            context(),
            run.action,
            wanted.action,
            run.counted
        );
        ensure!(
            run.action == XDP_DROP || run.frame == wanted.frame,
            "{}:\nwanted {}\ngot    {}",
            context(),
            hex(&wanted.frame),
            hex(&run.frame)
        );
        let mut counted = Counted::new();
        if wanted.is_delivered {
            counted.insert((tunnel, Counter::Packets), 1);
            counted.insert((tunnel, Counter::Bytes), packet.payload.len() as u64);
            counted.insert((tunnel, Counter::OuterBytes), packet.ip_packet().len() as u64);
        }
        if wanted.is_probe {
            counted.insert((tunnel, Counter::of(Reason::Probe)), 1);
        }
        if let Some(reason) = wanted.reason {
            counted.insert((tunnel, Counter::of(reason)), 1);
        }
        ensure!(
            run.counted == counted,
            "{}: wanted {counted:?} counted, got {:?}",
            context(),
            run.counted
        );
        Ok(())
    }
}
