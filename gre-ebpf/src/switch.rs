//! Constants that say what a program can do.

use aya_ebpf::Global;

/// A number that the loader sets, and that the verifier knows: what is switched off it prunes.
///
/// In a build with the feature `bare`, which only the benchmark makes, all are off whatever the loader says, and the compiler has
/// pruned already. What such a program takes less per packet is what switches cost those who use nothing of what they switch.
#[repr(transparent)]
pub(crate) struct Switch(Global<u8>);

impl Switch {
    /// One that says so unless the loader says otherwise.
    pub(crate) const fn new(number: u8) -> Self {
        Self(Global::new(number))
    }

    #[inline(always)]
    pub(crate) fn load(&self) -> u8 {
        if cfg!(feature = "bare") { 0 } else { self.0.load() }
    }
}
