//! What the control plane takes with many tunnels: how long commands last, and how much memory they and the maps need.
//!
//! Everything is measured from outside, as an operator would: `gre-decap` itself, in a network namespace, with a configuration
//! that is generated here.

mod usage;

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{ChildStdout, Command, ExitCode, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};
use gre_tests::lab::{Lab, Namespace};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Serialize;
use serde_json::Value;

use self::usage::Usage;

/// How many tunnels there are.
const TUNNELS: [u32; 3] = [1, 1_000, 100_000];
/// How often each is measured; the shortest time counts.
const ROUNDS: usize = 3;
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9470);

/// What was measured with so many tunnels.
#[derive(Serialize)]
struct Figures {
    tunnels: u32,
    /// Bytes of the kernel's memory that the maps take.
    map_memory_bytes: u64,
    commands: Vec<Figure>,
}

/// What one command takes.
#[derive(Serialize)]
struct Figure {
    name: &'static str,
    seconds: f64,
    /// The largest amount of memory that the process had (VmHWM).
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_memory_bytes: Option<u64>,
}

/// Measures, and prints the result, as a table and into the file `json`.
pub(super) fn run(binary: &Path, json: Option<&Path>) -> Result<ExitCode> {
    if let Err(missing) = Lab::available() {
        bail!("the benchmark needs network namespaces; missing: {missing}");
    }
    let mut all = Vec::new();
    for tunnels in TUNNELS {
        eprintln!("tunnels: {tunnels}");
        all.push(Bench::new(binary, tunnels)?.measure()?);
    }
    if let Some(file) = json {
        let text = serde_json::to_string_pretty(&all)? + "\n";
        fs::write(file, text).with_context(|| format!("write {}", file.display()))?;
    }
    print!("{}", table(&all));
    Ok(ExitCode::SUCCESS)
}

/// A place with so many tunnels.
struct Bench<'a> {
    binary: &'a Path,
    tunnels: u32,
    origin: Namespace,
    /// The configuration, and the same with one tunnel changed.
    files: [PathBuf; 2],
    /// What holds the files, and the other end of the wire.
    _held: (Lab, Namespace),
}

impl<'a> Bench<'a> {
    fn new(binary: &'a Path, tunnels: u32) -> Result<Self> {
        let lab = Lab::new()?;
        let (scrub, origin) = (lab.namespace("scrub")?, lab.namespace("origin")?);
        lab.veth(scrub.end("wan"), origin.end("wan0").address("198.51.100.20/24"))?;
        let files = [None, Some(tunnels / 2)].map(|changed| {
            let name = if changed.is_some() {
                "changed.toml"
            } else {
                "config.toml"
            };
            lab.write_file(name, &config(tunnels, changed))
        });
        let [config, changed] = files;
        Ok(Self {
            binary,
            tunnels,
            origin,
            files: [config?, changed?],
            _held: (lab, scrub),
        })
    }

    fn measure(&self) -> Result<Figures> {
        let mut map_memory_bytes = 0;
        let mut commands: Vec<Figure> = Vec::new();
        for _ in 0..ROUNDS {
            let mut round = vec![
                self.time("check", 0, "check")?,
                self.time("load", 0, "load")?,
                self.time("load, nothing to do", 0, "load")?,
                self.time("load, one tunnel changed", 1, "load")?,
                self.time("status", 1, "status")?,
                self.time("status --json", 1, "status --json")?,
                self.time("stats", 1, "stats")?,
                self.time("stats --json", 1, "stats --json")?,
            ];
            map_memory_bytes = self.map_memory()?;
            round.extend(self.run_and_scrape()?);
            round.push(self.time("unload", 0, "unload")?);
            if commands.is_empty() {
                commands = round;
            } else {
                for (best, figure) in commands.iter_mut().zip(round) {
                    best.seconds = best.seconds.min(figure.seconds);
                    best.peak_memory_bytes = best.peak_memory_bytes.max(figure.peak_memory_bytes);
                }
            }
        }
        Ok(Figures {
            tunnels: self.tunnels,
            map_memory_bytes,
            commands,
        })
    }

    fn command(&self, file: usize, arguments: &str) -> Command {
        let mut command = self.origin.command(self.binary);
        command.arg("--config").arg(&self.files[file]);
        command.args(arguments.split_whitespace()).stdin(Stdio::null());
        command
    }

    fn time(&self, name: &'static str, file: usize, arguments: &str) -> Result<Figure> {
        let mut command = self.command(file, arguments);
        let started = Instant::now();
        // As long as whoever reads it takes no time: a file would be written, a pipe be waited for.
        let mut child = command.stdout(Stdio::null()).spawn().context("start gre-decap")?;
        let Usage {
            seconds,
            peak_memory_bytes,
            succeeded,
        } = usage::wait(&mut child, started)?;
        ensure!(succeeded, "gre-decap {arguments} failed with {} tunnels", self.tunnels);
        Ok(Figure {
            name,
            seconds,
            peak_memory_bytes,
        })
    }

