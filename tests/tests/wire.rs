//! The table of fixtures on the wire: frames sent into a real interface with the program on it, what comes through captured
//! behind it, and the counters read back by `gre-decap stats`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use gre_tests::fixtures::{self, Expect, Fixture, Step};
use gre_tests::lab::{Lab, Namespace, Wire};
use gre_tests::skip::{binary_or_skip, say};
use serde_json::Value;

/// The MTU of the wire. The longest fixture has 9,000 bytes behind its link header.
const MTU: u32 = 9100;
/// The shortest and longest frame that a packet socket sends into it.
const SENDABLE: std::ops::RangeInclusive<usize> = 14..=MTU as usize + 14;
/// An EtherType for experiments (IEEE 802), which no stack answers.
const MARKER: [u8; 2] = [0x88, 0xb5];

#[test]
fn every_fixture_comes_out_as_expected_in_native_mode() -> Result<()> {
    let Some(lab) = gre_tests::lab_or_skip!() else {
        return Ok(());
    };
    let Some(binary) = binary_or_skip("every_fixture_comes_out_as_expected_in_native_mode") else {
        return Ok(());
    };
    run_all(&lab, &binary, "native")
}

#[test]
fn every_fixture_comes_out_as_expected_in_generic_mode() -> Result<()> {
    let Some(lab) = gre_tests::lab_or_skip!() else {
        return Ok(());
    };
    let Some(binary) = binary_or_skip("every_fixture_comes_out_as_expected_in_generic_mode") else {
        return Ok(());
    };
    run_all(&lab, &binary, "generic")
}

fn run_all(lab: &Lab, binary: &Path, mode: &str) -> Result<()> {
    let site = Site::new(lab, binary, mode)?;
    let (mut frames, mut left_out, mut waiting) = (0, 0, 0);
    let mut by_config: BTreeMap<&str, Vec<Fixture>> = BTreeMap::new();
    for fixture in fixtures::all() {
        // The clock is the kernel's here: what takes seconds is shown by the loaded program's own test.
        if fixture.steps.iter().any(|step| !step.advance.is_zero()) {
            waiting += 1;
        } else {
            by_config.entry(fixture.config).or_default().push(fixture);
        }
    }
    for (config, fixtures) in by_config {
        site.load(config)?;
        let mut counts = Counts::default();
        for fixture in &fixtures {
            if fixture.config.contains("\"ordered\"") {
                // Sequence numbers of another fixture's packets must not matter.
                site.check_counts(&counts)?;
                site.run("unload", config)?;
                site.load(config)?;
                counts = Counts::default();
            }
            for (number, step) in fixture.steps.iter().enumerate() {
                let arrives = match &step.expect {
                    Expect::Deliver { frame, .. } => frame,
                    Expect::Pass { .. } | Expect::Drop { .. } => &step.frame,
                };
                if SENDABLE.contains(&step.frame.len()) && !has_cut_tag(&step.frame) && !has_cut_tag(arrives) {
                    site.judge(step)
                        .with_context(|| format!("{}, step {number}: {}", fixture.name, fixture.shows))?;
                    counts.add(&step.expect);
                    frames += 1;
                } else {
                    left_out += 1;
                }
            }
        }
        site.check_counts(&counts)?;
        site.run("unload", config)?;
    }
    ensure!(frames > 5000, "only {frames} frames");
    say(&format!(
        "{frames} frames on the wire in {mode} mode, but for {left_out} that no packet socket sends or sees and {waiting} fixtures that wait"
    ));
    Ok(())
}

/// A wire into an origin that runs the program under test.
struct Site<'a> {
    lab: &'a Lab,
    binary: &'a Path,
    mode: &'a str,
    origin: Namespace,
    // Keeps the wire's other end.
    _centre: Namespace,
    sender: Wire,
    behind: Wire,
    /// What the sender's own stack says, neighbour discovery for one, is not ours.
    noise: [u8; 6],
}

impl<'a> Site<'a> {
    fn new(lab: &'a Lab, binary: &'a Path, mode: &'a str) -> Result<Self> {
        let (centre, origin) = (lab.namespace("centre")?, lab.namespace("origin")?);
        // The first pair of a lab has the addresses of the fixtures' frames, which noise must not have.
        lab.veth(centre.end("spare"), origin.end("spare0"))?;
        let (end, _) = lab.veth(centre.end("wan").mtu(MTU), origin.end("wan0").mtu(MTU))?;
        let (sender, behind) = (Wire::open(&centre, "wan")?, Wire::open(&origin, "wan0")?);
        Ok(Self {
            lab,
            binary,
            mode,
            origin,
            _centre: centre,
            sender,
            behind,
            noise: end.mac,
        })
    }

