//! The control plane of GRE decapsulation: what the binary `gre-decap` does.
//!
//! Its way: [`config`] (text → checked types) → [`tables`], [`settings`] and [`surroundings`] (what the maps and the program must
//! hold) → [`datapath`] (loaded into the kernel) → [`attach`] (on the interfaces) → [`state`] (pinned, so that it outlives the
//! process) → [`running`], [`interfaces`] and [`stats`] (read back); [`follow`] keeps up with the host, [`live`] changes tunnels
//! while they run. [`apply`] is where the steps follow each other.
//! The kernel is the only store of what runs: every command works on that.

mod about;
pub mod apply;
pub mod attach;
pub mod bpf;
pub mod capture;
mod carry;
pub mod clamps;
pub mod cli;
mod clock;
pub mod commands;
pub mod config;
pub mod counters;
pub mod datapath;
pub mod decode;
pub mod difference;
pub mod error;
pub mod follow;
pub mod host;
mod http;
pub mod interfaces;
mod layout;
pub mod listen;
pub mod live;
mod memory;
mod metrics;
mod nets;
pub mod offline;
mod output;
pub mod reasons;
mod redirects;
pub mod running;
pub mod samples;
mod service;
pub mod settings;
mod slots;
pub mod snapshot;
pub mod state;
pub mod stats;
pub mod surroundings;
mod table;
pub mod tables;
pub mod top;
pub mod trial;
