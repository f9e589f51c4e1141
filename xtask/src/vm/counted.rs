//! Machines in which time is the number of instructions, whatever else the host does.

use std::{num::NonZero, path::PathBuf, slice, thread};

use anyhow::{Context as _, Result, anyhow, bail};
use gre_tests::guest::Message;

use super::{Boot, Chosen, Contents, Kernels, NEWEST, choose, fetch, folder, programs};
use crate::{build::Built, workspace::Workspace};

/// What Debian's stable release runs, and the newest there is.
const KERNELS: [&str; 2] = ["6.12", NEWEST];

/// What a program wrote on one kernel.
pub(crate) struct Counted {
    /// As `uname -r` says.
    pub(crate) release: String,
    /// Lines of JSON objects. Others are messages, and were shown.
    pub(crate) objects: Vec<String>,
}

/// Runs the test program `name` with `arguments` on each of the kernels `wanted`, in a machine with one processor that takes a
/// nanosecond of the machine's own time for each instruction. The program finds `files` by variables. What comes of a kernel goes
/// to `take` with the kernel's name, in their order: whatever becomes of one, the others run.
pub(crate) fn count(
    workspace: &Workspace,
    built: &Built,
    wanted: &[String],
    (name, arguments): (&str, &[String]),
    files: &[(&str, PathBuf)],
    mut take: impl FnMut(&str, Result<Counted>) -> Result<()>,
) -> Result<()> {
    let folder = folder(workspace)?;
    let (qemu, available) = fetch(&folder)?;
    let qemu = qemu.counting();
    let programs = programs::build(workspace, built, &[name])?;
    let contents = Contents {
        gre_decap: &built.binary,
        programs: &programs,
        variables: &[],
        files,
    };
    let machine = Boot {
        folder: &folder,
        qemu: &qemu,
        contents: &contents,
        cable: None,
    };
    let default = KERNELS.map(str::to_owned);
    let wanted = if wanted.is_empty() { &default[..] } else { wanted };
    let mut kernels = chosen(&available, wanted);
    // An emulated machine keeps a processor busy.
    let at_once = thread::available_parallelism().map_or(1, NonZero::get);
    while !kernels.is_empty() {
        let these: Vec<_> = kernels.drain(..at_once.min(kernels.len())).collect();
        thread::scope(|scope| {
            let count_on = |kernel: Result<Chosen<'_>>| kernel.and_then(|kernel| count_on(&machine, kernel, arguments));
            let counting: Vec<_> = these
                .into_iter()
                .map(|(name, kernel)| (name, scope.spawn(move || count_on(kernel))))
                .collect();
            for (name, counted) in counting {
                let counted = counted.join();
                take(
                    name,
                    counted.unwrap_or_else(|_| Err(anyhow!("the thread that runs the machine panicked"))),
                )?;
            }
            anyhow::Ok(())
        })?;
    }
    Ok(())
}

/// The kernels that are wanted, fetched, by their names; each once.
fn chosen<'a>(available: &'a Kernels, wanted: &'a [String]) -> Vec<(&'a str, Result<Chosen<'a>>)> {
    let mut chosen: Vec<(&str, Result<Chosen<'_>>)> = Vec::new();
    for name in wanted {
        let kernel = choose(available, slice::from_ref(name), &[])
            .and_then(|(kernels, _)| kernels.into_iter().next().context("no kernel was chosen"));
        let version = kernel.as_ref().ok().map(|(version, _)| *version);
        let mut others = chosen.iter().filter_map(|(_, kernel)| kernel.as_ref().ok());
        if version.is_none() || others.all(|(other, _)| Some(*other) != version) {
            chosen.push((name, kernel));
        }
    }
    chosen
}

fn count_on(machine: &Boot<'_>, (version, kernel): Chosen<'_>, arguments: &[String]) -> Result<Counted> {
    let mut run = Run::default();
    machine.run((version, &kernel), arguments, |message| run.take(message))?;
    run.counted()
}

/// One machine's run.
#[derive(Default)]
struct Run {
    release: String,
    objects: Vec<String>,
    /// The last line that is none.
    last: String,
    status: Option<i32>,
}

impl Run {
    fn take(&mut self, message: &Message) {
        match message {
            Message::Booted { release } => release.clone_into(&mut self.release),
            Message::Wrote { line } if line.starts_with('{') => self.objects.push(line.clone()),
            Message::Wrote { line } => {
                eprintln!("{} | {line}", self.release);
                line.clone_into(&mut self.last);
            }
            Message::Ended { status } => self.status = *status,
            Message::Started { .. } | Message::Failed { .. } | Message::Finished => {}
        }
    }

    /// What the program wrote, if it ended as it should.
    fn counted(self) -> Result<Counted> {
        let how = match self.status {
            Some(0) => {
                return Ok(Counted {
                    release: self.release,
                    objects: self.objects,
                });
            }
            Some(status) => format!("with status {status}"),
            None => "by a signal".to_owned(),
        };
        bail!("the program ended {how}; its last words: {}", self.last)
    }
}
