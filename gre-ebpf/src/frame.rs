//! The bytes of the packet at hand.

use core::hint::{assert_unchecked, black_box};

use aya_ebpf::{EbpfContext, bindings::xdp_md, helpers::generated::bpf_xdp_get_buff_len, programs::XdpContext};
use gre_common::{
    Packet,
    outer::{self, Chain},
    plain::Plain,
};

use crate::checksum;

/// A packet as XDP shows it: its first buffer directly, the rest through helpers.
pub(crate) struct Frame<'a> {
    pub(crate) ctx: &'a XdpContext,
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

    /// The same by pointers of its own. The verifier knows nothing of them, however much of the frame was looked at before, and so walks
    /// through what follows once; and what was kept for that look need not be kept for this one.
    #[inline(always)]
    pub(crate) fn afresh(ctx: &'a XdpContext) -> Self {
        // SAFETY: the context is the one the kernel gave this program.
        let (data, data_end) = unsafe {
            (
                (&raw const (*ctx.ctx).data).read_volatile(),
                (&raw const (*ctx.ctx).data_end).read_volatile(),
            )
        };
        Self {
            ctx,
            data: data as usize,
            data_end: data_end as usize,
        }
    }

    /// Whether the first buffer holds `len` bytes at `offset`. Unlike [`Self::bytes`], this is for lengths that only the
    /// packet knows.
    #[inline(always)]
    pub(crate) fn holds(&self, offset: usize, len: usize) -> bool {
        offset + len <= self.data_end - self.data
    }

    /// Where `len` bytes at `offset` lie, if the first buffer holds them all.
    #[inline(always)]
    pub(crate) fn bytes(&self, offset: usize, len: usize) -> Option<*mut u8> {
        let start = self.data + offset;
        (start + len <= self.data_end).then_some(start as *mut u8)
    }

    /// The same at an offset that the packet itself has led to.
    #[inline(always)]
    pub(crate) fn far_bytes(&self, offset: usize, len: usize) -> Option<*mut u8> {
        // The compiler knows how large the offset can be and would leave out the mask that tells the verifier.
        self.bytes(black_box(offset) & FARTHEST_HEADER, len)
    }
}

/// The index of the interface that a packet came in on.
#[inline(always)]
pub(crate) fn ingress(ctx: &XdpContext) -> u32 {
    // SAFETY: the context is the one the kernel gave this program.
    unsafe { (*ctx.ctx).ingress_ifindex }
}

impl Packet for Frame<'_> {
    #[inline(always)]
    fn load<T: Plain>(&self, offset: usize) -> Option<T> {
        let start = self.bytes(offset, size_of::<T>())?;
        // SAFETY: `bytes` has checked the bounds, any bytes are a valid `T`, and the read may be unaligned.
        Some(unsafe { start.cast::<T>().read_unaligned() })
    }

    #[inline(always)]
    fn beginning<T: Plain>(&self) -> Option<&T> {
        const { assert!(align_of::<T>() == 1, "a frame begins anywhere") };
        let start = self.bytes(0, size_of::<T>())?;
        // SAFETY: `bytes` has checked the bounds, no packet lies at 0, and any bytes are a valid `T`, which asks for no alignment. Who
        // borrows it does so from `self`, which stands for the packet before its start is moved.
        unsafe {
            assert_unchecked(!start.is_null());
            Some(&*start.cast())
        }
    }

    #[inline(always)]
    fn load_far<T: Plain>(&self, offset: usize) -> Option<T> {
        let start = self.far_bytes(offset, size_of::<T>())?;
        // SAFETY: as above.
        Some(unsafe { start.cast::<T>().read_unaligned() })
    }

    #[inline(always)]
    fn len(&self) -> usize {
        // SAFETY: the context is the one the kernel gave this program.
        unsafe { bpf_xdp_get_buff_len(self.ctx.as_ptr().cast()) as usize }
    }

    #[inline(always)]
    fn sum(&self, offset: usize, len: usize) -> Option<u16> {
        checksum::sum(self.ctx, offset, len)
    }

    #[inline(always)]
    fn walk(&self, next: u8, offset: usize) -> Chain {
        let word = walk_out_of_line(self.ctx.ctx, u32::from(next), offset as u32);
        // The compiler knows how large the offset can be and would leave out the mask that tells the verifier.
        Chain::unpack(black_box(word))
    }
}

/// The walk over IPv6 extension headers, apart from the good path. As a global function it is verified once, not once for
/// each way to get there.
#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn walk_out_of_line(ctx: *mut xdp_md, next: u32, offset: u32) -> u32 {
    let ctx = XdpContext::new(ctx);
    outer::walk(&Frame::new(&ctx), next as u8, (offset & FARTHEST) as usize).pack()
}

/// No IPv6 header ends farther into a frame; as a mask it tells the verifier so.
const FARTHEST: u32 = 0x3f;

/// Reads a `T` at an address.
///
/// # Safety
/// There must be a `T` within the packet at `at`.
#[inline(always)]
pub(crate) unsafe fn read<T: Copy>(at: usize) -> T {
    // SAFETY: the caller promises the bounds; the read may be unaligned.
    unsafe { (at as *const T).read_unaligned() }
}

/// Writes a `T` to an address.
///
/// # Safety
/// There must be room for a `T` within the packet at `at`.
#[inline(always)]
pub(crate) unsafe fn write<T>(at: usize, value: T) {
    // SAFETY: the caller promises the bounds; the write may be unaligned.
    unsafe { (at as *mut T).write_unaligned(value) }
}

/// No header that is looked at begins farther into a frame, not behind the longest extension headers of an outer and an inner
/// packet: three and four of at most 2,048 bytes.
const FARTHEST_HEADER: usize = 0x7fff;
