//! Whether a session's work pays what it was told to pay.
//!
//! Work without payouts is honest at a new tip, after a reconnect, while a gateway waits for its split, and for as long
//! as a miner holds on to it. A session whose work hardly ever pays anybody, although its requests were answered in time, is
//! another matter: its blocks would leave all to the pool's script, and everybody else to wait for their due.

use crate::config::SplitUseRule;
use crate::work::POT_MAX;

/// Shares below which a session is not judged: chance alone would.
const SHARES_MIN: u64 = 64;

/// One session's work since it was told whom to pay. Where it was not, for want of somebody to pay or since the answer was
/// late, it begins anew.
#[derive(Debug, Default)]
pub(super) struct SplitUse {
    since_ms: Option<u64>,
    /// Work: `2^pot` a share.
    paying: u128,
    without: u128,
    shares: u64,
    alerted: bool,
}

impl SplitUse {
    /// A split that pays somebody was dictated in time.
    pub fn told(&mut self, now_ms: u64) {
        self.since_ms.get_or_insert(now_ms);
    }

    /// A request was not answered in time, or there was nobody to pay: no work is held against the session before it is told
    /// again.
    pub fn not_told(&mut self) {
        *self = Self::default();
    }

    /// Whether work without payouts still counts.
    pub fn allows_without(&self, rule: SplitUseRule) -> bool {
        !(rule.refuse && self.alerted)
    }

    /// Notes an accepted share, or one that was refused for whom it pays. That one weighs what it says it does: it can hurt
    /// its own session alone. True: the alert is due now.
    pub fn note(&mut self, pays: bool, pot: u8, now_ms: u64, rule: SplitUseRule) -> bool {
        let Some(since_ms) = self.since_ms else {
            return false;
        };
        let work = 1_u128 << pot.min(POT_MAX);
        if pays {
            self.paying += work;
        } else {
            self.without += work;
        }
        self.shares += 1;
        if now_ms.saturating_sub(since_ms) < rule.over_s * 1_000 || self.shares < SHARES_MIN {
            return false;
        }
        let all = self.paying + self.without;
        let above = self.without * 100 > all * u128::from(rule.without_max_percent);
        *self = Self {
            since_ms: Some(now_ms),
            alerted: above,
            ..Self::default()
        };
        above
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OVER_MS: u64 = 600_000;
    const RULE: SplitUseRule = SplitUseRule {
        without_max_percent: 50,
        over_s: OVER_MS / 1_000,
        refuse: true,
    };

    /// So many shares of a pot that pay, and that do not; the last of them at `end_ms`.
    fn worked(split_use: &mut SplitUse, paying: (u64, u8), without: (u64, u8), end_ms: u64) -> bool {
        let mut alert = false;
        let all = paying.0 + without.0;
        for number in 0..all {
            let now_ms = if number + 1 == all { end_ms } else { 0 };
            let pays = number < paying.0;
            let pot = if pays { paying.1 } else { without.1 };
            alert |= split_use.note(pays, pot, now_ms, RULE);
        }
        alert
    }

    fn told() -> SplitUse {
        let mut split_use = SplitUse::default();
        split_use.told(0);
        split_use
    }

    #[test]
    fn work_before_any_split_is_not_held_against_anybody() {
        let mut split_use = SplitUse::default();
        assert!(!worked(&mut split_use, (0, 0), (1_000, 9), OVER_MS));
        assert!(split_use.allows_without(RULE));
    }

    #[test]
    fn half_of_the_work_may_pay_nobody_and_more_raises_the_alert_after_a_while() {
        for (paying, without, end_ms, alert) in [
            (50, 50, OVER_MS, false),
            (49, 51, OVER_MS, true),
            (49, 51, OVER_MS - 1, false),
            (0, SHARES_MIN - 1, OVER_MS, false),
            (0, SHARES_MIN, OVER_MS, true),
        ] {
            let mut split_use = told();
            assert_eq!(
                worked(&mut split_use, (paying, 7), (without, 7), end_ms),
                alert,
                "{paying} {without}"
            );
            assert_eq!(split_use.allows_without(RULE), !alert);
            let alert_only = SplitUseRule { refuse: false, ..RULE };
            assert!(split_use.allows_without(alert_only));
        }
    }

    #[test]
    fn it_is_work_that_counts_and_not_shares() {
        // One share in eight, and two thirds of the work.
        assert!(worked(&mut told(), (112, 10), (16, 14), OVER_MS));
        assert!(!worked(&mut told(), (16, 14), (112, 10), OVER_MS));
        // As heavy as there are, and heavier than there may be.
        assert!(!worked(&mut told(), (100, 63), (100, 255), OVER_MS));
        let never = SplitUseRule {
            without_max_percent: 100,
            ..RULE
        };
        let mut split_use = told();
        let mut note = |number: u64| split_use.note(false, 63, number * OVER_MS, never);
        assert!(!(0..200).any(&mut note));
    }

    #[test]
    fn a_session_that_pays_again_is_as_good_as_any() {
        let mut split_use = told();
        assert!(worked(&mut split_use, (0, 0), (100, 5), OVER_MS));
        assert!(!split_use.allows_without(RULE));
        assert!(!worked(&mut split_use, (100, 5), (0, 0), 2 * OVER_MS));
        assert!(split_use.allows_without(RULE));
    }

    #[test]
    fn who_was_not_told_is_not_judged_for_what_came_before() {
        let mut split_use = told();
        assert!(worked(&mut split_use, (0, 0), (100, 5), OVER_MS));
        split_use.not_told();
        assert!(split_use.allows_without(RULE), "it cannot pay what it is not told");
        assert!(!worked(&mut split_use, (0, 0), (1_000, 5), 3 * OVER_MS));
        split_use.told(3 * OVER_MS);
        assert!(!worked(&mut split_use, (0, 0), (100, 5), 4 * OVER_MS - 1));
        assert!(worked(&mut split_use, (0, 0), (100, 5), 4 * OVER_MS));
    }
}
