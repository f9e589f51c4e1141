//! Who reads: over reloads, too slowly, interrupted, killed, and one at a time.

use std::os::fd::AsRawFd;
use std::process::ChildStdout;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, MapData, PerCpuArray};
use gre_common::Reason;
use gre_common::sample::Bucket;
use gre_tests::lab::PATIENCE;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use serde_json::json;

use super::{Drops, damaged};
use crate::site::{CONFIG, STRANGER, Site, site_or_return};

#[test]
fn it_goes_on_over_reloads() -> Result<()> {
    let site = site_or_return!();
    site.ok(CONFIG, "load")?;
    let drops = Drops::start(&site, "--json --count 3")?;
    site.send_packet(&damaged())?;
    // The same maps go on.
    site.ok(&format!("unknown = 'drop'\n{CONFIG}"), "load")?;
    site.send(STRANGER, None)?;
    // Maps of another size are others; the reader notices in a moment.
    site.ok(&format!("max_tunnels = 7\n{CONFIG}"), "load")?;
    let last = Instant::now() + PATIENCE;
    let mut drops = Some(drops);
    let lines = loop {
        site.send_packet(&damaged())?;
        thread::sleep(Duration::from_millis(20));
        let running = drops.as_mut().context("a reader")?;
        if running.child.try_wait()?.is_some() {
            break drops.take().context("a reader")?.end_lines()?;
        }
        ensure!(Instant::now() < last, "nothing is read from the new maps");
    };
    let reasons: Vec<_> = lines.iter().map(|line| (&line["reason"], &line["action"])).collect();
    let (bad, unknown) = (json!("checksum_bad"), json!("unknown_tunnel"));
    let drop = json!("drop");
    assert_eq!(reasons, [(&bad, &drop), (&unknown, &drop), (&bad, &drop)]);
    Ok(())
}

#[test]
fn a_flood_is_limited_and_what_is_not_shown_is_told() -> Result<()> {
    const FLOOD: u64 = 1000;
    let site = site_or_return!();
    site.ok(CONFIG, "load")?;
    let drops = Drops::start(&site, "--json")?;
    let frame = damaged();
    for _ in 0..FLOOD {
        site.send_packet(&frame)?;
    }
    let arrived = FLOOD - site.dropped_on_the_wire()?;
    site.stats_when("the flood", |stats| stats["reasons"]["checksum_bad"] == arrived)?;
    drops.signal(Signal::SIGINT)?;
    let lines = drops.end_lines()?;
    let shown = lines.iter().filter(|line| line["reason"] == "checksum_bad").count() as u64;
    let not_shown = lines.iter().filter_map(|line| line["not_shown"][0]["packets"].as_u64());
    let not_shown: u64 = not_shown.sum();
    assert_eq!(shown + not_shown, arrived);
    assert!(not_shown > 0, "{shown} of {arrived} packets were shown");
    Ok(())
}

/// Who watches through a slow pipe and interrupts has not seen everything yet.
#[test]
fn what_came_before_the_interrupt_is_shown() -> Result<()> {
    const PIPE: usize = 4096;
    /// Of which not many fit into the pipe, and as many again come when it is full.
    const SENT: u64 = 40;
    let site = site_or_return!();
    site.ok(CONFIG, "load")?;
    let drops = Drops::start(&site, "--json")?;
    let stdout = drops.child.stdout.as_ref().context("its output")?;
    fcntl(stdout, FcntlArg::F_SETPIPE_SZ(PIPE as i32))?;
    let send = |all: u64| -> Result<u64> {
        for _ in 0..SENT {
            site.send_packet(&damaged())?;
        }
        let arrived = all - site.dropped_on_the_wire()?;
        site.stats_when("all packets", |stats| stats["reasons"]["checksum_bad"] == arrived)?;
        Ok(arrived)
    };
    send(SENT)?;
    let deadline = Instant::now() + PATIENCE;
    while unread(stdout)? + LINE < PIPE {
        ensure!(Instant::now() < deadline, "the pipe does not fill");
        thread::sleep(Duration::from_millis(2));
    }
    let arrived = send(2 * SENT)?;
    drops.signal(Signal::SIGINT)?;
    let lines = drops.end_lines()?;
    let shown = lines.iter().filter(|line| line["reason"] == "checksum_bad").count() as u64;
    assert_eq!(shown, arrived);
    Ok(())
}

/// Bytes of the longest line of JSON that a frame of these tests takes.
const LINE: usize = 1000;

