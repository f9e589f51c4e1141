//! Generated configurations, written and read back.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::tests::valid;
use super::super::{Checksum, Guard, InnerType, Keepalive, MacAddress, Mode, NextHop, Probes, Sequence, Unknown};
use super::*;
use crate::tables::{Ids, Tables, TunnelView};

#[test]
fn remotes_as_configured() {
    for text in ["203.0.113.10", "203.0.113.0/24", "2001:db8::1", "2001:db8::/32"] {
        let net = text
            .parse()
            .unwrap_or_else(|_| IpNet::from(text.parse::<IpAddr>().unwrap()));
        assert_eq!(remote(&net), text);
    }
    assert_eq!(remote(&"0.0.0.0/0".parse().unwrap()), "any");
    assert_eq!(remote(&"::/0".parse().unwrap()), "any");
}

#[test]
fn what_is_default_is_left_out() {
    assert_eq!(Config::default().to_text(), "");
    let text = "unknown = \"drop\"\n\n[[interface]]\nname = \"eth0\"\n\n[[tunnel]]\nname = \"a\"\n\
                local = \"198.51.100.20\"\nremote = [\"any\"]\nkey = 7\nenabled = false\n";
    assert_eq!(valid(text).to_text(), text);
}

fn word<T: Copy + std::fmt::Debug + strum::VariantArray>() -> impl Strategy<Value = T> {
    proptest::sample::select(T::VARIANTS)
}

/// Names that need quoting, too, and none twice.
fn names(most: usize, length: usize) -> impl Strategy<Value = Vec<String>> {
    let name = format!("[a-z\"'\\\\ü#= ]{{1,{length}}}");
    let name = proptest::string::string_regex(&name).unwrap();
    proptest::collection::btree_set(name, 0..most).prop_map(|names| names.into_iter().collect())
}

fn nets() -> impl Strategy<Value = Vec<IpNet>> {
    let net = prop_oneof![
        (any::<[u8; 3]>(), 8_u8..=32)
            .prop_map(|([a, b, c], bits)| IpNet::new(IpAddr::from([10, a, b, c]), bits).unwrap().trunc()),
        (any::<u128>(), 16_u8..=128).prop_map(|(low, bits)| {
            let address = (0x2001_0db8 << 96) | (low & ((1 << 96) - 1));
            IpNet::new(IpAddr::V6(address.into()), bits).unwrap().trunc()
        }),
    ];
    proptest::collection::btree_set(net, 0..4).prop_map(|nets| nets.into_iter().collect())
}

fn deliver() -> impl Strategy<Value = Deliver> {
    let hop = prop_oneof![
        Just(None),
        Just(Some(NextHop::Address([10, 0, 0, 2].into()))),
        Just(Some(NextHop::Mac(MacAddress::from([2, 0, 0, 0, 0, 1])))),
    ];
    prop_oneof![
        Just(Deliver::Stack),
        Just(Deliver::Route),
        ("[a-z\"'\\\\.]{3,7}", hop).prop_map(|(name, next_hop)| Deliver::Interface { name, next_hop }),
    ]
}

fn interface(name: String) -> impl Strategy<Value = Interface> {
    let clamp = prop_oneof![
        Just(ClampMss::Off),
        Just(ClampMss::Auto),
        (88_u16..=9216).prop_map(ClampMss::Bytes)
    ];
    let mode = proptest::sample::select(&[Mode::Native, Mode::Auto][..]);
    (mode, clamp).prop_map(move |(mode, clamp_mss)| Interface {
        name: name.clone(),
        mode,
        clamp_mss,
    })
}

