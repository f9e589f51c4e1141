//! Packets a second through a driver to each delivery, and TCP through the tunnel.

use serde::{Deserialize, Serialize};

/// One run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// Processor and kernel.
    pub machine: String,
    /// How many cores there are.
    pub cores: usize,
    /// How often everything was measured.
    pub rounds: usize,
    /// Packets a second to each delivery, XDP_DROP's first.
    pub deliveries: Vec<Rate>,
    /// TCP by each way.
    pub tcp: Vec<Throughput>,
}

/// Packets a second.
#[derive(Debug, Serialize, Deserialize)]
pub struct Rate {
    /// Whither.
    pub name: String,
    /// Of those that arrived: median over the rounds.
    pub median: f64,
    /// Between this and `high` lie the middle half of the rounds.
    pub low: f64,
    /// See `low`.
    pub high: f64,
    /// As part of XDP_DROP's of the same round: the median.
    pub of_drop: f64,
    /// The part of all packets that did not arrive.
    pub lost: f64,
}

/// Bits a second.
#[derive(Debug, Serialize, Deserialize)]
pub struct Throughput {
    /// By which way.
    pub name: String,
    /// Of what the server's program read: median over the rounds.
    pub median: f64,
    /// Between this and `high` lie the middle half of the rounds.
    pub low: f64,
    /// See `low`.
    pub high: f64,
    /// Frames on the wire for each packet that the stack received: what GRO made one of.
    pub frames_a_packet: f64,
}
