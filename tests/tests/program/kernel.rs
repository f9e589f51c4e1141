//! The program in the kernel, with a configuration's maps, ready to be given frames.

mod counted;
mod egress;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aya::maps::{Array, Map, MapData, PerCpuArray};
use aya::programs::{ProgramError, ProgramInfo, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, Pod};
use gre_common::counters::Counters;
use gre_common::few::MOST;
use gre_common::maps::{COUNTERS, READER, SEQUENCES};
use gre_common::sequence::SequenceState;
use gre_common::slots::{Key, Slot};
use gre_user::bpf::{AttachMode, InterfaceLink};
use gre_user::config::Config;
use gre_user::datapath::Datapath;
use gre_user::host::cpus::online_cpus;
use gre_user::settings::{LogLevel, Settings};
use gre_user::surroundings::Surroundings;
use gre_user::tables::{Ids, Tables};
use nix::time::{ClockId, clock_gettime};

use crate::support::outcome::{Counted, Outcome};

/// `enum xdp_action` of linux/bpf.h.
pub(crate) const XDP_DROP: u32 = 1;
pub(crate) const XDP_PASS: u32 = 2;
pub(crate) const XDP_TX: u32 = 3;
pub(crate) const XDP_REDIRECT: u32 = 4;

/// The longest tick of a kernel (CONFIG_HZ=100), in nanoseconds: the clock may be asked right before it goes on.
pub(crate) const TICK: u64 = 10_000_000;

/// In the place of an interface's index: the kernel takes the loopback interface.
const NO_INTERFACE: u32 = 0;

/// The shortest frame that the kernel test-runs: an Ethernet header (bpf_test_init()).
pub(crate) const SHORTEST: usize = 14;

/// The loaded program and its maps.
pub(crate) struct Kernel {
    datapath: Datapath,
    counters: PerCpuArray<MapData, Counters>,
    sequences: Array<MapData, SequenceState>,
    tunnels: u32,
    max_tunnels: u32,
    /// The counters after the last frame, by tunnel id.
    seen: Vec<Counters>,
}

/// What the program did with a frame.
pub(crate) struct Run {
    /// The XDP action.
    pub(crate) action: u32,
    /// The frame as it was left.
    pub(crate) frame: Vec<u8>,
    /// By how much each counter went up, those that did.
    pub(crate) counted: Counted,
}

/// Whether the program can be loaded here; if not, the test `name` has been skipped.
pub(crate) fn can_load(name: &str) -> bool {
    if gre_tests::lab::Lab::for_test(name).is_none() {
        return false;
    }
    match gre_user::datapath::ensure_built_in() {
        Ok(()) => true,
        Err(error) => {
            gre_tests::skip::skip(name, &format!("the eBPF program ({error:#})"));
            false
        }
    }
}

/// [`can_load`] for the calling test, which returns if not.
macro_rules! load_or_return {
    () => {{
        fn here() {}
        let name = std::any::type_name_of_val(&here);
        if !$crate::kernel::can_load(name.strip_suffix("::here").unwrap_or(name)) {
            return Ok(());
        }
    }};
}
pub(crate) use load_or_return;

/// A configuration beside so many idle tunnels of both families, and idle prefixes of what it protects, that the program looks up what
/// packets are compared with else. Tunnels of the text keep their ids.
pub(crate) fn among_many(config: &str) -> String {
    let idle = (1..=MOST + 1).map(|number| {
        format!(
            "\n[[tunnel]]\nname = 'idle4{number}'\nlocal = '10.255.255.255'\nremote = '10.255.255.{number}'\n\
             [[tunnel]]\nname = 'idle6{number}'\nlocal = 'fd00::ffff'\nremote = 'fd00::{number}'\n"
        )
    });
    let prefixes = (1..=MOST + 1).map(|number| format!("'10.255.{}.0/24', 'fd00:{number}::/32', ", 2 * number));
    let among = format!("prefixes = [{}", prefixes.collect::<String>());
    config.replace("prefixes = [", &among) + &idle.collect::<String>()
}

/// How the program is loaded.
type Load = fn(&Settings, &Tables) -> Result<Datapath>;

/// As the loader does.
fn load(settings: &Settings, tables: &Tables) -> Result<Datapath> {
    Datapath::load(settings, tables, None)
}

impl Kernel {
    /// Loads the program for a configuration. Tunnels have ids from 1 on, in the order of the text.
    pub(crate) fn load(text: &str) -> Result<Self> {
        Self::load_logging(text, LogLevel::Off)
    }

