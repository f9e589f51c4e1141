//! What is measured: kinds of packets, each with the configuration that it meets.

mod protected;
mod refused;
mod stripped;
mod tunnels;

use anyhow::{Result, ensure};
use gre_common::keepalive::Quota;
use gre_common::{Action, Reason};
use gre_tests::figures::costs::{self, Group};
use gre_tests::frame::Packet;

pub(crate) use self::stripped::{LOCAL, REMOTE, plain};
use crate::harness::Kind;

/// `enum xdp_action` of linux/bpf.h.
pub(crate) const XDP_DROP: u32 = 1;
pub(crate) const XDP_PASS: u32 = 2;
pub(crate) const XDP_TX: u32 = 3;
pub(crate) const XDP_REDIRECT: u32 = 4;

/// Reasons to drop of which a test run knows nothing: the kernel puts a packet into another core's queue, or sends it on, only after
/// the program, and what cannot fail does not.
const UNMEASURABLE: [Reason; 3] = [Reason::SpreadFull, Reason::RedirectFailed, Reason::Internal];

/// Which build of the program a packet meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Build {
    /// As the loader has it inside.
    Shipped,
    /// The one without what a configuration can switch on: see `switch.rs` of `gre-ebpf`.
    Bare,
}

/// A packet, and what it meets.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) group: Group,
    pub(crate) name: String,
    /// The configuration file's text.
    pub(crate) config: String,
    pub(crate) build: Build,
    /// Of answered keepalives, instead of the configuration's.
    pub(crate) quota: Option<Quota>,
    pub(crate) frame: Vec<u8>,
    /// What the program is to say.
    pub(crate) action: u32,
    /// Whether the program makes the frame shorter.
    pub(crate) is_stripped: bool,
    /// How many bytes the harness restores.
    pub(crate) restored: usize,
    /// Bytes after the outer packet.
    pub(crate) padding: usize,
    /// Where the outer IP header begins.
    pub(crate) ip_at: usize,
    /// Where the sequence number stands; 0 if it stays as it is.
    pub(crate) number_at: usize,
    pub(crate) first_number: u32,
    /// Packets come from so many addresses, from the frame's on; 0: from that alone.
    pub(crate) sources: u32,
    /// Where the bytes under the checksum begin, and how many they are.
    pub(crate) summed: (usize, usize),
    /// What is measured beside the harness.
    pub(crate) kinds: Vec<Kind>,
    /// Whether the programs of its configuration are judged.
    pub(crate) judges_programs: bool,
    /// Left out of a quick run.
    pub(crate) takes_long: bool,
}

/// All shapes, those next to each other that are compared.
pub(crate) fn all() -> Result<Vec<Shape>> {
    let mut shapes = stripped::shapes();
    shapes.extend(tunnels::shapes());
    shapes.extend(protected::shapes());
    shapes.extend(refused::shapes()?);
    ensure_drops_are_measured(&shapes)?;
    Ok(shapes)
}

/// Each reason to drop has a shape, whose name begins with it, or it is among those that cannot have one.
fn ensure_drops_are_measured(shapes: &[Shape]) -> Result<()> {
    for reason in Reason::ALL.iter().filter(|reason| reason.action() == Action::Drop) {
        let is_of_it = |shape: &Shape| {
            let rest = shape.name.strip_prefix(reason.name());
            rest.is_some_and(|rest| rest.starts_with(", ") && rest.ends_with(", dropped"))
        };
        ensure!(
            shapes.iter().any(is_of_it) || UNMEASURABLE.contains(reason),
            "no shape is called `{}, dropped`: add a fixture or a shape for the reason",
            reason.name()
        );
    }
    Ok(())
}

impl Shape {
    /// A frame that stays as it is.
    fn intact(group: Group, name: impl Into<String>, config: impl Into<String>, frame: Vec<u8>, action: u32) -> Self {
        Self {
            group,
            name: name.into(),
            config: config.into(),
            build: Build::Shipped,
            quota: None,
            frame,
            action,
            is_stripped: false,
            restored: 0,
            padding: 0,
            ip_at: 0,
            number_at: 0,
            first_number: 0,
            sources: 0,
            summed: (0, 0),
            kinds: vec![Kind::Program],
            judges_programs: false,
            takes_long: false,
        }
    }

    /// A packet that is decapsulated and given to the stack.
    fn stripped(group: Group, name: impl Into<String>, config: impl Into<String>, packet: &Packet) -> Self {
        let shape = Self::intact(group, name, config, packet.frame(), XDP_PASS);
        Self {
            is_stripped: true,
            restored: packet.payload_offset(),
            padding: packet.padding.len(),
            ip_at: packet.ip_offset(),
            ..shape
        }
    }

    /// The inner packet's header changes too, up to its IPv4 checksum.
    fn changing_inner(self) -> Self {
        Self {
            restored: self.restored + 12,
            ..self
        }
    }

    fn with_action(self, action: u32) -> Self {
        Self { action, ..self }
    }

    fn with_kinds(mut self, kinds: &[Kind]) -> Self {
        self.kinds.extend_from_slice(kinds);
        self
    }

    fn judging_programs(self) -> Self {
        self.judging_programs_if(true)
    }

    fn judging_programs_if(self, judges_programs: bool) -> Self {
        Self {
            judges_programs,
            ..self
        }
    }

    /// The same packet, met by a program without what is off.
    fn built_without_what_is_off(&self) -> Self {
        Self {
            name: costs::bare(&self.name),
            build: Build::Bare,
            kinds: vec![Kind::Program],
            ..self.clone()
        }
    }

    fn taking_long(self) -> Self {
        Self {
            takes_long: true,
            ..self
        }
    }

    /// The outer IPv4 header's source and destination, where there is such a header.
    pub(crate) fn outer_v4(&self) -> Option<[[u8; 4]; 2]> {
        let header = self.frame.get(self.ip_at..)?;
        (self.ip_at != 0 && header.first()? >> 4 == 4).then_some(())?;
        Some([*header.get(12..)?.first_chunk()?, *header.get(16..)?.first_chunk()?])
    }
}
