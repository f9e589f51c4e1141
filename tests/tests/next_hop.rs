//! What is read of a host to deliver by an interface: whom its frames go to, and whether it takes them at all.

use std::io;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use gre_tests::lab::{Namespace, PATIENCE};
use gre_tests::lab_or_skip;
use gre_user::config::NextHop;
use gre_user::host::egress::{self, Resolved, Transmit};
use gre_user::host::{Interface, neighbours, routes, veth, xdp_features};

fn interface(namespace: &Namespace, name: &str) -> Result<Interface> {
    namespace.run(|| Interface::by_name(name))?.context("no such interface")
}

#[test]
fn a_neighbour_is_looked_up_and_resolved() -> Result<()> {
    let Some(lab) = lab_or_skip!() else { return Ok(()) };
    let (router, server) = (lab.namespace("router")?, lab.namespace("server")?);
    let (near, far) = lab.veth(
        router.end("lan").address("10.0.0.1/24").address("2001:db8::1/64"),
        server.end("eth0").address("10.0.0.2/24").address("2001:db8::2/64"),
    )?;
    let mac_of = |address: &str| {
        let address = address.parse()?;
        router.run(|| neighbours::mac_of(near.index, address))
    };
    let resolve = |address: &str, patience| {
        let address = address.parse()?;
        router.run(|| neighbours::resolve(near.index, address, Instant::now() + patience))
    };
    for address in ["10.0.0.2", "2001:db8::2"] {
        assert_eq!(mac_of(address)?, None, "{address}");
        assert_eq!(resolve(address, PATIENCE)?, Some(far.mac), "{address}");
        assert_eq!(mac_of(address)?, Some(far.mac), "{address}");
        assert_eq!(resolve(address, Duration::ZERO)?, Some(far.mac), "{address}");
    }

    // Nobody has it: with some patience the kernel gives up first.
    assert_eq!(resolve("10.0.0.3", Duration::ZERO)?, None);
    assert_eq!(resolve("10.0.0.3", PATIENCE)?, None);
    assert_eq!(mac_of("10.0.0.3")?, None);

    // What the operator has set stays as it is.
    router.ip("neighbour add 10.0.0.4 dev lan lladdr 02:00:00:00:00:44 nud permanent")?;
    assert_eq!(resolve("10.0.0.4", Duration::ZERO)?, Some([2, 0, 0, 0, 0, 0x44]));
    assert!(router.ip("neighbour show 10.0.0.4")?.contains("PERMANENT"));

    // What was not confirmed for long is used, and confirmed.
    router.ip("neighbour replace 10.0.0.2 dev lan lladdr 02:00:00:00:00:55 nud stale")?;
    assert_eq!(resolve("10.0.0.2", Duration::ZERO)?, Some([2, 0, 0, 0, 0, 0x55]));
    assert!(router.ip("neighbour show 10.0.0.2")?.contains("DELAY"));

    let error = router.run(|| neighbours::mac_of(99, [10, 0, 0, 2].into()));
    let error = format!("{:#}", error.expect_err("no such interface"));
    assert!(error.starts_with("neighbour 10.0.0.2: cannot be looked up"), "{error}");
    Ok(())
}

#[test]
fn the_gateway_of_an_interface() -> Result<()> {
    let Some(lab) = lab_or_skip!() else { return Ok(()) };
    let (router, server) = (lab.namespace("router")?, lab.namespace("server")?);
    let (lan, _) = lab.veth(router.end("lan").address("10.0.0.1/24"), server.end("eth0"))?;
    let (wan, _) = lab.veth(router.end("wan").address("2001:db8::1/64"), server.end("eth1"))?;
    let gateway = |interface| router.run(|| routes::gateway_via(interface));
    assert_eq!(gateway(lan.index)?, None);
    assert_eq!(gateway(wan.index)?, None);

    router.ip("-6 route add default via 2001:db8::2 dev wan")?;
    assert_eq!(gateway(wan.index)?, Some("2001:db8::2".parse()?));
    router.ip("-4 route add default via inet6 fe80::9 dev wan metric 50")?;
    assert_eq!(gateway(wan.index)?, Some("fe80::9".parse()?));
    assert_eq!(gateway(lan.index)?, None);

    router.ip("route add default via 10.0.0.9 dev lan table 100")?;
    assert_eq!(gateway(lan.index)?, Some("10.0.0.9".parse()?));
    router.ip("route add default metric 100 nexthop via 10.0.0.2 dev lan nexthop via 10.0.0.3 dev lan")?;
    assert_eq!(gateway(lan.index)?, Some("10.0.0.2".parse()?));
    router.ip("route add default dev lan metric 10")?;
    assert_eq!(gateway(lan.index)?, Some("10.0.0.2".parse()?));
    router.ip("route add 192.0.2.0/24 via 10.0.0.4")?;
    assert_eq!(gateway(lan.index)?, Some("10.0.0.2".parse()?));
    Ok(())
}

