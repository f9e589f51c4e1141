//! What the tests work with: frames built byte by byte ([`frame`]), the packet table as data ([`fixtures`]), and a
//! laboratory of real interfaces in network namespaces ([`lab`]), which may be those of a virtual machine ([`guest`]).

pub mod fixtures;
pub mod frame;
pub mod guest;
pub mod lab;
pub mod skip;