    fn map_memory(&self) -> Result<u64> {
        let output = self.command(0, "status --json").output().context("run gre-decap")?;
        let status: Value = serde_json::from_slice(&output.stdout).context("the JSON of `status`")?;
        status["map_memory_bytes"]
            .as_u64()
            .context("`status --json` says how much memory the maps take")
    }

    /// A scrape of the metrics, the second of two, and a reload of one tunnel, as `run` does them.
    fn run_and_scrape(&self) -> Result<[Figure; 2]> {
        let mut command = self.command(0, &format!("run --keep --listen {LISTEN}"));
        let started = Instant::now();
        let mut child = command.stdout(Stdio::piped()).spawn().context("start gre-decap run")?;
        let mut said = BufReader::new(child.stdout.take().context("its output")?);
        wait_for(&mut said, "metrics at ")?;
        let started_after = started.elapsed().as_secs_f64();
        let scraped = (0..2)
            .map(|_| self.scrape())
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .fold(f64::INFINITY, f64::min);
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).context("stop gre-decap run")?;
        let usage = usage::wait(&mut child, started)?;
        ensure!(usage.succeeded, "gre-decap run failed with {} tunnels", self.tunnels);
        let figure = |name, seconds| Figure {
            name,
            seconds,
            peak_memory_bytes: usage.peak_memory_bytes,
        };
        Ok([
            figure("run, until it serves", started_after),
            figure("scrape of run", scraped),
        ])
    }

    fn scrape(&self) -> Result<f64> {
        let started = Instant::now();
        let bytes = self.origin.run(|| {
            let mut stream = TcpStream::connect(LISTEN).context("connect to gre-decap run")?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            ensure!(
                answer.starts_with(b"HTTP/1.1 200 "),
                "gre-decap run does not serve metrics"
            );
            Ok(answer.len())
        })?;
        ensure!(
            bytes > self.tunnels as usize,
            "{bytes} bytes of metrics of {} tunnels",
            self.tunnels
        );
        Ok(started.elapsed().as_secs_f64())
    }
}

fn wait_for(said: &mut BufReader<ChildStdout>, start: &str) -> Result<()> {
    let mut line = String::new();
    while !line.starts_with(start) {
        line.clear();
        ensure!(said.read_line(&mut line)? != 0, "gre-decap run has ended early");
    }
    Ok(())
}

/// So many tunnels from as many remotes; the one with the number `changed` differs.
fn config(tunnels: u32, changed: Option<u32>) -> String {
    let mut text = format!("max_tunnels = {tunnels}\n[[interface]]\nname = 'wan0'\n");
    for tunnel in 0..tunnels {
        let remote = Ipv4Addr::from_bits(10 << 24 | tunnel);
        let checksum = if changed == Some(tunnel) {
            "required"
        } else {
            "optional"
        };
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "[[tunnel]]\nname = 'tunnel-{tunnel}'\nlocal = '198.51.100.20'\nremote = '{remote}'\nchecksum = '{checksum}'\n"
        );
    }
    text
}

fn table(all: &[Figures]) -> String {
    let mut text = format!("{:<26}", "tunnels");
    for figures in all {
        let _ = write!(text, "{:>22}", figures.tunnels);
    }
    text.push_str(&format!("\n{:<26}", "memory of the maps"));
    for figures in all {
        let _ = write!(text, "{:>22}", megabytes(figures.map_memory_bytes));
    }
    text.push('\n');
    let rows = all.first().map_or(0, |figures| figures.commands.len());
    for row in 0..rows {
        let figures: Vec<_> = all.iter().filter_map(|figures| figures.commands.get(row)).collect();
        let _ = write!(text, "{:<26}", figures.first().map_or("", |figure| figure.name));
        for figure in figures {
            let memory = figure.peak_memory_bytes.map_or_else(|| "-".to_owned(), megabytes);
            let cell = format!("{:.3} s {memory:>9}", figure.seconds);
            let _ = write!(text, "{cell:>22}");
        }
        text.push('\n');
    }
    text.push_str("\nThe shortest of three times, and the largest amount of memory that the process had.\n");
    text
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tunnel_differs() {
        let (before, after) = (config(3, None), config(3, Some(1)));
        assert_eq!(before.matches("optional").count(), 3);
        assert_eq!(
            (after.matches("optional").count(), after.matches("required").count()),
            (2, 1)
        );
        assert!(after.contains("remote = '10.0.0.2'"), "{after}");
    }

    #[test]
    fn columns_stand_below_each_other() {
        let figures = |tunnels| Figures {
            tunnels,
            map_memory_bytes: 1_500_000,
            commands: vec![Figure {
                name: "load",
                seconds: 0.25,
                peak_memory_bytes: Some(24_000_000),
            }],
        };
        let text = table(&[figures(1), figures(100_000)]);
        let lines: Vec<_> = text.lines().take(3).map(str::len).collect();
        assert_eq!(lines, [70, 70, 70], "{text}");
        assert!(text.contains("0.250 s   24.0 MB"), "{text}");
    }
}
