//! `drops`: follows packets that are not delivered, as the program samples them.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use gre_common::Reason;
use gre_common::sample::{HELD, RATE};
use nix::net::if_::if_indextoname;
use serde::Serialize;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::capture::{Packet, PcapNg};
use crate::decode::Decoded;
use crate::error::Error;
use crate::output::{print, print_json, report};
use crate::reasons::ReasonName;
use crate::samples::{Reader, Sample};
use crate::state::Root;
use crate::table::count;

/// How often is said what the limits have swallowed.
const TALLY: Duration = Duration::from_secs(1);

/// How samples are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// A line of JSON for each.
    Json,
    /// As pcapng into this file; `-` is standard output.
    Pcap(PathBuf),
}

/// Which samples are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Only those of this reason.
    pub reason: Option<ReasonName>,
    /// Only those of the tunnel of this name.
    pub tunnel: Option<String>,
    /// Only so many.
    pub count: Option<NonZeroU64>,
}

impl Wanted {
    fn has(&self, sample: &Sample) -> bool {
        let reason = self.reason.is_none_or(|name| name.as_str() == sample.reason.name());
        let tunnel = self.tunnel.is_none() || self.tunnel == sample.tunnel;
        reason && tunnel
    }
}

/// Shows samples until interrupted.
///
/// # Errors
///
/// If nothing is loaded (any more), another process reads samples, no tunnel has the name that was asked for, or what is
/// shown cannot be written; [`Error::ClosedPipe`] if nobody reads on.
pub fn execute(root: &Root, format: &Format, wanted: &Wanted) -> Result<(), Error> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("signals cannot be received")?;
    }
    let mut reader = Reader::open(root)?;
    if let Some(name) = &wanted.tunnel {
        ensure_tunnel(&reader, name)?;
    }
    let mut output = Output::of(format)?;
    let limit = format!("at most {RATE} a second of each reason on each CPU");
    report(
        "note",
        format!("following packets that are not delivered, {limit}; interrupt to end"),
    );
    let mut left = wanted.count.map(NonZeroU64::get);
    let mut told = Instant::now();
    while left != Some(0) {
        let ends = stop.load(Ordering::Relaxed);
        let samples = if ends { reader.finish()? } else { reader.read()? };
        for sample in samples.iter().filter(|sample| wanted.has(sample)) {
            output.show(sample)?;
            if let Some(left) = &mut left {
                *left -= 1;
                if *left == 0 {
                    break;
                }
            }
        }
        output.flush()?;
        if ends {
            break;
        }
        if told.elapsed() >= TALLY {
            output.tell(&reader.missed()?)?;
            told = Instant::now();
        }
    }
    output.tell(&reader.missed()?)
}

fn ensure_tunnel(reader: &Reader, name: &str) -> Result<()> {
    if reader.tunnels().any(|tunnel| tunnel == name) {
        return Ok(());
    }
    let near = reader
        .tunnels()
        .min_by_key(|tunnel| strsim::osa_distance(tunnel, name))
        .map_or_else(String::new, |near| format!(", did you mean \"{near}\"?"));
    Err(anyhow!(
        "--tunnel {name}: no such tunnel is loaded{near}; `gre-decap status` lists all"
    ))
}

/// Where samples go.
enum Output {
    Text,
    Json,
    Pcap(PcapNg<Box<dyn Write>>),
}

/// A sample as a line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    /// RFC 3339, in UTC.
    time: String,
    reason: &'static str,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tunnel: Option<&'a str>,
    interface: &'a str,
    interface_index: u32,
    queue: u32,
    /// Bytes of the whole frame.
    length: u32,
    #[serde(flatten)]
    layers: Decoded,
    /// The frame's first bytes.
    bytes: String,
}

/// What was not sampled, as a line of JSON.
#[derive(Serialize)]
struct Tally {
    /// Packets by reason.
    not_shown: Vec<Missed>,
    /// How many a second of each reason, on each CPU, are shown.
    limit: u64,
}

