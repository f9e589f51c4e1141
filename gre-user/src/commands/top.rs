//! `top`: the counters as a live view of the whole screen.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use crossterm::event::{self, Event};
use ratatui::DefaultTerminal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::error::Error;
use crate::state::Root;
use crate::stats::{Rates, Stats};
use crate::top::{CpuTimes, Model, draw, press};

/// How long a signal may wait until it is noticed.
const TURN: Duration = Duration::from_millis(200);

/// Shows the live view until a key or a signal ends it.
///
/// # Errors
///
/// If standard output is no terminal, or what is loaded cannot be read (any more).
pub fn execute(root: &Root, interval: Duration) -> Result<(), Error> {
    if !io::stdout().is_terminal() {
        let message = "top: standard output is no terminal; use `gre-decap stats --watch` instead";
        return Err(Error::Usage(message.to_owned()));
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("signals cannot be received")?;
    }
    let mut source = Source::open(root)?;
    // From here on the screen is given back however this ends: by the guard, or, in a panic, by the hook that this sets.
    let terminal = ratatui::try_init().context("the terminal cannot be used")?;
    let _guard = Restore;
    show(terminal, &mut source, interval, &stop)?;
    Ok(())
}

/// Gives the terminal back.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn show(mut terminal: DefaultTerminal, source: &mut Source, interval: Duration, stop: &AtomicBool) -> Result<()> {
    let mut model = Model::default();
    source.read_into(&mut model)?;
    let mut due = Instant::now() + interval;
    while !model.is_over() && !stop.load(Ordering::Relaxed) {
        terminal
            .draw(|frame| draw(frame, &model))
            .context("the terminal cannot be written")?;
        let left = due.saturating_duration_since(Instant::now()).min(TURN);
        if event::poll(left).context("keys cannot be read")?
            && let Event::Key(key) = event::read().context("keys cannot be read")?
        {
            press(&mut model, key);
        }
        if Instant::now() >= due {
            if !model.is_paused() {
                source.read_into(&mut model)?;
            }
            due = Instant::now() + interval;
        }
    }
    Ok(())
}

/// Where the rates come from.
struct Source {
    root: Root,
    stats: Stats,
    cpus: CpuTimes,
    taken: Instant,
}

impl Source {
    fn open(root: &Root) -> Result<Self> {
        Ok(Self {
            root: root.clone(),
            stats: Stats::read(root)?,
            cpus: CpuTimes::read()?,
            taken: Instant::now(),
        })
    }

    /// The rates since this was last called.
    fn read_into(&mut self, model: &mut Model) -> Result<()> {
        let (stats, cpus) = (Stats::read(&self.root)?, CpuTimes::read()?);
        let rates = Rates::between(&self.stats, &stats, self.taken.elapsed());
        model.update(&stats, &rates, cpus.load_since(&self.cpus));
        self.taken = Instant::now();
        (self.stats, self.cpus) = (stats, cpus);
        Ok(())
    }
}
