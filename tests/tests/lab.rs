//! The laboratory itself: that its namespaces are apart and its wires faithful.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use gre_tests::frame::{Addresses, ETHERTYPE_IPV4, Ipv4, Link, PROTOCOL_TCP, Tcp};
use gre_tests::lab::{Captured, Lab, Namespace, Wire};
use gre_tests::lab_or_skip;
use gre_tests::traffic::flows::Flows;

#[test]
fn namespaces_are_apart_and_joined_by_a_veth() -> Result<()> {
    let Some(lab) = lab_or_skip!() else { return Ok(()) };
    let mounts_before = fs::read_to_string("/proc/thread-self/mountinfo")?;
    let (a, b) = (lab.namespace("a")?, lab.namespace("b")?);
    let (end_a, end_b) = lab.veth(
        a.end("left")
            .address("198.51.100.1/24")
            .address("2001:db8:1::1/64")
            .mtu(1400),
        b.end("right")
            .address("198.51.100.2/24")
            .address("2001:db8:1::2/64")
            .napi(),
    )?;
    assert_eq!(end_a.mac, [2, 0, 0, 0, 1, 1]);

    a.ping("198.51.100.2".parse()?, 56)?;
    b.ping("2001:db8:1::1".parse()?, 1000)?;

    let interfaces = |namespace: &Namespace| {
        namespace.run(|| {
            let mut names = fs::read_dir("/sys/class/net")?
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect::<Result<Vec<_>>>()?;
            // A kernel with other tunnels built in gives every namespace their fallback devices.
            names.retain(|name| name == "left" || name == "right");
            Ok(names)
        })
    };
    assert_eq!(interfaces(&a)?, ["left"]);
    assert_eq!(interfaces(&b)?, ["right"]);
    let read = |namespace: &Namespace, file: &str| {
        let path = format!("/sys/class/net/{file}");
        namespace.run(|| fs::read_to_string(&path).context(path.clone()))
    };
    assert_eq!(read(&a, "left/mtu")?.trim(), "1400");
    assert_eq!(read(&b, "right/ifindex")?.trim(), end_b.index.to_string());
    assert_eq!(read(&b, "right/address")?.trim(), "02:00:00:00:01:02");

    // One BPF filesystem in all of the lab's namespaces, another in the next lab, and none of it outside.
    a.run(|| Ok(fs::create_dir("/sys/fs/bpf/pins")?))?;
    assert!(b.run(|| Ok(fs::exists("/sys/fs/bpf/pins")?))?);
    let other = Lab::new()?.namespace("other")?;
    assert!(!other.run(|| Ok(fs::exists("/sys/fs/bpf/pins")?))?);
    assert!(!fs::exists("/sys/fs/bpf/pins")?);
    let file = lab.write_file("config.toml", "text")?;
    assert_eq!(a.run(|| Ok(fs::read_to_string(&file)?))?, "text");
    assert!(!fs::exists(&file)?);
    assert_eq!(fs::read_to_string("/proc/thread-self/mountinfo")?, mounts_before);
    Ok(())
}

#[test]
fn commands_run_inside_and_die_with_the_thread_that_started_them() -> Result<()> {
    let Some(lab) = lab_or_skip!() else { return Ok(()) };
    let a = lab.namespace("a")?;
    let inside = a.run(|| Ok(fs::read_link("/proc/thread-self/ns/net")?))?;
    assert_ne!(inside, fs::read_link("/proc/thread-self/ns/net")?);
    let output = a
        .command("sh")
        .args(["-c", "readlink /proc/self/ns/net; pwd"])
        .output()?;
    let expected = format!("{}\n{}\n", inside.display(), std::env::current_dir()?.display());
    assert_eq!(String::from_utf8(output.stdout)?, expected);

    let mut child = thread::scope(|scope| {
        scope
            .spawn(|| a.command("sleep").arg("60").spawn())
            .join()
            .expect("the thread does not panic")
    })?;
    assert_eq!(child.wait()?.signal(), Some(9));

    let error = a
        .ip("link set absent up")
        .expect_err("there is no such interface")
        .to_string();
    assert!(
        error.contains("`ip link set absent up` in namespace a: ") && error.contains("absent"),
        "{error}"
    );
    let error = a
        .sysctl("net.ipv4.absent", "1")
        .expect_err("there is no such parameter")
        .to_string();
    assert!(error.contains("/proc/sys/net/ipv4/absent"), "{error}");
    let error = a.end("far-too-long-a-name");
    let error = format!("{:#}", lab.veth(error, a.end("b")).expect_err("the name is too long"));
    assert!(error.contains("far-too-long-a-name"), "{error}");
    Ok(())
}

