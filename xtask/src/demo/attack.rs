//! The third scene: an attack straight at the origin, around the scrubbing centre, beside the tunnel's clean traffic.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gre_tests::frame::{Addresses, ETHERTYPE_IPV4, Ipv4, Link, udp_datagram};
use gre_tests::lab::{PATIENCE, Scrubber, Wire};
use gre_tests::traffic::tcp::Direction;

use super::program::{Program, Stats};
use super::report::Report;
use super::topology::{self, SERVICE_V4, Service, Topology};
use super::{MEGABYTE, indented, transfer};

/// What the file says besides the tunnel.
const PROTECT: &str = r#"
[protect]
prefixes = ["192.0.2.0/24", "2001:db8:2::/48"]
inner_destinations = "enforce"   # nothing else gets in through the tunnel,
lockdown = "monitor"             # and what comes around it is counted
"#;

/// Where the attack goes.
const PORT: u16 = 9999;
/// The origin's address at its end of the tunnel, which no client has business with.
const ORIGIN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 20);
/// Packets at a time, and the pause after them: about as many as a wire with room for 256 takes beside other traffic.
const BURST: u32 = 16;
const PAUSE: Duration = Duration::from_micros(500);

/// The origin of the first scene, under lockdown.
pub(super) fn run(binary: &Path, report: &mut Report) -> Result<()> {
    let net = Topology::build(Service::AtTheOrigin).context("build the networks of the attack")?;
    let scrubber = Scrubber::start(&net.scrub, topology::TUN, &topology::tunnel()).context("start the scrubber")?;
    net.route_through_scrubber()?;
    let monitor = format!("{}{PROTECT}", topology::CONFIG);
    let enforce = monitor.replace("\"monitor\"", "\"enforce\"");
    let config = net.lab.write_file("gre-decap.toml", &monitor)?;
    let program = Program::new(binary, &net.origin, &config);
    let attack = Attack::prepare(&net)?;

    report.line("\nNow an attack straight at the origin, around the scrubbing centre. The file says in addition:")?;
    report.line(&indented(PROTECT))?;
    report.command(&program.command_line("load"))?;
    program.run(&["load"])?;
    report.claim("monitor: it comes in, and is counted", attack.is_monitored(&program))?;

    report.line("\nWith lockdown = \"enforce\":")?;
    net.lab.write_file("gre-decap.toml", &enforce)?;
    report.command(&program.command_line("load"))?;
    program.run(&["load"])?;
    report.claim("by the tunnel to elsewhere: dropped", elsewhere(&net, &program))?;
    let before = program.stats()?;
    let (flood, transfers) = attack.beside(|| {
        [("TCP download", Direction::Download), ("TCP upload", Direction::Upload)]
            .map(|(what, direction)| (what, transfer::run(&net, SERVICE_V4, direction, 20 * MEGABYTE)))
    })?;
    for (what, outcome) in transfers {
        report.claim(&format!("{what} in the tunnel meanwhile"), outcome)?;
    }
    report.claim("none of the attack came in", attack.nothing_came())?;
    let sent = scrubber.stop()?;
    // One packet was sent straight while it was only monitored, and one through the tunnel to elsewhere.
    let on_the_wire = sent.packets + flood + 2;
    let lost = net.lost_on_the_way()?;
    report.command(&program.command_line("stats --json"))?;
    let stats = settled(&program, on_the_wire - lost)?;
    report.line(&stats.table())?;
    report.claim(
        "the counters say why",
        accounted(&before, &stats, flood, on_the_wire, lost),
    )?;
    program.run(&["unload"]).map(drop)
}

/// The attacker's wire and the victim's port.
struct Attack {
    wire: Wire,
    link: Link,
    victim: UdpSocket,
}

impl Attack {
    fn prepare(net: &Topology) -> Result<Self> {
        let victim = net
            .server
            .run(|| UdpSocket::bind(SocketAddr::new(SERVICE_V4, PORT)).context("open the port that is attacked"))?;
        victim.set_read_timeout(Some(PATIENCE)).context("set a timeout")?;
        let path = "/sys/class/net/wan0/address";
        let text = net.origin.run(|| fs::read_to_string(path).context(path))?;
        let mut destination = [0; 6];
        for (octet, digits) in destination.iter_mut().zip(text.trim().split(':')) {
            *octet = u8::from_str_radix(digits, 16).context(path)?;
        }
        Ok(Self {
            wire: Wire::open(&net.scrub, "wan")?,
            link: Link {
                destination,
                ..Link::default()
            },
            victim,
        })
    }

