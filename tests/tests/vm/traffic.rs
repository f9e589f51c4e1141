//! What goes through a tunnel: from the centre to the origin in GRE, and straight back.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use anyhow::{Context, Result, ensure};
use gre_tests::lab::{Namespace, PATIENCE};

/// Bytes of no simple pattern.
fn noise(length: usize, seed: usize) -> Vec<u8> {
    let mut word = seed as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let next = || {
        // xorshift64 (Marsaglia 2003).
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Echo requests and their replies, of the shortest, a usual, and the longest length that the tunnel takes whole.
pub(crate) fn ping(from: &Namespace, to: IpAddr) -> Result<()> {
    for length in [0, 56, 1372] {
        from.ping(to, length)
            .with_context(|| format!("ping {to} with {length} bytes"))?;
    }
    Ok(())
}

/// Sends `length` bytes by TCP and gets them back; both ways must be without a flaw.
pub(crate) fn tcp(from: &Namespace, to: &Namespace, address: IpAddr, length: usize) -> Result<()> {
    let listener = to.run(|| Ok(TcpListener::bind(SocketAddr::new(address, 0))?))?;
    let server = listener.local_addr()?;
    let data = noise(length, length);
    thread::scope(|scope| {
        let echo = scope.spawn(|| -> Result<Vec<u8>> {
            let (mut stream, _) = listener.accept()?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut received = Vec::new();
            stream.read_to_end(&mut received).context("receive at the origin")?;
            stream.write_all(&received).context("send at the origin")?;
            Ok(received)
        });
        let mut stream = from
            .run(|| Ok(TcpStream::connect_timeout(&server, PATIENCE)?))
            .with_context(|| format!("connect to {server}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&data).context("send")?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut returned = Vec::new();
        stream.read_to_end(&mut returned).context("receive")?;
        let received = echo
            .join()
            .map_err(|_| anyhow::anyhow!("the origin's thread panicked"))??;
        ensure!(received == data, "{length} bytes sent by TCP, others received");
        ensure!(returned == data, "{length} bytes sent by TCP, others returned");
        Ok(())
    })
}

/// Sends datagrams of all these lengths, and gets each back.
pub(crate) fn udp(
    from: &Namespace,
    to: &Namespace,
    address: IpAddr,
    lengths: impl Iterator<Item = usize>,
) -> Result<()> {
    let any: IpAddr = if address.is_ipv4() {
        [0; 4].into()
    } else {
        [0; 16].into()
    };
    let server = to.run(|| Ok(UdpSocket::bind(SocketAddr::new(address, 0))?))?;
    let client = from.run(|| Ok(UdpSocket::bind(SocketAddr::new(any, 0))?))?;
    client.connect(server.local_addr()?)?;
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(PATIENCE))?;
    }
    let mut buffer = vec![0; 1 << 16];
    for length in lengths {
        let data = noise(length, length);
        client
            .send(&data)
            .with_context(|| format!("send a datagram of {length} bytes"))?;
        let (received, source) = server
            .recv_from(&mut buffer)
            .with_context(|| format!("receive a datagram of {length} bytes at the origin"))?;
        ensure!(
            buffer[..received] == data,
            "a datagram of {length} bytes came as another"
        );
        server.send_to(&data, source)?;
        let returned = client
            .recv(&mut buffer)
            .with_context(|| format!("receive a datagram of {length} bytes back"))?;
        ensure!(
            buffer[..returned] == data,
            "a datagram of {length} bytes came back as another"
        );
    }
    Ok(())
}
