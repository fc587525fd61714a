//! What was dictated to one gateway, for as long as its jobs may use it, and how a coinbase's split is found among it.

use std::collections::VecDeque;

use super::split::{Dictated, Payout, PinnedSplit, SPLIT_GOOD_FOR_S};

/// Splits kept per gateway: it asks for one per template, seconds apart. What comes past it lets the oldest go.
pub const SPLITS_MAX: usize = 256;

/// How long a split is known for one that was dictated, in s: as long again as it is good. Work that comes later is not
/// told that it is too late, but that it pays no split.
pub const SPLIT_KNOWN_FOR_S: u64 = 2 * SPLIT_GOOD_FOR_S;

/// Splits that are computed in vain for one gateway at once, and one second after another. A coinbase pays one of the first,
/// so an honest gateway needs none of these; each takes some 0.1 ms where the window has 50,000 payees: all of them 50 ms, and
/// then less than a thousandth of a core.
pub const LOOKS_MAX: u32 = 2 * SPLITS_MAX as u32;
const LOOKS_PER_S: u32 = 8;

/// The splits of one gateway.
#[derive(Debug, Clone, Default)]
pub(super) struct Splits {
    /// Good when the last was dictated; the oldest first.
    dictated: VecDeque<Dictated>,
    /// Of those before: without what they pay, which holds on to the books of then.
    expired: VecDeque<Expired>,
    looks: Looks,
}

#[derive(Debug, Clone)]
struct Expired {
    value: u64,
    parent: [u8; 32],
    time_s: u64,
    split: PinnedSplit,
}

/// Why no split was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoSplit {
    /// One of the value and parent was good too long ago.
    Expired,
    /// None that was dictated is paid.
    Other,
    /// Not all could be looked at, by [`LOOKS_MAX`].
    OutOfLooks,
}

impl Splits {
    /// True where the oldest that was still good had to go.
    pub fn learn(&mut self, dictated: Dictated) -> bool {
        self.expire(dictated.time_s);
        let full = self.dictated.len() == SPLITS_MAX;
        if full {
            self.dictated.pop_front();
        }
        self.dictated.push_back(dictated);
        full
    }

    /// One that is known, and was good too long ago. In the order of time, before those that are good.
    pub fn learn_expired(&mut self, value: u64, parent: [u8; 32], time_s: u64, split: PinnedSplit) {
        if self.expired.len() == SPLITS_MAX {
            self.expired.pop_front();
        }
        self.expired.push_back(Expired {
            value,
            parent,
            time_s,
            split,
        });
    }

    /// Lets go of what is not good any more, and of what is not known any more.
    pub fn expire(&mut self, now_s: u64) {
        while let Some(oldest) = self.dictated.pop_front_if(|oldest| !oldest.is_good(now_s)) {
            self.learn_expired(oldest.value, oldest.parent, oldest.time_s, oldest.pinned());
        }
        while self
            .expired
            .pop_front_if(|oldest| oldest.time_s + SPLIT_KNOWN_FOR_S < now_s)
            .is_some()
        {}
    }

    /// Whether a job may name this id: it means a split that was dictated and is still good. 0 names none.
    pub fn knows(&self, coinbaser_id: u8, now_s: u64) -> bool {
        let mut good = self.dictated.iter().rev().filter(|split| split.is_good(now_s));
        coinbaser_id == 0 || good.any(|split| split.coinbaser_id == coinbaser_id)
    }

    /// Of those of this value and parent the first that `is_paid` holds of: the one that the job names, then the newest first.
    pub fn find(
        &mut self,
        coinbaser_id: u8,
        value: u64,
        parent: &[u8; 32],
        now_s: u64,
        is_paid: impl Fn(&Dictated) -> bool,
    ) -> Result<&Dictated, NoSplit> {
        let Self {
            dictated,
            expired,
            looks,
        } = self;
        looks.refill(now_s);
        let of_job = dictated.iter().rev().filter(|split| split.is_of(value, parent));
        let good = of_job.clone().filter(|split| split.is_good(now_s));
        let (named, others) = (good.clone(), good);
        let named = named.filter(|split| split.coinbaser_id == coinbaser_id);
        let others = others.filter(|split| split.coinbaser_id != coinbaser_id);
        // What was dictated by the same books pays the same.
        let mut missed: Option<PinnedSplit> = None;
        for split in named.chain(others) {
            let books = split.pinned();
            if missed == Some(books) {
                continue;
            }
            if looks.left == 0 {
                return Err(NoSplit::OutOfLooks);
            }
            if is_paid(split) {
                return Ok(split);
            }
            looks.left -= 1;
            missed = Some(books);
        }
        let is_expired = expired
            .iter()
            .any(|split| (split.value, &split.parent) == (value, parent))
            || of_job.clone().any(|split| !split.is_good(now_s));
        Err(if is_expired { NoSplit::Expired } else { NoSplit::Other })
    }

    /// What was dictated of this value and parent by these books.
    pub fn payouts(&self, value: u64, parent: &[u8; 32], books: PinnedSplit) -> Option<Vec<Payout>> {
        let mut of_job = self.dictated.iter().rev().filter(|split| split.is_of(value, parent));
        of_job.find(|split| split.pinned() == books).map(Dictated::payouts)
    }

    /// Of those of this value and parent the one that the job names, else the newest, whether it is still good or not.
    pub fn told(&self, coinbaser_id: u8, value: u64, parent: &[u8; 32]) -> Option<PinnedSplit> {
        let of_job = self.dictated.iter().rev().filter(|split| split.is_of(value, parent));
        let named = of_job.clone().find(|split| split.coinbaser_id == coinbaser_id);
        let told = named.or(of_job.clone().next()).map(Dictated::pinned);
        told.or_else(|| {
            let mut expired = self.expired.iter().rev();
            let of_job = expired.find(|split| (split.value, &split.parent) == (value, parent));
            of_job.map(|expired| expired.split)
        })
    }

    #[cfg(test)]
    pub fn known(&self) -> (usize, usize) {
        (self.dictated.len(), self.expired.len())
    }

    /// All of them may be looked at once more.
    pub fn allow_looks(&mut self) {
        self.looks.left = LOOKS_MAX;
    }
}

/// How many splits may be computed in vain.
#[derive(Debug, Clone, Copy)]
struct Looks {
    left: u32,
    /// As of this second.
    at_s: u64,
}

impl Default for Looks {
    fn default() -> Self {
        Self {
            left: LOOKS_MAX,
            at_s: 0,
        }
    }
}

impl Looks {
    fn refill(&mut self, now_s: u64) {
        let passed_s = u32::try_from(now_s.saturating_sub(self.at_s)).unwrap_or(u32::MAX);
        self.left = self
            .left
            .saturating_add(passed_s.saturating_mul(LOOKS_PER_S))
            .min(LOOKS_MAX);
        self.at_s = self.at_s.max(now_s);
    }
}
