//! The promise to aya that the maps' keys and values are plain data, so that userspace can read and write them.
//!
//! Aya hands out whatever bytes the kernel holds, so every bit pattern must be a valid value.
#![expect(
    unsafe_code,
    reason = "the promise that a type is plain data can only be made by an unsafe impl"
)]

use aya::Pod;

use crate::{
    counters::Counters,
    endian::Be32,
    endpoints::{Endpoints, EndpointsPrefix, Ipv4, Ipv6},
    few::Masked,
    keepalive::Quota,
    link::Mac,
    mss::Clamp,
    protect::TunnelAddress,
    sample::Bucket,
    sequence::SequenceState,
    slots::Slot,
    target::{NextHop, Target},
    tunnel::Tunnel,
};

// SAFETY: a `u32`.
unsafe impl Pod for Be32 {}
// SAFETY: words only, without padding.
unsafe impl Pod for Endpoints<Ipv4> {}
// SAFETY: as above.
unsafe impl Pod for Endpoints<Ipv6> {}
// SAFETY: words only, without padding.
unsafe impl Pod for EndpointsPrefix<Ipv4> {}
// SAFETY: as above.
unsafe impl Pod for EndpointsPrefix<Ipv6> {}
// SAFETY: words only, without padding.
unsafe impl Pod for Masked<Ipv4> {}
// SAFETY: as above.
unsafe impl Pod for Masked<Ipv6> {}
// SAFETY: three words; a policy and cores are any word.
unsafe impl Pod for Tunnel {}
// SAFETY: `u64`s only.
unsafe impl Pod for Counters {}
// SAFETY: three `u64`s.
unsafe impl Pod for SequenceState {}
// SAFETY: a word and two half words, without padding.
unsafe impl Pod for Clamp {}
// SAFETY: a `u64`.
unsafe impl Pod for Mac {}
// SAFETY: a word and six half words, without padding.
unsafe impl Pod for Target {}
// SAFETY: bytes and a word, without padding.
unsafe impl Pod for NextHop {}
// SAFETY: `u64`s only.
unsafe impl Pod for Bucket {}
// SAFETY: words only, without padding.
unsafe impl Pod for TunnelAddress<Ipv4> {}
// SAFETY: as above.
unsafe impl Pod for TunnelAddress<Ipv6> {}
// SAFETY: two `u64`s.
unsafe impl Pod for Quota {}
// SAFETY: words only, without padding.
unsafe impl Pod for Slot<Endpoints<Ipv4>, Tunnel> {}
// SAFETY: as above.
unsafe impl Pod for Slot<Endpoints<Ipv6>, Tunnel> {}
// SAFETY: three words and six half words, without padding.
unsafe impl Pod for Slot<u32, Target> {}
// SAFETY: two words and a `u64`, without padding.
unsafe impl Pod for Slot<u32, Mac> {}
