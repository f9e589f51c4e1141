//! The inner protocols that a tunnel may carry.

use std::fmt;

use strum::{Display, IntoStaticStr, VariantArray};

use super::error::ConfigError;
use super::item::Item;

/// A kind of inner packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum InnerType {
    /// IPv4: GRE protocol type 0x0800.
    Ipv4,
    /// IPv6: GRE protocol type 0x86DD (RFC 7676).
    Ipv6,
    /// An Ethernet frame: GRE protocol type 0x6558, transparent Ethernet bridging.
    Ethernet,
    /// MPLS: GRE protocol types 0x8847 and 0x8848 (RFC 4023).
    Mpls,
}

/// A set of inner protocols. The order in the file does not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InnerTypes {
    bits: u8,
}

impl InnerTypes {
    /// Whether this kind of packet is in the set.
    pub fn contains(self, kind: InnerType) -> bool {
        self.bits & bit(kind) != 0
    }

    /// The kinds in the set, in the order of [`InnerType`].
    pub fn iter(self) -> impl Iterator<Item = InnerType> {
        InnerType::VARIANTS
            .iter()
            .copied()
            .filter(move |&kind| self.contains(kind))
    }

    /// Whether inner IP packets may arrive.
    pub(super) fn has_ip(self) -> bool {
        self.contains(InnerType::Ipv4) || self.contains(InnerType::Ipv6)
    }

    pub(super) fn read(item: &Item<'_>) -> Result<Self, ConfigError> {
        let list = "a list of \"ipv4\", \"ipv6\", \"ethernet\" and \"mpls\", at least one of them";
        let elements = item.elements().filter(|elements| elements.len() > 0);
        let mut types = Self::default();
        for element in elements.ok_or_else(|| item.expected(list))? {
            let kind = element.choice()?;
            if types.contains(kind) {
                return Err(element.error(format!("\"{kind}\" is listed twice; remove one")));
            }
            types.bits |= bit(kind);
        }
        Ok(types)
    }
}

fn bit(kind: InnerType) -> u8 {
    1 << kind as u8
}

impl FromIterator<InnerType> for InnerTypes {
    fn from_iter<I: IntoIterator<Item = InnerType>>(kinds: I) -> Self {
        Self {
            bits: kinds.into_iter().fold(0, |bits, kind| bits | bit(kind)),
        }
    }
}

/// The list as the file has it: `["ipv4", "ipv6"]`.
impl fmt::Display for InnerTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(<&str>::from)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_tunnel_errors, valid_tunnel};
    use super::*;

    #[test]
    fn values() {
        use InnerType::{Ethernet, Ipv4, Ipv6, Mpls};
        let types = |list: &str| valid_tunnel(&format!("inner = {list}")).inner;
        assert_eq!(types("['ipv4', 'ipv6']"), types("['ipv6', 'ipv4']"));
        assert_eq!(types("['mpls', 'ethernet']"), [Ethernet, Mpls].into_iter().collect());
        assert_eq!(types("['mpls', 'ipv4']").to_string(), "[\"ipv4\", \"mpls\"]");
        for kind in [Ipv4, Ipv6, Ethernet, Mpls] {
            let only = types(&format!("['{kind}']"));
            assert_eq!(only.iter().collect::<Vec<_>>(), [kind]);
            assert_eq!(only.has_ip(), kind == Ipv4 || kind == Ipv6);
        }
    }

    #[test]
    fn errors() {
        const LIST: &str = "key `inner`: expected a list of \"ipv4\", \"ipv6\", \"ethernet\" and \"mpls\", at least one of them, found";
        const WORD: &str = "key `inner`: expected \"ipv4\", \"ipv6\", \"ethernet\" or \"mpls\", found";
        assert_tunnel_errors(&[
            ("inner = []", &format!("{LIST} []")),
            ("inner = 'ipv4'", &format!("{LIST} 'ipv4'")),
            ("inner = ['ip']", &format!("{WORD} 'ip'")),
            ("inner = [4]", &format!("{WORD} 4")),
            (
                "inner = ['ipv4', 'ipv6', 'ipv4']",
                "key `inner`: \"ipv4\" is listed twice; remove one",
            ),
        ]);
    }
}
