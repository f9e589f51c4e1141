//! The command line.

mod tunnel;

use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::commands::{check, drops, explain, load, run, stats, status, top, unload};
use crate::error::Error;
use crate::listen::{DEFAULT_LISTEN, Listen};
use crate::output::{print, report};
use crate::reasons::ReasonName;
use crate::settings::LogLevel;
use crate::state::{DEFAULT_ROOT, Root};

/// Where the configuration is unless `--config` says otherwise.
const DEFAULT_CONFIG: &str = "/etc/gre-decap/config.toml";

/// Decapsulates GRE in the network driver, by XDP.
#[derive(Debug, Parser)]
#[command(name = "gre-decap", version, after_help = EXIT_STATUS)]
struct Cli {
    /// The configuration file
    #[arg(long, global = true, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// The folder in a BPF filesystem that holds the running state; instances with different ones live side by side
    #[arg(long, global = true, value_name = "DIR", default_value = DEFAULT_ROOT)]
    root: PathBuf,
    #[command(subcommand)]
    command: Command,
}

const EXIT_STATUS: &str = "Exit status: 0 done; 1 failed; 2 wrong usage or wrong configuration.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Validate the file, and report what on this host would make it fail or slow
    Check(Json),
    /// Bring the kernel to what the file says, and exit; again to change what runs, without losing a packet
    Load,
    /// Load, then stay: serve metrics, SIGHUP reads the file again, SIGTERM and SIGINT detach
    Run(Run),
    /// Detach from all interfaces and remove the running state; nothing to do is no failure
    Unload,
    /// Show interfaces, program and tunnels as they are in the kernel, and where they differ from the file
    Status(Json),
    /// Show counters per tunnel and reason
    Stats(Stats),
    /// Show rates as a live view of the whole screen; h explains its keys
    Top(Top),
    /// Follow packets that are not delivered, sampled, until interrupted; a reason's samples are limited to some hundred a
    /// second and CPU
    Drops(Drops),
    /// Change the tunnels that run, at once and without a packet lost, or show them; a later `load` or reload of the file brings
    /// back what the file says
    #[command(subcommand)]
    Tunnel(tunnel::Command),
    /// Say what a reason means, its likely causes and what to do; without one, list all; or what would be done with each
    /// packet of a capture
    Explain(Explain),
}

#[derive(Debug, Args)]
struct Run {
    /// Where to serve /metrics (OpenMetrics) and /healthz: ADDRESS:PORT, unix:/PATH or off
    #[arg(long, value_name = "ADDR", default_value = DEFAULT_LISTEN, value_parser = Listen::parse)]
    listen: Listen,
    /// Leave the program attached at the end; `gre-decap unload` detaches it
    #[arg(long)]
    keep: bool,
    /// How much the loader and the program log to standard error; from debug on, every packet's fate
    #[arg(long, value_name = "LEVEL", default_value = "off")]
    log_level: LogLevel,
}

#[derive(Debug, Args)]
struct Json {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Stats {
    #[command(flatten)]
    json: Json,
    /// Show rates every so many seconds until interrupted, with --json as one line each
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = seconds)]
    watch: Option<Duration>,
}

#[derive(Debug, Args)]
struct Top {
    /// How often to look, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,
}

#[derive(Debug, Args)]
struct Drops {
    /// Only those of this reason, as `stats` names it
    #[arg(long, value_parser = ReasonName::parse)]
    reason: Option<ReasonName>,
    /// Only those of this tunnel
    #[arg(long, value_name = "NAME")]
    tunnel: Option<String>,
    /// End after so many
    #[arg(long, value_name = "NUMBER", value_parser = packets)]
    count: Option<NonZeroU64>,
    #[command(flatten)]
    json: Json,
    /// Write them to a file, - for standard output, as pcapng with the reason as comment, which Wireshark opens
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pcap: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Explain {
    /// The reason, as `stats` names it
    #[arg(value_parser = ReasonName::parse)]
    reason: Option<ReasonName>,
    /// Say what the program, with the configuration file, would do with each packet of this capture (pcap or pcapng), and
    /// why; needs no privileges
    #[arg(long, value_name = "FILE", conflicts_with = "reason")]
    pcap: Option<PathBuf>,
}

/// A time span from 0.1 seconds to a day.
fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 0.1..=86_400.0) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("expected seconds from 0.1 to 86400".to_owned()),
    }
}

/// How many packets to wait for.
fn packets(text: &str) -> Result<NonZeroU64, String> {
    let expected = |_| "expected a number of packets, at least 1".to_owned();
    text.parse().map_err(expected)
}

/// Does what the arguments (the program's name first) ask for, and returns the process's exit status.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match execute(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !matches!(error, Error::ClosedPipe) {
                report("error", &error);
            }
            ExitCode::from(error.status())
        }
    }
}

