//! The loader on a real kernel: `gre-decap` as an operator runs it, in network namespaces.
//!
//! The environment variable GRE_DECAP_BINARY holds the path of a `gre-decap` with its eBPF program inside, as
//! `cargo xtask test` sets it; without it these tests are skipped.

mod attaching;
mod chaos;
mod checking;
mod counting;
mod dist;
mod drops;
mod egress;
mod keepalive;
mod killed;
mod loading;
mod metrics;
mod protect;
mod quality;
mod redirects;
mod refusals;
mod reloading;
mod returning;
mod runner;
mod running;
mod said;
mod scale;
mod scrape;
mod service;
mod site;
mod slots;
mod stream;
mod surroundings;
mod top;
mod tunnels;
mod tunnels_file;
mod tunnels_killed;
mod tunnels_traffic;
mod upgrading;
mod ways_out;
