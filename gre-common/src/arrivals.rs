//! What sequence numbers (RFC 2890) tell about the way from the sender: loss, reordering and duplicates, for tunnels whose
//! sender sets them. Nothing is decided by this; whether numbers are enforced is [`sequence`](crate::sequence)'s matter.
//!
//! A window over the newest numbers says which have come. A number ahead of it leaves a gap, which counts as missing; one that
//! comes later and fills a gap was reordered; one that has come before is a duplicate. So what was lost is what is missing less
//! what was reordered. It is an estimate: of numbers behind the window nobody knows whether they fill a gap.

/// So many of the newest numbers are remembered, the newest among them.
pub const WINDOW: u32 = 27;
/// A jump ahead by more than this is a sender that has restarted (RFC 3550 appendix A.1 asks the same question), not so many
/// packets lost at once.
pub const LARGEST_GAP: u32 = 1 << 16;
/// So many numbers behind the window in a row are a restarted sender.
pub const OLD_MEANS_RESTART: u32 = 16;

/// What a packet's number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The first one, or the next one.
    Next,
    /// Newer than the next one: so many before it have not come yet.
    Ahead(u32),
    /// One of those that had not come.
    Reordered,
    /// One that had come.
    Duplicate,
    /// Behind the window.
    Old,
    /// The sender has evidently restarted.
    Restart,
}

/// Counts of [`Arrival`]s.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// Packets that had a number.
    pub numbered: u64,
    /// Numbers that had not come when a newer one came.
    pub missing: u64,
    /// Packets that filled such a gap.
    pub reordered: u64,
    /// Packets whose number had come before.
    pub duplicates: u64,
    /// Packets whose number is too old to tell.
    pub old: u64,
    /// Restarts of the sender.
    pub restarts: u64,
}

impl Arrivals {
    /// No packets yet.
    pub const ZERO: Self = Self {
        numbered: 0,
        missing: 0,
        reordered: 0,
        duplicates: 0,
        old: 0,
        restarts: 0,
    };

    /// Counts one.
    #[inline(always)]
    pub fn count(&mut self, arrival: Arrival) {
        self.numbered += 1;
        match arrival {
            Arrival::Next => {}
            Arrival::Ahead(missing) => self.missing += u64::from(missing),
            Arrival::Reordered => self.reordered += 1,
            Arrival::Duplicate => self.duplicates += 1,
            Arrival::Old => self.old += 1,
            Arrival::Restart => self.restarts += 1,
        }
    }

    /// Adds another CPU's.
    pub fn add(&mut self, other: &Self) {
        self.numbered = self.numbered.wrapping_add(other.numbered);
        self.missing = self.missing.wrapping_add(other.missing);
        self.reordered = self.reordered.wrapping_add(other.reordered);
        self.duplicates = self.duplicates.wrapping_add(other.duplicates);
        self.old = self.old.wrapping_add(other.old);
        self.restarts = self.restarts.wrapping_add(other.restarts);
    }

    /// How many packets were lost on the way, as far as numbers tell.
    pub fn lost(&self) -> u64 {
        self.missing.saturating_sub(self.reordered)
    }
}

/// The newest number, which of those before it have come, and how many old ones came in a row: one word, so that several CPUs
/// can move it by compare-and-swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    newest: u32,
    /// Bit `n` is set if the number `n` before the newest has come. Bit 0 always is.
    came: u32,
    old: u32,
}

/// Judges `number` by a tunnel's state, 0 at first, and gives the state that follows.
#[inline(always)]
pub fn judge(state: u64, number: u32) -> (Arrival, u64) {
    let begun = Window {
        newest: number,
        came: 1,
        old: 0,
    };
    if state == 0 {
        return (Arrival::Next, begun.pack());
    }
    let window = Window::unpack(state);
    let ahead = number.wrapping_sub(window.newest);
    let behind = window.newest.wrapping_sub(number);
    let (arrival, next) = if ahead == 0 {
        (Arrival::Duplicate, Window { old: 0, ..window })
    } else if ahead > LARGEST_GAP && ahead < 1 << 31 {
        (Arrival::Restart, begun)
    } else if ahead < 1 << 31 {
        let came = if ahead < WINDOW {
            (window.came << ahead | 1) & MASK
        } else {
            1
        };
        let arrival = if ahead == 1 {
            Arrival::Next
        } else {
            Arrival::Ahead(ahead - 1)
        };
        (arrival, Window { came, ..begun })
    } else if behind < WINDOW {
        let bit = 1 << behind;
        let arrival = if window.came & bit != 0 {
            Arrival::Duplicate
        } else {
            Arrival::Reordered
        };
        let came = window.came | bit;
        (arrival, Window { came, old: 0, ..window })
    } else if window.old + 1 >= OLD_MEANS_RESTART {
        (Arrival::Restart, begun)
    } else {
        let old = window.old + 1;
        (Arrival::Old, Window { old, ..window })
    };
    (arrival, next.pack())
}

/// The state that follows if `number` is the next one, as nearly all are: [`judge`] then says [`Arrival::Next`].
#[inline(always)]
pub fn next(state: u64, number: u32) -> Option<u64> {
    let window = Window::unpack(state);
    let begun = state != 0 && number == window.newest.wrapping_add(1);
    let came = (window.came << 1 | 1) & MASK;
    let next = Window {
        newest: number,
        came,
        old: 0,
    };
    begun.then(|| next.pack())
}

