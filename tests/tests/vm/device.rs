//! GRE devices of the kernel: the scrubbing centre's side of a tunnel.

use std::fmt;

use anyhow::{Context, Result};
use gre_tests::lab::Namespace;

use crate::site::{CENTRE_V4, CENTRE_V6, ORIGIN_V4, ORIGIN_V6};

/// The device's name at the scrubbing centre.
pub(crate) const DEVICE: &str = "tunnel";

/// A kind of GRE device, and what it is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    /// As `ip link add … type` takes it.
    pub(crate) kind: &'static str,
    /// Options after the ends.
    pub(crate) options: &'static str,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "type {} {}", self.kind, self.options)
    }
}

const fn device(kind: &'static str, options: &'static str) -> Device {
    Device { kind, options }
}

/// A device of each kind that operators use.
pub(crate) const DEVICES: [Device; 20] = [
    device("gre", ""),
    device("gre", "key 42"),
    device("gre", "csum"),
    device("gre", "seq"),
    device("gre", "key 4294967295 csum seq"),
    device("gre", "ttl 64"),
    device("gre", "ttl inherit"),
    device("gre", "tos inherit"),
    device("gre", "ttl 3 tos 0xb8 key 1 seq"),
    device("gretap", ""),
    device("gretap", "key 42 csum seq"),
    device("ip6gre", ""),
    device("ip6gre", "encaplimit none"),
    device("ip6gre", "encaplimit 7 key 42"),
    device("ip6gre", "csum"),
    device("ip6gre", "encaplimit none seq"),
    device("ip6gre", "key 42 csum seq"),
    device("ip6gre", "encaplimit none tclass inherit hoplimit 9"),
    device("ip6gretap", "encaplimit none"),
    device("ip6gretap", "key 42 csum seq"),
];

/// Those that have the most different ways of all.
pub(crate) const FEW: [Device; 5] = [DEVICES[0], DEVICES[4], DEVICES[10], DEVICES[13], DEVICES[18]];

impl Device {
    pub(crate) fn is_v6(self) -> bool {
        self.kind.starts_with("ip6")
    }

    /// Whether what goes through is Ethernet.
    pub(crate) fn is_tap(self) -> bool {
        self.kind.ends_with("tap")
    }

    /// Whether its packets have sequence numbers.
    pub(crate) fn is_numbered(self) -> bool {
        self.has("seq")
    }

    fn has(self, option: &str) -> bool {
        self.options.split_whitespace().any(|word| word == option)
    }

    /// The value behind an option.
    fn value(self, option: &str) -> Option<&'static str> {
        let mut words = self.options.split_whitespace();
        words.find(|word| *word == option)?;
        words.next()
    }

    /// Makes the device at the scrubbing centre, up, without an address of its own. It gets no packets that are several in one
    /// (GSO): it would count them as one.
    pub(crate) fn create(self, centre: &Namespace) -> Result<()> {
        let (local, remote) = if self.is_v6() {
            (CENTRE_V6, ORIGIN_V6)
        } else {
            (CENTRE_V4, ORIGIN_V4)
        };
        let made = centre.ip(&format!(
            "link add name {DEVICE} gso_max_segs 1 type {} local {local} remote {remote} {}",
            self.kind, self.options
        ));
        made.with_context(|| format!("{self}"))?;
        // Without a link-local address nothing goes through the tunnel that no test sent.
        centre.ip(&format!("link set dev {DEVICE} addrgenmode none up"))?;
        Ok(())
    }

    pub(crate) fn remove(self, centre: &Namespace) -> Result<()> {
        centre.ip(&format!("link delete dev {DEVICE}")).map(drop)
    }

    /// The tunnel as our configuration file has it, as strict as it can be.
    pub(crate) fn tunnel(self) -> String {
        let (local, remote) = if self.is_v6() {
            (ORIGIN_V6, CENTRE_V6)
        } else {
            (ORIGIN_V4, CENTRE_V4)
        };
        let mut text = format!("[[tunnel]]\nname = \"centre\"\nlocal = \"{local}\"\nremote = \"{remote}\"\n");
        if let Some(key) = self.value("key") {
            text += &format!("key = {key}\n");
        }
        text += if self.has("csum") {
            "checksum = \"required\"\n"
        } else {
            "checksum = \"forbidden\"\n"
        };
        if self.has("seq") {
            text += "sequence = \"ordered\"\n";
        }
        text += if self.is_tap() {
            "inner = [\"ethernet\"]\n"
        } else {
            "inner = [\"ipv4\", \"ipv6\"]\n"
        };
        text
    }
}
