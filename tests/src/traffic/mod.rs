//! Traffic that knows what must arrive: bytes of a TCP stream by their hash, datagrams of UDP flows by their numbers.

pub mod flows;
pub mod tcp;