#[test]
fn the_other_end_of_a_veth_in_this_namespace_and_in_another() -> Result<()> {
    let Some(lab) = lab_or_skip!() else { return Ok(()) };
    let (router, server) = (lab.namespace("router")?, lab.namespace("server")?);
    let (_, far) = lab.veth(router.end("lan"), server.end("eth0"))?;
    let (_, near) = lab.veth(router.end("here"), router.end("there"))?;
    let peer = |name: &str| {
        let interface = interface(&router, name)?;
        router.run(|| veth::peer_mac(&interface))
    };
    assert_eq!(peer("lan")?, Some(far.mac));
    assert_eq!(peer("here")?, Some(near.mac));
    // The kernel may give both ends the same number.
    router.ip(&format!(
        "link add same index 77 type veth peer name other index 77 address 02:00:00:00:00:77 netns {}",
        server.path()
    ))?;
    assert_eq!(peer("same")?, Some([2, 0, 0, 0, 0, 0x77]));
    assert_eq!(peer("lo")?, None);
    Ok(())
}

#[test]
fn whom_frames_are_for() -> Result<()> {
    let Some(lab) = lab_or_skip!() else { return Ok(()) };
    let (router, server) = (lab.namespace("router")?, lab.namespace("server")?);
    let (_, far) = lab.veth(
        router.end("lan").address("10.0.0.1/24"),
        server.end("eth0").address("10.0.0.2/24"),
    )?;
    let next_hop = |name: &str, address: Option<&str>| {
        let address = address.map(str::parse).transpose()?;
        let interface = interface(&router, name)?;
        router.run(|| egress::next_hop(&interface, address.map(NextHop::Address), Instant::now() + PATIENCE))
    };
    let mac = Resolved::Mac(far.mac);
    assert_eq!(next_hop("lan", None)?, mac);
    assert_eq!(next_hop("lan", Some("10.0.0.2"))?, mac);
    let unanswered = Resolved::Unresolved {
        awaited: "lan: next hop 10.0.0.3 has not answered for its MAC address".to_owned(),
    };
    assert_eq!(next_hop("lan", Some("10.0.0.3"))?, unanswered);

    // At the other end of a TAP device is a program.
    router.ip("tuntap add dev tap0 mode tap")?;
    router.ip("link set tap0 up")?;
    router.ip("address add 10.1.0.1/24 dev tap0")?;
    let error = format!("{:#}", next_hop("tap0", None).expect_err("nobody to ask for"));
    assert_eq!(
        error,
        "tap0: no default route with a gateway leaves by it: set `next_hop` in `deliver` to the IP or MAC address that its \
         frames are for"
    );
    router.ip("route add default via 10.1.0.2 dev tap0")?;
    router.ip("neighbour add 10.1.0.2 dev tap0 lladdr 02:00:00:00:00:44 nud permanent")?;
    assert_eq!(next_hop("tap0", None)?, Resolved::Mac([2, 0, 0, 0, 0, 0x44]));
    Ok(())
}

#[test]
fn a_veth_takes_redirected_frames_with_gro_at_its_other_end() -> Result<()> {
    let Some(lab) = lab_or_skip!() else { return Ok(()) };
    let (router, server) = (lab.namespace("router")?, lab.namespace("server")?);
    lab.veth(router.end("deaf"), server.end("eth0"))?;
    lab.veth(router.end("hears"), server.end("eth1").gro())?;
    lab.veth(server.end("eth2").gro(), router.end("hears2"))?;
    let takes = |name: &str| {
        let interface = interface(&router, name)?;
        let features = match router.run(|| Ok(xdp_features::all()))? {
            Ok(all) => all.get(&interface.index).copied(),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => None,
            Err(error) => return Err(anyhow::Error::from(error)),
        };
        Ok((features.is_some(), egress::takes_redirects(&interface, features)))
    };
    match takes("deaf")? {
        (true, Transmit::No { remedy, .. }) => {
            assert!(remedy.starts_with("run `ethtool -K PEER gro on`"), "{remedy}");
            assert_eq!(takes("hears")?.1, Transmit::Yes { frags: true });
            assert_eq!(takes("hears2")?.1, Transmit::Yes { frags: true });
        }
        (false, Transmit::Unknown) => assert_eq!(takes("hears")?.1, Transmit::Unknown),
        other => panic!("{other:?}"),
    }
    assert!(matches!(takes("lo")?.1, Transmit::No { .. }));
    Ok(())
}
