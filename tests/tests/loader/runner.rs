//! A `gre-decap run` under test.

use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::said::Said;
use crate::site::Site;

/// A `gre-decap run` that was started.
pub(crate) struct Runner {
    pub(crate) child: Child,
    stdout: Said<ChildStdout>,
    stderr: Said<ChildStderr>,
}

impl Runner {
    pub(crate) fn start(site: &Site, config: &str, options: &str) -> Result<Self> {
        Self::of(&mut site.command(config, &format!("run {options}"))?)
    }

    /// Starts one, and waits until it has loaded and serves metrics.
    pub(crate) fn serving(site: &Site, config: &str, options: &str) -> Result<Self> {
        let mut runner = Self::start(site, config, options)?;
        runner.out("what it has loaded")?;
        let line = runner.out("where its metrics are")?;
        ensure!(line.starts_with("metrics at "), "gre-decap run says {line:?}");
        Ok(runner)
    }

    /// Starts a command that is a `gre-decap run`.
    pub(crate) fn of(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start gre-decap")?;
        Ok(Self {
            stdout: Said::new(child.stdout.take().context("its output")?),
            stderr: Said::new(child.stderr.take().context("its errors")?),
            child,
        })
    }

    /// This is the next line on standard output.
    pub(crate) fn says(&mut self, wanted: &str) -> Result<()> {
        let line = self.out(wanted)?;
        ensure!(line == wanted, "gre-decap run says {line:?}, not {wanted:?}");
        Ok(())
    }

    fn out(&mut self, wanted: &str) -> Result<String> {
        match self.stdout.line(wanted).context("gre-decap run")? {
            Some(line) => Ok(line),
            None => bail!("gre-decap run has ended before {wanted:?}: {}", self.stderr.rest()?),
        }
    }

    /// The next line on standard error begins so.
    pub(crate) fn warns(&mut self, wanted: &str) -> Result<()> {
        let line = self.error(wanted)?;
        ensure!(line.starts_with(wanted), "gre-decap run warns {line:?}, not {wanted:?}");
        Ok(())
    }

    /// Waits for a line on standard error that contains this.
    pub(crate) fn logs(&mut self, wanted: &str) -> Result<()> {
        while !self.error(wanted)?.contains(wanted) {}
        Ok(())
    }

    fn error(&mut self, wanted: &str) -> Result<String> {
        let line = self.stderr.line(wanted).context("standard error of gre-decap run")?;
        line.with_context(|| format!("gre-decap run has ended before {wanted:?}"))
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

    /// Its exit status, what else it printed, and what else it said on standard error.
    pub(crate) fn end(mut self) -> Result<(Option<i32>, String, String)> {
        let (stdout, stderr) = (self.stdout.rest()?, self.stderr.rest()?);
        Ok((self.child.wait()?.code(), stdout, stderr))
    }
}
