//! The window: the newest work, by payee.
//!
//! Memory is O(payees): what leaves is read from the old end of the log, in order, and never held. The oldest share
//! counts for the part of it that fits.

use crate::ledger::LedgerError;
use crate::work::POT_MAX;

/// Where shares are read again, by sequence. The log on disk; a list in tests.
pub trait OldShares {
    /// Shares from `from` on, in order; ends where the log does.
    ///
    /// # Errors
    /// The log cannot be read, or lacks what it should hold.
    fn from(&mut self, from: u64) -> Result<Box<dyn Iterator<Item = Result<Work, LedgerError>> + '_>, LedgerError>;

    /// Shares before `before`, the newest first, as far back as they are kept.
    ///
    /// # Errors
    /// As [`Self::from`].
    fn before(&mut self, before: u64) -> Result<Box<dyn Iterator<Item = Result<Work, LedgerError>> + '_>, LedgerError>;
}

/// One share, as the window sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    pub payee: u32,
    /// The share counts as `2^pot`, and as the network difficulty at most.
    pub pot: u8,
}

/// How much work a window holds, and what one share counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    /// Work at which the window is full.
    pub limit: u128,
    /// What a share counts as at most.
    pub share_max: u128,
}

/// The newest shares whose work sums to the span's limit, or all that are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    span: Span,
    /// By payee.
    weights: Vec<u128>,
    total: u128,
    /// The sequence of the oldest share of which a part counts.
    front: u64,
    /// What counts of it.
    front_left: u128,
    /// Behind the newest share.
    end: u64,
    /// Its shares by pot.
    pots: Pots,
    /// Whether it reaches as far back as the span has it: not where the span has changed, and not all of it was followed.
    is_settled: bool,
}

/// How many shares there are of each pot.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pots([u64; POT_MAX as usize + 1]);

impl Span {
    /// What a share of pot `pot`, at most 63, counts as.
    #[must_use]
    pub fn work(&self, pot: u8) -> u128 {
        (1_u128 << pot).min(self.share_max)
    }
}

impl Window {
    /// The window that ends before the share `end`, read from the log.
    ///
    /// # Errors
    /// The log's.
    pub fn at(end: u64, span: Span, log: &mut dyn OldShares) -> Result<Self, LedgerError> {
        let mut window = Self::empty(end, span);
        window.reach_back(u64::MAX, log)?;
        Ok(window)
    }

    fn empty(end: u64, span: Span) -> Self {
        Self {
            span,
            weights: Vec::new(),
            total: 0,
            front: end,
            front_left: 0,
            end,
            pots: Pots([0; POT_MAX as usize + 1]),
            is_settled: true,
        }
    }

    pub fn span(&self) -> Span {
        self.span
    }

    /// By payee; payees beyond its end have none.
    pub fn weights(&self) -> &[u128] {
        &self.weights
    }

    /// The work that is in the window: its limit, or less where the log holds less.
    pub fn total(&self) -> u128 {
        self.total
    }

    /// The sequence behind the newest share.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The sequence of the oldest share of which a part counts.
    pub fn front(&self) -> u64 {
        self.front
    }

    /// What counts of that share; 0 where the window is empty.
    pub fn front_part(&self) -> u128 {
        self.front_left
    }

    /// Whether it lacks work although older shares were in the log once: they are no longer kept. What is split is then
    /// shared by what is left.
    pub fn is_short(&self) -> bool {
        self.is_settled && self.total < self.span.limit && self.front > 0
    }

    /// Whether it is the window of its span. Where it is not, [`Self::catch_up`] has work to do.
    pub fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// Takes the next shares of the log; they must be readable there already.
    ///
    /// # Errors
    /// The log's.
    pub fn push(&mut self, shares: &[Work], log: &mut dyn OldShares) -> Result<(), LedgerError> {
        if self.span.limit == 0 {
            // Nothing counts, so nothing need be read to leave again.
            self.end += shares.len() as u64;
            self.front = self.end;
            return Ok(());
        }
        for share in shares {
            let work = self.span.work(share.pot);
            if self.front == self.end {
                self.front_left = work;
            }
            self.end += 1;
            *self.weight(share.payee) += work;
            self.total += work;
            self.pots.add(share.pot);
        }
        if self.is_settled {
            self.evict(u64::MAX, log)?;
        }
        Ok(())
    }

    /// Follows the network difficulty: a longer window reaches back into shares that had left it. On an error it is as it was.
    ///
    /// # Errors
    /// The log's.
    pub fn resize(&mut self, span: Span, log: &mut dyn OldShares) -> Result<(), LedgerError> {
        let mut resized = self.clone();
        resized.follow(span);
        resized.catch_up(u64::MAX, log)?;
        *self = resized;
        Ok(())
    }

