//! UDP flows whose datagrams are numbered, so that each one that is lost, doubled or overtaken is known by its number.
//!
//! The sender never runs ahead of the receiver by more than a window, so no queue on the way can overflow that has room
//! for it: whatever is missing was lost by what is under test. (A veth has room for 256 frames.) Between the two there may
//! be anything: [`Flows`] knows two namespaces and an address.

mod datagrams;
mod progress;

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::socket::{setsockopt, sockopt};

use self::datagrams::{receive, send};
pub use self::progress::Flow;
use self::progress::{Progress, Shared};
use crate::lab::Namespace;

/// Room for what is received but not read yet: more than any window.
const BUFFER: usize = 4 << 20;
/// Bytes of flow and number at the head of a datagram.
const HEADER: usize = 12;
/// Flows that are open and do not run yet.
#[derive(Debug)]
pub struct Flows {
    senders: Vec<UdpSocket>,
    receivers: Vec<UdpSocket>,
    length: usize,
}

impl Flows {
    /// Opens `count` flows from `client` to `service`, an address of `server`. They differ in both ports. Datagrams have
    /// `length` bytes.
    ///
    /// # Errors
    ///
    /// When an address or port cannot be had, or `length` leaves no room for flow and number.
    pub fn open(client: &Namespace, server: &Namespace, service: IpAddr, count: u16, length: usize) -> Result<Self> {
        ensure!(length >= HEADER, "a datagram needs {HEADER} bytes, not {length}");
        let any: IpAddr = match service {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        // Ports are the kernel's to choose: a port that was just closed may still be held, for as long as another thread's
        // child takes from its fork to its exec.
        let receivers: Vec<UdpSocket> = server.run(|| {
            let open = |_| {
                let socket =
                    UdpSocket::bind(SocketAddr::new(service, 0)).with_context(|| format!("serve {service}"))?;
                setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).context("make room for datagrams")?;
                socket.set_nonblocking(true)?;
                Ok(socket)
            };
            (0..count).map(open).collect()
        })?;
        let senders: Vec<UdpSocket> = client.run(|| {
            let open = |receiver: &UdpSocket| {
                let socket = UdpSocket::bind(SocketAddr::new(any, 0)).context("open a client's socket")?;
                let address = receiver.local_addr()?;
                socket.connect(address).with_context(|| format!("reach {address}"))?;
                Ok(socket)
            };
            receivers.iter().map(open).collect()
        })?;
        for (receiver, sender) in receivers.iter().zip(&senders) {
            // The kernel notes the core for sockets that have a peer only (__udp_queue_rcv_skb() in net/ipv4/udp.c).
            receiver
                .connect(sender.local_addr()?)
                .context("receive from one client")?;
        }
        Ok(Self {
            senders,
            receivers,
            length,
        })
    }

    /// Starts to send, one datagram of each flow after the other, until told to stop.
    ///
    /// # Errors
    ///
    /// When threads cannot be made.
    pub fn start(self, window: u64) -> Result<Running> {
        let shared = Arc::new(Shared {
            progress: Mutex::new(Progress {
                sent: 0,
                stop: false,
                failure: None,
                flows: vec![Flow::default(); self.receivers.len()],
            }),
            changed: Condvar::new(),
        });
        let (senders, length, to) = (self.senders, self.length, Arc::clone(&shared));
        let sender = thread::Builder::new()
            .name("flows: sender".to_owned())
            .spawn(move || to.fail_with(send(&to, &senders, length, window)));
        let (receivers, from) = (self.receivers, Arc::clone(&shared));
        let receiver = thread::Builder::new()
            .name("flows: receiver".to_owned())
            .spawn(move || from.fail_with(receive(&from, &receivers, length)));
        Ok(Running {
            shared,
            started: Instant::now(),
            threads: vec![
                sender.context("start the sender")?,
                receiver.context("start the receiver")?,
            ],
        })
    }
}

/// Flows that run. They end when this is dropped.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    started: Instant,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    /// Waits until `more` datagrams have arrived from now on.
    ///
    /// # Errors
    ///
    /// When one is lost on the way, which shows by nothing arriving for as long as [`PATIENCE`].
    pub fn wait_for(&self, more: u64) -> Result<()> {
        let progress = self.shared.lock();
        let wanted = progress.received() + more;
        let waited = self.shared.wait(progress, |progress| progress.received() >= wanted);
        waited.map(drop)
    }

    /// Stops sending, and waits for what is on the way.
    ///
    /// # Errors
    ///
    /// When a datagram was lost or doubled: which flow, which numbers.
    pub fn stop(mut self) -> Result<Received> {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| anyhow!("a thread of the flows panicked"))?;
        }
        let progress = self.shared.lock();
        progress.check()?;
        Ok(Received {
            sent: progress.sent,
            time: self.started.elapsed(),
            flows: progress.flows.clone(),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut progress = self.shared.lock();
        progress.stop = true;
        // What is still on the way is not waited for.
        progress
            .failure
            .get_or_insert_with(|| "the flows were dropped".to_owned());
        drop(progress);
        self.shared.changed.notify_all();
    }
}

/// What has arrived: all that was sent, once.
#[derive(Clone, Debug)]
pub struct Received {
    /// Datagrams sent, and received.
    pub sent: u64,
    /// How long that took.
    pub time: Duration,
    /// What is known of each flow.
    pub flows: Vec<Flow>,
}

impl Received {
    /// How many datagrams arrived after one of the same flow that had been sent later.
    pub fn overtaken(&self) -> u64 {
        self.flows.iter().map(|flow| flow.overtaken).sum()
    }

    /// The cores on which the receiver's network stack got the flows.
    pub fn cores(&self) -> BTreeSet<usize> {
        self.flows.iter().flat_map(|flow| flow.cores.iter().copied()).collect()
    }
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sent, seconds) = (self.sent, self.time.as_secs_f64());
        let (flows, rate) = (self.flows.len(), sent as f64 / seconds);
        write!(
            f,
            "{sent} datagrams in {flows} flows in {seconds:.2} s: {rate:.0} a second"
        )?;
        for core in self.cores() {
            let here = self.flows.iter().filter(|flow| flow.cores.contains(&core));
            let (flows, datagrams) = here.fold((0, 0), |(flows, sum), flow| (flows + 1, sum + flow.received));
            write!(f, "; core {core}: {flows} flows, {} %", 100 * datagrams / sent.max(1))?;
        }
        Ok(())
    }
}
