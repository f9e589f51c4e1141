//! The harness of `gre-ebpf/bench`, around the loaded program or one of the floors.

use std::env;
use std::fs;

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, HashMap, PerCpuArray, ProgramArray};
use aya::programs::{ProgramFd, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader, Pod};
use gre_tests::figures::costs;

use crate::datapath::Loaded;
use crate::measure::Times;
use crate::shapes::Shape;

/// Of `gre-ebpf/bench`.
const BATCH: u64 = 2048;
const MOST_WORDS: usize = 20;

/// What the harness goes on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing, or what only moves the packet's ends as the program does.
    Base,
    /// The loaded program.
    Program,
    /// A strip of IPv4 and GRE without a check.
    Strip,
    /// The same with one look-up and one counter.
    StripCounted,
    /// `bpf_csum_diff` over the bytes that the checksum covers.
    Sum,
    /// The same by way of copies.
    SumCopied,
}

impl Kind {
    /// What a measurement of it is called.
    pub(crate) fn name(self, shape: &str) -> String {
        match self {
            Self::Base | Self::Program => shape.to_owned(),
            Self::Strip => costs::STRIPPED.to_owned(),
            Self::StripCounted => costs::COUNTED.to_owned(),
            Self::Sum => format!("bpf_csum_diff for {shape}"),
            Self::SumCopied => format!("bpf_xdp_load_bytes and bpf_csum_diff for {shape}"),
        }
    }

    fn program(self, is_stripped: bool) -> Option<&'static str> {
        Some(match self {
            Self::Program => return None,
            Self::Base if is_stripped => "adjust",
            Self::Base => "empty",
            Self::Strip => "strip",
            Self::StripCounted => "strip_counted",
            Self::Sum => "sum",
            Self::SumCopied => "sum_copied",
        })
    }
}

/// What the harness keeps from run to run: as the object has it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct State {
    runs: u64,
    random: u64,
    number: u32,
    unused: u32,
    waits: u64,
}

impl State {
    /// At the beginning, with the sequence number before the first.
    pub(crate) fn new(number: u32) -> Self {
        Self {
            runs: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            number,
            unused: 0,
            waits: 0,
        }
    }
}

// SAFETY: numbers without padding.
unsafe impl Pod for State {}

/// The key of the floor's look-up: as the object has it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Endpoints {
    keyed: u32,
    key: u32,
    local: [u8; 4],
    remote: [u8; 4],
}

// SAFETY: numbers without padding.
unsafe impl Pod for Endpoints {}

/// The object, loaded for one shape, and the program that it measures.
pub(crate) struct Harness {
    ebpf: Ebpf,
    measured: ProgramFd,
    /// What a test run begins with: the packet as the program leaves it.
    begin: Vec<u8>,
    is_stripped: bool,
    expected: (u32, Vec<u8>),
    /// Batches of one measurement.
    batches: u32,
}

impl Harness {
    /// Loads the object for a shape, and makes sure that the program does the same in it as without it.
    pub(crate) fn around(shape: &Shape, program: &mut Loaded, batches: u32) -> Result<Self> {
        let expected = program.run(&shape.frame)?;
        ensure!(
            expected.0 == shape.action,
            "the XDP action is {}, not {}",
            expected.0,
            shape.action
        );
        let shorter = shape.frame.len() - expected.1.len();
        ensure!(
            (shorter > 0) == shape.is_stripped,
            "the frame became {shorter} bytes shorter"
        );
        let mut harness = Self {
            ebpf: load(shape, shorter)?,
            measured: program.fd()?,
            begin: if shape.is_stripped {
                expected.1.clone()
            } else {
                shape.frame.clone()
            },
            is_stripped: shape.is_stripped,
            expected,
            batches,
        };
        if let Some(ends) = shape.outer_v4() {
            fill_floors(&mut harness.ebpf, ends)?;
        }
        harness.set_state(State::new(shape.first_number))?;
        harness.check(shape)?;
        Ok(harness)
    }

    /// Measures.
    pub(crate) fn run(&mut self, kind: Kind) -> Result<Times> {
        self.go_on_with(kind)?;
        let state = self.state()?;
        self.set_state(State { runs: 0, ..state })?;
        let (action, _) = self.test_run(self.batches * BATCH as u32 + 1)?;
        ensure!(action != 0, "{kind:?} was aborted");
        let times: Array<_, u64> = Array::try_from(self.ebpf.map_mut("TIMES").context("map TIMES")?)?;
        let began: Result<Vec<_>, _> = (0..=self.batches).map(|batch| times.get(&batch, 0)).collect();
        Ok(Times::between(&began?, BATCH))
    }

    /// After some runs the packet is still what it was after the first, or the benchmark would measure something else.
    fn check(&mut self, shape: &Shape) -> Result<()> {
        self.go_on_with(Kind::Program)?;
        let ran = self.test_run(3)?;
        ensure!(ran.0 == self.expected.0, "the XDP action became {}", ran.0);
        let same = ran.1 == self.expected.1;
        ensure!(same, "the packet became another one: {:x?}", ran.1);
        for kind in &shape.kinds {
            self.go_on_with(*kind)?;
            ensure!(self.test_run(3)?.0 != 0, "{kind:?} was aborted");
        }
        Ok(())
    }

