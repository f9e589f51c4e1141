//! UDP flows whose datagrams are numbered, so that each one that is lost, doubled or overtaken is known by its number.
//!
//! The sender never runs ahead of the receiver by more than a window, so no queue on the way can overflow that has room
//! for it: whatever is missing was lost by what is under test. (A veth has room for 256 frames.) Between the two there may
//! be anything: [`Flows`] knows two namespaces and an address.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use nix::{getsockopt_impl, sockopt_impl};

use crate::lab::{Namespace, PATIENCE};

/// Room for what is received but not read yet: more than any window.
const BUFFER: usize = 4 << 20;
/// Bytes of flow and number at the head of a datagram.
const HEADER: usize = 12;
/// How long the receiver waits before it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(20);

sockopt_impl!(
    /// SO_INCOMING_CPU: the core on which the socket's latest packet went through the network stack.
    IncomingCpu,
    GetOnly,
    libc::SOL_SOCKET,
    libc::SO_INCOMING_CPU,
    libc::c_int
);

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

/// What is known of one flow.
#[derive(Clone, Debug, Default)]
pub struct Flow {
    /// Datagrams received.
    pub received: u64,
    /// Datagrams received after one that had been sent later.
    pub overtaken: u64,
    /// The cores on which the receiver's network stack got them.
    pub cores: BTreeSet<usize>,
    /// Datagrams sent.
    sent: u64,
    /// One more than the highest number received.
    next: u64,
    /// Numbers below `next` that have not been received.
    missing: BTreeSet<u64>,
}

impl Flow {
    fn receive(&mut self, number: u64) -> Result<()> {
        if number >= self.next {
            self.missing.extend(self.next..number);
            self.next = number + 1;
        } else {
            ensure!(self.missing.remove(&number), "number {number} arrived twice");
            self.overtaken += 1;
        }
        self.received += 1;
        Ok(())
    }
}

#[derive(Debug)]
struct Shared {
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Debug)]
struct Progress {
    sent: u64,
    stop: bool,
    failure: Option<String>,
    flows: Vec<Flow>,
}

impl Progress {
    fn received(&self) -> u64 {
        self.flows.iter().map(|flow| flow.received).sum()
    }

