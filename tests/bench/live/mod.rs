//! Real frames through whole hosts: [`kernel`] sends the same to the kernel's own GRE receiver and to our program, [`path`] sends
//! them through a driver to each delivery.

mod attach;
mod injector;
pub(crate) mod kernel;
pub(crate) mod path;
mod site;
mod tcp;
