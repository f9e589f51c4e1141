//! What the loaded program costs per packet: `cargo xtask bench` builds this, runs it as root, and shows what it writes.
//!
//! Each shape of packet ([`shapes`]) is run by BPF_PROG_TEST_RUN through a harness ([`harness`]) that restores what the program
//! changes, by turns with what only moves the packet's ends as the program does: the difference is the program's own cost. All
//! shapes and floors take turns in every round ([`measure`]), so that a machine that becomes slower does so for all of them.

mod complexity;
mod datapath;
mod harness;
mod live;
mod measure;
mod shapes;

use std::collections::btree_map::{BTreeMap, Entry};
use std::env;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use gre_tests::figures::costs::{Group, Report, Row, Unit};
use gre_tests::lab::{Lab, Namespace};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::datapath::Loaded;
use crate::harness::{Harness, Kind};
use crate::measure::Series;
use crate::shapes::Shape;

/// What the command line asks for.
struct Options {
    quick: bool,
    /// Time is the number of instructions, so that once is enough.
    counting: bool,
    rounds: usize,
    filters: Vec<String>,
}

impl Options {
    fn parse() -> Result<Self> {
        let mut options = Self {
            quick: false,
            counting: false,
            rounds: 15,
            filters: Vec::new(),
        };
        let mut arguments = env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => (options.quick, options.rounds) = (true, 3),
                "--counting" => (options.quick, options.counting, options.rounds) = (true, true, 1),
                "--rounds" => {
                    let rounds = arguments.next().context("--rounds: how many?")?;
                    options.rounds = rounds.parse().with_context(|| format!("--rounds {rounds}"))?;
                }
                flag if flag.starts_with('-') => bail!("{flag}: there is --quick, --counting, and --rounds N"),
                _ => options.filters.push(argument),
            }
        }
        Ok(options)
    }

    /// Batches of one measurement.
    fn batches(&self) -> u32 {
        if self.counting { 2 } else { 24 }
    }

    fn wants(&self, shape: &Shape) -> bool {
        (self.filters.is_empty() || self.filters.iter().any(|filter| shape.name.contains(filter.as_str())))
            && !(self.quick && shape.takes_long)
    }
}

fn main() -> ExitCode {
    let done = measure::ensure_compiled().and_then(|()| match env::args().nth(1).as_deref() {
        Some("kernel") => live::kernel::compare().and_then(|()| on_a_host(live::kernel::judge)),
        Some("path") => live::path::measure(),
        _ => bench(),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<()> {
    let options = Options::parse()?;
    let report = on_a_host(|| run(&options))?;
    let text = if options.counting {
        serde_json::to_string(&report)?
    } else {
        serde_json::to_string_pretty(&report)?
    };
    println!("{text}");
    Ok(())
}

/// Runs something on a host that has what tunnels of all kinds need.
fn on_a_host<T: Send>(run: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    if let Err(missing) = Lab::available() {
        bail!("the program cannot be loaded here: missing {missing}");
    }
    open_many_files()?;
    let lab = Lab::new()?;
    let (host, other) = (lab.namespace("host")?, lab.namespace("other")?);
    lab.veth(host.end("lan0").address("10.0.0.1/24"), other.end("server"))?;
    prepare(&host)?;
    host.run(run)
}

/// All programs and maps of all shapes are open at once, more than a shell allows its children at first.
fn open_many_files() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).context("getrlimit(RLIMIT_NOFILE)")?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).with_context(|| format!("setrlimit(RLIMIT_NOFILE, {most})"))
}

/// A host that forwards what comes in on its loopback interface, which is where test runs come in.
fn prepare(host: &Namespace) -> Result<()> {
    host.ip("link set lo up")?;
    host.sysctl("net.ipv4.conf.lo.forwarding", "1")?;
    host.ip("route add 192.0.2.0/24 via 10.0.0.2")?;
    host.ip("route add blackhole 203.0.113.200")?;
    host.ip("neigh replace 10.0.0.2 lladdr 02:00:00:00:aa:01 dev lan0 nud permanent")?;
    Ok(())
}

fn run(options: &Options) -> Result<Report> {
    let shapes: Vec<_> = shapes::all()?
        .into_iter()
        .filter(|shape| options.wants(shape))
        .collect();
    if shapes.is_empty() {
        bail!("no shape's name contains {}", options.filters.join(" or "));
    }
    let mut programs = Vec::new();
    let mut loaded = BTreeMap::new();
    let mut benches = Vec::new();
    for shape in &shapes {
        let program = match loaded.entry((&shape.config, shape.build)) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(place) => {
                let program = Loaded::load(shape).with_context(|| format!("load for {}", shape.name))?;
                programs.extend(complexity::of(shape, &program)?);
                place.insert(program)
            }
        };
        let bench = Bench::of(shape, program, options.batches());
        benches.push(bench.with_context(|| format!("shape {}", shape.name))?);
    }
    measure::settle()?;
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        for bench in &mut benches {
            bench.turn()?;
        }
    }
    Ok(Report {
        machine: measure::machine()?,
        unit: if options.counting {
            Unit::Instructions
        } else {
            Unit::Nanoseconds
        },
        rounds: options.rounds,
        costs: benches.iter().flat_map(Bench::rows).collect(),
        programs,
    })
}

/// A shape under measurement.
struct Bench<'a> {
    shape: &'a Shape,
    harness: Harness,
    series: Vec<(Kind, Series)>,
}

impl<'a> Bench<'a> {
    fn of(shape: &'a Shape, program: &mut Loaded, batches: u32) -> Result<Self> {
        Ok(Self {
            shape,
            harness: Harness::around(shape, program, batches)?,
            series: shape.kinds.iter().map(|kind| (*kind, Series::default())).collect(),
        })
    }

    /// One measurement of each kind, between two of what the harness costs.
    fn turn(&mut self) -> Result<()> {
        let context = || format!("shape {}", self.shape.name);
        let before = self.harness.run(Kind::Base).with_context(context)?;
        let mut runs = Vec::new();
        for (kind, _) in &self.series {
            runs.push(self.harness.run(*kind).with_context(context)?);
        }
        let after = self.harness.run(Kind::Base).with_context(context)?;
        for ((_, series), run) in self.series.iter_mut().zip(runs) {
            series.add(&before, &run, &after);
        }
        Ok(())
    }

    fn rows(&self) -> Vec<Row> {
        let rows = self.series.iter().map(|(kind, series)| Row {
            group: if *kind == Kind::Program {
                self.shape.group
            } else {
                Group::Floor
            },
            name: kind.name(&self.shape.name),
            cost: series.cost(),
        });
        rows.collect()
    }
}
