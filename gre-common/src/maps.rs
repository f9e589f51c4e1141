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
/// Tunnels with an exact IPv4 remote where they are [few](crate::few): array of [`Tunnel`](crate::tunnel::Tunnel) by the place of
/// their endpoints in [`FEW_ENDPOINTS4`]. Written by userspace, before the program runs. [`TUNNELS4`] holds the same, for userspace.
pub const COMPARED4: &str = "COMPARED4";
/// The same for IPv6.
pub const COMPARED6: &str = "COMPARED6";
/// The elements of [`TUNNELS4`] where they are not few, once more: array of [`Slot`](crate::slots::Slot), of
/// [`Endpoints<Ipv4>`](crate::endpoints::Endpoints) and [`Tunnel`](crate::tunnel::Tunnel). Written by userspace as
/// [`slots`](crate::slots) says.
pub const TUNNEL_SLOTS4: &str = "TUNNEL_SLOTS4";
/// The same for IPv6.
pub const TUNNEL_SLOTS6: &str = "TUNNEL_SLOTS6";
/// The same of [`TARGETS`], by tunnel id.
pub const TARGET_SLOTS: &str = "TARGET_SLOTS";
/// The same of [`INTERFACES`], by interface index.
pub const INTERFACE_SLOTS: &str = "INTERFACE_SLOTS";
/// How many of those there are.
pub const INTERFACE_SLOT_COUNT: u32 = 64;
/// The local IPv4 endpoints: hash of the address to the number of tunnels that have it. Written by userspace.
pub const LOCALS4: &str = "LOCALS4";
/// The same for IPv6.
pub const LOCALS6: &str = "LOCALS6";
/// Per-CPU array of [`Counters`](crate::counters::Counters) by tunnel id. Written by the program.
pub const COUNTERS: &str = "COUNTERS";
/// Array of [`SequenceState`](crate::sequence::SequenceState) by tunnel id. Written by the program.
pub const SEQUENCES: &str = "SEQUENCES";
/// Array of the state of [`arrivals`](crate::arrivals) by tunnel id. Written by the program.
pub const ARRIVALS: &str = "ARRIVALS";
/// Array of [`Quota`](crate::keepalive::Quota) by tunnel id: how many keepalives a tunnel answers, none if it answers none. The
/// rate is written by userspace, the rest by the program.
pub const KEEPALIVES: &str = "KEEPALIVES";
/// Hash of tunnel id to [`TunnelName`]. Written and read by userspace only: it makes the kernel the one store of running
/// state.
pub const NAMES: &str = "NAMES";
/// The same of tunnels that are gone, by the ids under which what they have counted still stands.
pub const FORMER: &str = "FORMER";
/// What tunnels had counted in other maps, before these: hash of tunnel id, 0 among them, to
/// [`Counters`](crate::counters::Counters), to be added to [`COUNTERS`]. Written and read by userspace only.
pub const CARRIED: &str = "CARRIED";

/// Where tunnels that deliver to an interface send: hash of tunnel id to [`Target`](crate::target::Target). Written by
/// userspace. A tunnel without an entry has none at the moment.
pub const TARGETS: &str = "TARGETS";
/// What the configuration says about those: hash of tunnel id to [`NextHop`](crate::target::NextHop). Written and read by
/// userspace only.
pub const NEXT_HOPS: &str = "NEXT_HOPS";
/// The interfaces that frames can be redirected to: device hash map of interface index to the same. Written by userspace.
pub const DEVICES: &str = "DEVICES";
/// The interfaces that the program is on: hash of interface index to its [`Mac`](crate::link::Mac). Written by userspace.
pub const INTERFACES: &str = "INTERFACES";
/// The lists of cores that tunnels are spread over, one after the other: array of core numbers. Written by userspace before
/// loading; [`Cores`](crate::tunnel::Cores) point into it.
pub const CORES: &str = "CORES";
/// Program array of one: what goes on with packets that are forwarded by the core that received them. Written by userspace before
/// loading; it must stay pinned, or the kernel empties it.
pub const FORWARD: &str = "FORWARD";
/// The cores' queues: CPU map by core number. Written by userspace before loading.
pub const CPUS: &str = "CPUS";