    /// The same with another log level. Nobody reads the log.
    pub(crate) fn load_logging(text: &str, level: LogLevel) -> Result<Self> {
        Self::load_with(text, level, &Surroundings::default(), load)
    }

    /// The same on a host with these interfaces and next hops, which are of the calling thread's network namespace.
    pub(crate) fn load_in(text: &str, surroundings: &Surroundings) -> Result<Self> {
        Self::load_with(text, LogLevel::Off, surroundings, load)
    }

    /// The same with the program for kernels that redirect no frames in several buffers.
    pub(crate) fn load_without_frags_in(text: &str, surroundings: &Surroundings) -> Result<Self> {
        Self::load_with(text, LogLevel::Off, surroundings, |settings, tables| {
            Datapath::load_for(false, settings, tables)
        })
    }

    fn load_with(text: &str, level: LogLevel, surroundings: &Surroundings, load: Load) -> Result<Self> {
        let config = Config::from_str(text, "fixture")?;
        let names = config.tunnels.iter().map(|tunnel| tunnel.name.as_str());
        let ids = Ids::assign(names, &BTreeMap::new(), config.max_tunnels)?;
        let tables = Tables::of(&config, &ids, &online_cpus()?)?;
        let settings = Settings::of(&config, &tables, level, [0; 2]);
        let mut datapath = load(&settings, &tables)?;
        datapath.fill(&tables, surroundings)?;
        let counters = PerCpuArray::try_from(take(datapath.ebpf(), COUNTERS)?)?;
        let sequences = Array::try_from(take(datapath.ebpf(), SEQUENCES)?)?;
        let tunnels = config.tunnels.len() as u32;
        let mut kernel = Self {
            datapath,
            counters,
            sequences,
            tunnels,
            max_tunnels: config.max_tunnels,
            seen: Vec::new(),
        };
        kernel.seen = kernel.read()?;
        Ok(kernel)
    }

    /// What the kernel says about each loaded program, by its name: the one that decapsulates, those that go on with packets
    /// where the configuration needs them, and the one that passes everything.
    pub(crate) fn infos(&mut self) -> Result<BTreeMap<String, ProgramInfo>> {
        self.datapath.load_pass()?;
        self.datapath.infos()
    }

    /// The slots of a map.
    pub(crate) fn slots<K: Key, V: Copy>(&mut self, name: &str) -> Result<Array<&mut MapData, Slot<K, V>>>
    where
        Slot<K, V>: Pod,
    {
        Ok(Array::try_from(map(self.datapath.ebpf(), name)?)?)
    }

    /// Runs the program on a frame, as much of it in the first buffer as fits into a page.
    pub(crate) fn run(&mut self, frame: &[u8]) -> Result<Outcome> {
        self.run_with(frame, None)
    }

    /// Lets somebody watch what is refused, or nobody.
    pub(crate) fn watch(&mut self, watched: bool) -> Result<()> {
        let until = if watched { u64::MAX } else { 0 };
        let mut reader: Array<_, u64> = Array::try_from(map(self.datapath.ebpf(), READER)?)?;
        reader.set(0, until, 0).context("write the lease")
    }

    /// Runs the program so often on a frame that it does not change, and gives what one run took on average, in nanoseconds.
    pub(crate) fn flood(&mut self, frame: &[u8], packets: u32) -> Result<u32> {
        let options = TestRunOptions {
            data_in: Some(frame),
            repeat: packets,
            ..TestRunOptions::new()
        };
        let result = self.datapath.program()?.test_run(options)?;
        let nanoseconds = result.duration.as_nanos();
        u32::try_from(nanoseconds).context("a run takes less than seconds")
    }

    /// The program that decapsulates, for whoever runs it by himself.
    pub(crate) fn program(&mut self) -> Result<&Xdp> {
        self.datapath.program().map(|program| &*program)
    }

    /// Runs the program on a frame with `first` bytes in the first buffer, at least [`SHORTEST`].
    pub(crate) fn run_split(&mut self, frame: &[u8], first: usize) -> Result<Outcome> {
        ensure!(
            (SHORTEST..=frame.len()).contains(&first),
            "{first} of {} bytes",
            frame.len()
        );
        self.run_with(frame, Some(first))
    }

