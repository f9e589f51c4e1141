//! A scrubbing centre with a GRE device of the kernel, an origin with `gre-decap`, and a wire between them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use gre_tests::guest::{CARDS, ROUTED_CARDS};
use gre_tests::lab::{Lab, Namespace, PATIENCE};
use gre_tests::skip::{binary_or_skip, say};
use serde_json::Value;

use crate::device::{DEVICE, Device};

pub(crate) const CENTRE_V4: &str = "203.0.113.10";
pub(crate) const ORIGIN_V4: &str = "198.51.100.20";
pub(crate) const CENTRE_V6: &str = "2001:db8:a::10";
pub(crate) const ORIGIN_V6: &str = "2001:db8:a::20";

/// The ends inside the tunnel.
pub(crate) const INNER_CENTRE: [&str; 2] = ["192.168.7.1", "fd00:7::1"];
pub(crate) const INNER_ORIGIN: [&str; 2] = ["192.168.7.2", "fd00:7::2"];

/// The wire's interfaces.
pub(crate) const WAN: [&str; 2] = ["wan", "wan0"];

/// What the wire is made of, and where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// A veth pair, and the program in its driver.
    Veth,
    /// The same, and the program in the kernel's own receive path.
    Generic,
    /// Two network cards of the virtual machine, joined outside, and the program in their driver, virtio_net.
    Virtio,
    /// The same with two others, of which the origin's has several queues.
    Queues,
}

/// The place.
pub(crate) struct Site {
    lab: Lab,
    pub(crate) centre: Namespace,
    pub(crate) origin: Namespace,
    wire: Wire,
    binary: PathBuf,
}

impl Site {
    /// A site for the test `name`.
    pub(crate) fn new(name: &str, wire: Wire) -> Result<Self> {
        let lab = Lab::for_test(name).context("a laboratory")?;
        let binary = binary_or_skip(name).context("a gre-decap to test")?;
        let (centre, origin) = (lab.namespace("centre")?, lab.namespace("origin")?);
        match wire {
            Wire::Veth | Wire::Generic => {
                lab.veth(centre.end(WAN[0]), origin.end(WAN[1]))?;
            }
            Wire::Virtio => take_cards(&CARDS, [&centre, &origin], WAN)?,
            Wire::Queues => take_cards(&ROUTED_CARDS, [&centre, &origin], WAN)?,
        }
        for (namespace, interface, v4, v6) in [
            (&centre, WAN[0], format!("{CENTRE_V4} peer {ORIGIN_V4}"), CENTRE_V6),
            (&origin, WAN[1], format!("{ORIGIN_V4} peer {CENTRE_V4}"), ORIGIN_V6),
        ] {
            namespace.ip(&format!("address add {v4} dev {interface}"))?;
            namespace.ip(&format!("address add {v6}/64 dev {interface} nodad"))?;
            wait_until("the wire is up", || {
                let shown = namespace.ip(&format!("-oneline link show dev {interface}"))?;
                Ok(shown.contains("LOWER_UP") && !shown.contains(" qdisc noop "))
            })?;
        }
        // What is inside is at home on no interface, so that it is answered whichever way it comes.
        for (address, length) in INNER_ORIGIN.iter().zip([32, 128]) {
            origin.ip(&format!("address add {address}/{length} dev lo"))?;
        }
        // Replies go straight back.
        origin.ip(&format!("route add {} via {CENTRE_V4} dev {}", INNER_CENTRE[0], WAN[1]))?;
        origin.ip(&format!("route add {} via {CENTRE_V6} dev {}", INNER_CENTRE[1], WAN[1]))?;
        Ok(Self {
            lab,
            centre,
            origin,
            wire,
            binary,
        })
    }

    /// Loads our program at the origin, and makes the device at the centre, with addresses and routes: in this order, for a
    /// device reports its multicast groups as soon as it is there, and not a packet is to be missed.
    pub(crate) fn join(&self, device: Device) -> Result<()> {
        self.load(&device.tunnel())?;
        device.create(&self.centre)?;
        for (address, peer) in INNER_CENTRE.iter().zip(INNER_ORIGIN) {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            self.centre
                .ip(&format!("address add {address} peer {peer} dev {DEVICE} {nodad}"))?;
            if device.is_tap() {
                // Answers to the question who has the address would not come through the tunnel.
                let mac = self.mac()?;
                self.centre
                    .ip(&format!("neighbour replace {peer} lladdr {mac} dev {DEVICE}"))?;
            }
        }
        Ok(())
    }

    /// Undoes [`Self::join`].
    pub(crate) fn part(&self, device: Device) -> Result<()> {
        self.gre_decap("", "unload")?;
        device.remove(&self.centre)
    }

    /// Loads our program at the origin.
    pub(crate) fn load(&self, tunnels: &str) -> Result<()> {
        self.gre_decap(tunnels, "load").map(drop)
    }

