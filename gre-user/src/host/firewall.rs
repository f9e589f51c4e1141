//! Rules of nftables (iptables-nft's too) that are about incoming GRE, which an XDP program takes before they see it.
//!
//! Found are rules that compare the interface's name or index, or the IP protocol, with one value. Not found are those
//! that compare with sets, and those of the older iptables-legacy.

use std::collections::BTreeSet;
use std::io;

use libc::{NFT_META_IIF, NFT_META_IIFNAME, NFT_META_L4PROTO, NFT_MSG_GETRULE};
use netlink_packet_core::{DecodeError, parse_u32_be};
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::netlink::{Attributes, Message, Netlink, text};

/// Size of `struct nfgenmsg` of `linux/netfilter/nfnetlink.h`.
const NFGENMSG: usize = 4;

// `linux/netfilter/nf_tables.h`, `linux/netfilter.h` and `linux/in.h`.
const NFT_MSG_GETCHAIN: i32 = 4;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_META_KEY: u16 = 2;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFTA_DATA_VALUE: u16 = 1;
const NFT_CMP_EQ: u32 = 0;
const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
/// Local out and post-routing.
const NF_INET_OUT: [u32; 2] = [3, 4];
const IPPROTO_GRE: u8 = 47;
/// Where the IPv4 header has its protocol and the IPv6 header its next header.
const PROTOCOL_OFFSETS: [u32; 2] = [9, 6];

/// A rule about incoming GRE.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rule {
    /// Family and table, as nft(8) writes them: "inet filter".
    pub(super) table: String,
    pub(super) chain: String,
    pub(super) about: About,
}

/// What a rule asks of a packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum About {
    /// That its IP protocol is GRE.
    Gre,
    /// That it came by the interface of this name; after a `*` anything may follow.
    Name(String),
    /// That it came by the interface of this index.
    Index(u32),
}

/// All such rules, of all tables, but for those of chains that only outgoing packets meet.
pub(super) fn rules() -> io::Result<Vec<Rule>> {
    let mut netlink = match Netlink::open(NETLINK_NETFILTER) {
        // A kernel without it has no rules.
        Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => return Ok(Vec::new()),
        netlink => netlink?,
    };
    let mut dump = |command: i32| {
        let kind = (libc::NFNL_SUBSYS_NFTABLES << 8 | command) as u16;
        match netlink.dump(&Message::new(kind, &[0; NFGENMSG], &[])) {
            // What nfnetlink_rcv_msg() says of a subsystem that it does not have.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(Vec::new()),
            answers => answers,
        }
    };
    let (chains, rules) = (dump(NFT_MSG_GETCHAIN)?, dump(NFT_MSG_GETRULE)?);
    decode(&chains, &rules).map_err(io::Error::other)
}

fn decode(chains: &[Message], rules: &[Message]) -> Result<Vec<Rule>, DecodeError> {
    let mut out = BTreeSet::new();
    for chain in chains {
        let (header, attributes) = chain.split::<NFGENMSG>()?;
        let hook = attributes.get(NFTA_CHAIN_HOOK, Attributes::parse)?.unwrap_or_default();
        if hook
            .get(NFTA_HOOK_HOOKNUM, parse_u32_be)?
            .is_some_and(|hook| NF_INET_OUT.contains(&hook))
        {
            let table = attributes.require(NFTA_CHAIN_TABLE, text)?;
            out.insert((table_of(header, &table), attributes.require(NFTA_CHAIN_NAME, text)?));
        }
    }
    let mut found = BTreeSet::new();
    for rule in rules {
        let (header, attributes) = rule.split::<NFGENMSG>()?;
        let table = table_of(header, &attributes.require(NFTA_RULE_TABLE, text)?);
        let chain = attributes.require(NFTA_RULE_CHAIN, text)?;
        if out.contains(&(table.clone(), chain.clone())) {
            continue;
        }
        let expressions = attributes
            .get(NFTA_RULE_EXPRESSIONS, Attributes::parse)?
            .unwrap_or_default();
        for about in comparisons(&expressions)? {
            found.insert(Rule {
                table: table.clone(),
                chain: chain.clone(),
                about,
            });
        }
    }
    Ok(found.into_iter().collect())
}

