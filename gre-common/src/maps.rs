//! The maps between the program and userspace: their names, what they hold, who writes them.

/// Tunnels with an exact IPv4 remote: hash of [`Endpoints<Ipv4>`](crate::endpoints::Endpoints) to
/// [`Tunnel`](crate::tunnel::Tunnel). Written by userspace.
pub const TUNNELS4: &str = "TUNNELS4";
/// The same for IPv6.
pub const TUNNELS6: &str = "TUNNELS6";
/// Tunnels whose remote is an IPv4 prefix: longest-prefix map of
/// [`EndpointsPrefix<Ipv4>`](crate::endpoints::EndpointsPrefix) to [`Tunnel`](crate::tunnel::Tunnel). Written by userspace.
pub const PREFIXES4: &str = "PREFIXES4";
/// The same for IPv6.
pub const PREFIXES6: &str = "PREFIXES6";
/// The local IPv4 endpoints: hash of the address to the number of tunnels that have it. Written by userspace.
pub const LOCALS4: &str = "LOCALS4";
/// The same for IPv6.
pub const LOCALS6: &str = "LOCALS6";
/// Per-CPU array of [`Counters`](crate::counters::Counters) by tunnel id. Written by the program.
pub const COUNTERS: &str = "COUNTERS";
/// Array of [`SequenceState`](crate::sequence::SequenceState) by tunnel id. Written by the program.
pub const SEQUENCES: &str = "SEQUENCES";
/// Hash of tunnel id to [`TunnelName`]. Written and read by userspace only: it makes the kernel the one store of running
/// state.
pub const NAMES: &str = "NAMES";

/// Set to 1 before loading: drop what no tunnel matches, instead of passing it.
pub const UNKNOWN_DROP: &str = "UNKNOWN_DROP";
/// Set to 1 before loading: some tunnel has a prefix as remote. Without, the look-up is pruned by the verifier.
pub const HAVE_PREFIXES: &str = "HAVE_PREFIXES";

/// A tunnel's name, UTF-8, padded with zero bytes.
pub type TunnelName = [u8; 64];
