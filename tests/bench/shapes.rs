//! What is measured: kinds of packets, each with the configuration that it meets.

mod protected;
mod refused;
mod stripped;
mod tunnels;

use anyhow::Result;
use gre_tests::figures::costs::Group;
use gre_tests::frame::Packet;

pub(crate) use self::stripped::{LOCAL, REMOTE, plain};
use crate::harness::Kind;

/// `enum xdp_action` of linux/bpf.h.
pub(crate) const XDP_DROP: u32 = 1;
pub(crate) const XDP_PASS: u32 = 2;
pub(crate) const XDP_REDIRECT: u32 = 4;

/// A packet, and what it meets.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) group: Group,
    pub(crate) name: String,
    /// The configuration file's text.
    pub(crate) config: String,
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
    Ok(shapes)
}

impl Shape {
    /// A frame that stays as it is.
    fn intact(group: Group, name: impl Into<String>, config: impl Into<String>, frame: Vec<u8>, action: u32) -> Self {
        Self {
            group,
            name: name.into(),
            config: config.into(),
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
        Self {
            judges_programs: true,
            ..self
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