#[derive(Serialize)]
struct Missed {
    reason: &'static str,
    action: &'static str,
    packets: u64,
}

impl Output {
    fn of(format: &Format) -> Result<Self, Error> {
        Ok(match format {
            Format::Text => Self::Text,
            Format::Json => Self::Json,
            Format::Pcap(file) => {
                let writer: Box<dyn Write> = if file == Path::new("-") {
                    Box::new(BufWriter::new(io::stdout()))
                } else {
                    let refused = |error| {
                        anyhow!(
                            "--pcap {}: cannot be written: {error}; name another file",
                            file.display()
                        )
                    };
                    Box::new(BufWriter::new(File::create(file).map_err(refused)?))
                };
                Self::Pcap(PcapNg::begin(writer, HELD as u32).map_err(closed)?)
            }
        })
    }

    fn show(&mut self, sample: &Sample) -> Result<(), Error> {
        let interface = interface(sample.interface);
        match self {
            Self::Text => print(&text(sample, &interface)),
            Self::Json => print_json(&Line {
                time: time(sample),
                reason: sample.reason.name(),
                action: sample.reason.action().as_str(),
                tunnel: sample.tunnel.as_deref(),
                interface: &interface,
                interface_index: sample.interface,
                queue: sample.queue,
                length: sample.length,
                layers: Decoded::of(&sample.bytes),
                bytes: hex(&sample.bytes),
            }),
            Self::Pcap(capture) => capture
                .write(&Packet {
                    at: sample.at,
                    interface: &interface,
                    length: sample.length,
                    bytes: &sample.bytes,
                    comment: &why(sample),
                })
                .map_err(closed),
        }
    }

    fn flush(&mut self) -> Result<(), Error> {
        match self {
            Self::Text | Self::Json => Ok(()),
            Self::Pcap(capture) => capture.flush().map_err(closed),
        }
    }

    /// Tells how many packets were not sampled.
    fn tell(&mut self, missed: &[(Reason, u64)]) -> Result<(), Error> {
        if missed.is_empty() {
            return Ok(());
        }
        match self {
            Self::Text => print(&format!("{}\n", tally(missed))),
            Self::Json => print_json(&Tally {
                not_shown: missed
                    .iter()
                    .map(|(reason, packets)| Missed {
                        reason: reason.name(),
                        action: reason.action().as_str(),
                        packets: *packets,
                    })
                    .collect(),
                limit: RATE,
            }),
            Self::Pcap(_) => {
                report("note", tally(missed));
                Ok(())
            }
        }
    }
}

fn text(sample: &Sample, interface: &str) -> String {
    format!(
        "{}  {}  {interface} queue {}  {} bytes\n{}",
        time(sample),
        why(sample),
        sample.queue,
        sample.length,
        Decoded::of(&sample.bytes)
    )
}

/// The reason, what became of the packet, and whose it was.
fn why(sample: &Sample) -> String {
    let (reason, action) = (sample.reason.name(), sample.reason.action().as_str());
    match &sample.tunnel {
        Some(tunnel) => format!("{reason} ({action}) in tunnel {tunnel}"),
        None => format!("{reason} ({action}) in no tunnel"),
    }
}

fn tally(missed: &[(Reason, u64)]) -> String {
    let reasons: Vec<_> = missed
        .iter()
        .map(|(reason, packets)| format!("{} {}", reason.name(), count(*packets)))
        .collect();
    format!(
        "not shown, beyond {RATE} a second of each reason on each CPU: {}",
        reasons.join(", ")
    )
}

fn time(sample: &Sample) -> String {
    humantime::format_rfc3339_micros(sample.at).to_string()
}

/// The interface's name, or its index if it has gone.
fn interface(index: u32) -> String {
    if_indextoname(index)
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| format!("interface {index}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The error, unless it is that nobody reads on.
fn closed(error: anyhow::Error) -> Error {
    let is_closed = error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
    });
    if is_closed {
        Error::ClosedPipe
    } else {
        Error::Failed(error)
    }
}