    fn check(&self) -> Result<()> {
        if let Some(failure) = &self.failure {
            bail!("{failure}");
        }
        if self.received() == self.sent {
            return Ok(());
        }
        let missing = self.flows.iter().enumerate().filter_map(|(index, flow)| {
            let numbers: Vec<u64> = flow.missing.iter().copied().chain(flow.next..flow.sent).collect();
            let (first, last) = (numbers.first()?, numbers.last()?);
            Some(format!(
                "of flow {index} {} from {first} to {last} of {}",
                numbers.len(),
                flow.sent
            ))
        });
        let missing: Vec<_> = missing.collect();
        bail!(
            "{} of {} datagrams were lost: {}",
            self.sent - self.received(),
            self.sent,
            missing.join("; ")
        )
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `enough`, a failure, or no progress for as long as [`PATIENCE`], which is a failure.
    fn wait<'a>(
        &'a self,
        mut progress: MutexGuard<'a, Progress>,
        enough: impl Fn(&Progress) -> bool,
    ) -> Result<MutexGuard<'a, Progress>> {
        let mut last = progress.received();
        let mut deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(failure) = &progress.failure {
                bail!("{failure}");
            }
            if enough(&progress) {
                return Ok(progress);
            }
            if progress.received() != last {
                last = progress.received();
                deadline = Instant::now() + PATIENCE;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                progress.check()?;
                bail!("nothing was sent for {PATIENCE:?}");
            }
            let waited = self.changed.wait_timeout(progress, left);
            (progress, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Notes how a thread has ended, for whoever waits.
    fn fail_with(&self, ended: Result<()>) {
        if let Err(error) = ended {
            self.lock().failure.get_or_insert_with(|| format!("{error:#}"));
        }
        self.changed.notify_all();
    }
}

fn send(shared: &Shared, senders: &[UdpSocket], length: usize, window: u64) -> Result<()> {
    let mut datagram = vec![0; length];
    loop {
        for (index, socket) in senders.iter().enumerate() {
            let mut progress = shared.wait(shared.lock(), |progress| {
                progress.stop || progress.sent - progress.received() < window
            })?;
            if progress.stop {
                // All that is on the way has come, or it never will.
                let waited = shared.wait(progress, |progress| progress.sent == progress.received());
                return waited.map(drop);
            }
            let flow = &mut progress.flows[index];
            let number = flow.sent;
            flow.sent += 1;
            progress.sent += 1;
            drop(progress);
            datagram[..4].copy_from_slice(&(index as u32).to_be_bytes());
            datagram[4..HEADER].copy_from_slice(&number.to_be_bytes());
            for (at, byte) in datagram[HEADER..].iter_mut().enumerate() {
                *byte = filler(index, number, at);
            }
            socket
                .send(&datagram)
                .with_context(|| format!("send in flow {index}"))?;
        }
    }
}

fn receive(shared: &Shared, receivers: &[UdpSocket], length: usize) -> Result<()> {
    let mut buffer = vec![0; length + 1];
    loop {
        let mut ready: Vec<_> = receivers
            .iter()
            .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
            .collect();
        match poll(&mut ready, PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("wait for datagrams"),
        }
        let ready: Vec<_> = ready.iter().map(|fd| fd.any() == Some(true)).collect();
        for (index, socket) in receivers.iter().enumerate().filter(|(index, _)| ready[*index]) {
            while let Ok(received) = socket.recv(&mut buffer) {
                let number = number(&buffer[..received], index, length)
                    .with_context(|| format!("what flow {index} received"))?;
                let core = getsockopt(socket, IncomingCpu).context("ask for the core")?;
                let mut progress = shared.lock();
                let flow = &mut progress.flows[index];
                flow.receive(number).with_context(|| format!("flow {index}"))?;
                flow.cores.extend(usize::try_from(core));
                drop(progress);
                shared.changed.notify_all();
            }
        }
        let progress = shared.lock();
        if progress.failure.is_some() || progress.stop && progress.received() == progress.sent {
            return Ok(());
        }
    }
}

/// The number of a datagram, which must be whole and of this flow.
fn number(datagram: &[u8], flow: usize, length: usize) -> Result<u64> {
    ensure!(
        datagram.len() == length,
        "{} bytes, not the {length} sent",
        datagram.len()
    );
    let (head, rest) = datagram.split_first_chunk::<4>().context("a flow")?;
    let (number, filled) = rest.split_first_chunk::<8>().context("a number")?;
    let number = u64::from_be_bytes(*number);
    ensure!(
        u32::from_be_bytes(*head) as usize == flow,
        "a datagram of flow {}",
        u32::from_be_bytes(*head)
    );
    let wrong = filled
        .iter()
        .enumerate()
        .find(|(at, byte)| **byte != filler(flow, number, *at));
    ensure!(wrong.is_none(), "number {number} was changed at {wrong:?}");
    Ok(number)
}

/// A byte of a datagram behind its number.
fn filler(flow: usize, number: u64, at: usize) -> u8 {
    (flow as u64 * 31 + number * 7 + at as u64) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(numbers: &[u64]) -> Flow {
        let mut flow = Flow {
            sent: 5,
            ..Flow::default()
        };
        for number in numbers {
            flow.receive(*number).unwrap();
        }
        flow
    }

    fn check(flow: Flow) -> Result<()> {
        let progress = Progress {
            sent: 5,
            stop: true,
            failure: None,
            flows: vec![flow],
        };
        progress.check()
    }

    #[test]
    fn all_in_order() {
        let flow = received(&[0, 1, 2, 3, 4]);
        assert_eq!((flow.received, flow.overtaken), (5, 0));
        check(flow).unwrap();
    }

    #[test]
    fn overtaken_but_there() {
        let flow = received(&[2, 0, 1, 4, 3]);
        assert_eq!((flow.received, flow.overtaken), (5, 3));
        check(flow).unwrap();
    }

    #[test]
    fn what_is_missing_is_named() {
        let line = |numbers: &[u64]| check(received(numbers)).unwrap_err().to_string();
        assert_eq!(
            line(&[0, 2, 4]),
            "2 of 5 datagrams were lost: of flow 0 2 from 1 to 3 of 5"
        );
        assert_eq!(
            line(&[0, 1]),
            "3 of 5 datagrams were lost: of flow 0 3 from 2 to 4 of 5"
        );
    }

    #[test]
    fn twice_is_an_error() {
        for numbers in [&[0, 1, 1][..], &[2, 0, 0], &[0, 0]] {
            let (last, first) = numbers.split_last().unwrap();
            let error = received(first).receive(*last).unwrap_err().to_string();
            assert_eq!(error, format!("number {last} arrived twice"));
        }
    }

    #[test]
    fn a_datagram_of_another_flow_or_changed_is_an_error() {
        let mut datagram = [&3_u32.to_be_bytes()[..], &9_u64.to_be_bytes()].concat();
        datagram.extend((0..4).map(|at| filler(3, 9, at)));
        assert_eq!(number(&datagram, 3, 16).unwrap(), 9);
        assert!(number(&datagram, 2, 16).is_err());
        assert!(number(&datagram, 3, 17).is_err());
        datagram[14] ^= 1;
        assert!(number(&datagram, 3, 16).is_err());
    }
}
