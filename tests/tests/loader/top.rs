//! `top`, in a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gre_tests::lab::PATIENCE;
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;

use crate::site::{CONFIG, REMOTE, STRANGER, Site, site_or_return};

const LINES: NonZeroU16 = NonZeroU16::new(24).expect("not zero");
const COLUMNS: NonZeroU16 = NonZeroU16::new(80).expect("not zero");

/// A `gre-decap top` in a terminal of its own.
struct Top {
    child: Child,
    keyboard: File,
    /// Kept open, so that the terminal can be asked what it was left like.
    terminal: File,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Top {
    fn start(site: &Site, options: &str) -> Result<Self> {
        let size = Winsize {
            ws_row: LINES.get(),
            ws_col: COLUMNS.get(),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let OpenptyResult { master, slave } = openpty(&size, None)?;
        let (master, slave) = (File::from(master), File::from(slave));
        let mut command = site.command("", &format!("top {options}"))?;
        let child = command
            .env("TERM", "xterm-256color")
            .stdin(Stdio::from(slave.try_clone()?))
            .stdout(Stdio::from(slave.try_clone()?))
            .stderr(Stdio::piped())
            .spawn()?;
        let screen = Arc::new(Mutex::new(vt100::Parser::new(LINES, COLUMNS, 0)));
        let (shown, mut output) = (Arc::clone(&screen), master.try_clone()?);
        // It ends when the terminal is closed.
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut bytes) {
                shown
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .process(&bytes[..read]);
            }
        });
        Ok(Self {
            child,
            keyboard: master,
            terminal: slave,
            screen,
        })
    }

    fn lines(&self) -> Vec<String> {
        let parser = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        parser
            .screen()
            .rows(0, COLUMNS.get())
            .map(|line| line.trim_end().to_owned())
            .collect()
    }

    /// Waits until this is true of the screen.
    fn wait(&self, what: &str, wanted: impl Fn(&[String]) -> bool) -> Result<Vec<String>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let lines = self.lines();
            if wanted(&lines) {
                return Ok(lines);
            }
            if Instant::now() > deadline {
                bail!("waited for {what}:\n{}", lines.join("\n"));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn press(&mut self, keys: &str) -> Result<()> {
        Ok(self.keyboard.write_all(keys.as_bytes())?)
    }

    /// Waits for its end, after which the terminal must be as it was. Gives the exit status and what was said on standard
    /// error.
    fn end(mut self) -> Result<(Option<i32>, String)> {
        let mut stderr = String::new();
        self.child
            .stderr
            .take()
            .context("its errors")?
            .read_to_string(&mut stderr)?;
        let status = self.child.wait()?.code();
        self.wait("the screen that was there before", |lines| {
            lines.iter().all(String::is_empty)
        })?;
        let parser = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(!parser.screen().alternate_screen() && !parser.screen().hide_cursor());
        let modes = tcgetattr(&self.terminal)?.local_flags;
        assert!(
            modes.contains(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG),
            "{modes:?}"
        );
        Ok((status, stderr))
    }
}

fn starts_with(lines: &[String], start: &str) -> bool {
    lines.iter().any(|line| line.starts_with(start))
}

#[test]
fn rates_and_reasons_are_on_the_screen() -> Result<()> {
    let site = site_or_return!();
    let other = "[[tunnel]]\nname = 'ams'\nlocal = '198.51.100.20'\nremote = '192.0.2.1'\n";
    site.ok(&format!("{CONFIG}{other}"), "load")?;
    let mut top = Top::start(&site, "--interval 0.5")?;
    top.wait("the view", |lines| lines[0].starts_with("gre-decap  wan0 (native)  "))?;

    let busy = |lines: &[String]| {
        let rate = lines
            .iter()
            .find_map(|line| line.strip_prefix("scrub-fra")?.split_whitespace().next());
        rate.is_some_and(|rate| rate != "0") && starts_with(lines, "unknown_tunnel ")
    };
    let deadline = Instant::now() + PATIENCE;
    let lines = loop {
        site.send(REMOTE, Some(4200))?;
        site.send(STRANGER, None)?;
        let lines = top.lines();
        if busy(&lines) {
            break lines;
        }
        if Instant::now() > deadline {
            bail!("waited for rates:\n{}", lines.join("\n"));
        }
        thread::sleep(Duration::from_millis(5));
    };
    assert!(lines[1].starts_with("CPUs in soft interrupts  0:"), "{lines:?}");
    assert_eq!(
        lines[3],
        "tunnel                       packets/s     bit/s   drops/s packets/s of the past"
    );
    assert!(
        lines[4].starts_with("scrub-fra ") && lines[5].starts_with("ams "),
        "busiest first: {lines:?}"
    );
    assert_eq!(
        lines[23],
        "q end  s sort (packets)  / filter  p pause  up/down scroll  h help"
    );

    top.press("/am\r")?;
    top.wait("the filter", |lines| {
        !starts_with(lines, "scrub-fra") && starts_with(lines, "ams ")
    })?;
    top.press("/\x1b")?;
    top.wait("no filter", |lines| starts_with(lines, "scrub-fra"))?;
    top.press("sss")?;
    top.wait("order by name", |lines| {
        lines[4].starts_with("ams ") && lines[23].contains("(name)")
    })?;
    top.press("h")?;
    top.wait("help", |lines| {
        lines.iter().any(|line| line.contains("sort by the next of"))
    })?;
    top.press(" p")?;
    top.wait("a pause", |lines| lines[0].ends_with("  PAUSED"))?;
    top.press("q")?;
    assert_eq!(top.end()?, (Some(0), String::new()));
    Ok(())
}

#[test]
fn the_terminal_is_given_back_however_it_ends() -> Result<()> {
    let site = site_or_return!();
    site.ok(CONFIG, "load")?;
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let top = Top::start(&site, "")?;
        top.wait("the view", |lines| lines[0].starts_with("gre-decap"))?;
        kill(Pid::from_raw(top.child.id().cast_signed()), signal)?;
        assert_eq!(top.end()?, (Some(0), String::new()), "{signal}");
    }
    // Ctrl-C, which is a key while the view is on.
    let mut top = Top::start(&site, "")?;
    top.wait("the view", |lines| lines[0].starts_with("gre-decap"))?;
    top.press("\x03")?;
    assert_eq!(top.end()?, (Some(0), String::new()));
    // And an error is told where it can be read.
    let top = Top::start(&site, "--interval 0.1")?;
    top.wait("the view", |lines| lines[0].starts_with("gre-decap"))?;
    site.ok("", "unload")?;
    let line = "error: /sys/fs/bpf/gre-decap: nothing is loaded; run `gre-decap load`\n";
    assert_eq!(top.end()?, (Some(1), line.to_owned()));
    Ok(())
}

#[test]
fn without_a_terminal_it_says_what_to_use() -> Result<()> {
    let site = site_or_return!();
    site.ok(CONFIG, "load")?;
    let line = "top: standard output is no terminal; use `gre-decap stats --watch` instead";
    site.refused(CONFIG, "top", 2, line)
}
