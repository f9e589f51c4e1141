//! What the kernel tells without being asked: the multicast groups of rtnetlink.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Duration, Instant};

use netlink_packet_core::NetlinkPayload;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::netlink::{Message, Messages};

/// A socket that gets what is told to groups, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(super) struct Subscription(Socket);

impl Subscription {
    /// Subscribes to groups: `RTNLGRP_LINK` and others of `linux/rtnetlink.h`.
    pub(super) fn open(groups: &[u32]) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        for &group in groups {
            socket.add_membership(group)?;
        }
        Ok(Self(socket))
    }

    /// Reads all that has been told so far, and returns whether any of it was wanted, or may have been: what came faster
    /// than it was read is lost.
    pub(super) fn drain(&self, mut wanted: impl FnMut(&Message) -> bool) -> io::Result<bool> {
        let mut found = false;
        loop {
            let (datagram, sender) = match self.0.recv_from_full() {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(found),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    found = true;
                    continue;
                }
                Err(error) => return Err(error),
            };
            // Port 0 is the kernel: nobody else has a say.
            if sender.port_number() != 0 {
                continue;
            }
            for message in Messages(&datagram) {
                if let NetlinkPayload::InnerMessage(message) = message?.payload {
                    found |= wanted(&message);
                }
            }
        }
    }

    /// Waits until there is something to read, or the deadline has come: whether there is.
    pub(super) fn wait(&self, deadline: Instant) -> io::Result<bool> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up, for a wait of less than a millisecond would be none.
            let timeout = left.saturating_add(Duration::from_micros(999)).as_millis();
            let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) if Instant::now() < deadline => {}
                Ok(ready) => return Ok(ready > 0),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsRawFd for Subscription {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
