//! TCP maximum segment sizes: `mss` of a tunnel and `clamp_mss` of an interface.

use std::fmt;
use std::ops::RangeInclusive;

use super::error::ConfigError;
use super::item::Item;

/// From the kernel's least MSS (`TCP_MIN_MSS` of `net/tcp.h`) to the largest jumbo frame in use.
const BYTES: RangeInclusive<u32> = 88..=9216;

/// What a tunnel does to the MSS of the TCP SYNs that arrive in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mss {
    /// Nothing.
    Off,
    /// Lowers it to this many bytes, 88 to 9216.
    Bytes(u16),
}

/// What an interface does to the MSS of the SYNs that leave from protected prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClampMss {
    /// Nothing.
    Off,
    /// Lowers it to the interface's MTU less the largest tunnel overhead less the IP and TCP headers.
    Auto,
    /// Lowers it to this many bytes, 88 to 9216.
    Bytes(u16),
}

impl Mss {
    pub(super) fn read(item: &Item<'_>) -> Result<Self, ConfigError> {
        if item.string() == Some("off") {
            return Ok(Self::Off);
        }
        bytes(item).map(Self::Bytes).ok_or_else(|| expected(item, "\"off\""))
    }
}

impl ClampMss {
    pub(super) fn read(item: &Item<'_>) -> Result<Self, ConfigError> {
        match item.string() {
            Some("off") => Ok(Self::Off),
            Some("auto") => Ok(Self::Auto),
            _ => bytes(item)
                .map(Self::Bytes)
                .ok_or_else(|| expected(item, "\"off\", \"auto\"")),
        }
    }
}

fn bytes(item: &Item<'_>) -> Option<u16> {
    item.integer_within(&BYTES).and_then(|bytes| u16::try_from(bytes).ok())
}

fn expected(item: &Item<'_>, words: &str) -> ConfigError {
    item.expected(format!(
        "{words} or a number of bytes from {} to {}",
        BYTES.start(),
        BYTES.end()
    ))
}

impl fmt::Display for Mss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Bytes(bytes) => bytes.fmt(f),
        }
    }
}

impl fmt::Display for ClampMss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Auto => f.write_str("auto"),
            Self::Bytes(bytes) => bytes.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_errors, assert_tunnel_errors, valid_tunnel};
    use super::*;

    #[test]
    fn values() {
        for (text, mss, shown) in [
            ("'off'", Mss::Off, "off"),
            ("88", Mss::Bytes(88), "88"),
            ("9_216", Mss::Bytes(9216), "9216"),
        ] {
            let tunnel = valid_tunnel(&format!("mss = {text}"));
            assert_eq!(tunnel.mss, mss);
            assert_eq!(tunnel.mss.to_string(), shown);
        }
        assert_eq!(ClampMss::Auto.to_string(), "auto");
        assert_eq!(ClampMss::Bytes(1436).to_string(), "1436");
    }

    #[test]
    fn errors() {
        const MSS: &str = "key `mss`: expected \"off\" or a number of bytes from 88 to 9216, found";
        assert_tunnel_errors(&[
            ("mss = 87", &format!("{MSS} 87")),
            ("mss = 9217", &format!("{MSS} 9217")),
            ("mss = 'auto'", &format!("{MSS} 'auto'")),
            ("mss = '1400'", &format!("{MSS} '1400'")),
            (
                "mss = 1400\ninner = ['ethernet', 'mpls']",
                "key `mss`: only TCP in inner IPv4 or IPv6 has an MSS; add \"ipv4\" or \"ipv6\" to `inner`, or set it to \"off\"",
            ),
        ]);
        assert_errors(&[(
            "[[interface]]\nname = 'eth0'\nclamp_mss = true",
            "3: [[interface]] \"eth0\": key `clamp_mss`: expected \"off\", \"auto\" or a number of bytes from 88 to 9216, found true",
        )]);
    }
}
