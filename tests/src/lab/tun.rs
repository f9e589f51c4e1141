//! A TUN device: what is routed into it is read here, and what is written here arrives from it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::libc;

use super::ethtool::interface_request;
use super::{Namespace, PATIENCE};

nix::ioctl_readwrite_bad!(
    /// TUNSETIFF: turns an open `/dev/net/tun` into a device, in the namespace that it was opened in.
    tun_set_interface,
    libc::TUNSETIFF,
    libc::ifreq
);

/// A TUN device, up, which is gone once this is dropped. Reading and writing never block.
#[derive(Debug)]
pub struct Tun(File);

impl Tun {
    /// Makes a TUN device named `name` with an MTU in bytes.
    ///
    /// # Errors
    ///
    /// When `/dev/net/tun` is missing, or the name is invalid or taken.
    pub fn create(namespace: &Namespace, name: &str, mtu: u32) -> Result<Self> {
        let file = namespace.run(|| {
            let mut request = interface_request(name)?;
            request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
            let path = "/dev/net/tun";
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(path);
            let file = file.with_context(|| format!("open {path}"))?;
            let deadline = Instant::now() + PATIENCE;
            loop {
                // SAFETY: the descriptor is a TUN control file, and `request` outlives the call.
                match unsafe { tun_set_interface(file.as_raw_fd(), &raw mut request) } {
                    // One of this name that was just closed may still be held by another test's child between fork and exec.
                    Err(Errno::EBUSY) if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
                    result => {
                        result.with_context(|| format!("make TUN device {name}"))?;
                        return Ok(file);
                    }
                }
            }
        })?;
        // Without a link-local address there is no router solicitation or multicast report to be tunnelled. The queue
        // is made long enough for a burst of TCP while the reader is not scheduled.
        namespace.ip(&format!(
            "link set dev {name} mtu {mtu} txqueuelen 10000 addrgenmode none up"
        ))?;
        Ok(Self(file))
    }

    /// Reads one IP packet into `buffer` and returns its length.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is none.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(buffer)
    }

    /// Lets an IP packet arrive from the device.
    ///
    /// # Errors
    ///
    /// When the packet is neither IPv4 nor IPv6, or the device is down.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        (&self.0).write(packet).map(drop)
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
