//! Every variant of the program is verified by the kernel at hand, and what that took is told.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result};
use gre_tests::skip::say;
use gre_user::config::Config;
use gre_user::datapath::Datapath;
use gre_user::settings::{LogLevel, Settings};
use gre_user::tables::{Ids, Tables};

/// The top of a configuration, and whether a remote is a prefix: what is compiled out, or in.
const VARIANTS: [(&str, &str); 4] = [
    ("unknown = 'pass'", "203.0.113.10"),
    ("unknown = 'drop'", "203.0.113.10"),
    ("unknown = 'pass'", "203.0.113.0/24"),
    ("unknown = 'drop'", "any"),
];

#[test]
fn every_variant_is_verified() -> Result<()> {
    for (top, remote) in VARIANTS {
        for level in [LogLevel::Off, LogLevel::Debug] {
            let text = format!("{top}\n[[tunnel]]\nname = 'a'\nlocal = '198.51.100.20'\nremote = '{remote}'\n");
            let config = Config::from_str(&text, "variant")?;
            let names = config.tunnels.iter().map(|tunnel| tunnel.name.as_str());
            let tables = Tables::of(&config, &Ids::assign(names, &BTreeMap::new(), config.max_tunnels)?);
            let started = Instant::now();
            let loaded = Datapath::load(&Settings::of(&config, &tables, level), None);
            let mut datapath = loaded.with_context(|| format!("{top}, remote {remote}, log level {level}"))?;
            let took = started.elapsed().as_millis();
            let verified = datapath.info()?.verified_instruction_count();
            let verified = verified.context("the kernel does not tell how much it verified")?;
            say(&format!(
                "{top}, remote {remote}, log level {level}: {verified} instructions verified, {took} ms"
            ));
        }
    }
    Ok(())
}
