//! What a `gre-decap` under test says on a pipe, line by line: each comes in reasonable time, or fails the test.

use std::io::Read;
use std::os::fd::AsFd;
use std::time::Instant;

use anyhow::{Result, ensure};
use gre_tests::lab::PATIENCE;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A pipe that is read by the line.
pub(crate) struct Said<P> {
    pipe: P,
    /// All that has come, and how much of it was asked for.
    text: Vec<u8>,
    used: usize,
}

impl<P: Read + AsFd> Said<P> {
    pub(crate) fn new(pipe: P) -> Self {
        Self {
            pipe,
            text: Vec::new(),
            used: 0,
        }
    }

    /// The next line, with its end; none after the last. `wanted` is what the test waits for.
    pub(crate) fn line(&mut self, wanted: &str) -> Result<Option<String>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let unused = &self.text[self.used..];
            if let Some(end) = unused.iter().position(|&byte| byte == b'\n') {
                let line = String::from_utf8(unused[..=end].to_vec())?;
                self.used += line.len();
                return Ok(Some(line));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let mut ready = [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)];
            let comes = poll(&mut ready, PollTimeout::try_from(left)?)? > 0;
            let said = String::from_utf8_lossy(&self.text);
            ensure!(comes, "waited {PATIENCE:?} for {wanted:?}; said was {said:?}");
            let mut more = [0; 4096];
            match self.pipe.read(&mut more)? {
                0 => return Ok(None),
                bytes => self.text.extend_from_slice(&more[..bytes]),
            }
        }
    }

    /// All that was not asked for, until it ends.
    pub(crate) fn rest(&mut self) -> Result<String> {
        self.pipe.read_to_end(&mut self.text)?;
        Ok(String::from_utf8(self.text.split_off(self.used))?)
    }
}
