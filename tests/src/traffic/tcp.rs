//! Megabytes over TCP, with the hash of what was sent and of what arrived compared.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use sha2::{Digest, Sha256};
use socket2::SockRef;

use crate::lab::{Namespace, PATIENCE};

const BLOCK: usize = 1 << 16;

/// Which way the bytes go; the acknowledgements go the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the service to the client.
    Download,
    /// From the client to the service.
    Upload,
}

/// A transfer that has ended, with the same hash at both ends.
#[derive(Clone, Debug)]
pub struct Transferred {
    /// Bytes that arrived.
    pub bytes: usize,
    /// How long they took, from the first sent to the last received.
    pub time: Duration,
    /// SHA-256 of what was sent and of what was received, in hexadecimal digits.
    pub sha256: String,
}

/// Sends `length` pseudo-random bytes over one TCP connection from `client` to a service at `address` in `server`, on a port that
/// nobody uses.
///
/// # Errors
///
/// When the connection is not made, or stalls longer than [`PATIENCE`]; and when other bytes arrive than were sent.
pub fn transfer(
    client: &Namespace,
    server: &Namespace,
    address: IpAddr,
    direction: Direction,
    length: usize,
) -> Result<Transferred> {
    let listener = server.run(|| TcpListener::bind((address, 0)).with_context(|| format!("serve {address}")))?;
    let address = listener.local_addr().context("the service's port")?;
    SockRef::from(&listener)
        .set_read_timeout(Some(PATIENCE))
        .context("set a timeout")?;
    let client = client.run(|| {
        TcpStream::connect_timeout(&address, PATIENCE).with_context(|| format!("the client's connection to {address}"))
    })?;
    let (server, _) = listener
        .accept()
        .with_context(|| format!("a connection at {address}"))?;
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(PATIENCE)).context("set a timeout")?;
        stream.set_write_timeout(Some(PATIENCE)).context("set a timeout")?;
    }
    let (sender, receiver) = match direction {
        Direction::Download => (server, client),
        Direction::Upload => (client, server),
    };

    let started = Instant::now();
    let (sent, received) = thread::scope(|scope| {
        let sending = scope.spawn(|| send(sender, length));
        let received = receive(receiver, length);
        let sent = sending.join().map_err(|_| anyhow!("the sender panicked"))?;
        anyhow::Ok((sent.context("send")?, received.context("receive")?))
    })?;
    let time = started.elapsed();
    ensure!(
        sent == received,
        "what was sent has SHA-256 {sent}, what arrived {received}"
    );
    Ok(Transferred {
        bytes: length,
        time,
        sha256: sent,
    })
}

fn send(mut stream: TcpStream, length: usize) -> Result<String> {
    let (mut hash, mut state, mut left) = (Sha256::new(), 0x6772_652d_6465_6361_u64, length);
    let mut block = vec![0; BLOCK];
    while left > 0 {
        for word in block.chunks_exact_mut(8) {
            word.copy_from_slice(&pseudo_random(&mut state).to_le_bytes());
        }
        let part = &block[..left.min(BLOCK)];
        hash.update(part);
        stream
            .write_all(part)
            .with_context(|| format!("with {left} of {length} bytes left"))?;
        left -= part.len();
    }
    stream.shutdown(Shutdown::Write).context("end the stream")?;
    Ok(hexadecimal(hash))
}

fn receive(mut stream: TcpStream, length: usize) -> Result<String> {
    let (mut hash, mut count) = (Sha256::new(), 0);
    let mut block = vec![0; BLOCK];
    loop {
        match stream.read(&mut block) {
            Ok(0) => break,
            Ok(read) => {
                hash.update(&block[..read]);
                count += read;
            }
            // A wait with a limit ends so when the machine sleeps and wakes.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).with_context(|| format!("after {count} of {length} bytes")),
        }
    }
    ensure!(count == length, "{count} of {length} bytes arrived");
    Ok(hexadecimal(hash))
}

/// SplitMix64: bytes that neither repeat nor compress, so that no lost or swapped packet goes unseen.
fn pseudo_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

fn hexadecimal(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
