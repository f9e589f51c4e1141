//! What the program compares a packet with, instead of looking it up in a hash map, where there is little of it, as on most hosts:
//! local addresses, and the endpoints of tunnels whose remote is a whole address. A tunnel is then found without a call, GRE for
//! others costs no look-up at all, and a family that no tunnel has is left out by the verifier with all that follows.
//!
//! The loader sets both before the program is loaded, as constants. They stay while the program runs: a change in place keeps the
//! local addresses as they are, and where endpoints are compared, another program takes over with any change of such tunnels. What
//! the compared tunnels are lies in an array, at the place of their endpoints, which nobody writes once the program runs: an array's
//! elements are not replaced as a whole, as those of a hash map are.

/// So many are compared.
pub const MOST: usize = 4;
/// In the place of their number: there are more, look them up.
pub const MANY: u32 = u32::MAX;
