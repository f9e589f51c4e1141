//! The queueing discipline `clsact` of an interface (`net/sched/sch_ingress.c`), and BPF programs as filters in it that say
//! themselves what becomes of a packet (`net/sched/cls_bpf.c`).
//!
//! A filter keeps its place by priority, then by handle; the kernel puts another program in its place at once, so that no packet
//! meets none (`cls_bpf_change()`).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{RTM_DELQDISC, RTM_DELTFILTER, RTM_GETQDISC, RTM_GETTFILTER, RTM_NEWQDISC, RTM_NEWTFILTER};
use netlink_packet_core::{DecodeError, DefaultNla, parse_u32};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::netlink::{Attributes, Message, Netlink, nested, text, zero_terminated};

/// The kind of the queueing discipline.
pub const CLSACT: &str = "clsact";
/// The kind of filter that BPF programs are.
const BPF: &str = "bpf";

/// Size of `struct tcmsg` of `linux/rtnetlink.h`.
const TCMSG: usize = 20;
// `TCA_*` of linux/rtnetlink.h.
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_CHAIN: u16 = 11;
// `TCA_BPF_*` of linux/pkt_cls.h.
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;
/// The program's result is what becomes of the packet.
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;

// linux/pkt_sched.h: where clsact stands, which is also where `ingress` does, and its two hooks.
const TC_H_CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
/// Filters of every protocol.
const ETH_P_ALL: u16 = libc::ETH_P_ALL as u16;

/// Where in clsact a filter is: the parent that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    /// On the way in.
    Ingress = 0xffff_fff2,
    /// On the way out.
    Egress = 0xffff_fff3,
}

/// A filter, or the place of some that have a priority in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Filters of lower numbers come first.
    pub priority: u16,
    /// Tells filters of one priority apart; 0 for the place of all of them.
    pub handle: u32,
    /// Of which chain it is; packets begin with chain 0.
    pub chain: u32,
    /// Whether it is a BPF program, or a place of such, for packets of every protocol.
    pub is_bpf: bool,
    /// The name that whoever put it there gave it.
    pub name: Option<String>,
    /// The id of its program.
    pub program_id: Option<u32>,
}

/// The kind of what stands where an interface's clsact belongs: clsact itself, or "ingress", in whose presence there is no room for it.
///
/// # Errors
///
/// If the kernel cannot be asked.
pub fn standing(interface_index: u32) -> io::Result<Option<String>> {
    let request = Message::new(RTM_GETQDISC, &header(interface_index, 0, 0, 0), &[]);
    for answer in Netlink::open(NETLINK_ROUTE)?.dump(&request)? {
        let (header, attributes) = answer.split::<TCMSG>().map_err(io::Error::other)?;
        let [_, _, _, _, i0, i1, i2, i3, _, _, _, _, p0, p1, p2, p3, ..] = *header;
        let [index, parent] = [[i0, i1, i2, i3], [p0, p1, p2, p3]].map(u32::from_ne_bytes);
        if index == interface_index && parent == TC_H_CLSACT {
            return attributes.require(TCA_KIND, text).map(Some).map_err(io::Error::other);
        }
    }
    Ok(None)
}

/// Gives an interface its clsact.
///
/// # Errors
///
/// EEXIST if there is one, or what stands in its place; ENOENT if the kernel has none.
pub fn add(interface_index: u32) -> io::Result<()> {
    let header = header(interface_index, CLSACT_HANDLE, TC_H_CLSACT, 0);
    let kind = DefaultNla::new(TCA_KIND, zero_terminated(CLSACT));
    Netlink::open(NETLINK_ROUTE)?.create(&Message::new(RTM_NEWQDISC, &header, &[kind]))
}

/// Takes an interface's clsact away, with all filters in it.
///
/// # Errors
///
/// ENODEV if the interface has gone, ENOENT or EINVAL if there is none.
pub fn remove(interface_index: u32) -> io::Result<()> {
    let header = header(interface_index, CLSACT_HANDLE, TC_H_CLSACT, 0);
    Netlink::open(NETLINK_ROUTE)?.delete(&Message::new(RTM_DELQDISC, &header, &[]))
}

/// The filters at a hook; none if the interface has gone, or has no clsact.
///
/// # Errors
///
/// If the kernel cannot be asked.
pub fn filters(interface_index: u32, hook: Hook) -> io::Result<Vec<Filter>> {
    let request = Message::new(RTM_GETTFILTER, &header(interface_index, 0, hook as u32, 0), &[]);
    let answers = Netlink::open(NETLINK_ROUTE)?.dump(&request)?;
    let filters: Result<_, _> = answers.iter().map(Filter::decode).collect();
    filters.map_err(io::Error::other)
}

/// Makes a program the filter of a priority and handle, in the place of the one that is there, if there is one.
///
/// # Errors
///
/// EINVAL if the priority is that of filters of another kind, ENOENT if the interface has no clsact or the kernel no such filters,
/// ENODEV if the interface has gone.
pub fn put(
    interface_index: u32,
    hook: Hook,
    (priority, handle): (u16, u32),
    name: &str,
    program: BorrowedFd<'_>,
) -> io::Result<()> {
    let header = header(interface_index, handle, hook as u32, info(priority));
    let word = |kind, value: u32| DefaultNla::new(kind, value.to_ne_bytes().to_vec());
    let options = nested(&[
        word(TCA_BPF_FD, program.as_raw_fd().cast_unsigned()),
        DefaultNla::new(TCA_BPF_NAME, zero_terminated(name)),
        word(TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT),
    ]);
    let attributes = [
        DefaultNla::new(TCA_KIND, zero_terminated(BPF)),
        DefaultNla::new(TCA_OPTIONS, options),
    ];
    Netlink::open(NETLINK_ROUTE)?.set(&Message::new(RTM_NEWTFILTER, &header, &attributes))
}

