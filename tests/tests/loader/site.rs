//! A place to load in: an origin and a scrubbing centre joined by a wire, and the `gre-decap` under test.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use aya::maps::{Map, MapData};
use gre_tests::frame::{Addresses, Gre, Ipv4, Link, Outer, PROTOCOL_GRE, PROTOCOL_UDP, Packet, udp_datagram};
use gre_tests::lab::{Lab, Namespace, PATIENCE, Wire};
use gre_tests::skip::binary_or_skip;
use serde_json::Value;

/// Where the state is pinned when the command line does not say.
pub(crate) const ROOT: &str = "/sys/fs/bpf/gre-decap";

/// The origin's interface that faces the scrubbing centre.
pub(crate) const WAN: &str = "wan0";

pub(crate) const LOCAL: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 20);
pub(crate) const REMOTE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
pub(crate) const STRANGER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 66);

/// A tunnel between [`REMOTE`] and [`LOCAL`], on [`WAN`].
pub(crate) const CONFIG: &str = r#"
[[interface]]
name = "wan0"

[[tunnel]]
name = "scrub-fra"
local = "198.51.100.20"
remote = ["203.0.113.10", "203.0.113.128/25"]
key = 4200
"#;

/// These tunnels beside so many idle ones that the program looks them up, and goes on when one changes. Few are part of the program:
/// then any change takes another.
pub(crate) fn among_many(config: &str) -> String {
    let idle = (1..=5).map(|number| {
        format!("\n[[tunnel]]\nname = \"idle{number}\"\nlocal = \"{LOCAL}\"\nremote = \"192.0.2.20{number}\"\n")
    });
    config.to_owned() + &idle.collect::<String>()
}

/// Bytes of the inner packet that [`Site::send`] sends.
pub(crate) const INNER_BYTES: u64 = 20 + 8 + 5;
/// Bytes of the outer packet around it, with a key.
pub(crate) const OUTER_BYTES: u64 = 20 + 8 + INNER_BYTES;

/// The place.
pub(crate) struct Site {
    pub(crate) lab: Lab,
    pub(crate) origin: Namespace,
    pub(crate) scrub: Namespace,
    binary: PathBuf,
    wire: Wire,
    /// What the wire has lost before anything was sent; see [`Site::dropped_on_the_wire`].
    dropped_before: u64,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A [`Site`] for the calling test; the test returns where the machine or the environment cannot hold one, after saying so.
macro_rules! site_or_return {
    () => {{
        let Some(lab) = gre_tests::lab_or_skip!() else {
            return Ok(());
        };
        fn here() {}
        let name = std::any::type_name_of_val(&here);
        match $crate::site::Site::new(lab, name.trim_end_matches("::here"))? {
            Some(site) => site,
            None => return Ok(()),
        }
    }};
}
pub(crate) use site_or_return;

/// Ends what runs beside, also when the test panics.
pub(crate) struct Stop<'a>(pub(crate) &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Site {
    /// A site, or none, loudly, if there is no `gre-decap` to test.
    pub(crate) fn new(lab: Lab, test: &str) -> Result<Option<Self>> {
        let Some(binary) = binary_or_skip(test) else {
            return Ok(None);
        };
        let (scrub, origin) = (lab.namespace("scrub")?, lab.namespace("origin")?);
        lab.veth(scrub.end("wan"), origin.end(WAN).address("198.51.100.20/24"))?;
        let wire = Wire::open(&scrub, "wan")?;
        Ok(Some(Self {
            dropped_before: scrub.statistic("wan", "tx_dropped")?,
            lab,
            origin,
            scrub,
            binary,
            wire,
        }))
    }

    /// `gre-decap` with arguments separated by blanks, in the origin. `FILE` stands for a file with this configuration.
    pub(crate) fn command(&self, config: &str, arguments: &str) -> Result<Command> {
        let file = self.lab.write_file("config.toml", config)?;
        let mut command = self.origin.command(&self.binary);
        command.arg("--config").arg(file).args(arguments.split_whitespace());
        Ok(command)
    }

