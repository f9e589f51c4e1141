//! The live view of `top`: what is shown ([`Model`]), how ([`draw`](view::draw)), and the keys.

mod cpus;
mod keys;
mod model;
mod view;

pub use self::cpus::CpuTimes;
pub use self::keys::press;
pub use self::model::{Model, Sort};
pub use self::view::draw;
