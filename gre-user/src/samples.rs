//! The program's samples of packets that were not delivered, read from its ring buffer.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use aya::maps::{Array, MapData, PerCpuArray, RingBuf};
use gre_common::Reason;
use gre_common::maps::{BUCKETS, READER, SAMPLES};
use gre_common::plain::load;
use gre_common::sample::{Bucket, LEASE, SampleHeader};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::clock;
use crate::running::read_current;
use crate::state::{Generation, Root};
use crate::tables::{open, read_names};

/// How often a reader looks whether another generation has come into force, and renews its lease.
const TURN: Duration = Duration::from_millis(250);

/// A packet that was not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When it came.
    pub at: SystemTime,
    /// Why it was not delivered.
    pub reason: Reason,
    /// The name of the tunnel it belongs to, if it belongs to one.
    pub tunnel: Option<String>,
    /// The index of the interface it came by.
    pub interface: u32,
    /// The interface's receive queue.
    pub queue: u32,
    /// Bytes of the whole frame.
    pub length: u32,
    /// The first of them.
    pub bytes: Vec<u8>,
}

/// Reads samples, whatever generation is in force. While there is a reader, the program samples; there is but one.
pub struct Reader {
    root: Root,
    source: Source,
    /// Between the clock that samples are stamped with and the calendar's.
    offset: clock::Offset,
    /// What was read from a generation that is in force no more.
    left: Vec<Sample>,
    /// Until this is dropped, no other process reads.
    _only: Flock<File>,
}

/// The maps of one generation.
struct Source {
    generation: Generation,
    names: BTreeMap<u32, String>,
    ring: RingBuf<MapData>,
    lease: Array<MapData, u64>,
    buckets: PerCpuArray<MapData, Bucket>,
    /// What the buckets had swallowed and lost when they were last looked at.
    missed: Vec<u64>,
}

impl Reader {
    /// Begins to read.
    ///
    /// # Errors
    ///
    /// If nothing is loaded, it cannot be read, or another process reads.
    pub fn open(root: &Root) -> Result<Self> {
        let mut source = read_current(root, Source::open)?;
        let only = lock(root)?;
        // What an earlier reader has left.
        source.drain(&clock::Offset::now()?)?;
        source.renew()?;
        Ok(Self {
            root: root.clone(),
            source,
            offset: clock::Offset::now()?,
            left: Vec::new(),
            _only: only,
        })
    }

    /// The samples that have come, after waiting a while if there are none yet.
    ///
    /// # Errors
    ///
    /// If nothing is loaded any more, or it cannot be read.
    pub fn read(&mut self) -> Result<Vec<Sample>> {
        self.source.renew()?;
        if self.root.current()?.as_ref() != Some(&self.source.generation) {
            self.left.extend(self.source.drain(&self.offset)?);
            // Its maps may be those that the new generation has too; if they are not, nobody reads these any more.
            self.source = read_current(&self.root, Source::open)?;
            self.source.renew()?;
        }
        let mut samples = std::mem::take(&mut self.left);
        samples.extend(self.source.drain(&self.offset)?);
        if samples.is_empty() {
            self.source.wait()?;
            samples = self.source.drain(&self.offset)?;
        }
        Ok(samples)
    }

    /// The samples that came before this, after which the program samples no more: none is left behind.
    ///
    /// # Errors
    ///
    /// If nothing is loaded any more, or it cannot be read.
    pub fn finish(&mut self) -> Result<Vec<Sample>> {
        self.source
            .lease
            .set(0, 0, 0)
            .context("the lease on samples cannot be ended")?;
        let mut samples = std::mem::take(&mut self.left);
        samples.extend(self.source.drain(&self.offset)?);
        Ok(samples)
    }

