//! The loaded program, run by the kernel on one frame at a time (BPF_PROG_TEST_RUN), held against the table of fixtures and
//! against the decision on the host.
//!
//! Needs the rights to load programs, and a build with the eBPF object inside, as `cargo xtask test` makes it; without, the
//! tests are skipped.

#[path = "../support/mod.rs"]
mod support;

mod buffers;
mod checksum;
mod egress;
mod fixtures;
mod forwarding;
mod generated;
mod keepalive;
mod kernel;
mod loaded;
mod protect;
mod router;
mod sampling;
mod trial;
