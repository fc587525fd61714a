//! The answers that wait for the disk.
//!
//! A shard's records become durable in the order they were pushed, so this FIFO has one entry a record and the
//! writer's single `durable` count says how many of them may be answered. It is no longer than the ring: what is
//! pushed and not durable never exceeds the ring's capacity, so a push that this queue allows cannot fail.

use std::collections::VecDeque;

use super::slots::SlotKey;

/// Records one share can need at most: a candidate, a new miner and the share itself.
pub(super) const RECORDS_PER_SHARE: usize = 3;

/// What a durable record sets free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DueEntry {
    /// The accepted answer to a share.
    Answer { to: SlotKey, answer: Accepted },
    /// The CONFIG of a session whose `prime_id` is now in the ledger.
    Config { to: SlotKey },
    /// A record that nobody waits for.
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
}

#[derive(Debug)]
pub(super) struct Due {
    entries: VecDeque<DueEntry>,
    capacity: usize,
    /// Records of this shard that were already released.
    released: u64,
}

impl Due {
    /// `capacity`: that of the shard's ring.
    pub fn new(capacity: usize) -> Self {
        Self {
            entries: VecDeque::with_capacity(capacity),
            capacity,
            released: 0,
        }
    }

    /// How many records may still be pushed.
    pub fn room(&self) -> usize {
        self.capacity - self.entries.len()
    }

    /// Whether a share may be judged: all it can need fits.
    pub fn takes_a_share(&self) -> bool {
        self.room() >= RECORDS_PER_SHARE
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Notes what waits for the record just pushed.
    pub fn push(&mut self, entry: DueEntry) {
        assert!(self.room() > 0, "more records are under way than the ring holds");
        self.entries.push_back(entry);
    }

    /// The next entry that `durable`, the writer's count, sets free.
    pub fn release(&mut self, durable: u64) -> Option<DueEntry> {
        if self.released >= durable {
            return None;
        }
        let entry = self.entries.pop_front();
        assert!(entry.is_some(), "the writer made more records durable than were pushed");
        self.released += 1;
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(nonce: u32) -> DueEntry {
        DueEntry::Answer {
            to: SlotKey { index: 0, generation: 0 },
            answer: Accepted {
                nonce,
                target_pot: 0,
                job_id: 0,
                complete_ns: 0,
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
        assert!(due.is_empty());
    }

    #[test]
    fn a_full_ring_takes_no_share() {
        let mut due = Due::new(RECORDS_PER_SHARE);
        assert!(due.takes_a_share());
        due.push(answer(1));
        assert!(!due.takes_a_share());
        assert_eq!(due.room(), RECORDS_PER_SHARE - 1);
    }
}
