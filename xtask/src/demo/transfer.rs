//! Megabytes over TCP, with the hash of what was sent and of what arrived compared.

use std::net::IpAddr;

use anyhow::Result;
use gre_tests::traffic::tcp::{self, Direction};

use super::topology::Topology;

/// Sends `length` pseudo-random bytes over one TCP connection of the client to the service.
pub(super) fn run(net: &Topology, service: IpAddr, direction: Direction, length: usize) -> Result<String> {
    let done = tcp::transfer(&net.client, &net.server, service, direction, length)?;
    let (megabytes, seconds) = (length as f64 / 1e6, done.time.as_secs_f64());
    Ok(format!(
        "{megabytes:.0} MB in {seconds:.1} s, SHA-256 {}… on both ends",
        &done.sha256[..16]
    ))
}
