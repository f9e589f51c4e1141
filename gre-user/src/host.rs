//! Facts about this host, and what they mean for a configuration.
//!
//! Everything is read from the kernel when asked for, in the network namespace of the calling thread, and nothing is changed but by
//! those functions of [`clsact`] and [`neighbours`] that are there for it. [`findings()`] does it in two steps: `facts` reads all
//! that matters once, the modules of `findings` judge it.

mod addresses;
mod bpf;
mod capabilities;
pub mod clsact;
mod connections;
pub mod cpus;
pub mod egress;
mod ethtool;
mod facts;
mod finding;
mod findings;
mod firewall;
mod generic_netlink;
mod gre_device;
mod interface;
pub mod kernel_types;
pub mod monitor;
pub mod neighbours;
mod netlink;
#[cfg(test)]
mod recorded;
pub mod routes;
mod subscription;
mod sysctl;
pub mod veth;
pub mod xdp_features;

pub use self::bpf::has_tcx;
pub use self::capabilities::{Capability, missing_capabilities};
pub use self::finding::{Finding, Severity};
pub use self::findings::{findings, lockdown_findings};
pub use self::interface::{AttachedXdp, Interface, XdpMode, interfaces};
