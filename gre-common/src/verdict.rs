//! What a decision comes to, and who carries it out.

use crate::{
    Packet, Reason, Tables,
    endian::Be16,
    inner::Remark,
    keepalive::Returning,
    link::Link,
    protect::Passage,
    tunnel::{Cores, Deliver},
    usual::{Form, Usual},
};

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Pass it and count nothing: not GRE, or GRE for somebody else (row 1).
    NotOurs,
    /// Do what [`Reason::action`] says, and count it.
    Refuse {
        /// The tunnel it belongs to, 0 if none.
        tunnel: u32,
        /// Why.
        reason: Reason,
    },
    /// Decapsulate and deliver it (row 18).
    Deliver(Delivery),
    /// Decapsulate a keepalive and send it back where it came from, with the MAC addresses exchanged and its VLAN tags: it
    /// leaves by the interface that it came in on. Counted as [`Reason::Keepalive`], and not as bytes: its `outer_bytes` is 0.
    Reply(Delivery),
}

/// How to decapsulate a packet. Offsets are in the frame as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The tunnel it belongs to.
    pub tunnel: u32,
    /// The link header it came with.
    pub link: Link,
    /// EtherType that the kept link header gets; `None`: the payload is an Ethernet frame, the link header goes away too.
    pub ether_type: Option<Be16>,
    /// Where the payload begins.
    pub inner: usize,
    /// Where it ends, which is where the outer IP packet ends.
    pub end: usize,
    /// Bytes after that, padding to be cut off.
    pub padding: usize,
    /// What changes in the inner IP header.
    pub remark: Remark,
    /// Bytes of the outer IP packet.
    pub outer_bytes: u32,
    /// Whether its sequence number told of a restarted sender.
    pub restart: bool,
    /// Not 0 if the inner packet is a fragment. No `bool`, which would make the verifier walk all that follows twice.
    pub fragment: u16,
    /// What the rules of protection note of it.
    pub passage: Passage,
    /// Where the payload goes; see [`Self::way`].
    pub deliver: Deliver,
    /// The cores that the tunnel's flows are spread over.
    pub cores: Cores,
    /// The most that a TCP SYN may announce as its [MSS](crate::mss), in bytes; 0: anything.
    pub mss: u16,
}

impl Delivery {
    /// How far the frame's start moves.
    #[inline(always)]
    pub const fn stripped(&self) -> usize {
        match self.ether_type {
            Some(_) => self.inner - self.link.len(),
            None => self.inner,
        }
    }

    /// Where it goes: a health probe's reply has a way of its own.
    #[inline(always)]
    pub const fn way(&self) -> Deliver {
        if self.passage.is_probe() {
            Deliver::Route
        } else {
            self.deliver
        }
    }

    /// Bytes of the payload.
    #[inline(always)]
    pub const fn inner_bytes(&self) -> usize {
        self.end - self.inner
    }
}

/// What follows a decision. The kernel program acts in these calls; [`decide`](crate::decide()) only notes the verdict.
///
/// Calls and not a returned [`Verdict`], because what an enum's variant leaves unset would end in registers that the kernel's
/// verifier finds unset.
pub trait Carrier: Sized {
    /// What carrying a verdict out gives.
    type Done;
    /// See [`Verdict::NotOurs`].
    fn not_ours(self) -> Self::Done;
    /// See [`Verdict::Refuse`].
    fn refuse(self, tunnel: u32, reason: Reason) -> Self::Done;
    /// See [`Verdict::Deliver`].
    fn deliver(self, delivery: Delivery) -> Self::Done;
    /// See [`Verdict::Deliver`], of [a usual form](crate::usual).
    fn deliver_usual<F: Form>(self, usual: Usual<'_, F>) -> Self::Done;
    /// A packet that would leave for where it came from: carries out what [`Returning::judge`] says, which is
    /// [`Verdict::Reply`] or [`Verdict::Refuse`].
    fn returning<P: Packet, T: Tables>(self, packet: &P, tables: &T, returning: Returning) -> Self::Done;
}