    /// Runs `gre-decap` at the origin, and gives what it wrote.
    pub(crate) fn gre_decap(&self, tunnels: &str, arguments: &str) -> Result<String> {
        let mode = if self.wire == Wire::Generic {
            "generic"
        } else {
            "native"
        };
        let text = format!("[[interface]]\nname = \"{}\"\nmode = \"{mode}\"\n{tunnels}", WAN[1]);
        let file = self.lab.write_file("config.toml", &text)?;
        let mut command = self.origin.command(&self.binary);
        command.arg("--config").arg(file).args(arguments.split_whitespace());
        let done = command.output().context("run gre-decap")?;
        ensure!(
            done.status.success(),
            "gre-decap {arguments}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(String::from_utf8(done.stdout)?)
    }

    /// How many packets our program has decapsulated, and how many it has refused for each reason.
    pub(crate) fn counted(&self) -> Result<(u64, Value)> {
        let stats: Value = serde_json::from_str(&self.gre_decap("", "stats --json")?)?;
        let packets = stats["tunnels"][0]["packets"].as_u64().unwrap_or(0);
        Ok((packets, stats["reasons"].clone()))
    }

    /// Waits until our program has had every packet that the device at the centre has sent, has decapsulated it, and refused
    /// none: but for those that the kernel has numbered on one processor and sent after later ones from another.
    pub(crate) fn check_counts(&self, device: Device) -> Result<()> {
        const LATE: &str = "sequence";
        let path = format!("/sys/class/net/{DEVICE}/statistics/tx_packets");
        // Reports of multicast groups go out in the kernel's own time: it has sent more each time it is asked.
        let sent = || -> Result<u64> { self.centre.run(|| Ok(fs::read_to_string(&path)?.trim().parse()?)) };
        let mut counts = (0, 0, Value::Null);
        let agreed = wait_until("every packet is counted", || {
            let sent = sent()?;
            let (decapsulated, reasons) = self.counted()?;
            counts = (sent, decapsulated, reasons);
            Ok(counts.0 == counts.1 + counts.2[LATE].as_u64().unwrap_or(0))
        });
        let (sent, decapsulated, reasons) = counts;
        agreed.with_context(|| format!("{sent} packets sent, {decapsulated} decapsulated, refused {reasons}"))?;
        let mut refused: Vec<_> = reasons
            .as_object()
            .context("`stats --json` has no reasons")?
            .iter()
            .filter(|(_, count)| count.as_u64() != Some(0))
            .collect();
        if device.is_numbered() {
            refused.retain(|(reason, _)| *reason != LATE);
        }
        ensure!(refused.is_empty(), "refused {refused:?}");
        let late = sent - decapsulated;
        if late > 0 {
            say(&format!("{device}: {late} of {sent} packets were sent late"));
        }
        Ok(())
    }

    /// The hardware address of the origin's interface.
    pub(crate) fn mac(&self) -> Result<String> {
        let path = format!("/sys/class/net/{}/address", WAN[1]);
        self.origin.run(|| Ok(fs::read_to_string(&path)?.trim().to_owned()))
    }

    /// The same as octets.
    pub(crate) fn mac_octets(&self) -> Result<[u8; 6]> {
        let mac = self.mac()?;
        let mut octets = mac.split(':').map(|octet| u8::from_str_radix(octet, 16));
        let mut address = [0; 6];
        for octet in &mut address {
            *octet = octets.next().context("a MAC address has six octets")??;
        }
        Ok(address)
    }
}

/// Waits, with patience.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so()? {
        ensure!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Moves the machine's cards with these addresses into namespaces, where they are up under other names. Those of an earlier test
/// come back when its namespaces are gone.
pub(crate) fn take_cards(macs: &[&str; 2], namespaces: [&Namespace; 2], names: [&str; 2]) -> Result<()> {
    for ((mac, namespace), name) in macs.iter().zip(namespaces).zip(names) {
        let mut card = None;
        wait_until(&format!("the machine's network card {mac} is there"), || {
            card = card_with(mac)?;
            Ok(card.is_some())
        })?;
        take_card(&card.context("a card")?, namespace, name)?;
    }
    Ok(())
}

/// The name that the card with this address has now.
fn card_with(mac: &str) -> Result<Option<String>> {
    for entry in fs::read_dir("/sys/class/net")? {
        let entry = entry?;
        // Interfaces of others come and go meanwhile.
        let address = fs::read_to_string(entry.path().join("address")).unwrap_or_default();
        if address.trim() == mac {
            return Ok(Some(entry.file_name().to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}

fn take_card(card: &str, namespace: &Namespace, name: &str) -> Result<()> {
    let to = namespace.path();
    let mut ip = Command::new("ip");
    ip.args(["link", "set", "dev", card, "down", "name", name, "netns", &to]);
    let done = ip.output().context("run ip")?;
    if !done.status.success() {
        bail!("move {card}: {}", String::from_utf8_lossy(&done.stderr));
    }
    namespace.ip(&format!("link set dev {name} up"))?;
    Ok(())
}