/// Takes a filter away, and no other.
///
/// # Errors
///
/// ENODEV if the interface has gone, ENOENT or EINVAL if there is no such filter, or no clsact.
pub fn take(interface_index: u32, hook: Hook, (priority, handle): (u16, u32)) -> io::Result<()> {
    let header = header(interface_index, handle, hook as u32, info(priority));
    let kind = DefaultNla::new(TCA_KIND, zero_terminated(BPF));
    Netlink::open(NETLINK_ROUTE)?.delete(&Message::new(RTM_DELTFILTER, &header, &[kind]))
}

/// `struct tcmsg`.
fn header(interface_index: u32, handle: u32, parent: u32, info: u32) -> [u8; TCMSG] {
    let mut header = [0; TCMSG];
    for (at, word) in [interface_index, handle, parent, info].into_iter().enumerate() {
        header[4 * (at + 1)..][..4].copy_from_slice(&word.to_ne_bytes());
    }
    header
}

/// `tcm_info` of a filter for every protocol.
fn info(priority: u16) -> u32 {
    u32::from(priority) << 16 | u32::from(ETH_P_ALL.to_be())
}

impl Filter {
    fn decode(answer: &Message) -> Result<Self, DecodeError> {
        let (header, attributes) = answer.split::<TCMSG>()?;
        let [.., h0, h1, h2, h3, _, _, _, _, i0, i1, i2, i3] = *header;
        let info = u32::from_ne_bytes([i0, i1, i2, i3]);
        let kind = attributes.require(TCA_KIND, text)?;
        let is_bpf = kind == BPF && u16::from_be(info as u16) == ETH_P_ALL;
        // What other kinds mean by the same numbers is something else.
        let options = match attributes.get(TCA_OPTIONS, Attributes::parse)? {
            Some(options) if kind == BPF => options,
            _ => Attributes::default(),
        };
        Ok(Self {
            priority: (info >> 16) as u16,
            handle: u32::from_ne_bytes([h0, h1, h2, h3]),
            chain: attributes.get(TCA_CHAIN, parse_u32)?.unwrap_or(0),
            is_bpf,
            name: options.get(TCA_BPF_NAME, text)?,
            program_id: options.get(TCA_BPF_ID, parse_u32)?,
        })
    }
}

/// The first priority at which there is room for a BPF filter beside these: alone, or before others of its kind (a new one comes first
/// among them).
pub fn free_priority(filters: &[Filter]) -> Option<u16> {
    (1..=u16::MAX).find(|priority| {
        let mut there = filters
            .iter()
            .filter(|filter| filter.chain == 0 && filter.priority == *priority);
        there.all(|filter| filter.is_bpf)
    })
}

/// That filters of others have their say before one of ours would have, if so, and what to do about it.
pub(crate) fn comes_after_others(interface: &str, others: &[Filter]) -> Option<(&'static str, String)> {
    let priority = free_priority(others).filter(|priority| *priority > 1)?;
    Some((
        "other filters come first on its way out, and what they let by without further ado keeps its MSS",
        format!("give them priorities after ours, which is {priority} else (`tc filter show dev {interface} egress`)"),
    ))
}

/// What stands in the place of clsact, and what to do about it.
pub(crate) fn occupied(interface: &str, kind: &str) -> (String, String) {
    (
        format!(
            "has the queueing discipline {kind}, beside which there is no room for clsact, which `clamp_mss` needs where the kernel has no TCX"
        ),
        format!(
            "give it clsact instead, which takes the same filters (`tc qdisc delete dev {interface} {kind}`, `tc qdisc add dev {interface} \
             clsact`), or boot Linux 6.6 or later"
        ),
    )
}

#[cfg(test)]
impl Filter {
    /// The place of filters of a priority.
    pub(crate) fn place(priority: u16, is_bpf: bool) -> Self {
        Self {
            priority,
            handle: 0,
            chain: 0,
            is_bpf,
            name: None,
            program_id: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_comes_first_if_it_can() {
        let place = Filter::place;
        let other_chain = Filter {
            chain: 1,
            ..place(1, false)
        };
        for (others, priority) in [
            (vec![], 1),
            (vec![place(1, true), place(1, true)], 1),
            (vec![place(2, false)], 1),
            (vec![other_chain], 1),
            (vec![place(1, false)], 2),
            (vec![place(1, true), place(1, false), place(2, false)], 3),
        ] {
            assert_eq!(free_priority(&others), Some(priority), "{others:?}");
            assert_eq!(
                comes_after_others("eth0", &others).is_some(),
                priority > 1,
                "{others:?}"
            );
        }
        let all: Vec<_> = (1..=u16::MAX).map(|priority| place(priority, false)).collect();
        assert_eq!(free_priority(&all), None);
    }
}
