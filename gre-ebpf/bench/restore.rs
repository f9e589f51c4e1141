//! Restoring a packet that the last run has stripped.

use aya_ebpf::{
    EbpfContext, Global,
    helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
    programs::XdpContext,
};

use crate::{PADDING, STRIPPED, State};

/// Words of a template, at most.
const MOST_WORDS: usize = 20;
/// An outer IPv4 header's identification and source address, from its beginning.
const IDENTIFICATION: usize = 4;
const SOURCE: usize = 12;

/// The frame's first bytes as they are to be in every run.
#[unsafe(no_mangle)]
static TEMPLATE: Global<[u64; MOST_WORDS]> = Global::new([0; MOST_WORDS]);
/// How many words of it are written; the frame is at least as long.
#[unsafe(no_mangle)]
static WORDS: Global<u32> = Global::new(0);
/// Where the sequence number stands, which goes up with every run; 0 if nowhere.
#[unsafe(no_mangle)]
static NUMBER_AT: Global<u32> = Global::new(0);
/// Packets come from so many addresses at random, from the template's on; 0 if from that alone. Only over IPv4.
#[unsafe(no_mangle)]
static SOURCES: Global<u32> = Global::new(0);
/// Where the outer IP header stands.
#[unsafe(no_mangle)]
static IP_AT: Global<u32> = Global::new(0);

/// Makes the packet what it is to be in this run. Constants decide what there is to do, so the verifier leaves out the rest.
#[inline(always)]
pub(crate) fn restore(ctx: &XdpContext, state: &mut State) -> Option<()> {
    let (stripped, padding) = (STRIPPED.load() as i32, PADDING.load() as i32);
    // SAFETY: the context is the one the kernel gave this program; pointers into the packet are made below.
    unsafe {
        if stripped != 0 && bpf_xdp_adjust_head(ctx.as_ptr().cast(), -stripped) != 0 {
            return None;
        }
        if padding != 0 && bpf_xdp_adjust_tail(ctx.as_ptr().cast(), padding) != 0 {
            return None;
        }
    }
    write_template(ctx)?;
    if NUMBER_AT.load() != 0 {
        state.number = state.number.wrapping_add(1);
        write(ctx, NUMBER_AT.load() as usize, state.number.to_be())?;
    }
    if SOURCES.load() != 0 {
        let (source, identification) = draw_source(ctx, state)?;
        write(ctx, IP_AT.load() as usize + SOURCE, source)?;
        write(ctx, IP_AT.load() as usize + IDENTIFICATION, identification)?;
    }
    Some(())
}

#[inline(always)]
fn write_template(ctx: &XdpContext) -> Option<()> {
    let start = ctx.data();
    let words = WORDS.load() as usize;
    if start + words * size_of::<u64>() > ctx.data_end() {
        return None;
    }
    let template = (&raw const TEMPLATE).cast::<u64>();
    for word in 0..MOST_WORDS {
        if word == words {
            break;
        }
        // SAFETY: the bounds were just checked. Volatile, because the loader sets the template.
        unsafe {
            let value = template.add(word).read_volatile();
            (start as *mut u64).add(word).write_unaligned(value);
        }
    }
    Some(())
}

/// One of the source addresses, and an identification with which the header's checksum stays what it is.
#[inline(always)]
fn draw_source(ctx: &XdpContext, state: &mut State) -> Option<(u32, u16)> {
    let ip = IP_AT.load() as usize;
    let (first, identification): (u32, u16) = (read(ctx, ip + SOURCE)?, read(ctx, ip + IDENTIFICATION)?);
    // Marsaglia's xorshift.
    state.random ^= state.random << 13;
    state.random ^= state.random >> 7;
    state.random ^= state.random << 17;
    let place = ((state.random >> 32) * u64::from(SOURCES.load())) >> 32;
    let source = (u32::from_be(first) + place as u32).to_be();
    let sum = u32::from(identification) + halves(first) + halves(!source);
    let folded = (sum & 0xffff) + (sum >> 16);
    Some((source, ((folded & 0xffff) + (folded >> 16)) as u16))
}

#[inline(always)]
fn halves(word: u32) -> u32 {
    (word & 0xffff) + (word >> 16)
}

#[inline(always)]
fn read<T: Copy>(ctx: &XdpContext, offset: usize) -> Option<T> {
    let start = ctx.data() + offset;
    // SAFETY: the bounds are checked first; the read may be unaligned, and any bytes are an integer.
    (start + size_of::<T>() <= ctx.data_end()).then(|| unsafe { (start as *const T).read_unaligned() })
}

#[inline(always)]
fn write<T: Copy>(ctx: &XdpContext, offset: usize, value: T) -> Option<()> {
    let start = ctx.data() + offset;
    if start + size_of::<T>() > ctx.data_end() {
        return None;
    }
    // SAFETY: the bounds were just checked; the write may be unaligned.
    unsafe { (start as *mut T).write_unaligned(value) };
    Some(())
}
