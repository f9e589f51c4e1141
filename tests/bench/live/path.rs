//! Packets through a veth's driver to each delivery, beside XDP_DROP in the same place. For `cargo xtask bench --path`.

use std::env;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gre_tests::figures::kernel::Receiver;
use gre_tests::figures::path::{Rate, Report};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::injector::{Injector, Then};
use super::site::{Counts, End, Site};
use super::tcp;
use crate::datapath::LOOPBACK;
use crate::measure::{self, quantile};

/// Inner addresses that packets come from.
const FLOWS: u32 = 4096;
/// How long packets may be under way on other cores once all are sent.
const UNDER_WAY: Duration = Duration::from_millis(100);

/// How much is measured.
struct Amount {
    rounds: usize,
    frames: u32,
    transfer: Duration,
}

/// Measures, and writes the result.
pub(crate) fn measure() -> Result<()> {
    let amount = if env::args().any(|argument| argument == "--quick") {
        Amount {
            rounds: 2,
            frames: 4096,
            transfer: Duration::from_millis(100),
        }
    } else {
        Amount {
            rounds: 15,
            frames: 1 << 16,
            transfer: Duration::from_secs(1),
        }
    };
    let binary = env::var_os("GRE_DECAP_BINARY").context("GRE_DECAP_BINARY is not set: use `cargo xtask bench`")?;
    let binary = PathBuf::from(binary);
    let report = Report {
        machine: measure::machine()?,
        cores: thread::available_parallelism()?.get(),
        rounds: amount.rounds,
        deliveries: deliveries(&binary, &amount)?,
        tcp: tcp::compare(&binary, amount.rounds.div_ceil(3), amount.transfer)?,
    };
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}

type Arrived = fn(&Counts, u64) -> u64;

/// A host with a delivery, and packets for it.
struct Lane {
    name: &'static str,
    site: Site,
    receiver: Receiver,
    injector: Injector,
    /// What has arrived, from where it is counted, and from what the socket received.
    arrived: Arrived,
    rates: Vec<f64>,
    sent: u64,
    came: u64,
    /// What is attached beside our program.
    _held: Option<aya::Ebpf>,
}

impl Lane {
    /// Where XDP drops all.
    fn dropping(binary: &Path) -> Result<Self> {
        let site = Site::new(binary.to_owned(), 1)?;
        let sink = site.attach("sink")?;
        let mut lane = Self::of("XDP_DROP", site, Receiver::Nobody, End::Nowhere, |counts, _| {
            counts.came
        })?;
        lane._held = Some(sink);
        Ok(lane)
    }

    /// Where our program delivers.
    fn delivering(binary: &Path, name: &'static str, tunnel: &str, end: End, arrived: Arrived) -> Result<Self> {
        let site = Site::new(binary.to_owned(), 1)?;
        site.load(tunnel, "")?;
        Self::of(name, site, Receiver::Ours, end, arrived)
    }

    fn of(name: &'static str, site: Site, receiver: Receiver, end: End, arrived: Arrived) -> Result<Self> {
        let frame = site.in_gre(end);
        let then = Then::Leave(site.net_end.index);
        Ok(Self {
            name,
            injector: Injector::new(frame.bytes, then, frame.inner_at, FLOWS)?,
            site,
            receiver,
            arrived,
            rates: Vec::new(),
            sent: 0,
            came: 0,
            _held: None,
        })
    }

    /// Sends so many frames, and notes at which rate they arrived.
    fn turn(&mut self, frames: u32) -> Result<()> {
        let before = self.site.counts(self.receiver)?;
        let injector = &mut self.injector;
        let each = self.site.net.run(|| {
            stay_on_first_core()?;
            injector.send(frames, LOOPBACK)
        })?;
        thread::sleep(UNDER_WAY);
        let counted = self.site.counts(self.receiver)?.since(before);
        let came = (self.arrived)(&counted, self.site.drain()?);
        ensure!(
            came > 0 && came <= u64::from(frames),
            "{came} of {frames} frames arrived: {counted:?}"
        );
        self.sent += u64::from(frames);
        self.came += came;
        self.rates.push(came as f64 / (f64::from(frames) * each.as_secs_f64()));
        Ok(())
    }
}

fn deliveries(binary: &Path, amount: &Amount) -> Result<Vec<Rate>> {
    let mut lanes = vec![
        Lane::dropping(binary)?,
        Lane::delivering(binary, "stack", "", End::Nowhere, |counts, _| counts.stack)?,
        Lane::delivering(binary, "stack, UDP socket", "", End::Socket, |_, received| received)?,
        Lane::delivering(binary, "stack, which forwards", "", End::Behind, |counts, _| {
            counts.left
        })?,
        Lane::delivering(binary, "route", "deliver = \"route\"", End::Behind, |counts, _| {
            counts.left
        })?,
        Lane::delivering(
            binary,
            "interface",
            "deliver = { interface = \"lan0\", next_hop = \"NEXT_HOP\" }",
            End::Behind,
            |counts, _| counts.left,
        )?,
        Lane::delivering(
            binary,
            "spread over all cores, stack",
            "spread = \"all\"",
            End::Nowhere,
            |counts, _| counts.stack,
        )?,
    ];
    for round in 1..=amount.rounds {
        eprintln!("round {round} of {}", amount.rounds);
        for lane in &mut lanes {
            lane.turn(amount.frames).with_context(|| lane.name)?;
        }
    }
    let dropped = lanes[0].rates.clone();
    let rates = lanes.iter().map(|lane| {
        let parts: Vec<_> = lane
            .rates
            .iter()
            .zip(&dropped)
            .map(|(rate, drop)| rate / drop)
            .collect();
        Rate {
            name: lane.name.to_owned(),
            median: quantile(&lane.rates, 0.5).round(),
            low: quantile(&lane.rates, 0.25).round(),
            high: quantile(&lane.rates, 0.75).round(),
            of_drop: quantile(&parts, 0.5),
            lost: 1.0 - lane.came as f64 / lane.sent as f64,
        }
    });
    Ok(rates.collect())
}

/// Keeps the calling thread on the first core, where a veth then handles what it sends.
pub(super) fn stay_on_first_core() -> Result<()> {
    let mut first = CpuSet::new();
    first.set(0)?;
    sched_setaffinity(Pid::from_raw(0), &first).context("stay on the first core")
}