    /// How many packets were not sampled since this was last asked: those beyond the rate, and those for which the reader was
    /// too slow; by reason, in the order of the packet table.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    pub fn missed(&mut self) -> Result<Vec<(Reason, u64)>> {
        let now = self.source.read_missed()?;
        let before = std::mem::replace(&mut self.source.missed, now);
        let missed = Reason::ALL.iter().zip(self.source.missed.iter().zip(before));
        Ok(missed
            .map(|(reason, (now, before))| (*reason, now.checked_sub(before).unwrap_or(*now)))
            .filter(|(_, missed)| *missed != 0)
            .collect())
    }

    /// The names of the tunnels that run.
    pub fn tunnels(&self) -> impl Iterator<Item = &str> {
        self.source.names.values().map(String::as_str)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Where this fails, the lease runs out by itself.
        self.source.lease.set(0, 0, 0).ok();
    }
}

impl Source {
    fn open(generation: &Generation) -> Result<Self> {
        let mut source = Self {
            generation: generation.clone(),
            names: read_names(generation)?,
            ring: open(&generation.map(SAMPLES))?,
            lease: open(&generation.map(READER))?,
            buckets: open(&generation.map(BUCKETS))?,
            missed: Vec::new(),
        };
        source.missed = source.read_missed()?;
        Ok(source)
    }

    /// Lets the program sample for a while from now on.
    fn renew(&mut self) -> Result<()> {
        let until = clock::monotonic()?.as_nanos() as u64 + LEASE;
        self.lease
            .set(0, until, 0)
            .context("the lease on samples cannot be renewed")
    }

    /// Waits until there are samples, but not for long.
    fn wait(&self) -> Result<()> {
        let mut ring = [PollFd::new(self.ring.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ring, PollTimeout::try_from(TURN).unwrap_or(PollTimeout::ZERO)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno).context("samples cannot be waited for"),
        }
    }

    /// The samples that are there.
    fn drain(&mut self, offset: &clock::Offset) -> Result<Vec<Sample>> {
        let mut samples = Vec::new();
        while let Some(item) = self.ring.next() {
            let Some(header) = load::<SampleHeader>(&item, 0) else {
                bail!("a sample is shorter than its header; load anew");
            };
            let bytes = item.get(size_of::<SampleHeader>()..).unwrap_or_default();
            let Some(reason) = header.reason() else {
                bail!("a sample has a reason that this version does not know; use the one that has loaded the program");
            };
            samples.push(Sample {
                at: offset.calendar(Duration::from_nanos(header.at)),
                reason,
                tunnel: self.names.get(&header.tunnel).cloned(),
                interface: header.interface,
                queue: header.queue,
                length: header.len,
                bytes: bytes.get(..header.held as usize).unwrap_or(bytes).to_vec(),
            });
        }
        Ok(samples)
    }

    /// What each reason's buckets have swallowed and lost, all CPUs together.
    fn read_missed(&self) -> Result<Vec<u64>> {
        let missed = (0..Reason::COUNT as u32).map(|reason| {
            let buckets = self.buckets.get(&reason, 0)?;
            Ok(buckets.iter().map(|bucket| bucket.swallowed + bucket.lost).sum())
        });
        missed
            .collect::<Result<_, aya::maps::MapError>>()
            .context("the limits on samples cannot be read")
    }
}

/// Makes sure that no other process reads. The lock is on the folder of links: it stays while generations come and go, and
/// nothing else locks it.
fn lock(root: &Root) -> Result<Flock<File>> {
    let folder = root.links_folder();
    let place = folder.display();
    let file = match File::open(&folder) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("{}: nothing is loaded; run `gre-decap load`", root.path().display())
        }
        Err(error) => return Err(error).with_context(|| format!("{place}: cannot be opened")),
    };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, Errno::EWOULDBLOCK)) => bail!(
            "{}: another `gre-decap drops` reads already, and each packet goes to one reader; stop that one first",
            root.path().display()
        ),
        Err((_, errno)) => Err(errno).with_context(|| format!("{place}: cannot be locked")),
    }
}