/// Bytes that lie in a pipe.
fn unread(pipe: &ChildStdout) -> Result<usize> {
    let mut bytes = 0;
    // SAFETY: FIONREAD writes an int.
    unsafe { fionread(pipe.as_raw_fd(), &raw mut bytes) }?;
    Ok(usize::try_from(bytes)?)
}

nix::ioctl_read_bad!(fionread, libc::FIONREAD, libc::c_int);

#[test]
fn nothing_is_sampled_when_nobody_reads() -> Result<()> {
    let site = site_or_return!();
    site.ok(CONFIG, "load")?;
    let flood = |before: u64| -> Result<()> {
        for _ in 0..300 {
            site.send_packet(&damaged())?;
        }
        site.stats_when("a flood", |stats| {
            stats["reasons"]["checksum_bad"]
                .as_u64()
                .is_some_and(|bad| bad > before + 200)
        })?;
        Ok(())
    };
    // Buckets that nobody takes from have nothing to swallow.
    flood(0)?;
    assert_eq!(swallowed(&site)?, 0);

    // A reader that ends takes its lease back; of one that is killed it runs out.
    let drops = Drops::start(&site, "--json --count 1")?;
    assert!(lease(&site)? > now()?);
    site.send_packet(&damaged())?;
    drops.end()?;
    assert_eq!(lease(&site)?, 0);
    let drops = Drops::start(&site, "--json")?;
    drops.signal(Signal::SIGKILL)?;
    let Drops { mut child, .. } = drops;
    child.wait()?;
    let deadline = Instant::now() + PATIENCE;
    while lease(&site)? > now()? {
        ensure!(Instant::now() < deadline, "the lease of a killed reader does not end");
        thread::sleep(Duration::from_millis(20));
    }
    let before = swallowed(&site)?;
    let counted = site.json("stats")?["reasons"]["checksum_bad"]
        .as_u64()
        .context("a count")?;
    flood(counted)?;
    assert_eq!(swallowed(&site)?, before);
    // The next one is not told of what the killed one has left.
    let drops = Drops::start(&site, "--json --count 1")?;
    site.send(STRANGER, None)?;
    assert_eq!(drops.end_lines()?[0]["reason"], "unknown_tunnel");
    Ok(())
}

fn now() -> Result<u64> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?).as_nanos() as u64)
}

fn lease(site: &Site) -> Result<u64> {
    let map = site.pinned("READER")?;
    Ok(Array::<_, u64>::try_from(map)?.get(&0, 0)?)
}

fn swallowed(site: &Site) -> Result<u64> {
    let buckets: PerCpuArray<MapData, Bucket> = site.pinned("BUCKETS")?.try_into()?;
    let bad = buckets.get(&(Reason::ChecksumBad as u32), 0)?;
    Ok(bad.iter().map(|bucket| bucket.swallowed).sum())
}

#[test]
fn one_at_a_time_reads() -> Result<()> {
    let site = site_or_return!();
    site.refused(
        CONFIG,
        "drops",
        1,
        "/sys/fs/bpf/gre-decap: nothing is loaded; run `gre-decap load`",
    )?;
    site.ok(CONFIG, "load")?;
    let drops = Drops::start(&site, "--count 1")?;
    let line = "/sys/fs/bpf/gre-decap: another `gre-decap drops` reads already, and each packet goes to one reader; stop that \
                one first";
    site.refused(CONFIG, "drops", 1, line)?;
    // Nor does a reader keep others from loading and unloading.
    site.ok("", "unload")?;
    let output = drops.child.wait_with_output()?;
    assert_eq!(output.status.code(), Some(1));
    Ok(())
}

#[test]
fn a_capture_that_cannot_be_written_is_refused() -> Result<()> {
    let site = site_or_return!();
    site.ok(CONFIG, "load")?;
    let line = "--pcap /nonexistent/x: cannot be written: No such file or directory (os error 2); name another file";
    site.refused(CONFIG, "drops --pcap /nonexistent/x", 1, line)
}

#[test]
fn it_ends_quietly_when_nobody_reads_on() -> Result<()> {
    let site = site_or_return!();
    site.ok(CONFIG, "load")?;
    for format in ["", "--json", "--pcap -"] {
        let mut drops = Drops::start(&site, format)?;
        drop(drops.child.stdout.take());
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            site.send_packet(&damaged())?;
            if let Some(status) = drops.child.try_wait()? {
                break status;
            }
            ensure!(Instant::now() < deadline, "drops {format} does not end");
            thread::sleep(Duration::from_millis(20));
        };
        let stderr = drops.stderr.rest()?;
        assert_eq!((status.code(), stderr.as_str()), (Some(0), ""), "drops {format}");
    }
    Ok(())
}
