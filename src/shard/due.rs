//! The answers that wait for the disk.
//!
//! A shard's entries become durable in the order they were pushed, so this FIFO has one place an entry and the
//! writer's single `durable` count says how many of them may be answered. It is no longer than the ring: what is
//! pushed and not durable never exceeds the ring's capacity, so a push that this queue allows cannot fail.

use std::collections::VecDeque;

use super::slots::SlotKey;

/// Entries one share can need at most: the mark that proves its session, a candidate, a new miner and the share
/// itself.
pub(super) const ENTRIES_PER_SHARE: usize = 4;

/// What a durable entry sets free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DueEntry {
    /// The accepted answer to a share.
    Answer { to: SlotKey, answer: Accepted },
    /// The CONFIG of a session whose `prime_id` is now in the ledger.
    Config { to: SlotKey },
    /// A split that may be dictated now.
    Split { to: SlotKey, coinbaser_id: u8 },
    /// An entry that nobody waits for.
    Nobody,
}

/// What an accepted answer says, and since when it is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Accepted {
    pub nonce: u32,
    pub target_pot: u8,
    pub job_id: u8,
    /// When the share's frame was complete, in ns of the shard's clock.
    pub complete_ns: u64,
    /// It waits for its parent: this is the last word on it all the same.
    pub tentative: bool,
}

#[derive(Debug)]
pub(super) struct Due {
    entries: VecDeque<DueEntry>,
    capacity: usize,
    /// Entries of this shard that were already released.
    released: u64,
}

impl Due {
    /// `capacity`: that of the shard's ring.
    ///
    /// # Panics
    /// No share would ever fit: the configuration refuses such rings.
    pub fn new(capacity: usize) -> Self {
        assert!(
            capacity >= ENTRIES_PER_SHARE,
            "a ring of {capacity} entries takes no share"
        );
        Self {
            entries: VecDeque::with_capacity(capacity),
            capacity,
            released: 0,
        }
    }

    /// How many entries may still be pushed.
    pub fn room(&self) -> usize {
        self.capacity - self.entries.len()
    }

    /// Notes what waits for the entry just pushed.
    pub fn push(&mut self, entry: DueEntry) {
        assert!(self.room() > 0, "more entries are under way than the ring holds");
        self.entries.push_back(entry);
    }

    /// How many were ever pushed: once `durable` says as many, all of them are on disk.
    pub fn pushed(&self) -> u64 {
        self.released + self.entries.len() as u64
    }

    /// Whether `durable`, the writer's count, sets nothing free that is not released.
    pub fn is_released(&self, durable: u64) -> bool {
        self.released >= durable
    }

    /// The next entry that `durable`, the writer's count, sets free.
    pub fn release(&mut self, durable: u64) -> Option<DueEntry> {
        if self.released >= durable {
            return None;
        }
        let entry = self.entries.pop_front();
        assert!(entry.is_some(), "the writer made more entries durable than were pushed");
        self.released += 1;
        entry
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(nonce: u32) -> DueEntry {
        DueEntry::Answer {
            to: SlotKey {
                index: 0,
                generation: 0,
            },
            answer: Accepted {
                nonce,
                target_pot: 0,
                job_id: 0,
                complete_ns: 0,
                tentative: false,
            },
        }
    }

    #[test]
    fn releases_in_order_and_only_what_is_durable() {
        let mut due = Due::new(4);
        due.push(answer(1));
        due.push(DueEntry::Nobody);
        due.push(answer(2));
        assert_eq!(due.release(0), None);
        assert_eq!(due.release(2), Some(answer(1)));
        assert_eq!(due.release(2), Some(DueEntry::Nobody));
        assert_eq!(due.release(2), None);
        assert_eq!(due.release(3), Some(answer(2)));
        assert_eq!(due.room(), 4);
    }

    #[test]
    fn what_is_under_way_takes_room() {
        let mut due = Due::new(ENTRIES_PER_SHARE);
        due.push(answer(1));
        assert_eq!(due.room(), ENTRIES_PER_SHARE - 1);
    }

    #[test]
    #[should_panic(expected = "more entries are under way")]
    fn a_push_beyond_the_ring_is_a_fault_of_the_shard() {
        let mut due = Due::new(ENTRIES_PER_SHARE);
        for nonce in 0..=u32::try_from(ENTRIES_PER_SHARE).expect("small") {
            due.push(answer(nonce));
        }
    }

    proptest! {
        /// Whatever the pace of the writer: each entry once, in order, never before it is durable.
        #[test]
        fn every_entry_comes_out_once(commits in proptest::collection::vec((0..6_u64, 0..6_u64), 1..60)) {
            let mut due = Due::new(8);
            let (mut pushed, mut durable, mut released) = (0_u32, 0_u64, 0_u32);
            for (more, commit) in commits {
                for _ in 0..more.min(due.room() as u64) {
                    due.push(answer(pushed));
                    pushed += 1;
                }
                durable = (durable + commit).min(u64::from(pushed));
                while let Some(entry) = due.release(durable) {
                    prop_assert_eq!(entry, answer(released));
                    released += 1;
                    prop_assert!(u64::from(released) <= durable);
                }
                prop_assert_eq!(u64::from(released), durable);
                prop_assert_eq!(due.room(), 8 - (pushed - released) as usize);
            }
        }
    }
}
