//! What the benchmark finds, as its measuring program writes it and `cargo xtask bench` reads, shows and compares it: JSON on both
//! sides of these types.

pub mod costs;
pub mod kernel;
pub mod path;
