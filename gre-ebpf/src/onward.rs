//! Where a decapsulated packet goes, and what is counted about that: one word, which fits into a register.

use core::hint::black_box;

use aya_ebpf::bindings::xdp_action;
use gre_common::{Action, Reason};

/// The index of a reason in bits 0–7, or [`NONE`], and an XDP action in bits 8–15. In this order the compiler checks an index as
/// the verifier must see it: not before a shift.
#[derive(Clone, Copy)]
pub(crate) struct Onward(u32);

const NONE: u32 = 0xff;

impl Onward {
    /// To the network stack.
    pub(crate) const STACK: Self = Self::by(xdp_action::XDP_PASS);

    /// As this action says; nothing to note.
    #[inline(always)]
    pub(crate) const fn by(action: u32) -> Self {
        Self(action << 8 | NONE)
    }

    /// To the network stack, or nowhere, as the reason says.
    #[inline(always)]
    pub(crate) const fn because(reason: Reason) -> Self {
        let action = match reason.action() {
            Action::Pass => xdp_action::XDP_PASS,
            Action::Drop => xdp_action::XDP_DROP,
        };
        Self(action << 8 | reason as u32)
    }

    /// Back by the interface that it came in on, as the answer to a keepalive.
    #[inline(always)]
    pub(crate) const fn answered() -> Self {
        Self(xdp_action::XDP_TX << 8 | Reason::Keepalive as u32)
    }

    /// What a kernel function returns.
    #[inline(always)]
    pub(crate) const fn pack(self) -> u32 {
        self.0
    }

    /// The reverse of [`Self::pack`].
    #[inline(always)]
    pub(crate) fn unpack(word: u32) -> Self {
        // The compiler knows what such a function can return, and would leave out the checks that tell the verifier.
        Self(black_box(word) & 0xffff)
    }

    /// The XDP action.
    #[inline(always)]
    pub(crate) const fn action(self) -> u32 {
        self.0 >> 8
    }

    /// Whether the packet goes nowhere.
    #[inline(always)]
    pub(crate) const fn is_dropped(self) -> bool {
        self.action() == xdp_action::XDP_DROP
    }

    /// The index of the reason to count, if there is one.
    #[inline(always)]
    pub(crate) const fn noted(self) -> Option<u32> {
        match self.0 & 0xff {
            NONE => None,
            reason => Some(reason),
        }
    }

    /// The index of the reason to count; past all reasons if there is none.
    #[inline(always)]
    pub(crate) const fn reason(self) -> usize {
        (self.0 & 0xff) as usize
    }
}
