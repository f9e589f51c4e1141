//! The first process of a virtual machine that `cargo xtask vm-test` boots: mounts what programs expect, loads the
//! kernel's modules, runs the programs of its plan, tells the host all about it, and turns the machine off.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};
use gre_tests::guest::{Message, PLAN, PORT, Plan, Program};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::termios::{SetArg, cfmakeraw, tcdrain, tcgetattr, tcsetattr};
use nix::sys::utsname::uname;
use nix::unistd::{getpid, sync};

/// What is mounted, in this order: kind and place.
const MOUNTS: [(&str, &str); 7] = [
    ("devtmpfs", "/dev"),
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("bpf", "/sys/fs/bpf"),
    ("tracefs", "/sys/kernel/tracing"),
    ("tmpfs", "/tmp"),
    ("tmpfs", "/dev/shm"),
];

fn main() -> ExitCode {
    if getpid().as_raw() != 1 {
        eprintln!("guest-init is the first process of a virtual machine: run `cargo xtask vm-test`");
        return ExitCode::FAILURE;
    }
    if let Err(error) = run() {
        // To the console: the port may be what failed.
        eprintln!("guest-init: {error:#}");
    }
    sync();
    // Returns only if it fails, and then the end of the first process is a panic, which ends the machine too.
    let Err(error) = reboot(RebootMode::RB_POWER_OFF);
    eprintln!("guest-init: cannot turn the machine off: {error}");
    ExitCode::FAILURE
}

fn run() -> Result<()> {
    for (kind, place) in MOUNTS {
        fs::create_dir_all(place).with_context(|| format!("make {place}"))?;
        mount(Some(kind), place, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mount {kind} on {place}"))?;
    }
    let mut host = Host::open()?;
    let done = carry_out(&mut host);
    if let Err(error) = &done {
        host.tell(&Message::Failed {
            why: format!("{error:#}"),
        })?;
    }
    host.wait_until_told()?;
    done
}

fn carry_out(host: &mut Host) -> Result<()> {
    let plan = fs::read(PLAN).with_context(|| format!("read {PLAN}"))?;
    let plan: Plan = serde_json::from_slice(&plan).with_context(|| format!("understand {PLAN}"))?;
    for path in &plan.modules {
        let module = File::open(path).with_context(|| format!("open {path}"))?;
        finit_module(&module, c"", ModuleInitFlags::empty()).with_context(|| format!("load {path}"))?;
    }
    let release = uname().context("ask for the kernel's release")?;
    host.tell(&Message::Booted {
        release: release.release().to_string_lossy().into_owned(),
    })?;
    for program in &plan.programs {
        execute(program, host).with_context(|| format!("run {}", program.name))?;
    }
    host.tell(&Message::Finished)
}

fn execute(program: &Program, host: &mut Host) -> Result<()> {
    host.tell(&Message::Started {
        program: program.name.clone(),
    })?;
    // One pipe for both, so that what was written comes in the order in which it was.
    let (output, input) = std::io::pipe().context("make a pipe")?;
    let mut command = Command::new(&program.path);
    command
        .args(&program.arguments)
        .env_clear()
        .envs(program.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(input.try_clone().context("duplicate a pipe")?)
        .stderr(input);
    let mut child = command.spawn().with_context(|| format!("start {}", program.path))?;
    // With its ends of the pipe, or the end would never come.
    drop(command);
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("read what it writes")?;
        host.tell(&Message::Wrote {
            line: String::from_utf8_lossy(&line).into_owned(),
        })?;
    }
    let status = child.wait().context("wait for its end")?;
    host.tell(&Message::Ended { status: status.code() })
}

/// The port to the host.
struct Host(File);

impl Host {
    fn open() -> Result<Self> {
        let port = OpenOptions::new()
            .write(true)
            .read(true)
            .open(PORT)
            .with_context(|| format!("open {PORT}"))?;
        // Else the terminal's line discipline adds to what is written.
        let mut settings = tcgetattr(&port).with_context(|| format!("settings of {PORT}"))?;
        cfmakeraw(&mut settings);
        tcsetattr(&port, SetArg::TCSANOW, &settings).with_context(|| format!("set {PORT} to raw"))?;
        Ok(Self(port))
    }

    fn tell(&mut self, message: &Message) -> Result<()> {
        let line = message.to_line().context("a message as JSON")?;
        self.0
            .write_all(line.as_bytes())
            .with_context(|| format!("write to {PORT}"))
    }

    fn wait_until_told(&self) -> Result<()> {
        tcdrain(&self.0).with_context(|| format!("empty {PORT}"))
    }
}
