//! Lowering the MSS, held against packets that were built with the lower one: every checksum computed anew.

use std::net::{Ipv4Addr, Ipv6Addr};

use gre_common::endian::Be16;
use gre_common::mss;
use gre_tests::frame::{Addresses, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ipv4, Ipv6, PROTOCOL_TCP, Tcp};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::properties::config;
use crate::support::bytes::Bytes;

/// Most bytes of options in a header.
const ROOM: usize = 40;

/// A TCP option.
#[derive(Clone, Debug)]
enum Opt {
    NoOperation,
    Mss(u16),
    /// Of another kind, with so many bytes of data.
    Other(u8, Vec<u8>),
}

impl Opt {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::NoOperation => vec![1],
            Self::Mss(mss) => Tcp::mss(*mss).to_vec(),
            Self::Other(kind, data) => [&[*kind, data.len() as u8 + 2], data.as_slice()].concat(),
        }
    }
}

fn option() -> impl Strategy<Value = Opt> {
    prop_oneof![
        2 => Just(Opt::NoOperation),
        2 => any::<u16>().prop_map(Opt::Mss),
        3 => (3..=255_u8, vec(any::<u8>(), 0..12)).prop_map(|(kind, data)| Opt::Other(kind, data)),
    ]
}

/// As many options as there is room for.
fn options() -> impl Strategy<Value = Vec<Opt>> {
    vec(option(), 0..16).prop_map(|options| {
        let mut left = ROOM;
        let fits = |option: &Opt| {
            let length = option.bytes().len();
            let fits = length <= left;
            left = left.saturating_sub(length);
            fits
        };
        options.into_iter().take_while(fits).collect()
    })
}

fn packet(is_v4: bool, tcp: &Tcp, options: &[Opt], payload: &[u8]) -> Vec<u8> {
    let tcp = Tcp {
        options: options.iter().flat_map(Opt::bytes).collect(),
        ..tcp.clone()
    };
    if is_v4 {
        let (source, destination) = (Ipv4Addr::new(198, 18, 5, 7), Ipv4Addr::new(192, 0, 2, 80));
        let header = Ipv4 {
            source,
            destination,
            protocol: PROTOCOL_TCP,
            ..Ipv4::default()
        };
        header.packet(&tcp.segment(Addresses::V4(source, destination), payload))
    } else {
        let header = Ipv6 {
            next_header: PROTOCOL_TCP,
            ..Ipv6::default()
        };
        let (source, destination): (Ipv6Addr, Ipv6Addr) = (header.source, header.destination);
        header.packet(&tcp.segment(Addresses::V6(source, destination), payload))
    }
}

proptest! {
    #![proptest_config(config())]

    /// The first MSS alone changes, if it is larger than the limit, and what comes out is what a sender with that MSS sends.
    #[test]
    fn a_lowered_packet_is_the_one_that_was_built_so(
        is_v4: bool, options in options(), flags: u8, window: u16, limit in 88..=9216_u16, before in 0..40_usize,
        payload in vec(any::<u8>(), 0..9),
    ) {
        let tcp = Tcp { flags, window, ..Tcp::syn(&[]) };
        let mut lowered = options.clone();
        let first = lowered.iter_mut().find(|option| matches!(option, Opt::Mss(_)));
        if let Some(Opt::Mss(mss)) = first && flags & Tcp::SYN != 0 {
            *mss = limit.min(*mss);
        }
        let link = vec![0xee; before];
        let mut frame = [&link[..], &packet(is_v4, &tcp, &options, &payload)].concat();
        let wanted = [link, packet(is_v4, &tcp, &lowered, &payload)].concat();

        let protocol = Be16::new(if is_v4 { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 });
        let change = mss::lower(&Bytes::whole(&frame), protocol, before, limit);
        prop_assert_eq!(change.is_some(), frame != wanted);
        if let Some(change) = change {
            frame[change.value_at..][..2].copy_from_slice(&change.value);
            frame[change.check_at..][..2].copy_from_slice(&change.new_check());
        }
        prop_assert_eq!(frame, wanted);
    }

    /// Whatever the bytes are, nothing but an MSS that is too large is ever changed, and never beyond the packet.
    #[test]
    fn of_any_bytes_only_a_value_is_lowered(
        is_v4: bool, header in vec(any::<u8>(), 0..60), limit in 88..=9216_u16, cut in 0..140_usize,
    ) {
        let tcp = Tcp::syn(&[]);
        let mut frame = packet(is_v4, &tcp, &[], &[0; 40]);
        let ip = if is_v4 { 20 } else { 40 };
        for (to, byte) in frame[ip + 12..].iter_mut().zip(&header) {
            *to = *byte;
        }
        frame.truncate(cut.max(1));
        let protocol = Be16::new(if is_v4 { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 });
        if let Some(change) = mss::lower(&Bytes::whole(&frame), protocol, 0, limit) {
            let option = &frame[change.value_at - 2..change.value_at + 2];
            prop_assert_eq!(&option[..2], [2, 4]);
            prop_assert!(u16::from_be_bytes([option[2], option[3]]) > limit);
            prop_assert_eq!(change.check_at, ip + 16);
            prop_assert!(change.value_at >= ip + 20 + 2);
        }
    }
}
