//! Machines in which time is the number of instructions, whatever else the host does.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use gre_tests::guest::Message;

use super::{Boot, Contents, NEWEST, choose, fetch, folder, programs};
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
/// nanosecond of the machine's own time for each instruction. The program finds `files` by variables.
pub(crate) fn count(
    workspace: &Workspace,
    built: &Built,
    wanted: &[String],
    (name, arguments): (&str, &[String]),
    files: &[(&str, &Path)],
) -> Result<Vec<Counted>> {
    let folder = folder(workspace)?;
    let (qemu, available) = fetch(&folder)?;
    let qemu = qemu.counting();
    let (kernels, missing) = choose(&available, wanted, &KERNELS)?;
    if !missing.is_empty() {
        bail!(
            "no suite that can be reached has a kernel {}: name others",
            missing.join(" or ")
        );
    }
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
    let mut found = Vec::new();
    for (version, kernel) in &kernels {
        let mut run = Run::default();
        machine
            .run((version, kernel), arguments, |message| run.take(message))
            .and_then(|()| run.counted())
            .with_context(|| format!("Linux {version}"))?;
        found.push(Counted {
            release: run.release,
            objects: run.objects,
        });
    }
    Ok(found)
}

/// One machine's run.
#[derive(Default)]
struct Run {
    release: String,
    objects: Vec<String>,
    status: Option<i32>,
}

impl Run {
    fn take(&mut self, message: &Message) {
        match message {
            Message::Booted { release } => release.clone_into(&mut self.release),
            Message::Wrote { line } if line.starts_with('{') => self.objects.push(line.clone()),
            Message::Wrote { line } => eprintln!("{} | {line}", self.release),
            Message::Ended { status } => self.status = *status,
            Message::Started { .. } | Message::Failed { .. } | Message::Finished => {}
        }
    }

    /// Whether the program ended as it should.
    fn counted(&self) -> Result<()> {
        match self.status {
            Some(0) => Ok(()),
            _ => bail!("the program failed: see what it wrote above"),
        }
    }
}