const MASK: u32 = (1 << WINDOW) - 1;

impl Window {
    /// Bits 0–31 the newest number, 32–58 which have come, 59–63 the old ones.
    #[inline(always)]
    fn pack(self) -> u64 {
        u64::from(self.newest) | u64::from(self.came) << 32 | u64::from(self.old) << (32 + WINDOW)
    }

    #[inline(always)]
    fn unpack(word: u64) -> Self {
        Self {
            newest: word as u32,
            came: (word >> 32) as u32 & MASK,
            old: (word >> (32 + WINDOW)) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn feed(numbers: impl IntoIterator<Item = u32>) -> (Arrivals, Vec<Arrival>) {
        let (mut state, mut counted, mut arrivals) = (0, Arrivals::ZERO, Vec::new());
        for number in numbers {
            let (arrival, next) = judge(state, number);
            state = next;
            counted.count(arrival);
            arrivals.push(arrival);
        }
        (counted, arrivals)
    }

    #[test]
    fn each_case_is_told_apart() {
        use Arrival::*;
        let (counted, arrivals) = feed([7, 8, 11, 9, 9, 11, 12]);
        assert_eq!(arrivals, [Next, Next, Ahead(2), Reordered, Duplicate, Duplicate, Next]);
        assert_eq!(
            counted,
            Arrivals {
                numbered: 7,
                missing: 2,
                reordered: 1,
                duplicates: 2,
                ..Arrivals::ZERO
            }
        );
        assert_eq!(counted.lost(), 1);
    }

    #[test]
    fn what_is_behind_the_window_is_old_until_it_persists() {
        let (counted, arrivals) = feed((0..=100).chain(0..20));
        assert_eq!((counted.old, counted.restarts, counted.duplicates), (15, 1, 0));
        assert_eq!(arrivals[101 + 15], Arrival::Restart);
        assert_eq!(arrivals[101 + 16], Arrival::Next, "the restarted sender's next");
        // One newer ends the row.
        let (counted, _) = feed((0..=100).chain(0..15).chain([101]).chain(0..15));
        assert_eq!((counted.old, counted.restarts), (30, 0));
    }

    #[test]
    fn the_edges_of_the_window() {
        let (_, arrivals) = feed([0, WINDOW, 1]);
        assert_eq!(arrivals[2], Arrival::Reordered);
        let (_, arrivals) = feed([0, WINDOW + 1, 1]);
        assert_eq!(arrivals[2], Arrival::Old);
        let (_, arrivals) = feed([0, WINDOW - 1, 0]);
        assert_eq!(arrivals[2], Arrival::Duplicate);
    }

    #[test]
    fn a_jump_is_a_restart_and_no_loss() {
        let (counted, _) = feed([5, 5 + LARGEST_GAP, 5 + 2 * LARGEST_GAP + 1]);
        assert_eq!((counted.missing, counted.restarts), (u64::from(LARGEST_GAP) - 1, 1));
    }

    proptest! {
        /// Numbers that come in order, from anywhere, are that and nothing else: over the wrap too.
        #[test]
        fn order_is_order(first: u32, length in 1u32..200) {
            let (counted, _) = feed((0..length).map(|n| first.wrapping_add(n)));
            prop_assert_eq!(counted, Arrivals { numbered: length.into(), ..Arrivals::ZERO });
        }

        /// Packets that are lost, delayed by less than the window, and doubled come out as exactly that, wherever the numbers
        /// begin.
        #[test]
        fn every_fate_is_counted(
            first: u32,
            fates in proptest::collection::vec((0u8..20, 0u32..10), 1..300),
        ) {
            // The first and the last come as they should, so that every loss shows.
            let mut sent: Vec<(u32, u32)> = Vec::new();
            let (mut lost, mut doubled) = (0u64, 0u64);
            sent.push((0, 0));
            for (number, (fate, delay)) in (1..).zip(&fates) {
                match fate {
                    0 => lost += 1,
                    1 => sent.push((number + delay, number)),
                    2 => {
                        sent.extend([(number, number), (number + delay, number)]);
                        doubled += 1;
                    }
                    _ => sent.push((number, number)),
                }
            }
            let last = fates.len() as u32 + 11;
            sent.push((last, last));
            // By the time of arrival; what is not delayed keeps its order.
            sent.sort_by_key(|(at, _)| *at);
            let (counted, _) = feed(sent.iter().map(|(_, number)| first.wrapping_add(*number)));
            prop_assert_eq!(counted.lost(), lost + 10, "ten numbers before the last were never sent");
            prop_assert_eq!(counted.duplicates, doubled);
            prop_assert_eq!((counted.old, counted.restarts), (0, 0));
            prop_assert_eq!(counted.numbered, sent.len() as u64);
        }

        #[test]
        fn what_is_next_is_judged_so(state: u64, ahead in 0..4_u32) {
            for state in [state, 0] {
                let number = (state as u32).wrapping_add(ahead);
                let judged = judge(state, number);
                let is_next = state != 0 && judged.0 == Arrival::Next;
                prop_assert_eq!(next(state, number), is_next.then_some(judged.1));
            }
        }

        #[test]
        fn any_state_is_bearable(state: u64, number: u32) {
            let (_, next) = judge(state, number);
            prop_assert_ne!(next, 0, "it has begun");
        }
    }
}
