//! Comparing a packet with the few local addresses, tunnels' endpoints and protected prefixes there are: see `gre_common::few`.

use core::hint::black_box;

use aya_ebpf::{
    Global,
    macros::map,
    maps::{Array, HashMap},
};
use gre_common::{
    endian::Be32,
    endpoints::{Endpoints, Ipv4, Ipv6},
    few::{MANY, MOST, Masked},
    tunnel::Tunnel,
};

#[unsafe(no_mangle)]
static FEW_LOCALS4: Global<[Ipv4; MOST]> = Global::new([[Be32::new(0); 1]; MOST]);
#[unsafe(no_mangle)]
static FEW_LOCALS6: Global<[Ipv6; MOST]> = Global::new([[Be32::new(0); 4]; MOST]);
#[unsafe(no_mangle)]
static COUNT_LOCALS4: Global<u32> = Global::new(MANY);
#[unsafe(no_mangle)]
static COUNT_LOCALS6: Global<u32> = Global::new(MANY);

#[unsafe(no_mangle)]
static FEW_ENDPOINTS4: Global<[Endpoints<Ipv4>; MOST]> = Global::new([Endpoints::NOWHERE; MOST]);
#[unsafe(no_mangle)]
static FEW_ENDPOINTS6: Global<[Endpoints<Ipv6>; MOST]> = Global::new([Endpoints::NOWHERE; MOST]);
#[unsafe(no_mangle)]
static COUNT_ENDPOINTS4: Global<u32> = Global::new(MANY);
#[unsafe(no_mangle)]
static COUNT_ENDPOINTS6: Global<u32> = Global::new(MANY);

#[unsafe(no_mangle)]
static FEW_PROTECTED4: Global<[Masked<Ipv4>; MOST]> = Global::new([Masked::ALL; MOST]);
#[unsafe(no_mangle)]
static FEW_PROTECTED6: Global<[Masked<Ipv6>; MOST]> = Global::new([Masked::ALL; MOST]);
#[unsafe(no_mangle)]
static COUNT_PROTECTED4: Global<u32> = Global::new(MANY);
#[unsafe(no_mangle)]
static COUNT_PROTECTED6: Global<u32> = Global::new(MANY);

#[map]
static COMPARED4: Array<Tunnel> = Array::with_max_entries(MOST as u32, 0);
#[map]
static COMPARED6: Array<Tunnel> = Array::with_max_entries(MOST as u32, 0);

/// Whether there is so little in all that the verifier may walk through the counting from each way to get there.
#[unsafe(no_mangle)]
pub(crate) static COUNT_IN_PLACE: Global<u8> = Global::new(0);

/// Addresses of a family that are compared, or whose tunnels are.
pub(crate) trait Few: Copy + 'static {
    /// Whether any tunnel has this local address; if there are many, by the hash map.
    fn is_local(self, many: &HashMap<Self, u32>) -> bool;
    /// The same, but true if there are many.
    fn may_be_local(self) -> bool;
    /// Whether tunnels with an exact remote are few: [`Self::compared`] has all of them, and the hash map is not looked at.
    fn are_compared() -> bool;
    /// The tunnel with these endpoints, of the few that there are.
    fn compared(endpoints: &Endpoints<Self>) -> Option<Tunnel>;
    /// The same with a look-up for each place, which takes fewer instructions, and more of the verifier's time: it walks through what
    /// follows once for each. `None` too if the tunnels are many.
    fn compared_at_once(endpoints: &Endpoints<Self>) -> Option<Tunnel>;
    /// Whether the address is protected; `None` if so many prefixes are that they are to be looked up.
    fn is_protected(self) -> Option<bool>;
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
    #[inline(always)]
    fn are_compared() -> bool {
        COUNT_ENDPOINTS4.load() != MANY
    }
    #[inline(always)]
    fn compared(endpoints: &Endpoints<Self>) -> Option<Tunnel> {
        among(&COUNT_ENDPOINTS4, &FEW_ENDPOINTS4, &COMPARED4, endpoints)
    }
    #[inline(always)]
    fn compared_at_once(endpoints: &Endpoints<Self>) -> Option<Tunnel> {
        at_once_among(&COUNT_ENDPOINTS4, &FEW_ENDPOINTS4, &COMPARED4, endpoints)
    }
    #[inline(always)]
    fn is_protected(self) -> Option<bool> {
        is_within_any(&COUNT_PROTECTED4, &FEW_PROTECTED4, self)
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
    #[inline(always)]
    fn are_compared() -> bool {
        COUNT_ENDPOINTS6.load() != MANY
    }
    #[inline(always)]
    fn compared(endpoints: &Endpoints<Self>) -> Option<Tunnel> {
        among(&COUNT_ENDPOINTS6, &FEW_ENDPOINTS6, &COMPARED6, endpoints)
    }
    #[inline(always)]
    fn compared_at_once(endpoints: &Endpoints<Self>) -> Option<Tunnel> {
        at_once_among(&COUNT_ENDPOINTS6, &FEW_ENDPOINTS6, &COMPARED6, endpoints)
    }
    #[inline(always)]
    fn is_protected(self) -> Option<bool> {
        is_within_any(&COUNT_PROTECTED6, &FEW_PROTECTED6, self)
    }
}

