//! Why a packet was not simply decapsulated: the names operators see, what happens to the packet, and what to do.

/// What becomes of a packet that is not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Handed to the kernel as it came (`XDP_PASS`), or, for a note, delivered.
    Pass,
    /// Discarded (`XDP_DROP`).
    Drop,
}

impl Action {
    /// The word used in metrics: `pass` or `drop`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Drop => "drop",
        }
    }
}

/// Declares [`Reason`] so that each variant's name, action and doc comment stand in one place.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $action:ident;)+) => {
        /// Why a packet had another outcome than plain decapsulation.
        ///
        /// The discriminant is the index of the reason's counter. Two variants share a name where the same reason can
        /// end in either action, so that each (name, action) pair has a counter of its own.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// All reasons, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// How many reasons, and so counters, there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The reason with the counter at `index`.
            #[inline(always)]
            pub const fn at(index: u32) -> Option<Self> {
                $(if index == Self::$variant as u32 { return Some(Self::$variant); })+
                None
            }

            /// The stable name, in snake case.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// What becomes of the packet.
            #[inline(always)]
            pub const fn action(self) -> Action {
                match self { $(Self::$variant => Action::$action),+ }
            }

            /// What it means, likely causes, and what to do: the variant's own documentation.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc, "\n"),+)),+ }
            }
        }
    };
}

