//! The window: the newest work, by payee.
//!
//! Memory is O(payees): what leaves is read from the old end of the log, in order, and never held. The oldest share
//! counts for the part of it that fits.

use crate::ledger::LedgerError;

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
}

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
        let mut window = Self {
            span,
            weights: Vec::new(),
            total: 0,
            front: end,
            front_left: 0,
            end,
        };
        window.reach_back(log)?;
        Ok(window)
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
        self.total < self.span.limit && self.front > 0
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
        }
        self.evict(log)
    }

    /// Follows the network difficulty: a longer window reaches back into shares that had left it.
    ///
    /// What a share counts as may change with it, so the whole is read again.
    ///
    /// # Errors
    /// The log's.
    pub fn resize(&mut self, span: Span, log: &mut dyn OldShares) -> Result<(), LedgerError> {
        if span != self.span {
            *self = Self::at(self.end, span, log)?;
        }
        Ok(())
    }

    /// The window as it was when it ended before the share `end`, with the span of then. Reads what came since, and
    /// what had left since; the whole only where the span was another.
    ///
    /// # Errors
    /// The log's.
    pub fn rewound(&self, end: u64, span: Span, log: &mut dyn OldShares) -> Result<Self, LedgerError> {
        if span != self.span || end < self.front {
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
                span.work(share.pot)
            };
            *window.weight(share.payee) -= counted;
            window.total -= counted;
            sequence += 1;
        }
        assert_eq!(sequence, self.end, "the log holds what the window has seen");
        window.end = end;
        if window.front == end {
            window.front_left = 0;
        }
        window.reach_back(log)?;
        Ok(window)
    }

    /// Adds older shares until the window is full or the log ends.
    fn reach_back(&mut self, log: &mut dyn OldShares) -> Result<(), LedgerError> {
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
            for share in log.before(self.front)? {
                let share = share?;
                let part = self.span.work(share.pot).min(self.span.limit - self.total);
                self.front -= 1;
                self.front_left = part;
                *self.weight(share.payee) += part;
                self.total += part;
                if self.total == self.span.limit {
                    break;
                }
            }
        }
        Ok(())
    }

    fn evict(&mut self, log: &mut dyn OldShares) -> Result<(), LedgerError> {
        if self.total <= self.span.limit {
            return Ok(());
        }
        let mut over = self.total - self.span.limit;
        let mut left = Some(self.front_left);
        for share in log.from(self.front)? {
            let share = share?;
            let counted = left.take().unwrap_or_else(|| self.span.work(share.pot));
            let leaves = over.min(counted);
            *self.weight(share.payee) -= leaves;
            self.total -= leaves;
            over -= leaves;
            self.front_left = counted - leaves;
            if self.front_left > 0 {
                return Ok(());
            }
            self.front += 1;
        }
        Ok(())
    }

    fn weight(&mut self, payee: u32) -> &mut u128 {
        let at = payee as usize;
        if self.weights.len() <= at {
            self.weights.resize(at + 1, 0);
        }
        &mut self.weights[at]
    }
}