/// Frames that an interface did not take after the program had sent them there: per-CPU LRU hash of interface index to
/// their number (`u64`). Written by the programs on tracepoints.
pub const REDIRECTS: &str = "REDIRECTS";
/// How many interfaces [`REDIRECTS`] has room for. Beyond, those are forgotten that have lost nothing for longest: one that is back
/// has another index, so most of them are gone.
pub const MAX_REDIRECTS: u32 = 1024;
/// The kernel's ids of the maps that frames are redirected by: array, at [`DEVICES_ID`] and [`CPUS_ID`]. Written by userspace
/// before the programs on tracepoints are attached.
pub const REDIRECT_MAPS: &str = "REDIRECT_MAPS";
/// Where [`REDIRECT_MAPS`] has the id of [`DEVICES`].
pub const DEVICES_ID: u32 = 0;
/// Where [`REDIRECT_MAPS`] has the id of [`CPUS`].
pub const CPUS_ID: u32 = 1;

/// What happens on the way out of interfaces: hash of interface index to [`Clamp`](crate::mss::Clamp). Written by userspace.
pub const EGRESS: &str = "EGRESS";
/// TCP SYNs whose MSS was lowered on the way out: per-CPU LRU hash of interface index to their number (`u64`). Written by the
/// program there, which forgets as [`REDIRECTS`] does.
pub const EGRESS_CLAMPED: &str = "EGRESS_CLAMPED";
/// How many interfaces those have room for.
pub const MAX_EGRESS: u32 = 1024;

/// Ring buffer of [`Sample`](crate::sample::Sample)s of packets that were not delivered. Written by the program, read by
/// userspace.
pub const SAMPLES: &str = "SAMPLES";
/// Array of one time, in nanoseconds of `CLOCK_MONOTONIC`: until then somebody reads the samples. Written by userspace.
pub const READER: &str = "READER";
/// Per-CPU array of [`Bucket`](crate::sample::Bucket) by the index of a reason's counter. Written by the program.
pub const BUCKETS: &str = "BUCKETS";

/// What is protected, IPv4: longest-prefix map of [`Prefix<Ipv4>`](crate::protect::Prefix) to [`LISTED`]. Written by userspace.
pub const PROTECTED4: &str = "PROTECTED4";
/// The same for IPv6.
pub const PROTECTED6: &str = "PROTECTED6";
/// Sources that may reach what is protected without a tunnel: as [`PROTECTED4`].
pub const ALLOWED4: &str = "ALLOWED4";
/// The same for IPv6.
pub const ALLOWED6: &str = "ALLOWED6";
/// Inner IPv4 destinations that stay encapsulated: longest-prefix map of a [`Prefix`](crate::protect::Prefix) of
/// [`TunnelAddress<Ipv4>`](crate::protect::TunnelAddress) to [`LISTED`]. Written by userspace. Only tunnels whose
/// [`Policy::bypasses`](crate::tunnel::Policy::bypasses) is set are looked up, and only if the program was loaded with
/// [`HAVE_BYPASS`].
pub const BYPASS4: &str = "BYPASS4";
/// The same for IPv6.
pub const BYPASS6: &str = "BYPASS6";
/// The value of all prefixes in those: that they are there is all that counts.
pub const LISTED: u32 = 1;
/// The entries that each of those has room for. They take memory only for what is in them.
pub const MAX_PREFIXES: u32 = 1 << 20;

/// Set to 1 before loading: tunnels are of one family, and none has a prefix as its remote, so that the verifier has time for
/// counting without a call.
pub const COUNT_IN_PLACE: &str = "COUNT_IN_PLACE";
/// Set before loading: the local IPv4 addresses, where they are [few](crate::few).
pub const FEW_LOCALS4: &str = "FEW_LOCALS4";
/// The same for IPv6.
pub const FEW_LOCALS6: &str = "FEW_LOCALS6";
/// Set before loading: how many [`FEW_LOCALS4`] are, or [`MANY`](crate::few::MANY).
pub const COUNT_LOCALS4: &str = "COUNT_LOCALS4";
/// The same for IPv6.
pub const COUNT_LOCALS6: &str = "COUNT_LOCALS6";
/// Set before loading: the endpoints of tunnels with an exact IPv4 remote, where they are [few](crate::few).
pub const FEW_ENDPOINTS4: &str = "FEW_ENDPOINTS4";
/// The same for IPv6.
pub const FEW_ENDPOINTS6: &str = "FEW_ENDPOINTS6";
/// Set before loading: how many [`FEW_ENDPOINTS4`] are, or [`MANY`](crate::few::MANY).
pub const COUNT_ENDPOINTS4: &str = "COUNT_ENDPOINTS4";
/// The same for IPv6.
pub const COUNT_ENDPOINTS6: &str = "COUNT_ENDPOINTS6";
/// Set before loading: what is protected, IPv4, where it is [few](crate::few) prefixes. [`PROTECTED4`] holds the same, for userspace.
pub const FEW_PROTECTED4: &str = "FEW_PROTECTED4";
/// The same for IPv6.
pub const FEW_PROTECTED6: &str = "FEW_PROTECTED6";
/// Set before loading: how many [`FEW_PROTECTED4`] are, or [`MANY`](crate::few::MANY).
pub const COUNT_PROTECTED4: &str = "COUNT_PROTECTED4";
/// The same for IPv6.
pub const COUNT_PROTECTED6: &str = "COUNT_PROTECTED6";

