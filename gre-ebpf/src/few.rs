//! Comparing a packet with the few local addresses there are: see `gre_common::few`.

use aya_ebpf::{Global, maps::HashMap};
use gre_common::{
    endian::Be32,
    endpoints::{Ipv4, Ipv6},
    few::{MANY, MOST},
};

#[unsafe(no_mangle)]
static FEW_LOCALS4: Global<[Ipv4; MOST]> = Global::new([[Be32::new(0); 1]; MOST]);
#[unsafe(no_mangle)]
static FEW_LOCALS6: Global<[Ipv6; MOST]> = Global::new([[Be32::new(0); 4]; MOST]);
#[unsafe(no_mangle)]
static COUNT_LOCALS4: Global<u32> = Global::new(MANY);
#[unsafe(no_mangle)]
static COUNT_LOCALS6: Global<u32> = Global::new(MANY);

/// Whether there is so little in all that the verifier may walk through the counting from each way to get there.
#[unsafe(no_mangle)]
pub(crate) static COUNT_IN_PLACE: Global<u8> = Global::new(0);

/// Addresses of a family that are compared.
pub(crate) trait Few: Copy + 'static {
    /// Whether any tunnel has this local address; if there are many, by the hash map.
    fn is_local(self, many: &HashMap<Self, u32>) -> bool;
    /// The same, but true if there are many.
    fn may_be_local(self) -> bool;
}

impl Few for Ipv4 {
    #[inline(always)]
    fn is_local(self, many: &HashMap<Self, u32>) -> bool {
        if COUNT_LOCALS4.load() == MANY {
            return many.get_ptr(self).is_some();
        }
        self.may_be_local()
    }
    #[inline(always)]
    fn may_be_local(self) -> bool {
        may_be_among(&COUNT_LOCALS4, &FEW_LOCALS4, self)
    }
}

impl Few for Ipv6 {
    #[inline(always)]
    fn is_local(self, many: &HashMap<Self, u32>) -> bool {
        if COUNT_LOCALS6.load() == MANY {
            return many.get_ptr(self).is_some();
        }
        self.may_be_local()
    }
    #[inline(always)]
    fn may_be_local(self) -> bool {
        may_be_among(&COUNT_LOCALS6, &FEW_LOCALS6, self)
    }
}

#[inline(always)]
fn may_be_among<const WORDS: usize>(
    count: &Global<u32>,
    few: &'static Global<[[Be32; WORDS]; MOST]>,
    address: [Be32; WORDS],
) -> bool {
    if count.load() == MANY {
        return true;
    }
    let few = (&raw const *few).cast::<[Be32; WORDS]>();
    // SAFETY: elements of the array, which `Global` is nothing but.
    (0..MOST).any(|index| (index as u32) < count.load() && unsafe { is_address(few.add(index), address) })
}

/// The last word first, in which addresses mostly differ. Volatile, because the loader sets them.
///
/// # Safety
/// `constant` must be valid.
#[inline(always)]
unsafe fn is_address<const WORDS: usize>(constant: *const [Be32; WORDS], address: [Be32; WORDS]) -> bool {
    let words = constant.cast::<Be32>();
    // SAFETY: the caller's promise.
    (0..WORDS)
        .rev()
        .all(|word| unsafe { words.add(word).read_volatile() } == address[word])
}
