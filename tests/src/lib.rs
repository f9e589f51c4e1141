//! What the tests work with: frames built byte by byte ([`frame`]), the packet table as data ([`fixtures`]), a laboratory
//! of real interfaces in network namespaces ([`lab`]), which may be those of a virtual machine ([`guest`]), traffic whose
//! every byte is accounted for ([`traffic`]), and the `gre-decap` under test as an operator runs it ([`program`]). What
//! the benchmark finds has its form here too ([`figures`]).

pub mod figures;
pub mod fixtures;
pub mod frame;
pub mod guest;
pub mod lab;
pub mod program;
pub mod skip;
pub mod traffic;
