//! Tunnels between the ends that the generated frames know, as our file has them, and as GRE devices of the kernel.

/// A tunnel that both receivers have.
pub(crate) struct Ends {
    remote: &'static str,
    key: Option<u32>,
    checksum: Checksum,
    /// Whether it keeps order.
    is_ordered: bool,
}

/// Whether packets must have one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Checksum {
    Forbidden,
    Required,
    /// The kernel's device insists on none.
    Optional,
}
use Checksum::{Forbidden, Optional, Required};

/// All of them. The first has the id 1.
pub(crate) const TUNNELS: [Ends; 12] = [
    Ends::new("203.0.113.10", None, Forbidden),
    Ends::new("203.0.113.10", Some(4200), Forbidden),
    Ends::new("203.0.113.11", None, Required),
    Ends::new("203.0.113.10", Some(7), Required),
    Ends::new("203.0.113.12", None, Optional),
    Ends::new("2001:db8:113::10", None, Forbidden),
    Ends::new("2001:db8:113::10", Some(4200), Required),
    Ends::new("2001:db8:113::b", None, Required),
    Ends::new("203.0.113.13", None, Forbidden).ordered(),
    Ends::new("203.0.113.13", Some(7), Required).ordered(),
    Ends::new("2001:db8:113::d", None, Forbidden).ordered(),
    Ends::new("2001:db8:113::d", Some(7), Required).ordered(),
];

/// The id of the tunnel that takes packets with and without checksum.
pub(crate) const OPTIONAL_CHECKSUM: u32 = 5;

pub(crate) const LOCAL_V4: &str = "198.51.100.20";
pub(crate) const LOCAL_V6: &str = "2001:db8:51::20";

/// The tunnels of our file.
pub(crate) fn config() -> String {
    let tunnels = (1..).zip(&TUNNELS).map(|(id, ends)| ends.tunnel(id));
    tunnels.collect()
}

impl Ends {
    const fn new(remote: &'static str, key: Option<u32>, checksum: Checksum) -> Self {
        Self {
            remote,
            key,
            checksum,
            is_ordered: false,
        }
    }

    const fn ordered(self) -> Self {
        Self {
            is_ordered: true,
            ..self
        }
    }

    fn is_v6(&self) -> bool {
        self.remote.contains(':')
    }

    /// The tunnel as our file has it, named after its id.
    fn tunnel(&self, id: u32) -> String {
        let local = if self.is_v6() { LOCAL_V6 } else { LOCAL_V4 };
        let checksum = match self.checksum {
            Forbidden => "forbidden",
            Required => "required",
            Optional => "optional",
        };
        let key = self.key.map_or(String::new(), |key| format!("key = {key}\n"));
        let sequence = if self.is_ordered { "ordered" } else { "ignore" };
        format!(
            "\n[[tunnel]]\nname = \"tunnel{id}\"\nlocal = \"{local}\"\nremote = \"{}\"\n{key}checksum = \"{checksum}\"\n\
             sequence = \"{sequence}\"\ninner = [\"ipv4\", \"ipv6\", \"ethernet\", \"mpls\"]\n",
            self.remote
        )
    }

    /// What `ip link add` takes for a device for packets, or, with `tap`, for frames.
    pub(crate) fn device(&self, tap: &str) -> String {
        let (kind, local, more) = if self.is_v6() {
            ("ip6gre", LOCAL_V6, "encaplimit none")
        } else {
            ("gre", LOCAL_V4, "ttl 64")
        };
        let mut device = format!("type {kind}{tap} local {local} remote {} {more}", self.remote);
        if let Some(key) = self.key {
            device += &format!(" key {key}");
        }
        if self.checksum == Required {
            device += " icsum";
        }
        if self.is_ordered {
            device += " iseq";
        }
        device
    }
}
