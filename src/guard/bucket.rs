//! Token buckets: how much of something may come at once, and how much a second on and on.

/// What a bucket holds, and how fast it fills again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Tokens that come back in a second.
    pub per_s: u32,
    /// Tokens that a full bucket has.
    pub burst: u32,
}

/// Debt is forgotten past so many seconds of the rate: a wait is never longer.
pub const DEBT_MAX_S: i64 = 10;

/// Tokens at a moment. Time is the caller's: ms of any clock that does not go back. Where it does, it stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// In thousandths of a token; below zero is debt.
    level: i64,
    at_ms: u64,
}

impl Rate {
    /// `per_s` a second, and so many seconds of it at once.
    #[must_use]
    pub const fn with_burst(per_s: u32, seconds: u32) -> Self {
        Self {
            per_s,
            burst: per_s.saturating_mul(seconds),
        }
    }

    /// One part in so many of it, rounded down, and what is left.
    pub(super) const fn split(self, parts: u32) -> (Self, Self) {
        let part = Self {
            per_s: self.per_s / parts,
            burst: self.burst / parts,
        };
        let rest = Self {
            per_s: self.per_s - part.per_s,
            burst: self.burst - part.burst,
        };
        (part, rest)
    }

    fn full(self) -> i64 {
        i64::from(self.burst) * 1_000
    }
}

impl Bucket {
    #[must_use]
    pub fn full(rate: Rate, now_ms: u64) -> Self {
        Self {
            level: rate.full(),
            at_ms: now_ms,
        }
    }

    /// Takes `count` tokens, or none where there are fewer.
    pub fn take(&mut self, rate: Rate, count: u32, now_ms: u64) -> bool {
        self.fill(rate, now_ms);
        let wanted = i64::from(count) * 1_000;
        if self.level < wanted {
            return false;
        }
        self.level -= wanted;
        true
    }

    /// Takes tokens for what has come already. How long nothing more should come, in ms: 0 where there is no debt.
    pub fn spend(&mut self, rate: Rate, count: u32, now_ms: u64) -> u64 {
        self.fill(rate, now_ms);
        let per_s = i64::from(rate.per_s.max(1));
        self.level = (self.level - i64::from(count) * 1_000).max(-per_s * 1_000 * DEBT_MAX_S);
        let debt = u64::try_from(-self.level).unwrap_or(0);
        debt.div_ceil(per_s.unsigned_abs())
    }

    /// Whether it is as if nothing had ever been taken.
    #[must_use]
    pub fn is_full(mut self, rate: Rate, now_ms: u64) -> bool {
        self.fill(rate, now_ms);
        self.level >= rate.full()
    }

    fn fill(&mut self, rate: Rate, now_ms: u64) {
        let passed = i64::try_from(now_ms.saturating_sub(self.at_ms)).unwrap_or(i64::MAX);
        // A token a second is a thousandth of one a millisecond.
        let came = passed.saturating_mul(i64::from(rate.per_s));
        self.level = self.level.saturating_add(came).min(rate.full());
        self.at_ms = self.at_ms.max(now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATE: Rate = Rate { per_s: 10, burst: 30 };

    #[test]
    fn a_burst_goes_through_and_then_the_rate() {
        let mut bucket = Bucket::full(RATE, 0);
        assert!((0..30).all(|_| bucket.take(RATE, 1, 0)));
        assert!(!bucket.take(RATE, 1, 99));
        assert!(bucket.take(RATE, 1, 100));
        assert!(!bucket.take(RATE, 1, 199));
        assert!(bucket.take(RATE, 30, 100_000), "a full one and no more");
        assert!(!bucket.take(RATE, 1, 100_000));
    }

    #[test]
    fn debt_says_how_long_to_wait() {
        let mut bucket = Bucket::full(RATE, 0);
        assert_eq!(bucket.spend(RATE, 30, 0), 0);
        assert_eq!(bucket.spend(RATE, 5, 0), 500);
        assert_eq!(bucket.spend(RATE, 0, 400), 100);
        assert_eq!(bucket.spend(RATE, 0, 500), 0);
        assert_eq!(bucket.spend(RATE, u32::MAX, 500), 10_000, "never longer than this");
    }

    proptest! {
        /// Whatever the clock does, no more goes through than a burst and the rate for the time that passed at the most.
        #[test]
        fn no_clock_makes_tokens(times in prop::collection::vec(0_u64..100_000, 1..200)) {
            let mut bucket = Bucket::full(RATE, 0);
            let taken = times.iter().filter(|now_ms| bucket.take(RATE, 1, **now_ms)).count() as u64;
            let last = times.iter().max().copied().unwrap_or(0);
            prop_assert!(taken <= 30 + last * 10 / 1_000);
        }
    }
}