#[test]
fn a_wire_shows_frames_with_their_vlan_tags() -> Result<()> {
    let Some(lab) = lab_or_skip!() else { return Ok(()) };
    let (a, b) = (lab.namespace("a")?, lab.namespace("b")?);
    let (end_a, end_b) = lab.veth((&a, "left"), (&b, "right"))?;
    let (left, right) = (Wire::open(&a, "left")?, Wire::open(&b, "right")?);
    let addresses = [end_b.mac, end_a.mac].concat();
    for tags in ["", "8100 2064", "88a8 6001 8100 0fff", "8100 0001 8100 0002"] {
        // 0x88b5 is an EtherType for experiments (IEEE 802), which no stack answers.
        let frame = [addresses.clone(), octets(tags), octets("88b5"), vec![0xa5; 46]].concat();
        left.send(&frame)?;
        let seen = right.expect(&format!("the frame with tags `{tags}`"), |seen| {
            seen.bytes.ends_with(&[0xa5; 46])
        })?;
        assert_eq!(
            seen,
            Captured {
                bytes: frame,
                outgoing: false,
                interface: end_b.index,
            }
        );
    }
    // A frame from the interface's own host, seen on its way out.
    a.ip("address add 198.51.100.1/24 dev left")?;
    a.ip("neighbour add 198.51.100.2 lladdr 02:00:00:00:01:02 dev left")?;
    let ping = a.send_ping("198.51.100.2".parse()?, 56)?;
    let request = left.expect("the echo request", |seen| {
        seen.outgoing && seen.bytes.get(23) == Some(&1)
    })?;
    let arrived = right.expect("the echo request", |seen| seen.bytes == request.bytes)?;
    assert!(!arrived.outgoing);
    drop(ping);

    // Its own frames a wire does not see, whatever else the other end's host may have sent.
    while let Some(seen) = left.next(Duration::ZERO)? {
        assert!(seen.outgoing || !seen.bytes.ends_with(&[0xa5; 46]), "{seen:?}");
    }
    let error = left
        .send(&addresses)
        .expect_err("a frame without EtherType")
        .to_string();
    assert!(error.contains("send 12 bytes on left in namespace a"), "{error}");
    let error = Wire::open(&a, "absent")
        .expect_err("there is no such interface")
        .to_string();
    assert!(error.contains("absent in namespace a"), "{error}");
    Ok(())
}

/// Where segments wait together, as on a busy machine, GRO makes one of them, and NAPI alone does not.
#[test]
fn napi_leaves_frames_as_they_came() -> Result<()> {
    let Some(lab) = lab_or_skip!() else { return Ok(()) };
    let (a, b) = (lab.namespace("a")?, lab.namespace("b")?);
    let addresses = Addresses::V4([198, 51, 100, 1].into(), [198, 51, 100, 2].into());
    for (name, merges) in [("gro", true), ("napi", false)] {
        let end = b.end(name);
        let (left, right) = lab.veth(a.end(name), if merges { end.gro() } else { end.napi() })?;
        // What NAPI has begun to merge waits for more for so long, instead of until it has nothing more to do.
        for (file, value) in [("napi_defer_hard_irqs", "1"), ("gro_flush_timeout", "500000000")] {
            b.run(|| Ok(fs::write(format!("/sys/class/net/{name}/{file}"), value)?))?;
        }
        let (sender, receiver) = (Wire::open(&a, name)?, Wire::open(&b, name)?);
        let header = Ipv4 {
            source: [198, 51, 100, 1].into(),
            destination: [198, 51, 100, 2].into(),
            protocol: PROTOCOL_TCP,
            dont_fragment: true,
            ..Ipv4::default()
        };
        let link = Link {
            destination: right.mac,
            source: left.mac,
            tags: Vec::new(),
        };
        let mut sent = Vec::new();
        for number in 0..3_u32 {
            let segment = Tcp {
                sequence: 100 * number,
                flags: Tcp::ACK,
                ..Tcp::syn(&[])
            };
            let segment = segment.segment(addresses, &[number as u8; 100]);
            sent.push(link.frame(ETHERTYPE_IPV4, &header.packet(&segment)));
        }
        sent.iter().try_for_each(|frame| sender.send(frame))?;
        let seen = receiver.until("the last segment", |seen| seen.bytes.ends_with(&[2; 100]))?;
        let tcp = |seen: &Captured| seen.bytes.get(23) == Some(&PROTOCOL_TCP);
        let seen: Vec<_> = seen.into_iter().filter(tcp).map(|seen| seen.bytes).collect();
        assert_eq!(seen == sent, !merges, "{name}: {seen:02x?}");
    }
    Ok(())
}

#[test]
fn flows_are_accounted_for() -> Result<()> {
    let Some(lab) = lab_or_skip!() else { return Ok(()) };
    let (a, b) = (lab.namespace("a")?, lab.namespace("b")?);
    lab.veth(
        a.end("left")
            .address("198.51.100.1/24")
            .address("2001:db8:1::1/64")
            .queues(2),
        b.end("right")
            .address("198.51.100.2/24")
            .address("2001:db8:1::2/64")
            .queues(2)
            .napi(),
    )?;
    let polled = || -> Result<u64> {
        let statistics = b.driver_statistics("right")?;
        let queue = |number| statistics.get(&format!("rx_queue_{number}_xdp_packets")).copied();
        assert!(queue(1).is_some() && queue(2).is_none(), "{statistics:?}");
        Ok((0..).map_while(queue).sum())
    };
    for service in ["198.51.100.2", "2001:db8:1::2"] {
        let before = polled()?;
        let flows = Flows::open(&a, &b, service.parse()?, 4, 100)?.start(16)?;
        flows.wait_for(1000)?;
        let received = flows.stop()?;
        assert!(received.sent >= 1000);
        assert_eq!(
            received.flows.iter().map(|flow| flow.received).sum::<u64>(),
            received.sent
        );
        assert!(!received.cores().is_empty(), "{received:?}");
        assert!(polled()? - before >= received.sent);
        // They end also if nobody asks what became of them.
        Flows::open(&a, &b, service.parse()?, 1, 12)?.start(1)?.wait_for(10)?;
    }
    assert!(Flows::open(&a, &b, "198.51.100.2".parse()?, 1, 11).is_err());

    // Without NAPI nothing is polled.
    b.set_gro("right", false)?;
    let before = polled()?;
    a.ping("198.51.100.2".parse()?, 56)?;
    assert_eq!(polled()?, before);
    assert!(a.statistic("left", "tx_packets")? > 0);
    assert!(a.statistic("left", "absent").is_err() && a.driver_statistics("lo").is_err());
    Ok(())
}

fn octets(hex: &str) -> Vec<u8> {
    let digits: String = hex.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex digits"))
        .collect()
}