fn execute(arguments: impl IntoIterator<Item = OsString>) -> Result<(), Error> {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return print(&error.render().to_string());
        }
        Err(error) => return Err(Error::Usage(usage(&error, &arguments))),
    };
    let root = Root::new(cli.root);
    match cli.command {
        Command::Check(Json { json }) => check::execute(&cli.config, &root, json),
        Command::Load => load::execute(&cli.config, &root),
        Command::Run(Run {
            listen,
            keep,
            log_level,
        }) => {
            let options = run::Options {
                listen,
                log_level,
                keep,
            };
            run::execute(&cli.config, &root, &options)
        }
        Command::Unload => unload::execute(&root),
        Command::Status(Json { json }) => status::execute(&cli.config, &root, json),
        Command::Stats(Stats {
            json: Json { json },
            watch,
        }) => stats::execute(&root, json, watch),
        Command::Top(Top { interval }) => top::execute(&root, interval),
        Command::Tunnel(command) => command.execute(&root),
        Command::Drops(Drops {
            reason,
            tunnel,
            count,
            json: Json { json },
            pcap,
        }) => {
            let format = match pcap {
                Some(file) => drops::Format::Pcap(file),
                None if json => drops::Format::Json,
                None => drops::Format::Text,
            };
            let wanted = drops::Wanted { reason, tunnel, count };
            drops::execute(&root, &format, &wanted)
        }
        Command::Explain(Explain { pcap: Some(file), .. }) => explain::execute_capture(&cli.config, &file),
        Command::Explain(Explain { reason, pcap: None }) => explain::execute(reason),
    }
}

/// Clap's words in one line: what is wrong and its tips, without the usage, and whose help tells more.
fn usage(error: &clap::Error, arguments: &[OsString]) -> String {
    let help = format!("see `{} --help`", command_line(arguments));
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand
    ) {
        return format!("no command; {help}");
    }
    let text = error.render().to_string();
    let lines: Vec<_> = text
        .lines()
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let line = lines.join(" ").replace(" tip: ", "; tip: ");
    format!("{}; {help}", line.strip_prefix("error: ").unwrap_or(&line))
}

/// The command that the arguments are for, without any of them: "gre-decap tunnel add".
fn command_line(arguments: &[OsString]) -> String {
    let cli = Cli::command();
    let mut line = cli.get_name().to_owned();
    // Of wrong arguments clap tells the command only when it is not to mind them.
    let matches = cli.ignore_errors(true).try_get_matches_from(arguments);
    let mut command = matches.as_ref().ok().and_then(clap::ArgMatches::subcommand);
    while let Some((name, arguments)) = command {
        line.push(' ');
        line.push_str(name);
        command = arguments.subcommand();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &str) -> Result<Cli, String> {
        let arguments: Vec<_> = ["gre-decap"]
            .into_iter()
            .chain(arguments.split_whitespace())
            .map(OsString::from)
            .collect();
        Cli::try_parse_from(&arguments).map_err(|error| usage(&error, &arguments))
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_stand_before_and_after_the_command() {
        for arguments in ["--config f --root /r load", "load --config f --root /r"] {
            let cli = parse(arguments).unwrap();
            assert_eq!((cli.config, cli.root), ("f".into(), "/r".into()));
        }
        let cli = parse("check").unwrap();
        assert_eq!((cli.config, cli.root), (DEFAULT_CONFIG.into(), DEFAULT_ROOT.into()));
    }

    #[test]
    fn watching() {
        let watch = |arguments| match parse(arguments).unwrap().command {
            Command::Stats(stats) => (stats.watch, stats.json.json),
            command => panic!("{command:?}"),
        };
        assert_eq!(watch("stats"), (None, false));
        assert_eq!(watch("stats --watch"), (Some(Duration::from_secs(1)), false));
        assert_eq!(watch("stats --watch --json"), (Some(Duration::from_secs(1)), true));
        assert_eq!(
            watch("stats --json --watch 0.5"),
            (Some(Duration::from_millis(500)), true)
        );
    }

    #[test]
    fn wrong_usage_is_one_line() {
        for (arguments, line) in [
            ("", "no command; see `gre-decap --help`"),
            ("--root /r", "no command; see `gre-decap --help`"),
            (
                "lod",
                "unrecognized subcommand 'lod'; tip: a similar subcommand exists: 'load'; see `gre-decap --help`",
            ),
            (
                "load --fast",
                "unexpected argument '--fast' found; see `gre-decap load --help`",
            ),
            (
                "stats --watch 0",
                "invalid value '0' for '--watch [<SECONDS>]': expected seconds from 0.1 to 86400; see `gre-decap stats --help`",
            ),
            (
                "explain checksum_bed",
                "invalid value 'checksum_bed' for '[REASON]': no such reason; did you mean `checksum_bad`? `gre-decap explain` \
                 lists all; see `gre-decap explain --help`",
            ),
            (
                "run --log-level loud",
                "invalid value 'loud' for '--log-level <LEVEL>' [possible values: off, error, warn, info, debug, trace]; see \
                 `gre-decap run --help`",
            ),
            ("tunnel", "no command; see `gre-decap tunnel --help`"),
            (
                "--root /r tunnel ad",
                "unrecognized subcommand 'ad'; tip: a similar subcommand exists: 'add'; see `gre-decap tunnel --help`",
            ),
            (
                "drops --count 0",
                "invalid value '0' for '--count <NUMBER>': expected a number of packets, at least 1; see `gre-decap drops --help`",
            ),
        ] {
            assert_eq!(parse(arguments).unwrap_err(), line);
        }
    }
}
