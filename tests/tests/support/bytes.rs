//! A packet in a slice.

use gre_common::Packet;
use gre_common::plain::{self, Plain};
use gre_tests::frame::internet_checksum;

/// A frame of which only the first bytes lie in the first buffer, as from a driver that splits frames.
pub(crate) struct Bytes<'a> {
    frame: &'a [u8],
    first: usize,
}

impl<'a> Bytes<'a> {
    /// The whole frame in one buffer.
    pub(crate) fn whole(frame: &'a [u8]) -> Self {
        Self::split(frame, frame.len())
    }

    /// `first` bytes in the first buffer; if that is more than all, all.
    pub(crate) fn split(frame: &'a [u8], first: usize) -> Self {
        let first = first.min(frame.len());
        Self { frame, first }
    }
}

impl Packet for Bytes<'_> {
    fn load<T: Plain>(&self, offset: usize) -> Option<T> {
        plain::load(&self.frame[..self.first], offset)
    }

    fn beginning<T: Plain>(&self) -> Option<&T> {
        plain::beginning(&self.frame[..self.first])
    }

    fn len(&self) -> usize {
        self.frame.len()
    }

    /// # Panics
    /// If these bytes are not all within the frame: the decision must have made sure of that.
    fn sum(&self, offset: usize, len: usize) -> Option<u16> {
        let sum = !internet_checksum(&self.frame[offset..offset + len]);
        Some(u16::from_ne_bytes(sum.to_be_bytes()))
    }
}
