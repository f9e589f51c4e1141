//! A routing session between the ends inside the tunnel, as BGP has one: it stays on the kernel's own GRE device, to which `bypass` leaves
//! its packets.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use gre_tests::lab::{Lab, Namespace, PATIENCE};
use gre_tests::program::Program;
use gre_tests::skip::binary_or_skip;
use socket2::{Domain, Socket, Type};

const DEVICE: &str = "gre1";
const CENTRE: Ipv4Addr = Ipv4Addr::new(10, 10, 10, 1);
const ORIGIN: Ipv4Addr = Ipv4Addr::new(10, 10, 10, 2);
const BGP: u16 = 179;
const OPEN: &[u8] = b"what a router says first";

fn config(bypass: &str) -> String {
    format!(
        "[[interface]]\nname = \"eth0\"\n[[tunnel]]\nname = \"a\"\nlocal = \"198.51.100.20\"\nremote = \"203.0.113.10\"\nbypass = {bypass}\n"
    )
}

/// A router that hears only what comes by its tunnel device.
fn router(origin: &Namespace) -> Result<TcpListener> {
    origin.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // That of the last session is kept for a while.
        socket.set_reuse_address(true)?;
        socket.bind_device(Some(DEVICE.as_bytes()))?;
        socket.bind(&SocketAddr::from((ORIGIN, BGP)).into())?;
        socket.listen(1)?;
        Ok(socket.into())
    })
}

#[test]
fn a_session_inside_the_tunnel_stays_on_the_kernels_device() -> Result<()> {
    const NAME: &str = "a_session_inside_the_tunnel_stays_on_the_kernels_device";
    let lab = Lab::for_test(NAME).context("a laboratory")?;
    let binary = binary_or_skip(NAME).context("a gre-decap to test")?;
    let (centre, origin) = (lab.namespace("centre")?, lab.namespace("origin")?);
    lab.veth(
        centre.end("eth0").address("203.0.113.10 peer 198.51.100.20"),
        origin.end("eth0").address("198.51.100.20 peer 203.0.113.10"),
    )?;
    for (namespace, local, remote, inside) in [
        (&centre, "203.0.113.10", "198.51.100.20", CENTRE),
        (&origin, "198.51.100.20", "203.0.113.10", ORIGIN),
    ] {
        namespace.ip(&format!(
            "tunnel add {DEVICE} mode gre local {local} remote {remote} ttl 64"
        ))?;
        namespace.ip(&format!("address add {inside}/30 dev {DEVICE}"))?;
        namespace.ip(&format!("link set {DEVICE} up"))?;
    }
    let program = Program::new(&origin, binary);
    let listener = router(&origin)?;
    let connect = || centre.run(|| Ok(TcpStream::connect_timeout(&(ORIGIN, BGP).into(), PATIENCE)));

    program.load(&config("[\"10.10.10.0/30\"]"))?;
    let mut session = connect()?.context("a session")?;
    session.set_read_timeout(Some(PATIENCE))?;
    let answering = thread::spawn(move || -> Result<Vec<u8>> {
        let (mut session, _) = listener.accept()?;
        session.set_read_timeout(Some(PATIENCE))?;
        let mut heard = vec![0; OPEN.len()];
        session.read_exact(&mut heard)?;
        session.write_all(&heard)?;
        Ok(heard)
    });
    session.write_all(OPEN)?;
    let mut back = vec![0; OPEN.len()];
    session.read_exact(&mut back)?;
    let heard = answering.join().map_err(|_| anyhow!("a thread panicked"))??;
    ensure!(heard == OPEN && back == OPEN, "{heard:?}, {back:?}");
    let stats = program.stats()?;
    ensure!(stats.reason("bypass") >= 3, "{}", stats.0);
    ensure!(stats.tunnel("a", "packets") == Some(0), "{}", stats.0);

    // Without, it comes by eth0, where nobody listens.
    drop(session);
    let _listener = router(&origin)?;
    program.load(&config("[]"))?;
    match connect()? {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
        other => return Err(anyhow!("{other:?}: not refused")),
    }
    ensure!(program.stats()?.tunnel("a", "packets") > Some(0));
    Ok(())
}
