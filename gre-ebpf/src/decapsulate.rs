//! Carries a [`Delivery`] out: reads what must be kept, moves the packet's start, then writes.

use aya_ebpf::{
    EbpfContext,
    helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
    programs::XdpContext,
};
use gre_common::{
    Delivery, Reason,
    endian::Be16,
    inner::Remark,
    link::{Link, VlanTags},
    usual::{Form, Usual},
};

use crate::{
    frame::{Frame, read, write},
    mss,
    tables::HAVE_MSS,
};

/// Strips the outer headers, but for `ROOM` bytes that are left in front of the frame: fewer than the shortest headers have.
/// [`Reason::Headroom`] means that not a byte has changed; any other error that the packet must go nowhere.
#[inline(always)]
pub(crate) fn decapsulate<const ROOM: usize>(ctx: &XdpContext, delivery: &Delivery) -> Result<(), Reason> {
    let header = KeptHeader::read(ctx, delivery.link).ok_or(Reason::Headroom)?;
    // SAFETY: the context is the one the kernel gave this program; every pointer into the packet is read anew below.
    if unsafe { bpf_xdp_adjust_head(ctx.as_ptr().cast(), (delivery.stripped() - ROOM) as i32) } != 0 {
        return Err(Reason::Headroom);
    }
    if let Some(ether_type) = delivery.ether_type {
        header
            .write::<ROOM>(ctx, delivery.link, ether_type, delivery.remark)
            .ok_or(Reason::Internal)?;
    }
    cut_padding(ctx, delivery.padding)?;
    if HAVE_MSS.load() != 0 && delivery.mss != 0 {
        mss::lower(ctx, delivery, ROOM + delivery.link.len());
    }
    Ok(())
}

/// Strips the outer headers of a packet of a usual form. Errors are as above.
#[inline(always)]
pub(crate) fn usual<F: Form>(ctx: &XdpContext, usual: &Usual<'_, F>) -> Result<(), Reason> {
    let (first, second) = usual.headers.tags();
    let header = KeptHeader {
        macs: usual.headers.macs(),
        tags: (
            u32::from_ne_bytes(first.to_bytes()),
            u32::from_ne_bytes(second.to_bytes()),
        ),
    };
    // SAFETY: the context is the one the kernel gave this program; every pointer into the packet is read anew below.
    if unsafe { bpf_xdp_adjust_head(ctx.as_ptr().cast(), F::STRIPPED as i32) } != 0 {
        return Err(Reason::Headroom);
    }
    let start = Frame::new(ctx).bytes(0, F::LINK.len()).ok_or(Reason::Internal)?;
    // SAFETY: the bounds were just checked for such a header.
    unsafe { header.write_at(start as usize, F::LINK, F::ETHER_TYPE) };
    Ok(())
}

/// Strips so many bytes after the link header, where a packet of this type begins that stays as it is. Errors are as above.
#[inline(always)]
pub(crate) fn plainly(ctx: &XdpContext, link: Link, stripped: usize, ether_type: Be16) -> Result<(), Reason> {
    let header = KeptHeader::read(ctx, link).ok_or(Reason::Headroom)?;
    // SAFETY: the context is the one the kernel gave this program; every pointer into the packet is read anew below.
    if unsafe { bpf_xdp_adjust_head(ctx.as_ptr().cast(), stripped as i32) } != 0 {
        return Err(Reason::Headroom);
    }
    header.write_short::<0>(ctx, link, ether_type).ok_or(Reason::Internal)
}

/// Cuts so many bytes off the frame's end.
#[inline(always)]
fn cut_padding(ctx: &XdpContext, padding: usize) -> Result<(), Reason> {
    if padding == 0 {
        return Ok(());
    }
    // SAFETY: the context is the one the kernel gave this program; whoever reads the packet after this makes its pointers anew.
    match unsafe { bpf_xdp_adjust_tail(ctx.as_ptr().cast(), -(padding as i32)) } {
        0 => Ok(()),
        _ => Err(Reason::Internal),
    }
}

/// The link header without its last EtherType, in the pieces that the verifier lets through: no byte arrays, which become
/// calls to `memmove`.
struct KeptHeader {
    /// Both MAC addresses.
    macs: (u64, u32),
    /// The first and second VLAN tag with the identifiers before them.
    tags: (u32, u32),
}

const MACS_REST: usize = 8;
const FIRST_TAG: usize = 12;
const SECOND_TAG: usize = 16;

impl KeptHeader {
    #[inline(always)]
    fn read(ctx: &XdpContext, link: Link) -> Option<Self> {
        let start = ctx.data();
        if start + link.len() > ctx.data_end() {
            return None;
        }
        // SAFETY: the bounds were just checked for as many tags as there are.
        unsafe {
            let macs = (read(start), read(start + MACS_REST));
            let tags = match link.tags {
                VlanTags::None => (0, 0),
                VlanTags::One => (read(start + FIRST_TAG), 0),
                VlanTags::Two => (read(start + FIRST_TAG), read(start + SECOND_TAG)),
            };
            Some(Self { macs, tags })
        }
    }

    /// Writes the header in front of the inner packet, and the inner packet's new ECN field.
    #[inline(always)]
    fn write<const ROOM: usize>(&self, ctx: &XdpContext, link: Link, ether_type: Be16, remark: Remark) -> Option<()> {
        const TOS: usize = 1;
        const CHECK: usize = 10;

        let start = ctx.data() + ROOM;
        let inner = start + link.len();
        if inner + CHECK + 2 > ctx.data_end() {
            // Only MPLS can be so short, and it has no ECN field.
            return self.write_short::<ROOM>(ctx, link, ether_type);
        }
        // SAFETY: the bounds were just checked up to the inner header's checksum field.
        unsafe {
            self.write_at(start, link, ether_type);
            match remark {
                Remark::None => {}
                Remark::V4 { tos, check } => {
                    write(inner + TOS, tos);
                    write(inner + CHECK, u16::from_ne_bytes(check));
                }
                Remark::V6 { second } => write(inner + TOS, second),
            }
        }
        Some(())
    }

    #[inline(always)]
    fn write_short<const ROOM: usize>(&self, ctx: &XdpContext, link: Link, ether_type: Be16) -> Option<()> {
        let start = ctx.data() + ROOM;
        if start + link.len() > ctx.data_end() {
            return None;
        }
        // SAFETY: the bounds were just checked.
        unsafe { self.write_at(start, link, ether_type) };
        Some(())
    }

    /// # Safety
    /// There must be room for the link header at `start`.
    #[inline(always)]
    unsafe fn write_at(&self, start: usize, link: Link, ether_type: Be16) {
        // SAFETY: the caller promises the room.
        unsafe {
            write(start, self.macs.0);
            write(start + MACS_REST, self.macs.1);
            if link.tags != VlanTags::None {
                write(start + FIRST_TAG, self.tags.0);
            }
            if link.tags == VlanTags::Two {
                write(start + SECOND_TAG, self.tags.1);
            }
            write(start + link.len() - size_of::<Be16>(), ether_type);
        }
    }
}
