//! Sending a decapsulated frame out of an interface.

use aya_ebpf::{
    bindings::{xdp_action, xdp_md},
    helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
    programs::XdpContext,
};
use gre_common::{
    Packet, Reason,
    endian::Be16,
    forward::{self, Hop},
    link::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6},
    target::Macs,
};
use network_types::{
    eth::EthHdr,
    ip::{Ipv4Hdr, Ipv6Hdr},
};

use crate::{
    deliver::Decapsulated,
    frame::{Frame, ingress, write},
    onward::Onward,
    tables::{self, DEVICES, FRAGS_BY_KERNEL},
};

/// The link header of the frame at hand.
#[derive(Clone, Copy)]
pub(crate) struct Header {
    tags: usize,
}

impl Header {
    /// With so many VLAN tags; the mask tells the verifier that they are few.
    #[inline(always)]
    pub(crate) fn with_tags(tags: u32) -> Self {
        Self {
            tags: (tags & 3) as usize,
        }
    }

    #[inline(always)]
    pub(crate) fn len(self) -> usize {
        EthHdr::LEN + self.tags_len()
    }

    #[inline(always)]
    fn tags_len(self) -> usize {
        self.tags * 4
    }

    /// Offset of the last EtherType.
    #[inline(always)]
    pub(crate) fn ether_type(self) -> usize {
        self.len() - size_of::<Be16>()
    }
}

/// Where a frame goes.
pub(crate) struct Way {
    /// The interface's index.
    pub(crate) interface: u32,
    /// The addresses that it gets.
    pub(crate) macs: Macs,
    /// Whether it can go back out of the interface that it came in on without a detour by the redirection.
    pub(crate) may_turn_back: bool,
}

/// What else changes in the frame.
#[derive(Clone, Copy)]
pub(crate) enum Change {
    /// Nothing.
    None,
    /// The IPv4 header's TTL and checksum.
    Ttl(Hop),
    /// The IPv6 header's hop limit.
    HopLimit(Hop),
}

/// The flag of the tunnel word for inner Ethernet.
const ETHERNET: u32 = 1 << 2;
/// The flag for packets that came from another core.
const SPREAD: u32 = 1 << 3;

/// Sends a packet where its tunnel's [`Target`] says.
#[inline(always)]
pub(crate) fn to_target(ctx: &XdpContext, packet: Decapsulated) -> Onward {
    let ethernet = if packet.is_ethernet { ETHERNET } else { 0 };
    let spread = if packet.is_spread { SPREAD } else { 0 };
    let word = packet.tags as u32 | ethernet | spread;
    Onward::unpack(to_target_out_of_line(ctx.ctx, packet.tunnel, word))
}

/// A global function: verified once, not once for each way to get there.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn to_target_out_of_line(ctx: *mut xdp_md, tunnel: u32, word: u32) -> u32 {
    let ctx = XdpContext::new(ctx);
    match try_target(&ctx, tunnel, word) {
        Ok(onward) => onward,
        Err(reason) => Onward::because(reason),
    }
    .pack()
}

#[inline(always)]
fn try_target(ctx: &XdpContext, tunnel: u32, word: u32) -> Result<Onward, Reason> {
    let target = tables::target(tunnel).ok_or(Reason::RouteNoNeighbour)?;
    let may_turn_back = word & SPREAD == 0;
    if word & ETHERNET != 0 {
        return choose(ctx, target.interface, may_turn_back, 0).map(Onward::by);
    }
    let header = Header::with_tags(word);
    let way = Way {
        interface: target.interface,
        macs: target.known_macs().ok_or(Reason::RouteNoNeighbour)?,
        may_turn_back,
    };
    let frame = Frame::new(ctx);
    let ether_type: Be16 = frame.load(header.ether_type()).ok_or(Reason::RouteOther)?;
    let payload_len = match ether_type {
        ETHER_TYPE_IPV4 => {
            let ip: Ipv4Hdr = frame.load(header.len()).ok_or(Reason::RouteOther)?;
            usize::from(u16::from_be_bytes(ip.tot_len))
        }
        ETHER_TYPE_IPV6 => {
            let ip: Ipv6Hdr = frame.load(header.len()).ok_or(Reason::RouteOther)?;
            Ipv6Hdr::LEN + usize::from(u16::from_be_bytes(ip.payload_len))
        }
        _ => frame.len() - header.len(),
    };
    send(ctx, header, payload_len, way, Change::None)
}

/// Strips `front` bytes of a frame, VLAN tags among them, and sends what is left, a packet of this type behind a new link header, where
/// its tunnel's [`Target`](gre_common::target::Target) says. Gives the XDP action.
///
/// # Errors
///
/// Those of [`send`].
#[inline(always)]
pub(crate) fn stripped_to_target(ctx: &XdpContext, tunnel: u32, front: u32, ether_type: Be16) -> Result<u32, Reason> {
    let target = tables::target(tunnel).ok_or(Reason::RouteNoNeighbour)?;
    let macs = target.known_macs().ok_or(Reason::RouteNoNeighbour)?;
    let action = choose(ctx, target.interface, true, 0)?;
    // SAFETY: the context is the one the kernel gave this program; every pointer into the packet is read anew below.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx.cast(), front as i32) } != 0 {
        return Err(Reason::RouteOther);
    }
    write_header(ctx, macs, ether_type).ok_or(Reason::Internal)?;
    Ok(action)
}

