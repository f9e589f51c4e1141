//! `[[interface]]`: where the program is attached, and how.

use strum::{Display, IntoStaticStr, VariantArray};

use super::error::ConfigError;
use super::item::Item;
use super::mss::ClampMss;
use super::section::Section;

/// Keys of `[[interface]]`.
pub(super) const KEYS: &[&str] = &["name", "mode", "clamp_mss"];

/// IFNAMSIZ of `linux/if.h`, less the terminating zero.
const MAX_NAME: usize = 15;

/// An interface to attach to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name, as the kernel takes it: 1 to 15 bytes. It need not exist on this host.
    pub name: String,
    /// How the program is attached.
    pub mode: Mode,
    /// The MSS of what leaves from protected prefixes.
    pub clamp_mss: ClampMss,
}

/// How the XDP program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum Mode {
    /// In the driver; an error where the driver has no XDP.
    Native,
    /// After the kernel has built an skb: works on every driver and is slow.
    Generic,
    /// Native where the driver has XDP, else generic.
    Auto,
}

impl Interface {
    /// An interface of which the file says no more than this.
    pub fn plain(name: String) -> Self {
        Self {
            name,
            mode: Mode::Native,
            clamp_mss: ClampMss::Off,
        }
    }
}

pub(super) fn read(section: &Section<'_>) -> Result<Interface, ConfigError> {
    let default = Interface::plain(name(&section.require("name", "\"eth0\"")?)?);
    Ok(Interface {
        mode: section.optional("mode", default.mode, Item::choice)?,
        clamp_mss: section.optional("clamp_mss", default.clamp_mss, ClampMss::read)?,
        name: default.name,
    })
}

/// An interface's name by the rules of the kernel's `dev_valid_name()`.
pub(super) fn name(item: &Item<'_>) -> Result<String, ConfigError> {
    let forbidden = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    let valid =
        |name: &&str| (1..=MAX_NAME).contains(&name.len()) && !matches!(*name, "." | "..") && !name.contains(forbidden);
    item.string().filter(valid).map(str::to_owned).ok_or_else(|| {
        item.expected("an interface name: 1 to 15 bytes without '/', ':' or white space, not \".\" or \"..\"")
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_errors, valid};
    use super::*;

    #[test]
    fn defaults() {
        let config = valid("[[interface]]\nname = 'eth0'");
        let eth0 = Interface {
            name: "eth0".to_owned(),
            mode: Mode::Native,
            clamp_mss: ClampMss::Off,
        };
        assert_eq!(config.interfaces, [eth0]);
    }

    #[test]
    fn names_as_the_kernel_takes_them() {
        for name in ["e", "fifteen-bytes-1", "eth0.100", "wan@dc", "überlang0"] {
            assert_eq!(
                valid(&format!("[[interface]]\nname = '{name}'")).interfaces[0].name,
                name
            );
        }
    }

    #[test]
    fn errors() {
        const NAME: &str =
            "expected an interface name: 1 to 15 bytes without '/', ':' or white space, not \".\" or \"..\", found";
        assert_errors(&[
            (
                "[[interface]]",
                "1: [[interface]] number 1: key `name` is missing; write for example name = \"eth0\"",
            ),
            (
                "[[interface]]\nname = ''",
                &format!("2: [[interface]] \"\": key `name`: {NAME} ''"),
            ),
            (
                "[[interface]]\nname = 7",
                &format!("2: [[interface]] number 1: key `name`: {NAME} 7"),
            ),
            (
                "[[interface]]\nname = '..'",
                &format!("2: [[interface]] \"..\": key `name`: {NAME} '..'"),
            ),
            (
                "[[interface]]\nname = 'a/b'",
                &format!("2: [[interface]] \"a/b\": key `name`: {NAME} 'a/b'"),
            ),
            (
                "[[interface]]\nname = 'eth0:1'",
                &format!("2: [[interface]] \"eth0:1\": key `name`: {NAME} 'eth0:1'"),
            ),
            (
                "[[interface]]\nname = 'a b'",
                &format!("2: [[interface]] \"a b\": key `name`: {NAME} 'a b'"),
            ),
            (
                "[[interface]]\nname = \"a\\u0000\"",
                &format!("2: [[interface]] \"a\\u{{0}}\": key `name`: {NAME} \"a\\u0000\""),
            ),
            (
                "[[interface]]\nname = 'sixteen-bytes-01'",
                &format!("2: [[interface]] \"sixteen-bytes-01\": key `name`: {NAME} 'sixteen-bytes-01'"),
            ),
            (
                "[[interface]]\nname = 'eth0'\nmode = 'offload'",
                "3: [[interface]] \"eth0\": key `mode`: expected \"native\", \"generic\" or \"auto\", found 'offload'",
            ),
            (
                "[[interface]]\nname = 'eth0'\nmod = 'auto'",
                "3: [[interface]] \"eth0\": unknown key `mod`; did you mean `mode`? allowed: name, mode, clamp_mss",
            ),
            (
                "[interface]\nname = 'eth0'",
                "1: key `interface`: expected [[interface]], once for each, found [interface]",
            ),
            (
                "interface = ['eth0']",
                "1: key `interface`: expected [[interface]], once for each, found 'eth0'",
            ),
        ]);
    }
}
