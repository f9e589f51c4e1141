//! `drops`: packets that are not delivered, as they are sampled.

mod reader;

use std::io::Read;
use std::process::{Child, ChildStderr, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, bail, ensure};
use gre_tests::frame::{GreChecksum, Packet};
use gre_tests::lab::PATIENCE;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, PcapNGReader, traits::PcapReaderIterator};
use serde_json::{Value, json};

use crate::said::Said;
use crate::site::{CONFIG, REMOTE, STRANGER, Site, packet, site_or_return};

/// Bytes of a frame that the tests send: Ethernet, and the outer packet.
const FRAME_BYTES: usize = 14 + 20 + 8 + 33;

/// The address of the second end of a lab's first wire.
const WAN_MAC: [u8; 6] = [2, 0, 0, 0, 1, 2];

/// A `gre-decap drops` that reads.
struct Drops {
    child: Child,
    stderr: Said<ChildStderr>,
}

impl Drops {
    fn start(site: &Site, options: &str) -> Result<Self> {
        let mut command = site.command("", &format!("drops {options}"))?;
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut stderr = Said::new(child.stderr.take().context("its errors")?);
        let line = stderr.line("that it follows")?;
        let wanted = "note: following packets that are not delivered, at most 100 a second of each reason on each CPU; interrupt \
                      to end\n";
        ensure!(line.as_deref() == Some(wanted), "{line:?}");
        Ok(Self { child, stderr })
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.child.id().cast_signed()), signal)?)
    }

    /// What it has printed when it ends by itself, which must be in order.
    fn end(mut self) -> Result<Vec<u8>> {
        let mut stdout = Vec::new();
        self.child
            .stdout
            .take()
            .context("its output")?
            .read_to_end(&mut stdout)?;
        let stderr = self.stderr.rest()?;
        let status = self.child.wait()?;
        ensure!(status.success() && stderr.is_empty(), "{status}: {stderr}");
        Ok(stdout)
    }

    fn end_lines(self) -> Result<Vec<Value>> {
        let text = String::from_utf8(self.end()?)?;
        text.lines()
            .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
            .collect()
    }
}

/// A packet of the tunnel with a wrong checksum.
fn damaged() -> Packet {
    let mut packet = packet(REMOTE, Some(4200));
    packet.gre.checksum = GreChecksum::Given(1);
    packet
}

#[test]
fn each_packet_that_is_not_delivered_is_shown() -> Result<()> {
    let site = site_or_return!();
    site.ok(CONFIG, "load")?;
    let before = SystemTime::now();
    let drops = Drops::start(&site, "--json --count 2")?;
    site.send(REMOTE, Some(4200))?;
    site.send_packet(&damaged())?;
    site.send(STRANGER, Some(4200))?;
    let mut lines = drops.end_lines()?;
    assert_eq!(lines.len(), 2);
    for (line, sent) in lines.iter_mut().zip([damaged(), packet(STRANGER, Some(4200))]) {
        let bytes: String = sent.frame().iter().map(|byte| format!("{byte:02x}")).collect();
        let line = line.as_object_mut().context("an object")?;
        assert_eq!(line.remove("bytes"), Some(json!(bytes)));
        let time = line.remove("time").context("a time")?;
        let time: SystemTime = humantime::parse_rfc3339(time.as_str().context("text")?)?;
        let tick = Duration::from_secs(1);
        assert!(time + tick > before && time < SystemTime::now() + tick, "{time:?}");
        assert!(line.remove("interface_index").is_some());
    }
    let inner = json!({
        "source": "198.18.5.7", "destination": "192.0.2.80", "protocol": 17, "fragment": false, "length": 33,
        "source_port": lines[0]["inner"]["source_port"], "destination_port": lines[0]["inner"]["destination_port"]
    });
    let gre = |checksum| json!({"version": 0, "protocol": 0x800, "checksum": checksum, "key": 4200, "routing": false});
    let outer = |source: &str, length| json!({"source": source, "destination": "198.51.100.20", "protocol": 47, "fragment": false, "length": length});
    assert_eq!(
        lines,
        [
            json!({
                "reason": "checksum_bad", "action": "drop", "tunnel": "scrub-fra", "interface": "wan0", "queue": 0,
                "length": FRAME_BYTES + 4, "outer": outer("203.0.113.10", 65), "gre": gre(true), "inner": inner
            }),
            json!({
                "reason": "unknown_tunnel", "action": "pass", "interface": "wan0", "queue": 0, "length": FRAME_BYTES,
                "outer": outer("192.0.2.66", 61), "gre": gre(false), "inner": inner
            }),
        ]
    );
    Ok(())
}

#[test]
fn people_read_them_layer_by_layer() -> Result<()> {
    let site = site_or_return!();
    site.ok(CONFIG, "load")?;
    let drops = Drops::start(&site, "--count 1")?;
    site.send_packet(&damaged())?;
    let text = String::from_utf8(drops.end()?)?;
    let (_, rest) = text.split_once("Z  ").context("a time")?;
    let (first, layers) = rest.split_once('\n').context("lines")?;
    assert_eq!(first, "checksum_bad (drop) in tunnel scrub-fra  wan0 queue 0  79 bytes");
    let lines: Vec<_> = layers.lines().collect();
    assert_eq!(
        lines[..2],
        [
            "    203.0.113.10 > 198.51.100.20  GRE  65 bytes",
            "    GRE key 4200 checksum IPv4"
        ]
    );
    assert!(
        lines[2].starts_with("    198.18.5.7:") && lines[2].ends_with("  UDP  33 bytes"),
        "{text}"
    );
    Ok(())
}

