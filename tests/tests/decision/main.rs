//! The decision on the host, held against the table of fixtures and against its own promises on arbitrary bytes.

#[path = "../support/mod.rs"]
mod support;

mod fixtures;
mod properties;
mod split;
