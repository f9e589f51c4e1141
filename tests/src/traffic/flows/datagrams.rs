//! The numbered datagrams, sent and received.

use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::getsockopt;
use nix::{getsockopt_impl, sockopt_impl};

use super::HEADER;
use super::progress::Shared;

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

pub(super) fn send(shared: &Shared, senders: &[UdpSocket], length: usize, window: u64) -> Result<()> {
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

pub(super) fn receive(shared: &Shared, receivers: &[UdpSocket], length: usize) -> Result<()> {
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