    /// One packet of it, each from another address.
    fn send(&self, number: u32) -> Result<()> {
        let source = Ipv4Addr::from_bits(0x0a00_0001 + number % 0xff_0000);
        let IpAddr::V4(destination) = SERVICE_V4 else {
            anyhow::bail!("the service has an IPv4 address");
        };
        let mut datagram = udp_datagram(Addresses::V4(source, destination), b"attack");
        // To the victim's port, without a checksum, which IPv4 allows (RFC 768).
        datagram[2..4].copy_from_slice(&PORT.to_be_bytes());
        datagram[6..8].copy_from_slice(&[0, 0]);
        let header = Ipv4 {
            source,
            destination,
            ..Ipv4::default()
        };
        self.wire
            .send(&self.link.frame(ETHERTYPE_IPV4, &header.packet(&datagram)))
    }

    fn is_monitored(&self, program: &Program) -> Result<String> {
        self.send(0)?;
        self.victim.recv(&mut [0; 64]).context("wait for the packet")?;
        let counted = program.stats()?.reason("lockdown");
        ensure!(counted == 1, "`lockdown` is {counted}, not 1");
        Ok("a datagram came in, counted as lockdown: 1".to_owned())
    }

    /// Attacks for as long as `work` takes. Returns how many packets were sent, and what came of the work.
    fn beside<T>(&self, work: impl FnOnce() -> T) -> Result<(u64, T)> {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let attacker = scope.spawn(|| {
                let mut sent = 0;
                while !stop.load(Ordering::Relaxed) {
                    for _ in 0..BURST {
                        self.send(sent)?;
                        sent += 1;
                    }
                    thread::sleep(PAUSE);
                }
                anyhow::Ok(u64::from(sent))
            });
            let done = work();
            stop.store(true, Ordering::Relaxed);
            let sent = attacker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            Ok((sent, done))
        })
    }

    fn nothing_came(&self) -> Result<String> {
        self.victim.set_nonblocking(true).context("set a socket's mode")?;
        match self.victim.recv(&mut [0; 64]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(format!("0 datagrams at port {PORT}")),
            Err(error) => Err(error).context("look for datagrams"),
            Ok(_) => anyhow::bail!("a datagram of the attack is at port {PORT}"),
        }
    }
}

/// A packet by the tunnel for what is not protected: somebody has got by the centre's filters, or forges its address.
fn elsewhere(net: &Topology, program: &Program) -> Result<String> {
    let source = Ipv4Addr::new(198, 18, 5, 7);
    let header = Ipv4 {
        source,
        destination: ORIGIN,
        ..Ipv4::default()
    };
    let inner = header.packet(&udp_datagram(Addresses::V4(source, ORIGIN), b"to the tunnel's own end"));
    let tunnel = topology::tunnel();
    tunnel
        .socket(&net.scrub)?
        .send(&tunnel.gre.packet(&inner))
        .context("send a packet by the tunnel")?;
    let stats = until(program, "the packet is counted", |stats| {
        stats.reason("inner_destination") == 1
    })?;
    Ok(format!(
        "counted as inner_destination: {}",
        stats.reason("inner_destination")
    ))
}

/// The counters once they hold so many packets: the kernel counts in its own time.
fn settled(program: &Program, packets: u64) -> Result<Stats> {
    until(program, &format!("{packets} packets are counted"), |stats| {
        stats
            .tunnel()
            .is_ok_and(|tunnel| tunnel.packets + stats.refused() >= packets)
    })
}

fn until(program: &Program, what: &str, wanted: impl Fn(&Stats) -> bool) -> Result<Stats> {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let stats = program.stats()?;
        if wanted(&stats) {
            return Ok(stats);
        }
        ensure!(std::time::Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Every packet on the wire was decapsulated, refused for a reason, or lost before the program saw it.
fn accounted(before: &Stats, stats: &Stats, flood: u64, on_the_wire: u64, lost: u64) -> Result<String> {
    let (packets, refused) = (stats.tunnel()?.packets, stats.refused());
    ensure!(
        packets + refused + lost == on_the_wire,
        "{packets} decapsulated + {refused} refused + {lost} lost, but {on_the_wire} sent"
    );
    let dropped = stats.reason("lockdown") - before.reason("lockdown");
    ensure!(
        dropped <= flood && dropped + lost >= flood,
        "lockdown: {dropped} of {flood}, with {lost} lost by the wire"
    );
    Ok(format!(
        "lockdown: {dropped} of {flood} packets of the attack; {lost} lost by the wire"
    ))
}
