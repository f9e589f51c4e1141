//! What the decision looks up beside the packet.

use crate::{
    Packet,
    endpoints::{Endpoints, Ipv4, Ipv6},
    link::Mac,
    protect::{self, Guard, Inner, Ruling},
    sequence::Order,
    tunnel::Tunnel,
};

/// What the decision looks up beside the packet: the kernel's maps, or tables on the host.
pub trait Tables {
    /// The most specific tunnel for an IPv4 packet's endpoints.
    fn tunnel4(&self, endpoints: &Endpoints<Ipv4>) -> Option<Tunnel>;
    /// The most specific tunnel for an IPv6 packet's endpoints.
    fn tunnel6(&self, endpoints: &Endpoints<Ipv6>) -> Option<Tunnel>;
    /// The same for an IPv4 packet of [a usual form](crate::usual).
    fn usual4(&self, endpoints: &Endpoints<Ipv4>) -> Option<Tunnel> {
        self.tunnel4(endpoints)
    }
    /// The same for an IPv6 packet of a usual form.
    fn usual6(&self, endpoints: &Endpoints<Ipv6>) -> Option<Tunnel> {
        self.tunnel6(endpoints)
    }
    /// Whether frames with two VLAN tags may go a usual way.
    fn takes_doubly_tagged(&self) -> bool {
        true
    }
    /// Whether any tunnel has this local address.
    fn is_local4(&self, address: &Ipv4) -> bool;
    /// Whether any tunnel has this local address.
    fn is_local6(&self, address: &Ipv6) -> bool;
    /// Whether a packet that no tunnel matches is dropped.
    fn drop_unknown(&self) -> bool;
    /// Whether any tunnel forwards, instead of delivering to the stack.
    fn forwards(&self) -> bool;
    /// Whether this is the MAC address of the interface that the packet came in on.
    fn is_own_mac(&self, mac: Mac) -> bool;
    /// The same for a packet of a usual form.
    fn is_own_mac_usual(&self, mac: Mac) -> bool {
        self.is_own_mac(mac)
    }
    /// Judges the sequence number of a tunnel's packet, moves the tunnel's state, and notes that it has come as [`Self::arrived`] does.
    fn order(&self, tunnel: u32, number: u32) -> Order;
    /// Notes that a packet with this number has come by a tunnel that does not enforce order, whatever becomes of it. Nothing is
    /// decided by that.
    fn arrived(&self, _tunnel: u32, _number: u32) {}
    /// The same as [`Self::order`] for a packet of a usual form.
    fn order_usual(&self, tunnel: u32, number: u32) -> Order {
        self.order(tunnel, number)
    }
    /// The same as [`Self::arrived`] for a packet of a usual form.
    fn arrived_usual(&self, tunnel: u32, number: u32) {
        self.arrived(tunnel, number);
    }
    /// What becomes of inner packets to destinations that are not protected.
    fn inner_destinations(&self) -> Guard;
    /// Whether there is such a rule at all, which is asked of nearly each packet.
    fn guards_inner_destinations(&self) -> bool {
        self.inner_destinations() != Guard::Off
    }
    /// Whether this address is within `protect.prefixes`.
    fn is_protected4(&self, address: &Ipv4) -> bool;
    /// Whether this address is within `protect.prefixes`.
    fn is_protected6(&self, address: &Ipv6) -> bool;
    /// What becomes of packets that came by no tunnel to what is protected.
    fn lockdown(&self) -> Guard;
    /// Whether this source is within `protect.allow`.
    fn is_allowed4(&self, address: &Ipv4) -> bool;
    /// Whether this source is within `protect.allow`.
    fn is_allowed6(&self, address: &Ipv6) -> bool;
    /// Whether this inner destination is within the tunnel's `bypass`.
    fn is_bypassed4(&self, tunnel: u32, address: &Ipv4) -> bool;
    /// Whether this inner destination is within the tunnel's `bypass`.
    fn is_bypassed6(&self, tunnel: u32, address: &Ipv6) -> bool;
    /// Rules on a packet that came by a tunnel: [`protect::inner`], which the kernel program calls in a function of its own, and
    /// only if there is such a rule.
    fn judge_inner<P: Packet>(&self, packet: &P, inner: &Inner) -> Ruling
    where
        Self: Sized,
    {
        protect::inner(packet, self, inner)
    }
    /// Whether any tunnel answers keepalives.
    fn answers(&self) -> bool;
    /// Whether a tunnel that answers keepalives may answer one more now; if so, that is one more.
    fn may_answer(&self, tunnel: u32) -> bool;
    /// The rule on a packet that came by no tunnel: [`protect::breaks_lockdown`], which the kernel program calls in a function of
    /// its own, and only if there is such a rule.
    fn breaks_lockdown<P: Packet>(&self, packet: &P) -> bool
    where
        Self: Sized,
    {
        self.lockdown() != Guard::Off && protect::breaks_lockdown(packet, self)
    }
}
