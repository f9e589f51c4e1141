//! Megabytes over TCP, with the hash of what was sent and of what arrived compared.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use gre_tests::lab::PATIENCE;
use sha2::{Digest, Sha256};
use socket2::SockRef;

use super::topology::Topology;

const PORT: u16 = 7001;
const BLOCK: usize = 1 << 16;

/// Which way the bytes go; through the tunnel go those to the service, and the acknowledgements of those from it.
#[derive(Clone, Copy)]
pub(super) enum Direction {
    /// From the origin's service to the client.
    Download,
    /// From the client to the origin's service.
    Upload,
}

/// Sends `length` pseudo-random bytes over one TCP connection of the client to the service.
pub(super) fn run(net: &Topology, service: IpAddr, direction: Direction, length: usize) -> Result<String> {
    let address = SocketAddr::new(service, PORT);
    let listener = net
        .origin
        .run(|| TcpListener::bind(address).with_context(|| format!("serve {address}")))?;
    SockRef::from(&listener)
        .set_read_timeout(Some(PATIENCE))
        .context("set a timeout")?;
    let client = net.client.run(|| {
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
    let seconds = started.elapsed().as_secs_f64();
    ensure!(
        sent == received,
        "what was sent has SHA-256 {sent}, what arrived {received}"
    );
    let megabytes = length as f64 / 1e6;
    Ok(format!(
        "{megabytes:.0} MB in {seconds:.1} s, SHA-256 {}… on both ends",
        &sent[..16]
    ))
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
        match stream
            .read(&mut block)
            .with_context(|| format!("after {count} of {length} bytes"))?
        {
            0 => break,
            read => {
                hash.update(&block[..read]);
                count += read;
            }
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
