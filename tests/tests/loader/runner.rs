//! A `gre-decap run` under test.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::site::Site;

/// A `gre-decap run` that has loaded.
pub(crate) struct Runner {
    pub(crate) child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Runner {
    pub(crate) fn start(site: &Site, config: &str, options: &str) -> Result<Self> {
        Self::of(&mut site.command(config, &format!("run {options}"))?)
    }

    /// Starts a command that is a `gre-decap run`.
    pub(crate) fn of(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start gre-decap")?;
        let stdout = BufReader::new(child.stdout.take().context("its output")?);
        Ok(Self { child, stdout })
    }

    /// The next line on standard output.
    pub(crate) fn says(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line)? == 0 {
            let mut stderr = String::new();
            self.child
                .stderr
                .take()
                .context("its errors")?
                .read_to_string(&mut stderr)?;
            bail!("gre-decap run has ended: {stderr}");
        }
        Ok(line)
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.child.id().cast_signed()), signal)?)
    }

    /// Ends it by SIGTERM: it takes the program off `wan0`, and says no more than that.
    pub(crate) fn unloads(self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let ended = self.end()?;
        ensure!(
            ended == (Some(0), "unloaded from wan0\n".to_owned(), String::new()),
            "{ended:?}"
        );
        Ok(())
    }

    /// Its exit status, what else it printed, and what it said on standard error.
    pub(crate) fn end(mut self) -> Result<(Option<i32>, String, String)> {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut stdout)?;
        self.child
            .stderr
            .take()
            .context("its errors")?
            .read_to_string(&mut stderr)?;
        Ok((self.child.wait()?.code(), stdout, stderr))
    }
}
