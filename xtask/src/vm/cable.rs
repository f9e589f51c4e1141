//! A wire between two of a machine's network cards that leads through this host. Cards that QEMU itself joins have one queue;
//! a tap can have several, and then the card's receive hash chooses one, as in hardware.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, anyhow};
use gre_tests::{
    guest::{QUEUES, ROUTED_CARDS},
    lab::{Lab, Namespace},
};

/// The taps: that of the card that sends, and that of the card with several queues.
const TAPS: [&str; 2] = ["sender", "receiver"];
/// Where taps come from.
const DEVICE: &str = "/dev/net/tun";
/// As the cards are behind a driver of the guest's: each packet is whole, with all its checksums.
const NO_OFFLOADS: &str = "csum=off,gso=off,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off";

/// Two taps and a bridge between them, in a network namespace of their own, with which they go.
pub(super) struct Cable {
    namespace: Namespace,
    _lab: Lab,
}

impl Cable {
    /// Lays one.
    ///
    /// # Errors
    ///
    /// What is missing, and the kernel's.
    pub(super) fn lay() -> Result<Self> {
        Lab::available().map_err(|missing| anyhow!("missing {missing}"))?;
        fs::metadata(DEVICE).with_context(|| format!("missing {DEVICE}"))?;
        let lab = Lab::new()?;
        let namespace = lab.namespace("the wire between a machine's cards")?;
        namespace.ip("link add name wire type bridge mcast_snooping 0")?;
        for (tap, several) in TAPS.into_iter().zip(["", "multi_queue"]) {
            namespace.ip(&format!("tuntap add dev {tap} mode tap {several}"))?;
            namespace.ip(&format!("link set dev {tap} addrgenmode none master wire up"))?;
        }
        namespace.ip("link set dev wire addrgenmode none up")?;
        Ok(Self { namespace, _lab: lab })
    }

    /// A command where the taps are.
    pub(super) fn command(&self, program: impl AsRef<Path>) -> Command {
        self.namespace.command(program)
    }

    /// What makes QEMU give the machine the two cards.
    pub(super) fn arguments() -> Vec<String> {
        let vectors = 2 * QUEUES + 2;
        let several = format!(",mq=on,rss=on,hash=on,vectors={vectors}");
        let cards = TAPS.into_iter().zip(ROUTED_CARDS).zip([(1, ""), (QUEUES, &several)]);
        cards
            .flat_map(|((tap, mac), (queues, more))| {
                [
                    "-netdev".to_owned(),
                    format!("tap,id={tap},ifname={tap},script=no,downscript=no,queues={queues}"),
                    "-device".to_owned(),
                    format!("virtio-net-pci,netdev={tap},romfile=,mac={mac},{NO_OFFLOADS}{more}"),
                ]
            })
            .collect()
    }
}