    /// Has another span from now on, and reads nothing: [`Self::catch_up`] does. Shares may be pushed meanwhile.
    ///
    /// Where what a share counts as may change with it, the whole is to be read again; else no more than is gained or lost.
    pub fn follow(&mut self, span: Span) {
        if span == self.span {
            return;
        }
        if !self.counts_alike(span) {
            *self = Self::empty(self.end, span);
        }
        self.span = span;
        self.is_settled = false;
    }

    /// Goes on to what its span has it hold, by `most` shares read at most. True: it does.
    ///
    /// # Errors
    /// The log's. It is of no use then.
    pub fn catch_up(&mut self, most: u64, log: &mut dyn OldShares) -> Result<bool, LedgerError> {
        if !self.is_settled {
            self.is_settled = if self.total > self.span.limit {
                self.evict(most, log)?
            } else {
                self.reach_back(most, log)?
            };
        }
        Ok(self.is_settled)
    }

    /// The window as it was when it ended before the share `end`, with the span of then. Reads what came since, and
    /// what had left since; the whole only where a share counted for something else.
    ///
    /// # Errors
    /// The log's.
    pub fn rewound(&self, end: u64, span: Span, log: &mut dyn OldShares) -> Result<Self, LedgerError> {
        if end < self.front || !self.counts_alike(span) {
            return Self::at(end, span, log);
        }
        let mut window = self.clone();
        let mut sequence = end;
        for share in log
            .from(end)?
            .take(usize::try_from(self.end - end).unwrap_or(usize::MAX))
        {
            let share = share?;
            let counted = if sequence == self.front {
                self.front_left
            } else {
                self.span.work(share.pot)
            };
            *window.weight(share.payee) -= counted;
            window.total -= counted;
            window.pots.remove(share.pot);
            sequence += 1;
        }
        assert_eq!(sequence, self.end, "the log holds what the window has seen");
        window.end = end;
        if window.front == end {
            window.front_left = 0;
        }
        window.follow(span);
        window.is_settled = false;
        window.catch_up(u64::MAX, log)?;
        Ok(window)
    }

    /// Whether its shares are the same work under another span.
    fn counts_alike(&self, span: Span) -> bool {
        span == self.span || span.limit > 0 && self.pots.none_above(span.share_max.min(self.span.share_max))
    }

    /// Adds older shares until the window is full or the log ends, `most` of them. True: nothing is missing.
    fn reach_back(&mut self, most: u64, log: &mut dyn OldShares) -> Result<bool, LedgerError> {
        // What is missing of the front share comes first, then whole shares before it.
        if self.front < self.end && self.total < self.span.limit {
            let share = log.from(self.front)?.next().expect("the front share is in the log")?;
            let missing = self.span.work(share.pot) - self.front_left;
            let part = missing.min(self.span.limit - self.total);
            *self.weight(share.payee) += part;
            self.total += part;
            self.front_left += part;
        }
        if self.total < self.span.limit && self.front > 0 {
            for (read, share) in (0..).zip(log.before(self.front)?) {
                if read == most {
                    return Ok(false);
                }
                let share = share?;
                let part = self.span.work(share.pot).min(self.span.limit - self.total);
                self.front -= 1;
                self.front_left = part;
                *self.weight(share.payee) += part;
                self.total += part;
                self.pots.add(share.pot);
                if self.total == self.span.limit {
                    break;
                }
            }
        }
        Ok(true)
    }

    /// Lets the oldest go until the rest fits, `most` of them. True: it does.
    fn evict(&mut self, most: u64, log: &mut dyn OldShares) -> Result<bool, LedgerError> {
        if self.total <= self.span.limit {
            return Ok(true);
        }
        let mut over = self.total - self.span.limit;
        let mut left = Some(self.front_left);
        for (read, share) in (0..).zip(log.from(self.front)?) {
            let share = share?;
            let counted = left.take().unwrap_or_else(|| self.span.work(share.pot));
            if read == most && over > 0 {
                self.front_left = counted;
                return Ok(false);
            }
            let leaves = over.min(counted);
            *self.weight(share.payee) -= leaves;
            self.total -= leaves;
            over -= leaves;
            self.front_left = counted - leaves;
            if self.front_left > 0 {
                return Ok(true);
            }
            self.front += 1;
            self.pots.remove(share.pot);
        }
        Ok(true)
    }

    fn weight(&mut self, payee: u32) -> &mut u128 {
        let at = payee as usize;
        if self.weights.len() <= at {
            self.weights.resize(at + 1, 0);
        }
        &mut self.weights[at]
    }
}

impl Pots {
    fn add(&mut self, pot: u8) {
        self.0[usize::from(pot)] += 1;
    }

    fn remove(&mut self, pot: u8) {
        self.0[usize::from(pot)] -= 1;
    }

    /// Whether no share is more work than `most`.
    fn none_above(&self, most: u128) -> bool {
        (0..)
            .zip(&self.0)
            .all(|(pot, count)| *count == 0 || 1_u128 << pot <= most)
    }
}
