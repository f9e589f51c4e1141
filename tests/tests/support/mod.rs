//! What the runners of the packet table share: the decision as it is on the host, with bytes and tables as plain as can
//! be, and generated frames to put to it.

pub(crate) mod bytes;
pub(crate) mod carry_out;
pub(crate) mod frames;
pub(crate) mod outcome;
pub(crate) mod reference;
pub(crate) mod split;
