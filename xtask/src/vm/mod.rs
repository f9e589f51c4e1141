//! `cargo xtask vm-test`: the tests on Debian's kernels, in virtual machines, where the kernel has GRE of its own.
//!
//! Kernels and QEMU come as packages and are unpacked under `target/vm`, not installed. What a machine runs is packed into an
//! initramfs; what it tells comes out over a serial line.

mod archive;
mod cable;
mod counted;
mod cpio;
mod initramfs;
mod kernel;
mod libraries;
mod machine;
mod modules;
mod programs;
mod qemu;

use std::{
    env, fs, io,
    num::NonZero,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Args, builder::PossibleValuesParser};
use gre_tests::guest::Message;

pub(crate) use self::counted::{Counted, count};
use self::{
    archive::Mirrors,
    cable::Cable,
    initramfs::Contents,
    kernel::{Kernel, Kernels, NEWEST, Version},
    machine::Files,
    qemu::Qemu,
};
use crate::{build::Built, summary::Summary, workspace::Workspace};

/// The kernels to test on: those that Debian's releases run, and the newest.
const KERNELS: &[&str] = &["5.10", "6.1", "6.12", "6.18", NEWEST];
/// Of these, the oldest that can be supported and the newest, where it is to be quick.
const TWO_KERNELS: &[&str] = &["6.1", NEWEST];
/// The first that has what the program needs, by its series.
const OLDEST_SUPPORTED: [u32; 2] = [5, 18];
/// Test programs of the package gre-tests.
const TESTS: &[&str] = &["delivery", "lab", "loader", "program", "vm", "wire"];
/// Those that need another kernel than this machine's.
const TESTS_FOR_MACHINES: &[&str] = &["vm"];
/// How the differential test's number of frames is told, and how many it is where it is to be quick.
const FRAMES: [&str; 2] = ["GRE_TESTS_FRAMES", "2000"];
/// How its frames are chosen where it is to be quick: the same each time, for new ones are looked for where there is time.
const SEED: [&str; 2] = ["PROPTEST_RNG_SEED", "1"];
/// Tests on kernels that are too old have this in their names, others not.
const UNSUPPORTED: &str = "unsupported::";
/// Tests of a network card with several queues.
const QUEUES: &str = "queues::";
/// Left out where it is to be quick: there are others of a few devices, of the variants that ask most of the verifier, and of loads over
/// what runs.
const SLOW: &[&str] = &[
    "interop::every_device",
    "interop::datagrams",
    "load::every_variant",
    "egress::a_killed_load",
];
/// Read the project's files, which no machine has.
const OF_FILES: &str = "dist::";
/// Kills a load every few milliseconds of its way, which under emulation is a long one; and hundreds of loads and kills one after the
/// other, which take longer there than there is patience for a test.
const TOO_LONG: [&str; 2] = ["killed::a_killed_load", "chaos::"];

/// What to test.
#[derive(Args)]
pub(crate) struct Options {
    /// A kernel's version or its beginning (6.12), or "newest"; several separated by commas; all if left out
    #[arg(long = "kernel", value_name = "VERSION", value_delimiter = ',')]
    kernels: Vec<String>,
    /// Two kernels, fewer frames, and only what this machine's own kernel cannot do; what cannot be had is skipped
    #[arg(long)]
    quick: bool,
    /// A program of tests; several separated by commas; if left out, the one that needs these kernels, or with a filter all
    #[arg(long = "test", value_name = "PROGRAM", value_delimiter = ',', value_parser = PossibleValuesParser::new(TESTS))]
    tests: Vec<String>,
    /// Parts of test names; all if left out
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
}