    /// Runs `gre-decap`.
    pub(crate) fn run(&self, config: &str, arguments: &str) -> Result<Done> {
        let mut command = self.command(config, arguments)?;
        Done::of(&command.output().context("run gre-decap")?)
    }

    /// What a command prints as JSON that reads no configuration file; this one writes none, and so may run beside others.
    pub(crate) fn json_beside(&self, arguments: &str) -> Result<Value> {
        let mut command = self.origin.command(&self.binary);
        let output = command.args(arguments.split_whitespace()).arg("--json").output();
        let done = Done::of(&output.context("run gre-decap")?)?;
        done.is_done(arguments);
        serde_json::from_str(&done.stdout).with_context(|| format!("JSON of {arguments}: {}", done.stdout))
    }

    /// Runs `gre-decap` by another command, which gets its path and arguments.
    pub(crate) fn run_by(&self, wrapper: &[&str], config: &str, arguments: &str) -> Result<Done> {
        let inner = self.command(config, arguments)?;
        let mut command = self.origin.command(wrapper[0]);
        command
            .args(&wrapper[1..])
            .arg(inner.get_program())
            .args(inner.get_args());
        Done::of(&command.output().with_context(|| format!("run {wrapper:?}"))?)
    }

    /// Runs `gre-decap`, which must succeed without a word on standard error, and returns what it printed.
    #[track_caller]
    pub(crate) fn ok(&self, config: &str, arguments: &str) -> Result<String> {
        let done = self.run(config, arguments)?;
        assert_eq!((done.status, done.stderr.as_str()), (Some(0), ""), "{arguments}");
        Ok(done.stdout)
    }

    /// What a command prints as JSON.
    pub(crate) fn json(&self, arguments: &str) -> Result<Value> {
        let text = self.ok("", &format!("{arguments} --json"))?;
        serde_json::from_str(&text).with_context(|| format!("JSON of {arguments}: {text}"))
    }

    /// Checks that a command fails with this status and this one line, and that it changes nothing.
    #[track_caller]
    pub(crate) fn refused(&self, config: &str, arguments: &str, status: i32, line: &str) -> Result<()> {
        let before = self.everything()?;
        let done = self.run(config, arguments)?;
        done.is_refusal(status, line);
        assert_eq!(self.everything()?, before, "{line}");
        Ok(())
    }

    /// All that a load could change: what is pinned, what the kernel has attached, and what runs.
    pub(crate) fn everything(&self) -> Result<String> {
        let pinned = self.files("/sys/fs/bpf")?.join("\n");
        let links = self.origin.ip("-details link show")?;
        let attached: Vec<_> = links.lines().filter(|line| line.contains("prog/xdp")).collect();
        let status = self.run("", "status --json")?.stdout;
        Ok(format!("{pinned}\n{}\n{status}", attached.join("\n")))
    }

    /// The paths of all files below a folder.
    pub(crate) fn files(&self, folder: &str) -> Result<Vec<String>> {
        let output = self.origin.command("find").arg(folder).output().context("run find")?;
        let mut files: Vec<_> = String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect();
        files.sort();
        Ok(files)
    }

    /// A map of the generation in force.
    pub(crate) fn pinned(&self, name: &str) -> Result<Map> {
        let path = format!("{ROOT}/current/{name}");
        self.origin.run(|| Ok(Map::from_map_data(MapData::from_pin(&path)?)?))
    }

