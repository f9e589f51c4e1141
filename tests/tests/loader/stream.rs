//! Numbered datagrams through the tunnel of [`CONFIG`](crate::site::CONFIG), without a pause.

use std::net::IpAddr;

use anyhow::Result;
use gre_tests::frame::Gre;
use gre_tests::lab::{Scrubber, Tunnel};
use gre_tests::traffic::flows::{Flows, Received, Running};

use crate::site::{LOCAL, REMOTE, Site};

/// The inner destination: an address of the origin.
const SERVICE: [u8; 4] = [192, 0, 2, 80];
/// Flows at a time, and datagrams on the way: fewer than any queue holds.
const FLOWS: u16 = 8;
const WINDOW: u64 = 64;
const LENGTH: usize = 200;

/// Datagrams from the scrubbing centre that arrive at the origin, all of them, or the test fails.
pub(crate) struct Stream {
    flows: Running,
    _scrubber: Scrubber,
}

impl Stream {
    /// Starts to send what `key` is on. The tunnel must run.
    pub(crate) fn start(site: &Site, key: Option<u32>) -> Result<Self> {
        site.origin.ip("address replace 192.0.2.80/32 dev lo")?;
        site.origin.ip("route replace 198.18.5.0/24 dev wan0")?;
        site.scrub.ip("address replace 203.0.113.10/32 dev lo")?;
        site.scrub.ip("address replace 198.18.5.7/32 dev lo")?;
        site.scrub.ip("route replace 198.51.100.0/24 dev wan")?;
        let gre = Gre { key, ..Gre::default() };
        let tunnel = Tunnel::new(REMOTE.into(), LOCAL.into()).with_gre(gre);
        let scrubber = Scrubber::start(&site.scrub, "gre-scrub", &tunnel)?;
        site.scrub
            .ip("route replace 192.0.2.0/24 dev gre-scrub src 198.18.5.7")?;
        let flows = Flows::open(&site.scrub, &site.origin, IpAddr::from(SERVICE), FLOWS, LENGTH)?;
        Ok(Self {
            flows: flows.start(WINDOW)?,
            _scrubber: scrubber,
        })
    }

    /// Waits until so many more have arrived.
    pub(crate) fn wait_for(&self, more: u64) -> Result<()> {
        self.flows.wait_for(more)
    }

    /// Stops. None may be missing.
    pub(crate) fn stop(self) -> Result<Received> {
        self.flows.stop()
    }
}
