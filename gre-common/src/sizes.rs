//! How long delivered packets are, in classes that tell of trouble with the MTU.

/// The longest packet of each class but the last, in bytes of the payload of GRE.
///
/// 1280 is the least MTU of IPv6; 1476 what fits through plain GRE over IPv4 on a path of 1500; 1500 a full Ethernet frame's.
/// Many packets above 1476 mean that the path carries more than 1500, or that outer packets are fragmented.
pub const BOUNDS: [u16; CLASSES - 1] = [128, 256, 512, 1024, 1280, 1476, 1500];
/// How many classes there are.
pub const CLASSES: usize = 8;

/// The class of a packet of this length.
#[inline(always)]
pub fn class(length: usize) -> usize {
    // By halves, which is three comparisons; a loop would be up to seven.
    if length > 1024 {
        match length {
            ..=1280 => 4,
            1281..=1476 => 5,
            1477..=1500 => 6,
            _ => 7,
        }
    } else {
        match length {
            ..=128 => 0,
            129..=256 => 1,
            257..=512 => 2,
            _ => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_those_of_the_bounds() {
        for length in 0..=9000 {
            let by_bounds = BOUNDS.iter().filter(|bound| length > usize::from(**bound)).count();
            assert_eq!(class(length), by_bounds, "{length}");
        }
    }
}
