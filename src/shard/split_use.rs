//! Whether a session's work pays what it was told to pay.
//!
//! Work without payouts is honest at a new tip, after a reconnect, while a gateway waits for its split, and for as long
//! as a miner holds on to it. A session that hardly ever pays anybody, although its requests were answered in time, is
//! another matter: its blocks would leave all to the pool's script, and everybody else to wait for their due.

use crate::config::SplitUseRule;

/// The time over which a session is judged, in ms: some work intervals of a gateway.
const OVER_MS: u64 = 600_000;

/// Shares below which a session is not judged: chance alone would.
const SHARES_MIN: u64 = 64;

/// One session's work since a split with outputs was dictated to it.
#[derive(Debug, Default)]
pub(super) struct SplitUse {
    since_ms: Option<u64>,
    paying: u64,
    without: u64,
    alerted: bool,
}

impl SplitUse {
    /// A split that pays somebody was dictated in time.
    pub fn dictated(&mut self, now_ms: u64) {
        self.since_ms.get_or_insert(now_ms);
    }

    /// Whether work without payouts still counts.
    pub fn allows_without(&self, rule: SplitUseRule) -> bool {
        !(rule.refuse && self.alerted)
    }

    /// Notes an accepted share, or one that was refused for paying nobody alone. True: the alert is due now.
    pub fn note(&mut self, pays: bool, now_ms: u64, rule: SplitUseRule) -> bool {
        let Some(since_ms) = self.since_ms else {
            return false;
        };
        if pays {
            self.paying += 1;
        } else {
            self.without += 1;
        }
        let all = self.paying + self.without;
        if now_ms.saturating_sub(since_ms) < OVER_MS || all < SHARES_MIN {
            return false;
        }
        let above = self.without * 100 > all * u64::from(rule.without_max_percent);
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

    const RULE: SplitUseRule = SplitUseRule {
        without_max_percent: 50,
        refuse: true,
    };

    fn worked(split_use: &mut SplitUse, paying: u64, without: u64, end_ms: u64) -> bool {
        let mut alert = false;
        for number in 0..paying + without {
            let now_ms = if number + 1 == paying + without { end_ms } else { 0 };
            alert |= split_use.note(number < paying, now_ms, RULE);
        }
        alert
    }

    #[test]
    fn work_before_any_split_is_not_held_against_anybody() {
        let mut split_use = SplitUse::default();
        assert!(!worked(&mut split_use, 0, 1_000, OVER_MS));
        assert!(split_use.allows_without(RULE));
    }

    #[test]
    fn half_of_the_work_may_pay_nobody_and_more_raises_the_alert_after_a_while() {
        for (paying, without, end_ms, alert) in [
            (50, 50, OVER_MS, false),
            (49, 51, OVER_MS, true),
            (49, 51, OVER_MS - 1, false),
            (0, SHARES_MIN - 1, OVER_MS, false),
        ] {
            let mut split_use = SplitUse::default();
            split_use.dictated(0);
            assert_eq!(
                worked(&mut split_use, paying, without, end_ms),
                alert,
                "{paying} {without}"
            );
            assert_eq!(split_use.allows_without(RULE), !alert);
            let alert_only = SplitUseRule { refuse: false, ..RULE };
            assert!(split_use.allows_without(alert_only));
        }
    }

    #[test]
    fn a_session_that_pays_again_is_as_good_as_any() {
        let mut split_use = SplitUse::default();
        split_use.dictated(0);
        assert!(worked(&mut split_use, 0, 100, OVER_MS));
        assert!(!split_use.allows_without(RULE));
        assert!(!worked(&mut split_use, 100, 0, 2 * OVER_MS));
        assert!(split_use.allows_without(RULE));
    }
}