/// Of the local address that its number gives, so that no two have the same endpoints.
fn tunnel(number: usize, name: String) -> impl Strategy<Value = Tunnel> {
    let local = IpAddr::from([198, 51, 100, number as u8 + 1]);
    let remotes = prop_oneof![
        Just(vec!["0.0.0.0/0".parse().unwrap()]),
        Just(vec![
            "203.0.113.10/32".parse().unwrap(),
            "203.0.113.128/25".parse().unwrap()
        ]),
    ];
    let spread = prop_oneof![
        Just(Spread::Off),
        Just(Spread::All),
        Just(Spread::Cpus(vec![0, 1, 2, 5]))
    ];
    let mss = prop_oneof![Just(Mss::Off), (88_u16..=9216).prop_map(Mss::Bytes)];
    let checks = (
        any::<Option<u32>>(),
        word::<Checksum>(),
        word::<Sequence>(),
        deliver(),
        spread,
        mss,
    );
    let rest = (
        nets(),
        word::<Keepalive>(),
        1_u32..=10_000,
        word::<Probes>(),
        any::<bool>(),
    );
    let inner = proptest::collection::btree_set(0_usize..4, 1..4);
    (remotes, checks, rest, inner).prop_map(move |(remotes, checks, rest, inner)| {
        let (key, checksum, sequence, deliver, spread, mss) = checks;
        let (bypass, keepalive, keepalive_rate, probes, enabled) = rest;
        let kinds: &[InnerType] = strum::VariantArray::VARIANTS;
        // With IP inside and none of the others, every key goes with every other.
        let inner = match deliver {
            Deliver::Route => [InnerType::Ipv4].into_iter().collect(),
            // MPLS has no destination that `inner_destinations` could judge.
            _ => inner
                .iter()
                .map(|&kind| kinds[kind])
                .filter(|kind| *kind != InnerType::Mpls)
                .chain([InnerType::Ipv4])
                .collect(),
        };
        Tunnel {
            name: name.clone(),
            local,
            remotes,
            key,
            checksum,
            sequence,
            inner,
            deliver,
            spread,
            mss,
            bypass,
            keepalive,
            keepalive_rate,
            probes,
            enabled,
        }
    })
}

fn protect() -> impl Strategy<Value = Protect> {
    (nets(), word::<Guard>(), word::<Guard>(), nets()).prop_map(
        |(mut prefixes, inner_destinations, lockdown, allow)| {
            // What needs protected prefixes has one.
            prefixes.push("192.0.2.0/24".parse().unwrap());
            Protect {
                prefixes,
                inner_destinations,
                lockdown,
                allow,
            }
        },
    )
}

fn config() -> impl Strategy<Value = Config> {
    let interfaces = names(3, 7).prop_flat_map(|names| {
        let names = names.into_iter().map(|name| interface(name.replace(' ', "_")));
        names.collect::<Vec<_>>()
    });
    let tunnels = names(4, 20).prop_flat_map(|names| {
        let tunnels = names.into_iter().enumerate();
        tunnels.map(|(number, name)| tunnel(number, name)).collect::<Vec<_>>()
    });
    let top = (word::<Unknown>(), 16_u32..=1_048_576, 1_u32..=16_384);
    (top, interfaces, tunnels, protect()).prop_map(|(top, interfaces, tunnels, protect)| {
        let (unknown, max_tunnels, spread_queue) = top;
        Config {
            unknown,
            max_tunnels,
            spread_queue,
            interfaces,
            tunnels,
            protect,
        }
    })
}

proptest! {
    #[test]
    fn the_text_reads_back_as_the_same(config in config()) {
        prop_assert_eq!(valid(&config.to_text()), config);
    }
}

/// What maps hold of it comes back as the text of a file, whose maps are the same.
fn comes_back(config: &Config) {
    let names = |config: &Config| {
        config
            .tunnels
            .iter()
            .map(|tunnel| tunnel.name.clone())
            .collect::<Vec<_>>()
    };
    let tables = |config: &Config, running: &BTreeMap<u32, String>| {
        let names = names(config);
        let ids = Ids::assign(names.iter().map(String::as_str), running, config.max_tunnels).unwrap();
        Tables::of(config, &ids, &[0, 1, 2, 5]).unwrap()
    };
    let running = tables(config, &BTreeMap::new());
    // In the order of their names, so that lists of cores come in another one.
    let tunnels = running.tunnels().unwrap();
    let exported = Config {
        tunnels: tunnels.iter().map(TunnelView::to_config).collect(),
        ..config.clone()
    };
    let exported = valid(&exported.to_text());
    let loaded = tables(&exported, &running.names).with_cores_of(&running);
    assert_eq!(loaded, Some(running));
}

proptest! {
    #[test]
    fn what_runs_comes_back_as_the_same(config in config()) {
        comes_back(&config);
    }
}

#[test]
fn every_mode_is_written() {
    for mode in [Mode::Native, Mode::Generic, Mode::Auto] {
        let config = valid(&format!("[[interface]]\nname = 'eth0'\nmode = '{mode}'"));
        assert_eq!(valid(&config.to_text()), config);
    }
}
