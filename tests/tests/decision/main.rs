//! The decision on the host, held against the table of fixtures and against its own promises on arbitrary bytes; and what is
//! decided about a packet after that: its flow, and what the routing tables are asked.

#[path = "../rfc/mod.rs"]
mod rfc;
#[path = "../support/mod.rs"]
mod support;

mod addressee;
mod delivery;
mod fixtures;
mod flow;
mod forward;
mod keepalive;
mod mss;
mod offline;
mod properties;
mod split;
mod usual;