    fn command(&self, arguments: &str, config: &str) -> Result<Command> {
        let text = format!("{config}\n[[interface]]\nname = \"wan0\"\nmode = \"{}\"\n", self.mode);
        let file = self.lab.write_file("config.toml", &text)?;
        let mut command = self.origin.command(self.binary);
        command.arg("--config").arg(file).args(arguments.split_whitespace());
        Ok(command)
    }

    fn run(&self, arguments: &str, config: &str) -> Result<String> {
        let output = self.command(arguments, config)?.output()?;
        ensure!(
            output.status.success(),
            "{arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    fn load(&self, config: &str) -> Result<()> {
        self.run("load", config).map(drop)
    }

    /// Sends a step's frame, and a marker behind it, and looks at what has come through when the marker has.
    fn judge(&self, step: &Step) -> Result<()> {
        self.sender.send(&step.frame)?;
        let marker = [&[0xff; 6][..], &[2, 0, 0, 0, 0xee, 0xee], &MARKER, &[0x5a; 46]].concat();
        self.sender.send(&marker)?;
        let mut seen: Vec<_> = self
            .behind
            .until("the marker", |frame| !frame.outgoing && frame.bytes == marker)?
            .into_iter()
            .filter(|frame| !frame.outgoing && frame.bytes.get(6..12) != Some(&self.noise))
            .map(|frame| frame.bytes)
            .collect();
        seen.pop();
        let expected: &[&Vec<u8>] = match &step.expect {
            Expect::Pass { .. } => &[&step.frame],
            Expect::Drop { .. } => &[],
            Expect::Deliver { frame, .. } => &[frame],
        };
        ensure!(
            seen.iter().eq(expected.iter().copied()),
            "sent {}\nexpected {:?}: {}\nseen {}",
            hex(&step.frame),
            reason(&step.expect),
            expected.iter().map(|frame| hex(frame)).collect::<Vec<_>>().join(", "),
            seen.iter().map(|frame| hex(frame)).collect::<Vec<_>>().join(", "),
        );
        Ok(())
    }

    fn check_counts(&self, counts: &Counts) -> Result<()> {
        let stats: Value = serde_json::from_str(&self.run("stats --json", "")?)?;
        let found = Counts::of(&stats)?;
        ensure!(found == *counts, "expected {counts:?}\nfound {found:?}");
        Ok(())
    }
}

/// What must have been counted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    /// Packets, inner and outer bytes of each tunnel that has any.
    tunnels: BTreeMap<String, (u64, u64, u64)>,
    reasons: BTreeMap<String, u64>,
}

impl Counts {
    fn add(&mut self, expect: &Expect) {
        if let Some(reason) = reason(expect) {
            *self.reasons.entry(reason.to_owned()).or_default() += 1;
        }
        if let Expect::Deliver {
            tunnel,
            inner_bytes,
            outer_bytes,
            ..
        } = expect
        {
            let (packets, bytes, outer) = self.tunnels.entry((*tunnel).to_owned()).or_default();
            *packets += 1;
            *bytes += inner_bytes;
            *outer += outer_bytes;
        }
    }

    fn of(stats: &Value) -> Result<Self> {
        let mut counts = Self::default();
        let number = |value: &Value| value.as_u64().context("a count");
        for tunnel in stats["tunnels"].as_array().context("tunnels")? {
            let name = tunnel["name"].as_str().context("a name")?;
            let packets = number(&tunnel["packets"])?;
            if packets != 0 {
                ensure!(tunnel["last_seen_seconds"].is_number(), "{tunnel}");
                let bytes = (packets, number(&tunnel["bytes"])?, number(&tunnel["outer_bytes"])?);
                counts.tunnels.insert(name.to_owned(), bytes);
            }
        }
        for (name, count) in stats["reasons"].as_object().context("reasons")? {
            if number(count)? != 0 {
                counts.reasons.insert(name.clone(), number(count)?);
            }
        }
        Ok(counts)
    }
}

fn reason(expect: &Expect) -> Option<&'static str> {
    match expect {
        Expect::Pass { reason } => *reason,
        Expect::Drop { reason } => Some(reason),
        Expect::Deliver { also, .. } => *also,
    }
}

/// Whether a tagged frame ends before the second byte behind its tag: the kernel throws it away before a packet socket sees it
/// (`skb_vlan_untag`).
fn has_cut_tag(frame: &[u8]) -> bool {
    frame.len() < 20 && matches!(frame[12..], [0x81, 0x00, ..] | [0x88, 0xa8, ..])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