/// Runs the tests whose names contain one of the filters, or all that need such kernels, on each of the kernels, or on all.
pub(crate) fn run(workspace: &Workspace, built: &Built, options: &Options) -> Result<ExitCode> {
    let fetched = folder(workspace).and_then(|folder| Ok((fetch(&folder)?, folder)));
    let ((qemu, available), folder) = match fetched {
        Ok(fetched) => fetched,
        Err(why) if options.quick => {
            println!("SKIPPED all virtual machines: {why:#}");
            return Ok(ExitCode::SUCCESS);
        }
        Err(why) => return Err(why),
    };
    let default = if options.quick { TWO_KERNELS } else { KERNELS };
    let (kernels, missing) = choose(&available, &options.kernels, default)?;
    let wanted: Vec<_> = options.tests.iter().map(String::as_str).collect();
    let tests = match wanted.as_slice() {
        [] if options.quick || options.filters.is_empty() => TESTS_FOR_MACHINES,
        [] => TESTS,
        wanted => wanted,
    };
    let programs = programs::build(workspace, built, tests)?;
    let filters = &options.filters;

    let variables = environment(options.quick);
    let laboratory = Laboratory {
        folder: &folder,
        qemu: &qemu,
        contents: Contents {
            gre_decap: &built.binary,
            programs: &programs,
            variables: &variables,
            files: &[],
        },
        filters,
        quick: options.quick,
    };
    let mut sum = Summary::default();
    let mut results = Vec::new();
    for (version, result) in laboratory.test_all(&kernels)? {
        let (summary, line) = match result {
            Ok((summary, took)) => (summary, format!("{summary}, in {} s", took.as_secs())),
            Err(error) => (Summary::failure(), format!("FAILED: {error:#}")),
        };
        results.push(format!("Linux {version}: {line}"));
        sum = sum + summary;
    }
    for missing in missing {
        let line = format!("SKIPPED Linux {missing}: no suite that can be reached has it");
        results.push(line.clone());
        sum = sum + Summary::of(line.as_bytes(), io::sink()).context("sum up")?;
        // Where nobody reads along, what is missing fails.
        if !options.quick && env::var_os("CI").is_some_and(|ci| ci == "true") {
            sum = sum + Summary::failure();
        }
    }
    println!("\n{}\n{sum}", results.join("\n"));
    if sum.is_empty() {
        bail!("no test's name contains `{}`", filters.join("` or `"));
    }
    Ok(if sum.has_failures() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Where all that is fetched lies.
fn folder(workspace: &Workspace) -> Result<PathBuf> {
    kernel::ensure_architecture()?;
    let folder = workspace.target().join("vm");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder)
}

/// QEMU, and the kernels that can be had.
fn fetch(folder: &Path) -> Result<(Qemu, Kernels)> {
    let mirrors = Mirrors::of_system()?;
    Ok((Qemu::fetch(&mirrors, folder)?, Kernels::of(&mirrors, folder)?))
}

/// A kernel, and which it is.
type Chosen<'a> = (&'a Version, Kernel);

/// The kernels that are wanted, or else the default, fetched; and what of the default there is none for.
fn choose<'a>(
    available: &'a Kernels,
    wanted: &[String],
    default: &[&'static str],
) -> Result<(Vec<Chosen<'a>>, Vec<&'static str>)> {
    let (mut versions, mut missing) = (Vec::new(), Vec::new());
    for wanted in wanted {
        let version = available
            .find(wanted)
            .with_context(|| format!("no kernel {wanted} can be had: there are {}", available.series()))?;
        versions.push(version);
    }
    if wanted.is_empty() {
        for wanted in default {
            match available.find(wanted) {
                Some(version) => versions.push(version),
                None => missing.push(*wanted),
            }
        }
    }
    versions.dedup();
    let fetched = versions
        .into_iter()
        .map(|version| Ok((version, available.fetch(version)?)));
    Ok((fetched.collect::<Result<_>>()?, missing))
}

/// Variables that the tests get beside their own and some of ours.
fn environment(quick: bool) -> Vec<(String, String)> {
    let variable = |[name, value]: [&str; 2]| {
        let value = env::var(name).ok().or_else(|| quick.then(|| value.to_owned()))?;
        Some((name.to_owned(), value))
    };
    [FRAMES, SEED].into_iter().filter_map(variable).collect()
}

/// What the machines are made of.
struct Laboratory<'a> {
    folder: &'a Path,
    qemu: &'a Qemu,
    contents: Contents<'a>,
    filters: &'a [String],
    quick: bool,
}

/// The sums of one kernel's tests, and the time they took.
type Tested = Result<(Summary, Duration)>;