    fn go_on_with(&mut self, kind: Kind) -> Result<()> {
        let measured = match kind.program(self.is_stripped) {
            None => self.measured.try_clone()?,
            Some(name) => self.program(name)?.fd()?.try_clone()?,
        };
        let mut next = ProgramArray::try_from(self.ebpf.map_mut("MEASURED").context("map MEASURED")?)?;
        next.set(0, &measured, 0)
            .with_context(|| format!("go on with {kind:?}"))
    }

    fn test_run(&mut self, repeat: u32) -> Result<(u32, Vec<u8>)> {
        let mut out = vec![0; self.begin.len()];
        let begin = self.begin.clone();
        let options = TestRunOptions {
            data_in: Some(&begin),
            data_out: Some(&mut out),
            repeat,
            ..TestRunOptions::new()
        };
        let result = self.program("harness")?.test_run(options).context("run the harness")?;
        out.truncate(result.data_size_out as usize);
        Ok((result.return_value, out))
    }

    fn program(&mut self, name: &str) -> Result<&mut Xdp> {
        let program = self.ebpf.program_mut(name).with_context(|| format!("program {name}"))?;
        Ok(program.try_into()?)
    }

    fn state(&mut self) -> Result<State> {
        let state: Array<_, State> = Array::try_from(self.ebpf.map_mut("STATE").context("map STATE")?)?;
        Ok(state.get(&0, 0)?)
    }

    fn set_state(&mut self, state: State) -> Result<()> {
        let mut map: Array<_, State> = Array::try_from(self.ebpf.map_mut("STATE").context("map STATE")?)?;
        Ok(map.set(0, state, 0)?)
    }
}

/// Lets the floor find packets of these outer addresses, source and destination.
pub(crate) fn fill_floors(ebpf: &mut Ebpf, [remote, local]: [[u8; 4]; 2]) -> Result<()> {
    let endpoints = Endpoints {
        keyed: 0,
        key: 0,
        local,
        remote,
    };
    let map = ebpf.map_mut("FLOOR_TUNNELS").context("map FLOOR_TUNNELS")?;
    HashMap::try_from(map)?.insert(endpoints, 1_u32, 0)?;
    let map = ebpf.map_mut("FLOOR_COUNTERS").context("map FLOOR_COUNTERS")?;
    let counters: PerCpuArray<_, [u64; 2]> = PerCpuArray::try_from(map)?;
    counters.get(&1, 0).context("the floor's counter")?;
    Ok(())
}

/// Loads the object with the constants of a shape, whose frame the program makes so much shorter.
fn load(shape: &Shape, shorter: usize) -> Result<Ebpf> {
    let padding = shape.padding as u32;
    let stripped = shorter as u32 - padding;
    let (template, words) = template(&shape.frame, shape.restored)?;
    let (sum_at, sum_len) = shape.summed;
    let constants = [
        ("STRIPPED", stripped),
        ("PADDING", padding),
        ("WORDS", words),
        ("NUMBER_AT", shape.number_at as u32),
        ("SOURCES", shape.sources),
        ("IP_AT", shape.ip_at as u32),
        ("SUM_AT", sum_at as u32),
        ("SUM_LEN", sum_len as u32),
    ];
    let mut loader = EbpfLoader::new();
    for (name, value) in &constants {
        loader.override_global(name, value, true);
    }
    loader.override_global("TEMPLATE", &template[..], true);
    let mut ebpf = loader.load(&object()?).context("load the benchmark's object")?;
    let needed = ["harness", "adjust", "empty"].into_iter().map(String::from);
    let floors = shape
        .kinds
        .iter()
        .filter_map(|kind| kind.program(shape.is_stripped))
        .map(String::from);
    for name in needed.chain(floors) {
        let program: &mut Xdp = ebpf
            .program_mut(&name)
            .with_context(|| format!("program {name}"))?
            .try_into()?;
        if program.fd().is_err() {
            program.load().with_context(|| format!("load {name}"))?;
        }
    }
    Ok(ebpf)
}

/// The object of `gre-ebpf/bench`.
pub(crate) fn object() -> Result<Vec<u8>> {
    let path = env::var_os("GRE_BENCH_OBJECT").context("GRE_BENCH_OBJECT is not set: use `cargo xtask bench`")?;
    fs::read(&path).with_context(|| format!("read {}", path.display()))
}

/// The frame's beginning in words, and how many of them must be written in every run to restore so many bytes.
pub(crate) fn template(frame: &[u8], restored: usize) -> Result<([u64; MOST_WORDS], u32)> {
    let mut template = [0; MOST_WORDS];
    let words = restored.div_ceil(size_of::<u64>());
    ensure!(
        words <= MOST_WORDS && words * size_of::<u64>() <= frame.len(),
        "{restored} bytes are too many to restore"
    );
    for (word, bytes) in template.iter_mut().zip(frame.as_chunks().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    Ok((template, words as u32))
}
