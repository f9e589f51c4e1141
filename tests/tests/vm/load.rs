//! Every variant of the programs is verified by the kernel at hand, and what that took is told.

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use anyhow::{Context, Error, Result, ensure};
use gre_tests::skip::say;
use gre_user::clamps::Clamps;
use gre_user::config::{ClampMss, Config};
use gre_user::datapath::Datapath;
use gre_user::host::Interface;
use gre_user::host::cpus::online_cpus;
use gre_user::settings::{LogLevel, Settings};
use gre_user::tables::{Ids, Tables};

/// Ways to deliver, each that of a tunnel.
const STACK: &str = "\"stack\"";
const ROUTE: &str = "\"route\"";
const INTERFACE: &str = "{ interface = \"lo\" }";
const DELIVERIES: [&[&str]; 4] = [&[STACK], &[ROUTE], &[INTERFACE], &[STACK, ROUTE, INTERFACE]];

/// What a tunnel may do besides: lines of its own, and lines of `[protect]`.
const EXTRAS: [(&str, &str); 9] = [
    ("keepalive = \"reply\"", ""),
    ("mss = 1400", ""),
    ("sequence = \"ordered\"", ""),
    ("bypass = [\"10.10.10.0/30\"]", ""),
    ("probes = \"route\"", ""),
    ("", "inner_destinations = \"monitor\""),
    ("", "inner_destinations = \"enforce\""),
    ("", "lockdown = \"monitor\""),
    ("", "lockdown = \"enforce\""),
];
/// All of it at once.
const ALL: (&str, &str) = (
    "keepalive = \"reply\"\nmss = 1400\nsequence = \"ordered\"\nbypass = [\"10.10.10.0/30\"]\nprobes = \"route\"",
    "inner_destinations = \"enforce\"\nlockdown = \"enforce\"",
);
const PROTECT: &str = r#"
[protect]
prefixes = ["192.0.2.0/24", "2001:db8:2::/48"]
allow = ["198.18.5.0/24"]
"#;

/// The kernel gives up at a million. Logging, which is for debugging, may take more of it; 6.1 needs half as much again as later
/// kernels.
const MOST_VERIFIED: u32 = 400_000;
const MOST_WITH_LOG: u32 = 800_000;

/// A variant of the programs: a configuration, and how much they log.
struct Variant<'a> {
    unknown: &'a str,
    remote: &'a str,
    deliveries: &'a [&'a str],
    spread: &'a str,
    extra: (&'a str, &'a str),
    level: LogLevel,
}

const PLAIN: Variant = Variant {
    unknown: "pass",
    remote: "203.0.113.10",
    deliveries: DELIVERIES[0],
    spread: "off",
    extra: ("", ""),
    level: LogLevel::Off,
};

#[test]
fn every_variant_is_verified() -> Result<()> {
    let mut variants = Vec::new();
    for deliveries in DELIVERIES {
        for spread in ["off", "all"] {
            for (unknown, remote) in [("pass", "203.0.113.10"), ("drop", "any")] {
                variants.push(Variant {
                    unknown,
                    remote,
                    deliveries,
                    spread,
                    ..PLAIN
                });
            }
        }
    }
    variants.extend(EXTRAS.map(|extra| Variant { extra, ..PLAIN }));
    variants.extend([LogLevel::Off, LogLevel::Debug].map(everything));
    verify(&variants)
}

/// What most have, and all that there is.
#[test]
fn the_plain_and_the_largest_variant_are_verified() -> Result<()> {
    verify(&[PLAIN, everything(LogLevel::Off)])
}

fn everything(level: LogLevel) -> Variant<'static> {
    Variant {
        unknown: "pass",
        remote: "any",
        deliveries: DELIVERIES[3],
        spread: "all",
        extra: ALL,
        level,
    }
}

fn verify(variants: &[Variant<'_>]) -> Result<()> {
    for variant in variants {
        variant.load().with_context(|| variant.name())?;
    }
    say(&format!("{} variants are verified", variants.len()));
    Ok(())
}

impl Variant<'_> {
    fn name(&self) -> String {
        let (tunnel, protect) = self.extra;
        let extra: Vec<&str> = tunnel.lines().chain(protect.lines()).collect();
        format!(
            "unknown {}, remote {}, deliver {}, spread {}, {}, log level {}",
            self.unknown,
            self.remote,
            self.deliveries.join(" and "),
            self.spread,
            if extra.is_empty() {
                "nothing else".to_owned()
            } else {
                extra.join(", ")
            },
            self.level
        )
    }

    fn text(&self) -> String {
        let (tunnel, protect) = self.extra;
        let mut text = format!("unknown = \"{}\"\n", self.unknown);
        for (key, deliver) in self.deliveries.iter().enumerate() {
            text += &format!(
                "[[tunnel]]\nname = \"{key}\"\nlocal = \"198.51.100.20\"\nremote = \"{}\"\nkey = {key}\ndeliver = {deliver}\n\
                 spread = \"{}\"\n{tunnel}\n",
                self.remote, self.spread
            );
        }
        text + PROTECT + protect
    }

    fn load(&self) -> Result<()> {
        let config = Config::from_str(&self.text(), "variant")?;
        let names = config.tunnels.iter().map(|tunnel| tunnel.name.as_str());
        let ids = Ids::assign(names, &BTreeMap::new(), config.max_tunnels)?;
        let tables = Tables::of(&config, &ids, &online_cpus()?)?;
        let settings = Settings::of(&config, &tables, self.level, [0; 2]);
        let loopback = Interface::by_name("lo")?.context("there is a loopback interface")?;
        let clamps = Clamps::of(&tables, [(&loopback, ClampMss::Bytes(1400))].into_iter());

        let started = Instant::now();
        let mut datapath = Datapath::load(&settings, &tables, None).map_err(with_log)?;
        let took = started.elapsed().as_millis();
        // What is only needed with some interfaces takes its own time.
        datapath.load_pass().map_err(with_log)?;
        datapath.load_egress(&clamps).map_err(with_log)?;

        let most = if self.level == LogLevel::Off {
            MOST_VERIFIED
        } else {
            MOST_WITH_LOG
        };
        let mut told = Vec::new();
        for (name, info) in datapath.infos()? {
            let verified = info.verified_instruction_count();
            let verified = verified.context("the kernel does not tell how much it verified")?;
            ensure!(verified < most, "{name}: {verified} instructions verified");
            told.push(format!("{name} {verified}"));
        }
        say(&format!(
            "{}: {took} ms; instructions verified: {}",
            self.name(),
            told.join(", ")
        ));
        Ok(())
    }
}

/// The error with the end of the verifier's log that it names, which goes with the machine.
fn with_log(error: Error) -> Error {
    const LINES: usize = 60;
    let text = format!("{error:#}");
    let Some((_, path)) = text.rsplit_once("its log is in ") else {
        return error;
    };
    let log = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    let end = &lines[lines.len().saturating_sub(LINES)..];
    error.context(end.join("\n"))
}