/// Set before loading: one less than the number of [`TUNNEL_SLOTS4`], a power of two; 0 where they are not used.
pub const TUNNEL_SLOTS4_MASK: &str = "TUNNEL_SLOTS4_MASK";
/// The same for IPv6.
pub const TUNNEL_SLOTS6_MASK: &str = "TUNNEL_SLOTS6_MASK";
/// The same of [`TARGET_SLOTS`].
pub const TARGET_SLOTS_MASK: &str = "TARGET_SLOTS_MASK";

/// Set to 1 before loading: drop what no tunnel matches, instead of passing it.
pub const UNKNOWN_DROP: &str = "UNKNOWN_DROP";
/// Set to 1 before loading: some tunnel has a prefix as remote. Without, the look-up is pruned by the verifier.
pub const HAVE_PREFIXES: &str = "HAVE_PREFIXES";
/// Set to 1 before loading: some tunnel delivers by route.
pub const HAVE_ROUTE: &str = "HAVE_ROUTE";
/// Set to 1 before loading: some tunnel delivers to an interface.
pub const HAVE_INTERFACE: &str = "HAVE_INTERFACE";
/// Set to 1 before loading: some tunnel is spread over cores.
pub const HAVE_SPREAD: &str = "HAVE_SPREAD";
/// Set to 1 before loading: some tunnel lowers the MSS of TCP SYNs.
pub const HAVE_MSS: &str = "HAVE_MSS";
/// Set before loading: the [`Guard`](crate::protect::Guard) of inner destinations.
pub const INNER_DESTINATIONS: &str = "INNER_DESTINATIONS";
/// Set before loading: the [`Guard`](crate::protect::Guard) of packets that came by no tunnel to what is protected.
pub const LOCKDOWN: &str = "LOCKDOWN";
/// Set to 1 before loading: frames that lie in several buffers are left to the kernel, which cannot redirect them.
pub const FRAGS_BY_KERNEL: &str = "FRAGS_BY_KERNEL";
/// Set to 1 before loading: some tunnel has inner destinations that stay encapsulated.
pub const HAVE_BYPASS: &str = "HAVE_BYPASS";
/// Whether any tunnel's replies to health probes are sent on: u8, 0 or 1.
pub const HAVE_PROBES: &str = "HAVE_PROBES";
/// Set to 1 before loading: some tunnel answers keepalives.
pub const HAVE_KEEPALIVE: &str = "HAVE_KEEPALIVE";
/// Set before loading: the secret [key](crate::siphash::Key) of the flow hash.
pub const FLOW_KEY: &str = "FLOW_KEY";

/// Set before loading: the offset of the interface's index in the kernel's `struct net_device`.
pub const NET_DEVICE_IFINDEX: &str = "NET_DEVICE_IFINDEX";
/// Set before loading: the offset there of the pointer to the network namespace, a `struct net`.
pub const NET_DEVICE_NET: &str = "NET_DEVICE_NET";
/// Set before loading: the offset in `struct net` of the namespace's number.
pub const NET_INUM: &str = "NET_INUM";
/// Set before loading: the number of the network namespace that the interfaces are in.
pub const OWN_NETNS: &str = "OWN_NETNS";

/// A tunnel's name, UTF-8, padded with zero bytes.
pub type TunnelName = [u8; 64];
