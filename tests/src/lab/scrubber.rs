//! The scrubbing centre: what is routed into a TUN device leaves in GRE, without any GRE in the kernel.
//!
//! The outer header is the kernel's (a raw socket's): TTL 64, and never ECN-capable, which RFC 6040 section 4.1 calls
//! compatibility mode. The TUN device's MTU is what the way to the remote end leaves after the headers, so the kernel
//! tells senders of larger packets, by ICMP, as a router in front of a tunnel does.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use socket2::Socket;

use super::{Namespace, Tun, Tunnel};
use crate::frame::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Gre};

const LARGEST_PACKET: usize = 1 << 16;
/// Packets taken from the device between two looks at whether to stop.
const BATCH: usize = 64;

/// What a scrubber has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets sent through the tunnel.
    pub packets: u64,
    /// Their bytes, without the headers that were added.
    pub bytes: u64,
    /// Packets that could not be sent, as for want of room in a queue, or because the path's MTU is too small.
    pub dropped: u64,
}

/// A running scrubbing centre, which ends when this is dropped.
#[derive(Debug)]
pub struct Scrubber {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    mtu: u32,
}

#[derive(Debug)]
struct Shared {
    stop: EventFd,
    packets: AtomicU64,
    bytes: AtomicU64,
    dropped: AtomicU64,
    failure: OnceLock<String>,
}

impl Scrubber {
    /// Makes a TUN device `device` in `namespace`, and sends what is routed into it through `tunnel`.
    ///
    /// The routes are the caller's to add: `ip route add 192.0.2.0/24 dev DEVICE`.
    ///
    /// # Errors
    ///
    /// As for [`Tun::create`] and [`Tunnel::socket`], and when the way to the remote end is too narrow for the headers.
    pub fn start(namespace: &Namespace, device: &str, tunnel: &Tunnel) -> Result<Self> {
        let socket = tunnel.socket(namespace)?;
        socket
            .set_nonblocking(true)
            .context("make the raw socket non-blocking")?;
        let path_mtu = tunnel.path_mtu(&socket)?;
        let mtu = path_mtu.checked_sub(tunnel.overhead() as u32);
        let mtu = mtu.with_context(|| format!("an MTU of {path_mtu} to {} has no room for GRE", tunnel.remote))?;
        let shared = Arc::new(Shared {
            stop: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).context("make an eventfd")?,
            packets: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            failure: OnceLock::new(),
        });
        let encapsulator = Encapsulator {
            tun: Tun::create(namespace, device, mtu)?,
            socket,
            gre: tunnel.gre.clone(),
            shared: Arc::clone(&shared),
        };
        let thread = thread::Builder::new()
            .name(format!("scrubber {device}"))
            .spawn(move || encapsulator.run());
        Ok(Self {
            shared,
            thread: Some(thread.context("start the scrubber's thread")?),
            mtu,
        })
    }

    /// What it has done so far. A packet that has just arrived at the other end may not be counted yet.
    ///
    /// # Errors
    ///
    /// When it had to stop: why.
    pub fn counts(&self) -> Result<Counts> {
        if let Some(failure) = self.shared.failure.get() {
            bail!("the scrubber stopped: {failure}");
        }
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Shared {
            packets,
            bytes,
            dropped,
            ..
        } = &*self.shared;
        Ok(Counts {
            packets: read(packets),
            bytes: read(bytes),
            dropped: read(dropped),
        })
    }

    /// Ends it, and returns what it has done in all.
    ///
    /// # Errors
    ///
    /// When it had stopped before: why.
    pub fn stop(mut self) -> Result<Counts> {
        self.end()?;
        self.counts()
    }

    /// The MTU inside the tunnel, in bytes.
    pub fn mtu(&self) -> u32 {
        self.mtu
    }

    fn end(&mut self) -> Result<()> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        self.shared.stop.write(1).context("tell the scrubber to stop")?;
        thread.join().map_err(|_| anyhow!("the scrubber's thread panicked"))
    }
}

impl Drop for Scrubber {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error:#}");
        }
    }
}

/// What the scrubber's thread owns.
struct Encapsulator {
    tun: Tun,
    socket: Socket,
    /// The next packet's header.
    gre: Gre,
    shared: Arc<Shared>,
}

impl Encapsulator {
    fn run(mut self) {
        if let Err(error) = self.forward() {
            // Set only here, once, so there is no earlier failure to keep.
            self.shared.failure.get_or_init(|| format!("{error:#}"));
        }
    }

    fn forward(&mut self) -> Result<()> {
        let mut buffer = vec![0; LARGEST_PACKET];
        loop {
            let mut ready =
                [&self.tun as &dyn AsFd, &self.shared.stop].map(|file| PollFd::new(file.as_fd(), PollFlags::POLLIN));
            match poll(&mut ready, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error).context("wait for packets"),
            }
            if ready[1].any() == Some(true) {
                return Ok(());
            }
            for _ in 0..BATCH {
                match self.tun.receive(&mut buffer) {
                    Ok(length) => self.encapsulate(&buffer[..length])?,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error).context("read from the TUN device"),
                }
            }
        }
    }

    fn encapsulate(&mut self, inner: &[u8]) -> Result<()> {
        self.gre.protocol = match inner {
            // The kernel's own multicast reports, for the device's link alone, are not a client's.
            [0x60..=0x6f, rest @ ..] if rest.get(23) == Some(&0xff) => return Ok(()),
            [0x60..=0x6f, ..] => ETHERTYPE_IPV6,
            _ => ETHERTYPE_IPV4, // The device refuses any other.
        };
        let sent = self.send(&self.gre.packet(inner))?;
        // The number is used up even if the packet is lost, as it would be on the way.
        self.gre.sequence = self.gre.sequence.map(|sequence| sequence.wrapping_add(1));
        if sent {
            self.shared.packets.fetch_add(1, Ordering::Relaxed);
            self.shared.bytes.fetch_add(inner.len() as u64, Ordering::Relaxed);
        } else {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether the packet was sent.
    fn send(&self, packet: &[u8]) -> Result<bool> {
        // An ICMP error about an earlier packet is reported once, in place of sending this one.
        for _ in 0..2 {
            loop {
                match self.socket.send(packet) {
                    Ok(_) => return Ok(true),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_for_room()?,
                    Err(_) => break,
                }
            }
            self.discard_errors();
        }
        Ok(false)
    }

    fn wait_for_room(&self) -> Result<()> {
        self.discard_errors(); // They would end the wait.
        match poll(
            &mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)],
            PollTimeout::NONE,
        ) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error).context("wait for room in the raw socket"),
        }
    }

    /// Empties the queue of ICMP errors, which nobody reads otherwise.
    fn discard_errors(&self) {
        let mut error = [std::mem::MaybeUninit::uninit(); 64];
        while self.socket.recv_with_flags(&mut error, libc::MSG_ERRQUEUE).is_ok() {}
    }
}
