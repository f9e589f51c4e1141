//! The set-up of a common guide to GRE on Linux: servers A and B, a /30 inside, and a network behind each. Server B gets our
//! program, and else stays as the guide has it.

use anyhow::{Context, Result, ensure};
use gre_tests::lab::Lab;
use gre_tests::skip::binary_or_skip;

use crate::traffic::{ping, tcp, udp};

const CONFIG: &str = r#"
[[interface]]
name = "eth0"

[[tunnel]]
name = "server-a"
local = "198.51.100.20"
remote = "203.0.113.10"
"#;

#[test]
fn server_b_of_the_guide_runs_our_program() -> Result<()> {
    const NAME: &str = "server_b_of_the_guide_runs_our_program";
    let lab = Lab::for_test(NAME).context("a laboratory")?;
    let binary = binary_or_skip(NAME).context("a gre-decap to test")?;
    let (a, b) = (lab.namespace("server A")?, lab.namespace("server B")?);
    let (host_a, host_b) = (lab.namespace("host A")?, lab.namespace("host B")?);
    lab.veth(
        a.end("eth0").address("203.0.113.10 peer 198.51.100.20"),
        b.end("eth0").address("198.51.100.20 peer 203.0.113.10"),
    )?;
    lab.veth(
        a.end("lan0").address("10.20.0.1/24"),
        host_a.end("lan0").address("10.20.0.5/24"),
    )?;
    lab.veth(
        b.end("lan0").address("10.30.0.1/24"),
        host_b.end("lan0").address("10.30.0.5/24"),
    )?;
    for (server, local, remote, inner, behind) in [
        (
            &a,
            "203.0.113.10",
            "198.51.100.20",
            "10.10.10.1/30",
            "10.30.0.0/24 via 10.10.10.2",
        ),
        (
            &b,
            "198.51.100.20",
            "203.0.113.10",
            "10.10.10.2/30",
            "10.20.0.0/24 via 10.10.10.1",
        ),
    ] {
        server.ip(&format!(
            "tunnel add gre1 mode gre local {local} remote {remote} ttl 255"
        ))?;
        server.ip(&format!("address add {inner} dev gre1"))?;
        server.ip("link set gre1 up")?;
        server.ip(&format!("route add {behind} dev gre1"))?;
        server.sysctl("net.ipv4.ip_forward", "1")?;
    }
    host_a.ip("route add default via 10.20.0.1")?;
    host_b.ip("route add default via 10.30.0.1")?;
    // As it is without our program.
    host_a
        .ping("10.30.0.5".parse()?, 56)
        .context("before our program is loaded")?;

    let config = lab.write_file("config.toml", CONFIG)?;
    let mut load = b.command(&binary);
    let done = load.arg("--config").arg(config).arg("load").output()?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let received = || b.run(|| Ok(std::fs::read_to_string("/sys/class/net/gre1/statistics/rx_packets")?));
    let before = received()?;

    a.ping("10.10.10.2".parse()?, 56).context("A to B")?;
    b.ping("10.10.10.1".parse()?, 56).context("B to A")?;
    for (from, to, address) in [(&host_a, &host_b, "10.30.0.5"), (&host_b, &host_a, "10.20.0.5")] {
        let address = address.parse()?;
        ping(from, address)?;
        tcp(from, to, address, 1_000_000).with_context(|| format!("TCP to {address}"))?;
        udp(from, to, address, (0..1600).step_by(7)).with_context(|| format!("UDP to {address}"))?;
    }
    ensure!(received()? == before, "the kernel's device at B has received something");
    Ok(())
}
