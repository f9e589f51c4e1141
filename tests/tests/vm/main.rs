//! Tests that need another kernel than the one at hand, with GRE of its own above all: `cargo xtask vm-test` runs them, in
//! virtual machines.

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod support;

mod both;
mod device;
mod differential;
mod egress;
mod ends;
mod fragments;
mod guide;
mod interop;
mod load;
mod ordered;
mod outer;
mod pair;
mod pass;
mod queues;
mod session;
mod site;
mod traffic;
mod unsupported;
