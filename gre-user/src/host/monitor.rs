//! Word of what changes on this host that delivery depends on.

use std::io;

use libc::{
    RTM_DELLINK, RTM_DELNEIGH, RTM_DELQDISC, RTM_DELROUTE, RTM_DELTFILTER, RTM_NEWLINK, RTM_NEWNEIGH, RTM_NEWROUTE,
    RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE, RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_TC,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::neighbours;
use super::netlink::Message;
use super::routes;
use super::subscription::Subscription;

/// Tells when interfaces, neighbours or default routes have changed, or filters were taken away, in the network namespace of the
/// thread that opened it.
#[derive(Debug)]
pub struct Monitor(AsyncFd<Subscription>);

impl Monitor {
    /// Starts to listen: whatever changes from now on is told.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime with its I/O driver enabled.
    pub fn open() -> io::Result<Self> {
        let groups = [
            RTNLGRP_LINK,
            RTNLGRP_NEIGH,
            RTNLGRP_IPV4_ROUTE,
            RTNLGRP_IPV6_ROUTE,
            RTNLGRP_TC,
        ];
        let subscription = Subscription::open(&groups)?;
        // SAFETY: the descriptor is the subscription's own and stays open for as long as that lives.
        let registered = unsafe { AsyncFd::register_with_interest(subscription, Interest::READABLE) };
        Ok(Self(registered?))
    }

    /// Waits until something has changed since the last call. Many changes that came before it count as one, and what the
    /// kernel could not tell, because it was not read in time, counts as a change.
    ///
    /// To be cancelled is safe: nothing told is lost by it.
    ///
    /// # Errors
    ///
    /// If the kernel cannot be listened to any more.
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            // Nothing is awaited after the read, so that nobody can cancel between it and the answer.
            let changed = ready.get_inner().drain(matters)?;
            ready.clear_ready();
            if changed {
                return Ok(());
            }
        }
    }
}

/// Whether delivery may depend on what a message tells. On a router with many routes and neighbours most does not.
fn matters(message: &Message) -> bool {
    match message.kind {
        RTM_NEWLINK | RTM_DELLINK | RTM_DELNEIGH | RTM_DELQDISC | RTM_DELTFILTER => true,
        RTM_NEWNEIGH => neighbours::is_settled(message),
        RTM_NEWROUTE | RTM_DELROUTE => routes::is_default(message),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorded::{LINKS, NEIGHBOURS, ROUTES, message, messages};
    use super::*;

    #[test]
    fn only_what_changes_delivery_matters() {
        let matters = |kind, message| matters(&Message { kind, ..message });
        assert!(matters(RTM_NEWLINK, message(LINKS, "v0")));
        assert!(matters(RTM_DELLINK, message(LINKS, "v0")));
        assert!(matters(RTM_NEWNEIGH, message(NEIGHBOURS, "10.0.0.3")));
        // The kernel asks for it, or has given up.
        assert!(!matters(RTM_NEWNEIGH, message(NEIGHBOURS, "10.0.0.4")));
        assert!(matters(RTM_NEWNEIGH, message(NEIGHBOURS, "10.0.0.5")));
        assert!(matters(RTM_DELNEIGH, message(NEIGHBOURS, "10.0.0.4")));
        // A default route, and one that is none.
        assert!(matters(RTM_DELROUTE, messages(ROUTES, "inet6").remove(0)));
        assert!(!matters(RTM_NEWROUTE, messages(ROUTES, "inet").remove(8)));
    }
}
