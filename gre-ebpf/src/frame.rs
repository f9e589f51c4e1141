//! The bytes of the packet at hand.

use aya_ebpf::{EbpfContext, helpers::generated::bpf_xdp_get_buff_len, programs::XdpContext};
use gre_common::{Packet, plain::Plain};

use crate::checksum;

/// A packet as XDP shows it: its first buffer directly, the rest through helpers.
pub(crate) struct Frame<'a> {
    ctx: &'a XdpContext,
    data: usize,
    data_end: usize,
}

impl<'a> Frame<'a> {
    #[inline(always)]
    pub(crate) fn new(ctx: &'a XdpContext) -> Self {
        Self {
            ctx,
            data: ctx.data(),
            data_end: ctx.data_end(),
        }
    }

    /// Where `len` bytes at `offset` lie, if the first buffer holds them all.
    #[inline(always)]
    pub(crate) fn bytes(&self, offset: usize, len: usize) -> Option<*mut u8> {
        let start = self.data + offset;
        (start + len <= self.data_end).then_some(start as *mut u8)
    }
}

impl Packet for Frame<'_> {
    #[inline(always)]
    fn load<T: Plain>(&self, offset: usize) -> Option<T> {
        let start = self.bytes(offset, size_of::<T>())?;
        // SAFETY: `bytes` has checked the bounds, any bytes are a valid `T`, and the read may be unaligned.
        Some(unsafe { start.cast::<T>().read_unaligned() })
    }

    #[inline(always)]
    fn len(&self) -> usize {
        // SAFETY: the context is the one the kernel gave this program.
        unsafe { bpf_xdp_get_buff_len(self.ctx.as_ptr().cast()) as usize }
    }

    #[inline(always)]
    fn sum(&self, offset: usize, len: usize) -> Option<u16> {
        checksum::sum(self.ctx, self, offset, len)
    }
}
