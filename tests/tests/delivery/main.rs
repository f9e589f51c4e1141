//! Delivery on the wire: a router that runs the loaded `gre-decap` between a scrubbing centre and a server.

mod bench;
mod corpus;
mod failures;
mod interface;
mod keepalive;
mod leftovers;
mod lookups;
mod mss;
mod net;
mod oracle;
mod policy;
mod probes;
mod spread;
mod strangers;
mod streams;
mod tagger;
