//! TCP through the tunnel, beside the same TCP without one. Both have XDP in the driver: a veth without it would carry frames of
//! many segments, and nothing could be compared.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use gre_tests::figures::kernel::Receiver;
use gre_tests::figures::path::Throughput;
use gre_tests::lab::PATIENCE;
use socket2::SockRef;

use super::site::{CLIENT, SERVER, Site, WAN};
use crate::measure::quantile;

const BLOCK: usize = 1 << 17;

/// A way from client to server.
struct Way {
    name: &'static str,
    site: Site,
    rates: Vec<f64>,
    frames: u64,
    packets: u64,
    _held: aya::Ebpf,
}

/// Measures both ways by turns.
pub(super) fn compare(binary: &Path, rounds: usize, time: Duration) -> Result<Vec<Throughput>> {
    let plain = Site::new(binary.to_owned(), 1)?;
    let passing = plain.attach("empty")?;
    let tunnel = Site::new(binary.to_owned(), 1)?;
    tunnel.load("", "")?;
    let encapsulating = tunnel.encapsulate()?;
    let mut ways = [
        Way::new("without a tunnel, XDP passes", plain, passing)?,
        Way::new("through the tunnel", tunnel, encapsulating)?,
    ];
    for _ in 0..rounds {
        for way in &mut ways {
            way.turn(time).with_context(|| way.name)?;
        }
    }
    let throughputs = ways.into_iter().map(|way| Throughput {
        name: way.name.to_owned(),
        median: quantile(&way.rates, 0.5).round(),
        low: quantile(&way.rates, 0.25).round(),
        high: quantile(&way.rates, 0.75).round(),
        frames_a_packet: way.frames as f64 / way.packets as f64,
    });
    Ok(throughputs.collect())
}

impl Way {
    fn new(name: &'static str, site: Site, held: aya::Ebpf) -> Result<Self> {
        site.connect_client()?;
        Ok(Self {
            name,
            site,
            rates: Vec::new(),
            frames: 0,
            packets: 0,
            _held: held,
        })
    }

    /// One connection that sends for so long.
    fn turn(&mut self, time: Duration) -> Result<()> {
        let site = &self.site;
        let listener = site.host.run(|| Ok(TcpListener::bind((SERVER, 0))?))?;
        let address = listener.local_addr()?;
        SockRef::from(&listener).set_read_timeout(Some(PATIENCE))?;
        let client = site.net.run(|| {
            TcpStream::connect_timeout(&address, PATIENCE)
                .with_context(|| format!("connect to {address} from {CLIENT}"))
        })?;
        let (server, _) = listener.accept().context("the connection")?;
        let (frames, packets) = (self.frames()?, site.counts(Receiver::Nobody)?.stack);
        let is_over = AtomicBool::new(false);
        let rate = thread::scope(|scope| {
            let sender = scope.spawn(|| send(client, &is_over));
            let rate = receive(server, time);
            is_over.store(true, Ordering::Relaxed);
            sender.join().map_err(|_| anyhow!("the sender panicked"))??;
            rate
        })?;
        self.rates.push(rate);
        self.frames += self.frames()? - frames;
        self.packets += site.counts(Receiver::Nobody)?.stack - packets;
        Ok(())
    }

    fn frames(&self) -> Result<u64> {
        self.site.host.statistic(WAN, "rx_packets")
    }
}

/// Sends until it is over.
fn send(mut stream: TcpStream, is_over: &AtomicBool) -> Result<()> {
    super::path::stay_on_first_core()?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let block = vec![0xa5; BLOCK];
    while !is_over.load(Ordering::Relaxed) {
        match stream.write_all(&block) {
            Ok(()) => {}
            // Who receives has closed.
            Err(error) if [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error.kind()) => break,
            Err(error) => return Err(error).context("send"),
        }
    }
    Ok(())
}

/// Receives for so long, and gives the bits a second.
fn receive(mut stream: TcpStream, time: Duration) -> Result<f64> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut block = vec![0; BLOCK];
    let mut received = 0;
    // The beginning is TCP's own, which finds out how fast it may be.
    let begin = Instant::now() + time / 4;
    while Instant::now() < begin {
        ensure!(stream.read(&mut block).context("receive")? > 0, "the connection ended");
    }
    while begin.elapsed() < time {
        let len = stream.read(&mut block).context("receive")?;
        ensure!(len > 0, "the connection ended");
        received += len;
    }
    Ok(8.0 * received as f64 / begin.elapsed().as_secs_f64())
}
