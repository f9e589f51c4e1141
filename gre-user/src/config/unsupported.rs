//! What the file may say and this version cannot do yet. Refused, so that nobody counts on it; each line here goes when
//! its feature comes.

use super::Config;
use super::error::ConfigError;
use super::section::{Section, Sections};
use super::tunnel::Probes;

pub(super) fn refuse(config: &Config, sections: &Sections<'_>) -> Result<(), ConfigError> {
    for (tunnel, section) in config.tunnels.iter().zip(&sections.tunnels) {
        only(tunnel.probes == Probes::Off, section, "probes", "\"off\"")?;
    }
    Ok(())
}

fn only(supported: bool, section: &Section<'_>, key: &'static str, remedy: &str) -> Result<(), ConfigError> {
    match section.get(key) {
        Some(item) if !supported => {
            let written = item.written();
            Err(item.error(format!("{written} is not supported by this version yet; use {remedy}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::tests::{TUNNEL, valid};

    /// It is valid in itself, and refused all the same.
    #[test]
    fn refused_with_the_value_that_works() {
        let text = format!("{TUNNEL}probes = 'route'\n[protect]\nprefixes = ['192.0.2.0/24']");
        valid(&text);
        let error = Config::from_str(&text, "f.toml").expect_err(&text);
        assert_eq!(
            error.to_string(),
            "f.toml:5: [[tunnel]] \"a\": key `probes`: 'route' is not supported by this version yet; use \"off\""
        );
    }
}
