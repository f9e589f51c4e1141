//! Types that any bytes are a valid value of, so that they can be read straight out of a packet.
#![expect(
    unsafe_code,
    reason = "the promise that a type is plain data can only be made by an unsafe impl"
)]

use network_types::{
    eth::EthHdr,
    ip::{Ipv4Hdr, Ipv6Hdr},
};

use crate::{
    endian::{Be16, Be32},
    extension::ExtensionHdr,
    front::Beginning,
    gre::GreHdr,
    hand_over::HandOver,
    link::VlanTag,
    sample::SampleHeader,
    usual::{Headers, Inner4, Inner6, Outer4, Outer6},
};

/// Plain data: no padding, no invalid bit patterns, no pointers.
///
/// # Safety
/// Every sequence of `size_of::<Self>()` bytes must be a valid value.
pub unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($t:ty),+ $(,)?) => {$(
        // SAFETY: built of integers and byte arrays without padding.
        unsafe impl Plain for $t {}
    )+};
}

plain!(
    u8,
    [u8; 2],
    [u8; 4],
    Be16,
    Be32,
    [Be32; 5],
    EthHdr,
    Ipv4Hdr,
    Ipv6Hdr,
    GreHdr,
    VlanTag,
    ExtensionHdr,
    HandOver,
    SampleHeader,
    Outer4,
    Outer6,
    Inner4,
    Inner6
);

// SAFETY: built of integers and byte arrays. There is no padding: nothing is aligned to more than the two bytes of a tag, and each
// part is of an even length.
unsafe impl<const TAGS: usize> Plain for Beginning<TAGS> {}

// SAFETY: built of integers and of what is plain itself. There is no padding: it is packed.
unsafe impl<const TAGS: usize, O: Plain, const FIELDS: usize, I: Plain> Plain for Headers<TAGS, O, FIELDS, I> {}

/// The `T` that `bytes` begin with; `None` if they are too few, or lie at an alignment that it cannot have.
///
/// The host's counterpart of the kernel program's look at a frame's beginning.
#[inline]
pub fn beginning<T: Plain>(bytes: &[u8]) -> Option<&T> {
    let start = bytes.as_ptr().cast::<T>();
    // SAFETY: `bytes` has at least as many bytes, any are a valid `T`, and it is aligned.
    (bytes.len() >= size_of::<T>() && start.is_aligned()).then(|| unsafe { &*start })
}

/// Reads a `T` at `offset` of `bytes`, at any alignment; `None` if it does not fit.
///
/// The host's counterpart of the kernel program's bounds-checked read.
#[inline]
pub fn load<T: Plain>(bytes: &[u8], offset: usize) -> Option<T> {
    let end = offset.checked_add(size_of::<T>())?;
    let source = bytes.get(offset..end)?;
    // SAFETY: `source` is `size_of::<T>()` bytes long, any bytes are a valid `T`, and the read may be unaligned.
    Some(unsafe { source.as_ptr().cast::<T>().read_unaligned() })
}
