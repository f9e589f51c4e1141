//! Where a tunnel with `deliver = { interface = … }` sends its inner packets: the value of the map
//! [`TARGETS`](crate::maps::TARGETS).

/// The MAC addresses that a frame begins with, destination first, in pieces as they lie in it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Macs(pub [u32; 3]);

/// Of the second piece, what the destination has.
const LAST_OF_DESTINATION: u32 = u32::from_ne_bytes([0xff, 0xff, 0, 0]);

impl Macs {
    /// From addresses as they lie in a frame.
    #[inline(always)]
    pub const fn new(destination: [u8; 6], source: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = destination;
        let [g, h, i, j, k, l] = source;
        Self([
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
            u32::from_ne_bytes([i, j, k, l]),
        ])
    }

    /// The destination as it lies in a frame.
    pub const fn destination(self) -> [u8; 6] {
        let Self([first, second, _]) = self;
        let ([a, b, c, d], [e, f, ..]) = (first.to_ne_bytes(), second.to_ne_bytes());
        [a, b, c, d, e, f]
    }
}

/// An interface and whom frames to it are addressed to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The interface's index.
    pub interface: u32,
    /// The addresses that packets other than inner Ethernet get; a destination of zeros is not known yet.
    pub macs: Macs,
}

impl Target {
    /// The addresses, if they are known.
    #[inline(always)]
    pub const fn known_macs(&self) -> Option<Macs> {
        let Macs([first, second, _]) = self.macs;
        if first | second & LAST_OF_DESTINATION == 0 {
            None
        } else {
            Some(self.macs)
        }
    }
}

/// What a configuration says about a [`Target`], for userspace to resolve: the value of the map
/// [`NEXT_HOPS`](crate::maps::NEXT_HOPS).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The interface's name, padded with zero bytes.
    pub interface: [u8; 16],
    /// Which kind of address follows: 0 none, 4 IPv4, 6 IPv6, 48 a MAC address.
    pub kind: u32,
    /// The address, padded with zero bytes.
    pub address: [u8; 16],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_their_order() {
        let (destination, source) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 9]);
        let macs = Macs::new(destination, source);
        let bytes: std::vec::Vec<u8> = macs.0.iter().flat_map(|piece| piece.to_ne_bytes()).collect();
        assert_eq!(bytes, [destination, source].concat());
        assert_eq!(macs.destination(), destination);
    }

    #[test]
    fn an_unknown_destination_is_none() {
        let target = |destination| Target {
            interface: 3,
            macs: Macs::new(destination, [2, 0, 0, 0, 0, 9]),
        };
        assert_eq!(target([0; 6]).known_macs(), None);
        let known = target([0, 0, 0, 0, 0, 1]);
        assert_eq!(known.known_macs(), Some(known.macs));
    }
}
