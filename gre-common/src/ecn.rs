//! Explicit congestion notification across the tunnel's end (RFC 6040 section 4.2, normal mode).

/// The ECN field: the two low bits of the IPv4 TOS or the IPv6 traffic class (RFC 3168 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codepoint(u8);

impl Codepoint {
    /// Not ECN-capable.
    pub const NOT_ECT: Self = Self(0);
    /// ECN-capable, ECT(1).
    pub const ECT1: Self = Self(1);
    /// ECN-capable, ECT(0).
    pub const ECT0: Self = Self(2);
    /// Congestion experienced.
    pub const CE: Self = Self(3);

    /// The codepoint within a TOS or traffic class byte.
    #[inline(always)]
    pub const fn of(tos: u8) -> Self {
        Self(tos & 3)
    }

    /// The TOS or traffic class byte with this codepoint.
    #[inline(always)]
    pub const fn put(self, tos: u8) -> u8 {
        tos & !3 | self.0
    }
}

/// The codepoint that leaves the tunnel; `None`: the packet must be dropped, because congestion was marked that its
/// transport cannot understand.
#[inline(always)]
pub const fn combine(outer: Codepoint, inner: Codepoint) -> Option<Codepoint> {
    match (outer, inner) {
        (Codepoint::CE, Codepoint::NOT_ECT) => None,
        (Codepoint::CE, _) => Some(Codepoint::CE),
        (Codepoint::ECT1, Codepoint::ECT0) => Some(Codepoint::ECT1),
        (_, inner) => Some(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Figure 4 of RFC 6040: rows by inner, columns by outer Not-ECT, ECT(0), ECT(1), CE.
    #[test]
    fn combines_by_the_table() {
        const N: Codepoint = Codepoint::NOT_ECT;
        const E0: Codepoint = Codepoint::ECT0;
        const E1: Codepoint = Codepoint::ECT1;
        const CE: Codepoint = Codepoint::CE;
        let table = [
            (N, [Some(N), Some(N), Some(N), None]),
            (E0, [Some(E0), Some(E0), Some(E1), Some(CE)]),
            (E1, [Some(E1), Some(E1), Some(E1), Some(CE)]),
            (CE, [Some(CE), Some(CE), Some(CE), Some(CE)]),
        ];
        for (inner, row) in table {
            for (outer, expected) in [N, E0, E1, CE].into_iter().zip(row) {
                assert_eq!(combine(outer, inner), expected, "outer {outer:?}, inner {inner:?}");
            }
        }
    }
}