    /// Sends packets of the tunnel with key 4200 while `change` goes on, and tells how many.
    pub(crate) fn send_meanwhile(&self, change: impl FnOnce() -> Result<()>) -> Result<u64> {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let mut sent = 0;
                while !stop.load(Ordering::Relaxed) {
                    self.send(REMOTE, Some(4200))?;
                    sent += 1;
                    if sent % 64 == 0 {
                        // So that the wire, which holds 256, drops next to none.
                        thread::sleep(Duration::from_micros(500));
                    }
                }
                anyhow::Ok(sent)
            });
            let changed = {
                let _stop = Stop(&stop);
                change()
            };
            let sent = sender.join().expect("the sender does not panic");
            changed.and(sent)
        })
    }

    /// Sends a UDP datagram through the tunnel from `source` with `key`.
    pub(crate) fn send(&self, source: Ipv4Addr, key: Option<u32>) -> Result<()> {
        self.send_packet(&packet(source, key))
    }

    /// Sends a packet of one's own making.
    pub(crate) fn send_packet(&self, packet: &Packet) -> Result<()> {
        self.wire.send(&packet.frame())
    }

    /// How many packets the wire itself has dropped: a veth does when its other end does not keep up. A multicast report that was
    /// sent before the other end was up is none of them.
    pub(crate) fn dropped_on_the_wire(&self) -> Result<u64> {
        Ok(self.scrub.statistic("wan", "tx_dropped")? - self.dropped_before)
    }

    /// The statistics once `wanted` is true of them.
    #[track_caller]
    pub(crate) fn stats_when(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stats = self.json("stats")?;
            if wanted(&stats) {
                return Ok(stats);
            }
            if Instant::now() > deadline {
                bail!("waited for {what}: {stats}");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The statistics once a tunnel has counted so many packets.
    #[track_caller]
    pub(crate) fn stats_with(&self, tunnel: &str, packets: u64) -> Result<Value> {
        self.stats_when(&format!("{packets} packets in {tunnel}"), |stats| {
            self::tunnel(stats, tunnel)["packets"] == packets
        })
    }
}

impl Done {
    pub(crate) fn of(output: &Output) -> Result<Self> {
        Ok(Self {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout.clone())?,
            stderr: String::from_utf8(output.stderr.clone())?,
        })
    }

    /// Checks that it succeeded without a word on standard error.
    #[track_caller]
    pub(crate) fn is_done(&self, when: &str) {
        assert_eq!((self.status, self.stderr.as_str()), (Some(0), ""), "{when}");
    }

    /// Checks that it failed with this status and this one line.
    #[track_caller]
    pub(crate) fn is_refusal(&self, status: i32, line: &str) {
        assert_eq!(
            (self.status, self.stderr.as_str(), self.stdout.as_str()),
            (Some(status), format!("error: {line}\n").as_str(), "")
        );
    }
}

/// A UDP datagram through a tunnel to [`LOCAL`].
pub(crate) fn packet(source: Ipv4Addr, key: Option<u32>) -> Packet {
    let (client, origin) = (Ipv4Addr::new(198, 18, 5, 7), Ipv4Addr::new(192, 0, 2, 80));
    let header = |source, destination, protocol| Ipv4 {
        source,
        destination,
        protocol,
        ..Ipv4::default()
    };
    let datagram = udp_datagram(Addresses::V4(client, origin), b"hello");
    Packet {
        link: Link::default(),
        outer: Outer::V4(header(source, LOCAL, PROTOCOL_GRE)),
        gre: Gre { key, ..Gre::default() },
        payload: header(client, origin, PROTOCOL_UDP).packet(&datagram),
        padding: Vec::new(),
    }
}

/// A tunnel in the JSON of `stats` or `status`; null if there is none of this name.
pub(crate) fn tunnel<'a>(json: &'a Value, name: &str) -> &'a Value {
    let tunnels = json["tunnels"].as_array().map_or(&[][..], Vec::as_slice);
    tunnels
        .iter()
        .find(|tunnel| tunnel["name"] == name)
        .unwrap_or(&Value::Null)
}

/// Whether a path's last part is this.
pub(crate) fn ends_with(path: &str, name: &str) -> bool {
    PathBuf::from(path).file_name() == Some(OsStr::new(name))
}