    /// Runs the program on a frame that came in on an interface of the calling thread's network namespace, with `first` bytes
    /// in the first buffer. The kernel wants a program on that interface.
    pub(crate) fn run_on(&mut self, ingress: u32, frame: &[u8], first: usize) -> Result<Run> {
        self.run_in(frame, Some(context(first, ingress)))
            .with_context(|| format!("{first} bytes in the first buffer, on interface {ingress}"))
    }

    /// Attaches the program to an interface of the calling thread's network namespace, for as long as the link is held.
    pub(crate) fn attach(&mut self, interface: u32) -> Result<InterfaceLink> {
        let program = self.datapath.program()?.fd()?;
        InterfaceLink::attach(program.as_fd(), interface, AttachMode::Native).context("attach the program")
    }

    /// Whether [`Self::run_split`] works: before Linux 6.18 the kernel refuses a first buffer shorter than the frame.
    pub(crate) fn can_split(&mut self) -> Result<bool> {
        let frame = [0; 2 * SHORTEST];
        match self.test_run(&frame, Some(&context(SHORTEST, NO_INTERFACE))) {
            Ok(_) => Ok(true),
            Err(ProgramError::SyscallError(error)) if error.io_error.kind() == ErrorKind::InvalidInput => Ok(false),
            Err(error) => Err(error).context("run a frame in two buffers"),
        }
    }

    /// The longest first buffer that the kernel makes; the rest of a longer frame is put into others.
    pub(crate) fn longest_first(&mut self) -> Result<usize> {
        let frame = [0; 1 << 14];
        let mut out = frame;
        let mut context = context(frame.len(), NO_INTERFACE);
        let options = TestRunOptions {
            data_in: Some(&frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context.clone()),
            ctx_out: Some(&mut context),
            ..TestRunOptions::new()
        };
        self.datapath
            .program()?
            .test_run(options)
            .context("run a frame in several buffers")?;
        // `data_end`, and nothing was cut off before it.
        let end = context[4..].first_chunk().context("a context has a data_end")?;
        Ok(u32::from_ne_bytes(*end) as usize)
    }

    fn run_with(&mut self, frame: &[u8], first: Option<usize>) -> Result<Outcome> {
        let run = self
            .run_in(frame, first.map(|first| context(first, NO_INTERFACE)))
            .with_context(|| format!("{first:?} bytes in the first buffer"))?;
        let passed = match run.action {
            XDP_PASS | XDP_TX => Some(run.frame),
            XDP_DROP => None,
            other => bail!("XDP action {other}"),
        };
        Ok(Outcome {
            passed,
            returned: run.action == XDP_TX,
            counted: run.counted,
        })
    }

    fn run_in(&mut self, frame: &[u8], context: Option<Vec<u8>>) -> Result<Run> {
        let before = now(ClockId::CLOCK_MONOTONIC_COARSE)?;
        let (action, out) = self
            .test_run(frame, context.as_deref())
            .with_context(|| format!("test-run {} bytes", frame.len()))?;
        let after = now(ClockId::CLOCK_MONOTONIC_COARSE)?;
        Ok(Run {
            action,
            frame: out,
            counted: self.newly_counted(before, after)?,
        })
    }

    /// The XDP action, and the frame after it.
    fn test_run(&mut self, frame: &[u8], context: Option<&[u8]>) -> Result<(u32, Vec<u8>), ProgramError> {
        // The program only ever shortens frames: a longer one would not fit and be an error.
        let mut out = vec![0; frame.len()];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: context,
            ..TestRunOptions::new()
        };
        let program = self.datapath.program().map_err(|_| ProgramError::NotLoaded)?;
        let result = program.test_run(options)?;
        out.truncate(result.data_size_out as usize);
        Ok((result.return_value, out))
    }
}

/// `struct xdp_md` of linux/bpf.h for a frame with so many bytes in the first buffer, which came in on an interface: here `data`
/// and `data_end` are offsets.
fn context(first: usize, ingress: u32) -> Vec<u8> {
    let (data, data_end, rest) = (0, first as u32, 0);
    [data, data_end, rest, ingress, rest, rest]
        .map(u32::to_ne_bytes)
        .concat()
}

fn map<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Map> {
    ebpf.map_mut(name)
        .with_context(|| format!("the program has no map {name}"))
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name)
        .with_context(|| format!("the program has no map {name}"))
}

/// A clock in nanoseconds, as the program reads it.
pub(crate) fn now(clock: ClockId) -> Result<u64> {
    let time = clock_gettime(clock).with_context(|| format!("read {clock}"))?;
    Ok(Duration::from(time).as_nanos() as u64)
}
