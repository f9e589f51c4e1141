//! What each command does.

pub mod check;
pub mod drops;
pub mod explain;
pub mod load;
pub mod run;
pub mod stats;
pub mod status;
pub mod top;
pub mod tunnel;
pub mod unload;
