//! Local addresses that the program compares a packet with, instead of looking them up in a hash map, where they are few, as on
//! most hosts: GRE for others then costs no look-up at all, and a family that no tunnel has is left out by the verifier with all
//! that follows.
//!
//! The loader sets them before the program is loaded, as constants. They stay while the program runs: a change in place keeps the
//! local addresses as they are.

/// So many are compared.
pub const MOST: usize = 4;
/// In the place of their number: there are more, look them up.
pub const MANY: u32 = u32::MAX;