impl Laboratory<'_> {
    /// Runs the tests on each kernel, as many machines at once as there are processors: an emulated one keeps one busy.
    fn test_all<'a>(&self, kernels: &[(&'a Version, Kernel)]) -> Result<Vec<(&'a Version, Tested)>> {
        let next = AtomicUsize::new(0);
        let mut tested = thread::scope(|scope| {
            let workers = thread::available_parallelism()
                .map_or(1, NonZero::get)
                .min(kernels.len());
            let work = || {
                let mut done = Vec::new();
                while let Some((version, kernel)) = kernels.get(next.fetch_add(1, Ordering::Relaxed)) {
                    done.push((*version, self.test(version, kernel)));
                }
                done
            };
            let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            let mut tested = Vec::new();
            for worker in workers {
                tested.extend(
                    worker
                        .join()
                        .map_err(|_| anyhow!("a thread that runs a machine panicked"))?,
                );
            }
            anyhow::Ok(tested)
        })?;
        tested.sort_by_key(|(version, _)| *version);
        Ok(tested)
    }

    /// Runs the tests on one kernel, and sums them up.
    fn test(&self, version: &Version, kernel: &Kernel) -> Tested {
        let started = Instant::now();
        let cable = match Cable::lay() {
            Ok(cable) => Some(cable),
            Err(why) => {
                println!("SKIPPED {QUEUES} on Linux {version}: no wire through this host: {why:#}");
                None
            }
        };
        let slow = if self.quick { SLOW } else { &[] };
        let without_cable: &[&str] = if cable.is_none() { &[QUEUES] } else { &[] };
        let arguments = arguments(version, self.filters, &[slow, without_cable].concat());
        let mut report = Report::of(version);
        let machine = Boot {
            folder: self.folder,
            qemu: self.qemu,
            contents: &self.contents,
            cable: cable.as_ref(),
        };
        machine.run((version, kernel), &arguments, |message| report.take(message))?;
        Ok((report.sum_up()?, started.elapsed()))
    }
}

/// What a machine is booted from.
struct Boot<'a> {
    folder: &'a Path,
    qemu: &'a Qemu,
    contents: &'a Contents<'a>,
    cable: Option<&'a Cable>,
}

impl Boot<'_> {
    /// Boots it with this kernel, and passes on what it tells until it has run all its programs with `arguments`.
    fn run(
        &self,
        (version, kernel): (&Version, &Kernel),
        arguments: &[String],
        tell: impl FnMut(&Message),
    ) -> Result<()> {
        let run = self.folder.join("run");
        fs::create_dir_all(&run).with_context(|| format!("make {}", run.display()))?;
        // Another of our kind may run machines beside these.
        let name = format!("{version}.{}", std::process::id());
        let initramfs = run.join(format!("{name}.cpio"));
        let packed = initramfs::pack(&kernel.modules, self.contents, arguments)?;
        fs::write(&initramfs, packed).with_context(|| format!("write {}", initramfs.display()))?;
        let console = run.join(format!("{name}.console"));
        let files = Files {
            kernel: &kernel.image,
            initramfs: &initramfs,
            console: &console,
            cable: self.cable,
        };
        let done = machine::run(self.qemu, &files, tell);
        fs::remove_file(&initramfs).with_context(|| format!("remove {}", initramfs.display()))?;
        done?;
        fs::remove_file(&console).with_context(|| format!("remove {}", console.display()))
    }
}

/// For libtest.
fn arguments(version: &Version, filters: &[String], skipped: &[&str]) -> Vec<String> {
    let mut arguments = vec!["--test-threads=1".to_owned()];
    if version.is_before(OLDEST_SUPPORTED) {
        arguments.push(UNSUPPORTED.to_owned());
    } else {
        for skipped in [UNSUPPORTED, OF_FILES].iter().chain(&TOO_LONG).chain(skipped) {
            arguments.extend(["--skip", skipped].map(str::to_owned));
        }
        arguments.extend(filters.iter().cloned());
    }
    arguments
}

/// What the programs of one machine wrote, shown as it comes.
struct Report {
    /// Stands before each line.
    series: String,
    written: String,
    program: String,
    /// Programs that ended otherwise than libtest's do.
    broken: Vec<String>,
}

impl Report {
    fn of(version: &Version) -> Self {
        Self {
            series: version.series(),
            written: String::new(),
            program: String::new(),
            broken: Vec::new(),
        }
    }

    fn take(&mut self, message: &Message) {
        match message {
            Message::Booted { release } => self.show(&format!("booted {release}")),
            Message::Started { program } => {
                self.show(&format!("-- {program}"));
                program.clone_into(&mut self.program);
            }
            Message::Wrote { line } => {
                self.show(line);
                self.written.push_str(line);
                self.written.push('\n');
            }
            // libtest's own for failed tests, which it has counted.
            Message::Ended { status: Some(0 | 101) } | Message::Failed { .. } | Message::Finished => {}
            Message::Ended { status } => {
                let how = status.map_or("by a signal".to_owned(), |status| format!("with status {status}"));
                self.broken.push(format!("{} ended {how}", self.program));
            }
        }
    }

    fn show(&self, line: &str) {
        println!("{} | {line}", self.series);
    }

    fn sum_up(self) -> Result<Summary> {
        if !self.broken.is_empty() {
            bail!("{}", self.broken.join(", "));
        }
        Summary::of(self.written.as_bytes(), io::sink()).context("sum up")
    }
}