reasons! {
    /// A fragment of an outer packet. The kernel gets it as it came and reassembles it.
    ///
    /// Likely cause: the path between the scrubbing centre and this host has a smaller MTU than the sender believes.
    /// Fragments cost far more than whole packets: lower the tunnel's MTU or the TCP MSS at the sender.
    OuterFragment = "outer_fragment", Pass;
    /// The outer IP header is invalid: header length below 5 words, a total length shorter than the headers or longer than
    /// the frame, or a bad header checksum.
    ///
    /// Likely cause: damage on the way or a hand-made packet. The kernel would discard it as well.
    OuterMalformed = "outer_malformed", Drop;
    /// The outer IPv6 header is followed by extension headers other than up to two of hop-by-hop and destination options.
    ///
    /// The kernel gets the packet as it came. Likely cause: routing headers or authentication between the tunnel's ends.
    OuterExtension = "outer_extension", Pass;
    /// The packet ends within the GRE header or within the fields that its flags announce.
    ///
    /// Likely cause: a hand-made packet or a broken sender.
    GreTruncated = "gre_truncated", Drop;
    /// GRE version 1, as PPTP uses it. The kernel gets the packet as it came: a PPTP server beside us may own it.
    ///
    /// Nothing to do, unless nobody here speaks PPTP: then a stranger sends it.
    GreVersionPptp = "gre_version", Pass;
    /// GRE version 2 to 7, which nobody has defined (RFC 2784 section 2.3.1).
    ///
    /// Likely cause: a hand-made packet or a damaged header.
    GreVersionUndefined = "gre_version", Drop;
    /// The routing bit, or bits 4 or 5 of Reserved0, are set: RFC 2784 section 2.3 says such a packet must be discarded.
    ///
    /// Likely cause: a sender of RFC 1701, or a hand-made packet.
    GreReserved = "gre_reserved", Drop;
    /// GRE to a configured local address, but no tunnel has its source, key or lack of a key. It was passed to the kernel
    /// because `unknown = "pass"`.
    ///
    /// Likely causes: the scrubbing centre sends from an address that `remote` does not list, or with another key.
    UnknownPassed = "unknown_tunnel", Pass;
    /// GRE to a configured local address, but no tunnel has its source, key or lack of a key. It was dropped because
    /// `unknown = "drop"`.
    ///
    /// Likely causes: the scrubbing centre sends from an address that `remote` does not list, or with another key.
    UnknownDropped = "unknown_tunnel", Drop;
    /// The tunnel it belongs to has `enabled = false`. The kernel gets the packet as it came.
    TunnelDisabled = "tunnel_disabled", Pass;
    /// The checksum field is absent although the tunnel has `checksum = "required"`, or present although it has
    /// `"forbidden"`.
    ///
    /// Set both ends alike.
    ChecksumPolicy = "checksum_policy", Drop;
    /// The GRE checksum is present and wrong: the packet was damaged on the way, or its sender computes it wrongly.
    ///
    /// If it happens to all of a sender's packets, report it there; `checksum = "ignore"` accepts them meanwhile.
    ChecksumBad = "checksum_bad", Drop;
    /// The tunnel has `sequence = "ordered"` and the packet's number is absent, a duplicate, or older than the next expected.
    ///
    /// Likely causes: reordering on the way, several paths, or a sender that does not number its packets.
    Sequence = "sequence", Drop;
    /// A packet with an old number that was accepted because its sender has evidently restarted: the 16th such packet in
    /// a row, or one after a second without newer ones. The packet was delivered.
    SequenceRestart = "sequence_restart", Pass;
    /// The GRE protocol type is not in the tunnel's `inner` list. The kernel gets the packet as it came: a tunnel of the
    /// kernel beside us may own it.
    ///
    /// Likely causes: GRE keepalives, routing protocols, or an `inner` list that lacks a type the centre sends.
    InnerProtocol = "inner_protocol", Pass;
    /// The inner header is invalid: a version other than the protocol type says, a header length below 5 words, lengths that
    /// do not fit the payload, or a cut-off Ethernet or MPLS header.
    ///
    /// Likely cause: hand-made attack packets that the scrubbing centre has let through, or damage on the way.
    InnerMalformed = "inner_malformed", Drop;
    /// A router on the way marked congestion on the outer header, but the inner packet's transport cannot understand the
    /// mark, so it must be dropped instead (RFC 6040 section 4.2).
    ///
    /// Likely causes: congestion on the way, or a sender that marks outer headers as ECN-capable when inner ones are not.
    Ecn = "ecn", Drop;
    /// The packet's start could not be moved, or its headers do not lie in the first buffer. The kernel gets the packet as
    /// it came.
    ///
    /// Likely cause: the driver. If it happens to all packets, use `mode = "generic"` or another driver.
    Headroom = "headroom", Pass;
    /// A frame for another MAC address than the interface's, of a tunnel that forwards. The kernel gets it as it came.
    ///
    /// Likely causes: promiscuous mode, a switch that floods, or the interface's address was changed: then load again.
    OtherHost = "other_host", Pass;
    /// `deliver = "route"` or an interface: the next hop's MAC address is not known yet. The kernel got the packet
    /// decapsulated, and forwards it once it has resolved the neighbour.
    ///
    /// A few at the start of traffic are normal. If it goes on, the next hop does not answer.
    RouteNoNeighbour = "route_no_neighbour", Pass;
    /// `deliver = "route"`: the TTL or hop limit would become 0. The kernel got the packet decapsulated, and answers with
    /// Time Exceeded.
    RouteTtl = "route_ttl", Pass;
    /// `deliver = "route"`: the inner packet is longer than the MTU of the way out. The kernel got it decapsulated, to
    /// fragment it or to answer that it is too big.
    ///
    /// Likely cause: the interface towards the servers has a smaller MTU than the tunnel.
    RouteTooBig = "route_too_big", Pass;
    /// `deliver = "route"`: the inner destination is an address of this host, a broadcast or multicast one, or one that no
    /// route leads to. The kernel got the packet decapsulated.
    RouteLocal = "route_local", Pass;
    /// `deliver = "route"` or an interface: XDP cannot forward this packet or cannot send by this interface. The kernel got it
    /// decapsulated, and forwards it if it may.
    ///
    /// Likely causes: forwarding is off on the interface it came in on, the way out is a VLAN device, bond, bridge or tunnel,
    /// or the packet has IPv4 options, an IPv6 hop-by-hop header or an address that is never forwarded. `gre-decap check` names
    /// interfaces that cannot be redirected to.
    RouteOther = "route_other", Pass;
    /// `deliver = "route"`: the route to the inner destination is a blackhole, unreachable or prohibit route.
    RouteDenied = "route_denied", Drop;
    /// `spread`: the queue of the core that the flow belongs to was full. Counted for all tunnels together.
    ///
    /// Likely causes: more traffic than the listed cores can take, or one flow that alone is too much for a core. Give the
    /// tunnel more cores, or raise `spread_queue` if only bursts are lost.
    SpreadFull = "spread_full", Drop;
    /// The packet was sent on to an interface, and the driver or the kernel did not take it. Counted for all tunnels together
    /// and by interface, on top of the tunnel's `packets`. With `spread` also a packet for which another core had no memory.
    ///
    /// Likely causes: the interface is down, its MTU is too small, its queue is full, or it cannot take redirected frames
    /// (any more): see `gre-decap check`.
    RedirectFailed = "redirect_failed", Drop;
    /// A step that cannot fail failed; the packet was dropped rather than sent on half-written or unverified.
    ///
    /// Please report it, with the driver and the kernel's version.
    Internal = "internal", Drop;
    /// `inner_destinations = "enforce"`: the inner packet is for an address outside `prefixes` in `[protect]`.
    ///
    /// Likely causes: attack packets for other hosts of this network that the scrubbing centre has let through or somebody sends with
    /// its address, or a prefix that the centre protects and the list lacks. Look at some with `gre-decap drops --reason
    /// inner_destination`; what is right goes into `prefixes`, or into the tunnel's `bypass` if the kernel's GRE device owns it.
    InnerDestination = "inner_destination", Drop;
    /// `inner_destinations = "monitor"`: the inner packet is for an address outside `prefixes` in `[protect]`. It was delivered all
    /// the same; `"enforce"` would drop it.
    ///
    /// Before enforcing, look at what it is with `gre-decap drops --reason inner_destination`.
    InnerDestinationMonitored = "inner_destination", Pass;
    /// The inner packet is for an address within the tunnel's `bypass`. The kernel gets it as it came, for its own GRE device.
    Bypass = "bypass", Pass;
    /// A keepalive of the tunnel's far end: GRE in IP from our end to theirs, without a payload. With `keepalive = "reply"` it was
    /// answered; else the kernel got it as it came.
    ///
    /// Nothing to do, unless the far end reports the tunnel as down: then set `keepalive = "reply"`.
    Keepalive = "keepalive", Pass;
    /// `keepalive = "reply"`: more keepalives than the tunnel's `keepalive_rate` a second.
    ///
    /// Likely causes: more routers in `remote` than the rate is for, or somebody who forges their address.
    KeepaliveRate = "keepalive_rate", Drop;
    /// The inner packet is addressed to the outer source: decapsulated, it would go back into the tunnel (RFC 2784 section 3.1).
    /// Keepalives are of this shape, too, and known by their GRE header: see `keepalive`.
    ///
    /// Likely causes: the scrubbing centre routes the tunnel's own far end into the tunnel, or keepalives of an unknown kind.
    Loop = "loop", Drop;
    /// `lockdown = "enforce"`: a packet that came by no tunnel, to an address within `prefixes` in `[protect]`, from a source that
    /// `allow` does not have.
    ///
    /// Likely causes: an attack straight at this host, around the scrubbing centre; or somebody who is to reach it directly and that
    /// `allow` lacks: a management network, a BGP neighbour, a DNS resolver. Look at some with `gre-decap drops --reason lockdown`.
    Lockdown = "lockdown", Drop;
    /// `lockdown = "monitor"`: a packet that came by no tunnel, to an address within `prefixes` in `[protect]`, from a source that
    /// `allow` does not have. The kernel got it as it came; `"enforce"` would drop it.
    ///
    /// Before enforcing, look for a day at who it is with `gre-decap drops --reason lockdown`, and add to `allow` who may.
    LockdownMonitored = "lockdown", Pass;
    /// `probes = "route"`: a scrubbing centre's health probe, an echo reply to an address outside `prefixes` in `[protect]`. It was
    /// decapsulated and sent on by this host's routes, whatever the tunnel's `deliver`.
    ///
    /// Nothing to do, unless the centre reports the tunnel as down: then see whether another reason beside it, as `route_other`, says
    /// that the probe could not be sent on.
    Probe = "probe", Pass;
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_pair_of_name_and_action_has_one_counter() {
        let pairs: HashSet<_> = Reason::ALL.iter().map(|r| (r.name(), r.action())).collect();
        assert_eq!(pairs.len(), Reason::COUNT);
        assert_eq!(Reason::at(Reason::COUNT as u32), None);
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            assert_eq!(Reason::at(index as u32), Some(*reason));
            assert!(!reason.explanation().trim().is_empty());
            assert!(
                reason.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{}",
                reason.name()
            );
        }
    }
}