#[inline(always)]
fn may_be_among<const WORDS: usize>(
    count: &Global<u32>,
    few: &'static Global<[[Be32; WORDS]; MOST]>,
    address: [Be32; WORDS],
) -> bool {
    let count = count.load();
    if count == MANY {
        return true;
    }
    let few = (&raw const *few).cast::<[Be32; WORDS]>();
    // SAFETY: elements of the array, which `Global` is nothing but.
    (0..MOST).any(|index| (index as u32) < count && unsafe { is_address(few.add(index), address) })
}

/// The tunnel at the place that these endpoints have among the few.
#[inline(always)]
fn among<const WORDS: usize>(
    count: &Global<u32>,
    few: &'static Global<[Endpoints<[Be32; WORDS]>; MOST]>,
    tunnels: &Array<Tunnel>,
    endpoints: &Endpoints<[Be32; WORDS]>,
) -> Option<Tunnel> {
    let few = (&raw const *few).cast::<Endpoints<[Be32; WORDS]>>();
    let count = count.load();
    // SAFETY: elements of the array, which `Global` is nothing but.
    let place =
        (0..MOST).find(|index| (*index as u32) < count && unsafe { are_endpoints(few.add(*index), endpoints) })?;
    // One look-up, not one for each place, after each of which the verifier would walk through all that follows.
    tunnels.get(black_box(place) as u32).copied()
}

/// The same; see [`Few::compared_at_once`].
#[inline(always)]
fn at_once_among<const WORDS: usize>(
    count: &Global<u32>,
    few: &'static Global<[Endpoints<[Be32; WORDS]>; MOST]>,
    tunnels: &Array<Tunnel>,
    endpoints: &Endpoints<[Be32; WORDS]>,
) -> Option<Tunnel> {
    let count = count.load();
    if count == MANY {
        return None;
    }
    let few = (&raw const *few).cast::<Endpoints<[Be32; WORDS]>>();
    // SAFETY: elements of the array, which `Global` is nothing but.
    let place =
        (0..MOST).find(|index| (*index as u32) < count && unsafe { are_endpoints(few.add(*index), endpoints) })?;
    tunnels.get(place as u32).copied()
}

/// Whether the address is within one of the few prefixes; `None` if there are many.
#[inline(always)]
fn is_within_any<const WORDS: usize>(
    count: &Global<u32>,
    few: &'static Global<[Masked<[Be32; WORDS]>; MOST]>,
    address: [Be32; WORDS],
) -> Option<bool> {
    let count = count.load();
    if count == MANY {
        return None;
    }
    let few = (&raw const *few).cast::<Masked<[Be32; WORDS]>>();
    // SAFETY: elements of the array, which `Global` is nothing but.
    Some((0..MOST).any(|index| (index as u32) < count && unsafe { is_within(few.add(index), address) }))
}

/// As [`Masked::has`]. Volatile, because the loader sets them.
///
/// # Safety
/// `constant` must be valid.
#[inline(always)]
unsafe fn is_within<const WORDS: usize>(constant: *const Masked<[Be32; WORDS]>, address: [Be32; WORDS]) -> bool {
    // SAFETY: the caller's promise.
    let (masks, bits) = unsafe { (&raw const (*constant).mask, &raw const (*constant).bits) };
    let (masks, bits) = (masks.cast::<Be32>(), bits.cast::<Be32>());
    (0..WORDS).all(|word| {
        // SAFETY: words of the arrays, and the caller's promise.
        let (mask, bits) = unsafe { (masks.add(word).read_volatile(), bits.add(word).read_volatile()) };
        address[word].masked(mask) == bits
    })
}

/// The remote first, in which tunnels mostly differ.
///
/// # Safety
/// `constant` must be valid.
#[inline(always)]
unsafe fn are_endpoints<const WORDS: usize>(
    constant: *const Endpoints<[Be32; WORDS]>,
    endpoints: &Endpoints<[Be32; WORDS]>,
) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        is_address(&raw const (*constant).remote, endpoints.remote)
            && is_address(&raw const (*constant).local, endpoints.local)
            && (&raw const (*constant).keyed).read_volatile() == endpoints.keyed
            // Where it is known that there is none, that is all.
            && (endpoints.keyed == 0 || (&raw const (*constant).key).read_volatile() == endpoints.key)
    }
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