/// Sends the frame at hand, whose link header is `header` and whose payload has `payload_len` bytes, on its way: without VLAN
/// tags and without bytes after the payload.
///
/// # Errors
///
/// The kernel must take the packet, of which not a byte has changed, or it must be dropped; the reason's action says which.
#[inline(always)]
pub(crate) fn send(
    ctx: &XdpContext,
    header: Header,
    payload_len: usize,
    way: Way,
    change: Change,
) -> Result<Onward, Reason> {
    let rest = Frame::new(ctx).len() as i32 - (header.len() + payload_len) as i32;
    let action = choose(ctx, way.interface, way.may_turn_back, rest.max(0) as u32)?;
    if rest > 0 {
        // SAFETY: the context is the one the kernel gave this program; every pointer into the packet is read anew below.
        let cut = unsafe { bpf_xdp_adjust_tail(ctx.ctx.cast(), -rest) };
        if cut != 0 {
            return Err(Reason::Internal);
        }
    }
    let tags = header.tags_len();
    if tags != 0 {
        // SAFETY: as above.
        let moved = unsafe { bpf_xdp_adjust_head(ctx.ctx.cast(), tags as i32) };
        if moved != 0 {
            return Err(Reason::Internal);
        }
    }
    // The last EtherType is where it belongs already, right before the payload.
    write_macs(ctx, way.macs).ok_or(Reason::Internal)?;
    match change {
        Change::None => {}
        Change::Ttl(hop) => write_ttl(ctx, hop).ok_or(Reason::Internal)?,
        Change::HopLimit(hop) => write_hop_limit(ctx, hop).ok_or(Reason::Internal)?,
    }
    Ok(Onward::by(action))
}

/// The XDP action by which a frame leaves by an interface once `rest` bytes are cut off its end.
///
/// # Errors
///
/// [`Reason::RouteOther`] if frames cannot be redirected to it, or not this one.
#[inline(always)]
fn choose(ctx: &XdpContext, interface: u32, may_turn_back: bool, rest: u32) -> Result<u32, Reason> {
    if may_turn_back && interface == ingress(ctx) {
        return Ok(xdp_action::XDP_TX);
    }
    // The helper would say yes, and the kernel drop it with nobody told.
    if FRAGS_BY_KERNEL.load() != 0 {
        let frame = Frame::new(ctx);
        if !frame.holds(0, frame.len() - rest as usize) {
            return Err(Reason::RouteOther);
        }
    }
    let redirected = DEVICES.redirect(interface, u64::from(xdp_action::XDP_PASS));
    redirected.map_err(|_| Reason::RouteOther)
}

/// Writes the link header of a packet of this type.
#[inline(always)]
fn write_header(ctx: &XdpContext, macs: Macs, ether_type: Be16) -> Option<()> {
    let start = write_macs(ctx, macs)?;
    // SAFETY: the bounds were just checked for a whole link header.
    unsafe { write(start + ETHER_TYPE, ether_type) };
    Some(())
}

/// Where the EtherType is of a frame without VLAN tags.
const ETHER_TYPE: usize = EthHdr::LEN - size_of::<Be16>();

/// Writes the addresses that the frame begins with, and gives where it does.
#[inline(always)]
fn write_macs(ctx: &XdpContext, Macs([a, b, c]): Macs) -> Option<usize> {
    let start = Frame::new(ctx).bytes(0, EthHdr::LEN)? as usize;
    // SAFETY: the bounds were just checked.
    unsafe {
        write(start, a);
        write(start + 4, b);
        write(start + 8, c);
    }
    Some(start)
}

#[inline(always)]
fn write_ttl(ctx: &XdpContext, hop: Hop) -> Option<()> {
    let ip = Frame::new(ctx).bytes(EthHdr::LEN, Ipv4Hdr::LEN)? as usize;
    // SAFETY: the bounds were just checked.
    unsafe {
        write(ip + forward::TTL, hop.limit.wrapping_sub(1));
        write(ip + forward::CHECK, u16::from_ne_bytes(hop.check));
    }
    Some(())
}

#[inline(always)]
fn write_hop_limit(ctx: &XdpContext, hop: Hop) -> Option<()> {
    let ip = Frame::new(ctx).bytes(EthHdr::LEN, Ipv6Hdr::LEN)? as usize;
    // SAFETY: the bounds were just checked.
    unsafe { write(ip + forward::HOP_LIMIT, hop.limit.wrapping_sub(1)) };
    Some(())
}
