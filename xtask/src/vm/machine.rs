//! Boots a virtual machine and listens to what its init tells, with limits to our patience.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read},
    path::Path,
    process::{Child, Command},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use gre_tests::guest::Message;

use super::{
    cable::Cable,
    qemu::{Accelerator, Qemu},
};
use crate::process;

/// From the start to the first message. It takes some seconds, a minute on a busy machine.
const BOOT_PATIENCE: Duration = Duration::from_secs(180);
/// With the processor's help it is a second or two. Too little of it costs no more than that help.
const KVM_PATIENCE: Duration = Duration::from_secs(15);
/// Between two messages: no test takes as long.
const PATIENCE: Duration = Duration::from_secs(900);
/// What QEMU says when the processor cannot go on; it waits for a debugger then.
const KVM_FAILED: &str = "KVM internal error";
/// Lines of the console that a report shows.
const LAST_LINES: usize = 30;

/// The files that a machine boots from, the one that it writes, and the wire between its further network cards, if it has any.
pub(super) struct Files<'a> {
    pub(super) kernel: &'a Path,
    pub(super) initramfs: &'a Path,
    pub(super) console: &'a Path,
    pub(super) cable: Option<&'a Cable>,
}

/// Boots a machine until its init has finished, and passes on what it tells. Early kernel code sometimes fails under
/// emulation, so a boot that fails is tried once more.
pub(super) fn run(qemu: &Qemu, files: &Files<'_>, mut tell: impl FnMut(&Message)) -> Result<()> {
    let mut tries = 0;
    loop {
        // Another machine may find out meanwhile that KVM does not work.
        let accelerator = qemu.accelerator();
        let failure = match boot(qemu, accelerator, files)? {
            Boot::Up(mut machine, release) => {
                tell(&Message::Booted { release });
                return machine.listen(&mut tell).with_context(|| last_lines(files.console));
            }
            Boot::Failed(failure) => failure,
        };
        if accelerator == Accelerator::Kvm {
            eprintln!("KVM does not work here ({failure}): going on without, which is slower");
            qemu.give_up_kvm();
            continue;
        }
        tries += 1;
        if tries == 2 {
            bail!(
                "the kernel did not boot, twice: {failure}\n{}",
                last_lines(files.console)
            );
        }
        eprintln!("The kernel did not boot ({failure}): trying once more");
    }
}

enum Boot {
    /// It tells this release.
    Up(Machine, String),
    Failed(String),
}

fn boot(qemu: &Qemu, accelerator: Accelerator, files: &Files<'_>) -> Result<Boot> {
    let command = qemu.command(accelerator, files.kernel, files.initramfs, files.console, files.cable)?;
    let mut machine = Machine::start(command)?;
    let patience = match accelerator {
        Accelerator::Kvm => KVM_PATIENCE,
        Accelerator::Tcg | Accelerator::Counting => BOOT_PATIENCE,
    };
    let deadline = Instant::now() + patience;
    loop {
        match machine.next(deadline) {
            Ok(Some(Heard::Message(Message::Booted { release }))) => return Ok(Boot::Up(machine, release)),
            // The kernel runs, and does what it is told: no other try would do better.
            Ok(Some(Heard::Message(Message::Failed { why }))) => bail!("{why}\n{}", last_lines(files.console)),
            Ok(Some(Heard::Message(other))) => return Ok(Boot::Failed(format!("began with {other:?}"))),
            Ok(Some(Heard::Qemu(line))) if line.contains(KVM_FAILED) => return Ok(Boot::Failed(line)),
            Ok(Some(Heard::Qemu(_))) => {}
            Ok(None) => return Ok(Boot::Failed(format!("ended: {}", machine.complaints.join("; ")))),
            Err(error) => return Ok(Boot::Failed(format!("{error:#}"))),
        }
    }
}

/// What comes out of QEMU.
enum Heard {
    Message(Message),
    /// A line of QEMU's own.
    Qemu(String),
}

/// A running QEMU, killed when this is dropped.
struct Machine {
    qemu: Child,
    lines: mpsc::Receiver<Line>,
    /// What QEMU wrote to standard error.
    complaints: Vec<String>,
}

enum Line {
    Out(String),
    Err(String),
}

impl Machine {
    fn start(mut command: Command) -> Result<Self> {
        let started = command.spawn();
        let mut qemu =
            started.map_err(|error| process::not_started(&command, &error, "remove target/vm and try again"))?;
        let (sender, lines) = mpsc::channel();
        let out = qemu.stdout.take().context("QEMU's standard output is not there")?;
        let err = qemu.stderr.take().context("QEMU's standard error is not there")?;
        pass_on(out, sender.clone(), Line::Out);
        pass_on(err, sender, Line::Err);
        Ok(Self {
            qemu,
            lines,
            complaints: Vec::new(),
        })
    }

    /// What comes next, or nothing if QEMU has ended.
    fn next(&mut self, deadline: Instant) -> Result<Option<Heard>> {
        match self
            .lines
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            Ok(Line::Out(line)) => {
                let message = Message::from_line(&line);
                Ok(Some(Heard::Message(message.with_context(|| {
                    format!("the machine told something garbled: {line:?}")
                })?)))
            }
            Ok(Line::Err(line)) => {
                self.complaints.push(line.clone());
                Ok(Some(Heard::Qemu(line)))
            }
            Err(RecvTimeoutError::Timeout) => Err(anyhow!("the machine told nothing for too long")),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
        }
    }

    /// Passes on what the booted machine tells until it has finished.
    fn listen(&mut self, tell: &mut impl FnMut(&Message)) -> Result<()> {
        loop {
            match self.next(Instant::now() + PATIENCE)? {
                Some(Heard::Message(Message::Failed { why })) => bail!("the machine's init: {why}"),
                Some(Heard::Message(message)) => {
                    tell(&message);
                    if message == Message::Finished {
                        return Ok(());
                    }
                }
                Some(Heard::Qemu(_)) => {}
                None => bail!("the machine ended before its tests did: {}", self.complaints.join("; ")),
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended, or be about to.
        let _killed = self.qemu.kill();
        if let Err(error) = self.qemu.wait() {
            eprintln!("cannot wait for QEMU to end: {error}");
        }
    }
}

/// Sends each line in a thread that ends with the stream, or with who listens.
fn pass_on(from: impl Read + Send + 'static, to: mpsc::Sender<Line>, kind: fn(String) -> Line) {
    thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n') {
            let Ok(line) = line else { return };
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if to.send(kind(line)).is_err() {
                return;
            }
        }
    });
}

fn last_lines(console: &Path) -> String {
    let text = fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.len().saturating_sub(LAST_LINES);
    format!("the end of {}:\n{}", console.display(), lines[first..].join("\n"))
}
