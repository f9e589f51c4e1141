//! The bytes of a packet, as the decision reads them.

use crate::{
    outer::{self, Chain},
    plain::Plain,
};

/// Where the bytes of a packet come from: the kernel's buffer, or a slice on the host.
pub trait Packet {
    /// Reads a `T` at `offset`, at any alignment. `None`: it does not lie within the first buffer.
    fn load<T: Plain>(&self, offset: usize) -> Option<T>;
    /// What the frame begins with, to be read when it is needed: one check for all of it. `None`: it does not lie within the first
    /// buffer, or this packet's bytes are not to be had like that; then [the general way](crate::usual) is taken.
    fn beginning<T: Plain>(&self) -> Option<&T>;
    /// The same as [`Self::load`] at an offset that the packet itself has led to, which the kernel program bounds anew: verifiers lose
    /// the bounds of what was multiplied (Linux 6.1), or of a sum after another that it was made of was compared (6.12).
    fn load_far<T: Plain>(&self, offset: usize) -> Option<T> {
        self.load(offset)
    }
    /// Bytes of the whole frame, all buffers together.
    fn len(&self) -> usize;
    /// The folded one's complement sum (RFC 1071) of `len` bytes from `offset`, in the packet's byte order. `None`: they
    /// could not be read.
    fn sum(&self, offset: usize, len: usize) -> Option<u16>;
    /// Walks the IPv6 extension headers from the one called `next` at `offset`: [`outer::walk`], which the kernel program
    /// calls in a function of its own to keep it out of the good path.
    fn walk(&self, next: u8, offset: usize) -> Chain {
        outer::walk(self, next, offset)
    }
    /// Whether there are no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
