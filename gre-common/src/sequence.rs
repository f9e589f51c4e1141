//! Sequence numbers (RFC 2890 section 2.2), for tunnels that enforce order.

use crate::Reason;

/// The state of one tunnel, zero at first.
///
/// The cursor is replaced by compare-and-swap, because several CPUs may receive one tunnel. The time is written after it: a
/// race between two accepted packets leaves one of two nearly equal times.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SequenceState {
    /// See [`Cursor`].
    pub cursor: u64,
    /// When a packet was last accepted, in nanoseconds of `CLOCK_MONOTONIC`; at most two of the kernel's ticks too early.
    pub accepted_at: u64,
    /// The kernel's tick (`jiffies`) at that time.
    pub tick: u64,
}

/// The next expected number, whether there is one yet, and how many old numbers came in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    expected: u32,
    begun: bool,
    late: u8,
}

/// What a packet's number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The next expected or a newer one.
    InOrder,
    /// Old or a duplicate.
    Late,
    /// Old, but the sender has evidently restarted.
    Restart,
}

impl Order {
    /// Whether the sender has restarted, of a packet that is accepted.
    #[inline(always)]
    pub(crate) const fn restarts(self) -> Result<bool, Reason> {
        match self {
            Self::InOrder => Ok(false),
            Self::Restart => Ok(true),
            Self::Late => Err(Reason::Sequence),
        }
    }

    /// As one word, for a kernel function to return.
    #[inline(always)]
    pub const fn pack(self) -> u32 {
        self as u32
    }

    /// The reverse of [`Self::pack`].
    #[inline(always)]
    pub const fn unpack(word: u32) -> Self {
        match word {
            0 => Self::InOrder,
            2 => Self::Restart,
            _ => Self::Late,
        }
    }
}

/// So many old numbers in a row are a restarted sender.
pub const LATE_MEANS_RESTART: u8 = 16;
/// An old number after so long without an accepted packet is a restarted sender, in nanoseconds.
pub const SILENCE_MEANS_RESTART: u64 = 1_000_000_000;

/// Judges `number` and gives the cursor that follows. The caller stores the time as `accepted_at` unless the answer is
/// [`Order::Late`]. `now` reads the clock (nanoseconds of `CLOCK_MONOTONIC`), which only old numbers need.
#[inline(always)]
pub fn judge(state: SequenceState, number: u32, now: impl FnOnce() -> u64) -> (Order, u64) {
    let cursor = Cursor::unpack(state.cursor);
    let order = if !cursor.begun || number.wrapping_sub(cursor.expected) < 1 << 31 {
        Order::InOrder
    } else if cursor.late + 1 >= LATE_MEANS_RESTART || now().saturating_sub(state.accepted_at) >= SILENCE_MEANS_RESTART
    {
        Order::Restart
    } else {
        Order::Late
    };
    let next = match order {
        Order::Late => Cursor {
            late: cursor.late + 1,
            ..cursor
        },
        Order::InOrder | Order::Restart => Cursor {
            expected: number.wrapping_add(1),
            begun: true,
            late: 0,
        },
    };
    (order, next.pack())
}

/// The cursor that follows if `number` is the expected one, as nearly all are: [`judge`] then says [`Order::InOrder`].
#[inline(always)]
pub fn next(cursor: u64, number: u32) -> Option<u64> {
    let Cursor { expected, begun, .. } = Cursor::unpack(cursor);
    let next = Cursor {
        expected: number.wrapping_add(1),
        begun: true,
        late: 0,
    };
    (begun && number == expected).then(|| next.pack())
}

impl Cursor {
    /// Bits 0–31 the number, bit 32 whether it is one, bits 40–47 the late ones.
    #[inline(always)]
    fn pack(self) -> u64 {
        u64::from(self.expected) | u64::from(self.begun) << 32 | u64::from(self.late) << 40
    }

    #[inline(always)]
    fn unpack(word: u64) -> Self {
        Self {
            expected: word as u32,
            begun: word >> 32 & 1 != 0,
            late: (word >> 40 & 0x7f) as u8,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn feed(state: &mut SequenceState, number: u32, now: u64) -> Order {
        let (order, cursor) = judge(*state, number, || now);
        state.cursor = cursor;
        if order != Order::Late {
            state.accepted_at = now;
        }
        order
    }

    #[test]
    fn first_number_is_accepted_whatever_it_is() {
        for number in [0, 1, 77, 1 << 31, u32::MAX] {
            assert_eq!(feed(&mut SequenceState::default(), number, 5), Order::InOrder);
        }
    }

    #[test]
    fn order_survives_packing() {
        for order in [Order::InOrder, Order::Late, Order::Restart] {
            assert_eq!(Order::unpack(order.pack()), order);
        }
    }

    #[test]
    fn wraps() {
        let mut state = SequenceState::default();
        for number in [u32::MAX - 1, u32::MAX, 0, 1] {
            assert_eq!(feed(&mut state, number, 0), Order::InOrder);
        }
        assert_eq!(feed(&mut state, u32::MAX, 0), Order::Late);
        assert_eq!(feed(&mut state, 1, 0), Order::Late);
        assert_eq!(feed(&mut state, 2, 0), Order::InOrder);
    }

    #[test]
    fn sixteen_in_a_row_are_a_restart_and_fifteen_are_not() {
        let mut state = SequenceState::default();
        feed(&mut state, 1000, 0);
        for number in 0..15 {
            assert_eq!(feed(&mut state, number, 0), Order::Late);
        }
        assert_eq!(feed(&mut state, 1001, 0), Order::InOrder, "one in order ends the row");
        for number in 0..15 {
            assert_eq!(feed(&mut state, number, 0), Order::Late);
        }
        assert_eq!(feed(&mut state, 15, 0), Order::Restart);
        assert_eq!(feed(&mut state, 16, 0), Order::InOrder);
    }

    #[test]
    fn a_second_of_silence_is_a_restart_and_less_is_not() {
        let mut state = SequenceState::default();
        feed(&mut state, 1000, 7);
        assert_eq!(feed(&mut state, 0, 7 + SILENCE_MEANS_RESTART - 1), Order::Late);
        assert_eq!(feed(&mut state, 1, 7 + SILENCE_MEANS_RESTART), Order::Restart);
        assert_eq!(feed(&mut state, 2, 8 + SILENCE_MEANS_RESTART), Order::InOrder);
    }

    proptest! {
        #[test]
        fn newer_by_serial_arithmetic_is_in_order(expected: u32, ahead in 0u32..1 << 31) {
            let mut state = SequenceState::default();
            feed(&mut state, expected.wrapping_sub(1), 0);
            let number = expected.wrapping_add(ahead);
            prop_assert_eq!(feed(&mut state, number, 0), Order::InOrder);
            prop_assert_eq!(feed(&mut state, number, 0), Order::Late);
        }

        #[test]
        fn what_is_expected_is_judged_in_order(cursor: u64, ahead in 0..4_u32) {
            let number = (cursor as u32).wrapping_add(ahead);
            let state = SequenceState { cursor, ..SequenceState::default() };
            let is_expected = ahead == 0 && cursor >> 32 & 1 != 0;
            prop_assert_eq!(next(cursor, number), is_expected.then(|| judge(state, number, || 0).1));
            prop_assert!(!is_expected || judge(state, number, || 0).0 == Order::InOrder);
        }

        #[test]
        fn any_state_is_bearable(cursor: u64, accepted_at: u64, number: u32, now: u64) {
            let state = SequenceState { cursor, accepted_at, tick: 0 };
            judge(state, number, || now);
        }
    }
}