#[test]
fn filters_choose() -> Result<()> {
    let site = site_or_return!();
    site.ok(CONFIG, "load")?;
    for filter in ["--reason checksum_bad", "--tunnel scrub-fra"] {
        let drops = Drops::start(&site, &format!("--json --count 2 {filter}"))?;
        for _ in 0..2 {
            site.send(STRANGER, Some(4200))?;
            site.send_packet(&damaged())?;
        }
        let lines = drops.end_lines()?;
        let reasons: Vec<_> = lines.iter().map(|line| &line["reason"]).collect();
        assert_eq!(reasons, ["checksum_bad"; 2], "{filter}");
    }
    let line = "--tunnel scrub-fr: no such tunnel is loaded, did you mean \"scrub-fra\"?; `gre-decap status` lists all";
    site.refused(CONFIG, "drops --tunnel scrub-fr", 1, line)?;
    Ok(())
}

#[test]
fn other_tools_read_the_capture() -> Result<()> {
    let site = site_or_return!();
    site.ok(CONFIG, "load")?;
    let drops = Drops::start(&site, "--count 2 --pcap -")?;
    let sent = [damaged(), packet(STRANGER, Some(4200))];
    for packet in &sent {
        site.send_packet(packet)?;
    }
    let capture = drops.end()?;

    let mut reader = PcapNGReader::new(1 << 16, capture.as_slice()).map_err(|error| anyhow!("{error:?}"))?;
    let (mut interfaces, mut packets) = (Vec::new(), Vec::new());
    loop {
        let (used, block) = match reader.next() {
            Ok(next) => next,
            Err(PcapError::Eof) => break,
            Err(PcapError::Incomplete(_)) => {
                reader.refill().map_err(|error| anyhow!("{error:?}"))?;
                continue;
            }
            Err(error) => bail!("{error:?}"),
        };
        match block {
            PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                assert_eq!((interface.linktype, interface.if_tsresol), (Linktype::ETHERNET, 9));
                let name = interface.options.iter().find(|option| option.code.0 == 2);
                interfaces.push(String::from_utf8(name.context("a name")?.as_bytes()?.to_vec())?);
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                let comment = packet.options.iter().find(|option| option.code.0 == 1);
                let comment = String::from_utf8(comment.context("a comment")?.as_bytes()?.to_vec())?;
                let nanoseconds = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                let age =
                    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds))?;
                assert!(age < 10 * PATIENCE, "{age:?}");
                packets.push((comment, packet.data[..packet.caplen as usize].to_vec(), packet.origlen));
            }
            _ => {}
        }
        reader.consume(used);
    }
    assert_eq!(interfaces, ["wan0"]);
    let comments = [
        "checksum_bad (drop) in tunnel scrub-fra",
        "unknown_tunnel (pass) in no tunnel",
    ];
    let expected: Vec<_> = comments
        .iter()
        .zip(&sent)
        .map(|(comment, packet)| ((*comment).to_owned(), packet.frame(), packet.frame().len() as u32))
        .collect();
    assert_eq!(packets, expected);
    Ok(())
}

#[test]
fn a_long_packet_is_shown_by_its_beginning() -> Result<()> {
    let site = site_or_return!();
    site.ok(CONFIG, "load")?;
    let drops = Drops::start(&site, "--json --count 1")?;
    let mut long = damaged();
    long.payload.resize(1200, 0xaa);
    site.send_packet(&long)?;
    let line = &drops.end_lines()?[0];
    assert_eq!(line["length"], 14 + 20 + 12 + 1200);
    assert_eq!(line["bytes"].as_str().map(str::len), Some(2 * 192));
    Ok(())
}

#[test]
fn what_is_refused_after_decapsulation_is_shown_as_it_then_is() -> Result<()> {
    let site = site_or_return!();
    site.origin.sysctl("net.ipv4.ip_forward", "1")?;
    site.origin.ip("route add blackhole 192.0.2.0/24")?;
    for options in ["", "spread = 'all'\n"] {
        site.ok(&format!("{CONFIG}deliver = 'route'\n{options}"), "load")?;
        let drops = Drops::start(&site, "--json --count 1")?;
        let mut sent = packet(REMOTE, Some(4200));
        // A program that forwards takes only frames for its interface.
        sent.link.destination = WAN_MAC;
        site.send_packet(&sent)?;
        let line = &drops.end_lines()?[0];
        assert_eq!(
            (&line["reason"], &line["action"], &line["tunnel"], &line["interface"]),
            (
                &json!("route_denied"),
                &json!("drop"),
                &json!("scrub-fra"),
                &json!("wan0")
            ),
            "{options}"
        );
        assert_eq!((&line["length"], &line["gre"]), (&json!(14 + 33), &Value::Null));
        assert_eq!(line["outer"]["destination"], "192.0.2.80");
    }
    Ok(())
}
