//! A GRE tunnel from the sender's side, and the raw socket that sends into it.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use nix::libc;
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};
use socket2::{Domain, Protocol, Socket, Type};

use super::Namespace;
use crate::frame::{Gre, PROTOCOL_GRE};

sockopt_impl!(
    /// IP_MTU_DISCOVER: whether the kernel sets Don't Fragment.
    IpMtuDiscover,
    SetOnly,
    libc::IPPROTO_IP,
    libc::IP_MTU_DISCOVER,
    libc::c_int
);
sockopt_impl!(
    /// IPV6_MTU_DISCOVER: whether the kernel may fragment.
    Ipv6MtuDiscover,
    SetOnly,
    libc::IPPROTO_IPV6,
    libc::IPV6_MTU_DISCOVER,
    libc::c_int
);
sockopt_impl!(
    /// IPV6_MTU: the path MTU to the peer, in bytes.
    Ipv6Mtu,
    GetOnly,
    libc::IPPROTO_IPV6,
    libc::IPV6_MTU,
    libc::c_int
);

/// A GRE tunnel from the sender's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The sender's address, which must be one of its namespace's.
    pub local: IpAddr,
    /// The receiver's address, of the same family.
    pub remote: IpAddr,
    /// The GRE header of the first packet, but for its protocol type, which is the payload's. A sequence number is
    /// counted up from there; the rest is the same in every packet.
    pub gre: Gre,
    /// Whether outer packets carry IPv4's Don't Fragment bit, as the kernel's do by default; and whether larger ones
    /// than the path takes are refused (true) or fragmented (false), for IPv6 too.
    pub dont_fragment: bool,
}

impl Tunnel {
    /// A tunnel as Linux makes it unless told otherwise: no optional fields, Don't Fragment set.
    pub fn new(local: IpAddr, remote: IpAddr) -> Self {
        Self {
            local,
            remote,
            gre: Gre::default(),
            dont_fragment: true,
        }
    }

    /// The same with another GRE header.
    #[must_use]
    pub fn with_gre(self, gre: Gre) -> Self {
        Self { gre, ..self }
    }

    /// Bytes that encapsulation adds: outer IP header and GRE header.
    pub fn overhead(&self) -> usize {
        let outer = if self.remote.is_ipv4() { 20 } else { 40 };
        outer + self.gre.header_len()
    }

    /// A raw socket in `namespace` that sends from `local` to `remote` what begins with a GRE header.
    ///
    /// # Errors
    ///
    /// When `local` is no address of the namespace, or there is no route to `remote`.
    pub fn socket(&self, namespace: &Namespace) -> Result<Socket> {
        namespace.run(|| {
            let domain = if self.remote.is_ipv4() {
                Domain::IPV4
            } else {
                Domain::IPV6
            };
            let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(i32::from(PROTOCOL_GRE))))
                .context("open a raw socket")?;
            if self.remote.is_ipv4() {
                let discover = if self.dont_fragment {
                    libc::IP_PMTUDISC_DO
                } else {
                    libc::IP_PMTUDISC_DONT
                };
                setsockopt(&socket, IpMtuDiscover, &discover).context("set path MTU discovery")?;
                // Otherwise what a full queue threw away counts as sent (ip_send_skb() in net/ipv4/ip_output.c).
                setsockopt(&socket, sockopt::Ipv4RecvErr, &true).context("ask for errors")?;
            } else {
                let discover = if self.dont_fragment {
                    libc::IPV6_PMTUDISC_DO
                } else {
                    libc::IPV6_PMTUDISC_DONT
                };
                setsockopt(&socket, Ipv6MtuDiscover, &discover).context("set path MTU discovery")?;
                setsockopt(&socket, sockopt::Ipv6RecvErr, &true).context("ask for errors")?;
            }
            let (local, remote) = (SocketAddr::new(self.local, 0), SocketAddr::new(self.remote, 0));
            socket
                .bind(&local.into())
                .with_context(|| format!("send from {}", self.local))?;
            socket
                .connect(&remote.into())
                .with_context(|| format!("send to {}", self.remote))?;
            Ok(socket)
        })
    }

    /// The MTU of the way to `remote`, in bytes, as a socket of this tunnel knows it.
    pub(super) fn path_mtu(&self, socket: &Socket) -> Result<u32> {
        let mtu = if self.remote.is_ipv4() {
            getsockopt(socket, sockopt::IpMtu)
        } else {
            getsockopt(socket, Ipv6Mtu)
        };
        let mtu = mtu.with_context(|| format!("path MTU to {}", self.remote))?;
        u32::try_from(mtu).with_context(|| format!("path MTU to {}: {mtu}", self.remote))
    }
}
