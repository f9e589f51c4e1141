//! Tests that need another kernel than the one at hand, with GRE of its own above all: `cargo xtask vm-test` runs them, in
//! virtual machines.

mod device;
mod fragments;
mod guide;
mod interop;
mod load;
mod pass;
mod site;
mod traffic;
mod unsupported;