fn table_of(header: &[u8; NFGENMSG], name: &str) -> String {
    let family = match i32::from(header[0]) {
        libc::NFPROTO_INET => "inet",
        libc::NFPROTO_IPV4 => "ip",
        libc::NFPROTO_ARP => "arp",
        libc::NFPROTO_NETDEV => "netdev",
        libc::NFPROTO_BRIDGE => "bridge",
        libc::NFPROTO_IPV6 => "ip6",
        _ => "other",
    };
    format!("{family} {name}")
}

/// What an expression loads into a register.
#[derive(Clone, Copy)]
enum Loaded {
    Name,
    Index,
    Protocol,
}

/// What a rule asks: a load, with the comparison of what was loaded right after it.
fn comparisons(expressions: &Attributes<'_>) -> Result<Vec<About>, DecodeError> {
    let mut comparisons = Vec::new();
    let mut loaded = None;
    for (_, expression) in expressions.iter() {
        let expression = Attributes::parse(expression)?;
        let name = expression.require(NFTA_EXPR_NAME, text)?;
        let data = expression.get(NFTA_EXPR_DATA, Attributes::parse)?.unwrap_or_default();
        match (name.as_str(), loaded.take()) {
            ("meta", _) => loaded = meta(&data)?,
            ("payload", _) => loaded = payload(&data)?,
            ("cmp", Some(loaded)) => comparisons.extend(comparison(loaded, &data)?),
            _ => {}
        }
    }
    Ok(comparisons)
}

fn meta(data: &Attributes<'_>) -> Result<Option<Loaded>, DecodeError> {
    Ok(match data.get(NFTA_META_KEY, parse_u32_be)?.map(u32::cast_signed) {
        Some(NFT_META_IIFNAME) => Some(Loaded::Name),
        Some(NFT_META_IIF) => Some(Loaded::Index),
        Some(NFT_META_L4PROTO) => Some(Loaded::Protocol),
        _ => None,
    })
}

fn payload(data: &Attributes<'_>) -> Result<Option<Loaded>, DecodeError> {
    let base = data.get(NFTA_PAYLOAD_BASE, parse_u32_be)?;
    let offset = data.get(NFTA_PAYLOAD_OFFSET, parse_u32_be)?;
    let is_protocol =
        base == Some(NFT_PAYLOAD_NETWORK_HEADER) && offset.is_some_and(|at| PROTOCOL_OFFSETS.contains(&at));
    Ok(is_protocol.then_some(Loaded::Protocol))
}

fn comparison(loaded: Loaded, data: &Attributes<'_>) -> Result<Option<About>, DecodeError> {
    if data.get(NFTA_CMP_OP, parse_u32_be)? != Some(NFT_CMP_EQ) {
        return Ok(None);
    }
    let value = data.get(NFTA_CMP_DATA, Attributes::parse)?.unwrap_or_default();
    let value = value.get(NFTA_DATA_VALUE, Ok)?.unwrap_or_default();
    Ok(match loaded {
        Loaded::Protocol => (value == [IPPROTO_GRE]).then_some(About::Gre),
        // The only values in host order.
        Loaded::Index => value.try_into().ok().map(u32::from_ne_bytes).map(About::Index),
        // A name is compared with its terminating zeros, the beginning of one without.
        Loaded::Name => {
            let end = value.iter().position(|&byte| byte == 0);
            let name = String::from_utf8_lossy(&value[..end.unwrap_or(value.len())]).into_owned();
            Some(About::Name(if end.is_some() { name } else { name + "*" }))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::recorded::{NFTABLES, messages};
    use super::*;

    #[test]
    fn finds_the_rules_about_incoming_gre() {
        let rules = decode(&messages(NFTABLES, "chain"), &messages(NFTABLES, "rule")).expect("decodable");
        let inet = |about| Rule {
            table: "inet filter".to_owned(),
            chain: "input".to_owned(),
            about,
        };
        let ip = |about| Rule {
            table: "ip filter".to_owned(),
            chain: "INPUT".to_owned(),
            about,
        };
        let name = |name: &str| About::Name(name.to_owned());
        assert_eq!(
            rules,
            [
                inet(About::Gre),
                inet(name("gre*")),
                inet(name("gre1")),
                inet(About::Index(1)),
                ip(About::Gre),
                ip(name("gre1")),
            ]
        );
    }
}
