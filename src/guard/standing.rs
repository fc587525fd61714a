//! How an address stands: what it did wrong of late, and whether it is banned for it.

use super::bucket::{Bucket, Rate};
use super::rule::{FAULT_POINTS, Rule};

/// Points come back in so many seconds: as many faults as in that time may come at once.
const POINTS_BURST_S: u32 = 100;

/// Doublings of a ban: a first one of a second would last six days after so many.
const STRIKES_MAX: u8 = 20;

/// What brings a ban, and how long it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BanTerms {
    /// Faults a minute, such as a bad HELLO, that an address may make on and on.
    pub faults_per_min: u32,
    /// The first.
    pub first_ms: u64,
    /// Each further one lasts twice as long, up to this.
    pub most_ms: u64,
    /// After so long without a new one the next is a first one again.
    pub forget_ms: u64,
}

impl BanTerms {
    /// What an address has to lose.
    fn points(&self) -> Rate {
        let per_min = self.faults_per_min.saturating_mul(FAULT_POINTS);
        Rate::with_burst(per_min.div_ceil(60), POINTS_BURST_S)
    }
}

/// A ban under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ban {
    /// By the caller's clock.
    pub until_ms: u64,
    /// What the last points went for.
    pub why: Rule,
    /// Bans before this one that are not forgotten.
    pub strikes: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    points: Bucket,
    /// The last, over or not.
    ban: Option<Ban>,
}

impl Standing {
    pub fn good(terms: &BanTerms, now_ms: u64) -> Self {
        Self {
            points: Bucket::full(terms.points(), now_ms),
            ban: None,
        }
    }

    /// The ban that holds now.
    pub fn ban(&self, now_ms: u64) -> Option<Ban> {
        self.ban.filter(|ban| now_ms < ban.until_ms)
    }

    /// The last ban, over or not, as long as it makes the next one longer.
    pub fn remembered(&self, terms: &BanTerms, now_ms: u64) -> Option<Ban> {
        self.ban
            .filter(|last| now_ms.saturating_sub(last.until_ms) < terms.forget_ms)
    }

    /// Takes the rule's points. The ban, where that begins one.
    pub fn offend(&mut self, rule: Rule, terms: &BanTerms, now_ms: u64) -> Option<Ban> {
        let points = rule.points();
        if points == 0 || self.ban(now_ms).is_some() || self.points.take(terms.points(), points, now_ms) {
            return None;
        }
        let strikes = self
            .remembered(terms, now_ms)
            .map_or(0, |last| last.strikes.saturating_add(1).min(STRIKES_MAX));
        let lasts_ms = terms.first_ms.saturating_mul(1 << strikes).min(terms.most_ms);
        let ban = Ban {
            until_ms: now_ms.saturating_add(lasts_ms),
            why: rule,
            strikes,
        };
        self.hear(ban, terms, now_ms);
        Some(ban)
    }

    /// Takes over a ban that somebody else gave.
    pub fn hear(&mut self, ban: Ban, terms: &BanTerms, now_ms: u64) {
        if self.ban.is_none_or(|last| last.until_ms < ban.until_ms) {
            self.ban = Some(ban);
        }
        // It starts anew when the ban is over.
        self.points = Bucket::full(terms.points(), now_ms);
    }

    /// Forgets all of it.
    pub fn lift(&mut self, terms: &BanTerms, now_ms: u64) {
        *self = Self::good(terms, now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TERMS: BanTerms = BanTerms {
        faults_per_min: 12,
        first_ms: 1_000,
        most_ms: 8_000,
        forget_ms: 60_000,
    };

    /// Offends until it is banned; says for how long.
    fn banned_for(standing: &mut Standing, now_ms: u64) -> u64 {
        (0..1_000)
            .find_map(|_| standing.offend(Rule::BadHello, &TERMS, now_ms))
            .map(|ban| ban.until_ms - now_ms)
            .expect("points run out")
    }

    #[test]
    fn bans_double_up_to_a_cap_and_are_forgotten() {
        let mut standing = Standing::good(&TERMS, 0);
        let mut now_ms = 0;
        for lasts_ms in [1_000, 2_000, 4_000, 8_000, 8_000] {
            assert_eq!(banned_for(&mut standing, now_ms), lasts_ms);
            assert!(standing.ban(now_ms + lasts_ms - 1).is_some());
            assert_eq!(standing.offend(Rule::BadHello, &TERMS, now_ms), None, "banned already");
            now_ms += lasts_ms;
            assert_eq!(standing.ban(now_ms), None);
        }
        assert_eq!(banned_for(&mut standing, now_ms + 60_000), 1_000);
    }

    #[test]
    fn a_gateway_that_is_set_up_badly_is_never_banned() {
        let mut standing = Standing::good(&TERMS, 0);
        for try_number in 0..10_000 {
            assert_eq!(standing.offend(Rule::BadHello, &TERMS, try_number * 5_000), None);
        }
    }

    #[test]
    fn what_weighs_nothing_bans_nobody() {
        for rule in Rule::ALL.into_iter().filter(|rule| rule.points() == 0) {
            let mut standing = Standing::good(&TERMS, 0);
            assert!((0..10_000).all(|_| standing.offend(rule, &TERMS, 0).is_none()));
        }
    }

    #[test]
    fn a_ban_is_lifted_and_heard() {
        let mut standing = Standing::good(&TERMS, 0);
        banned_for(&mut standing, 0);
        let ban = standing.ban(0).expect("banned");
        standing.lift(&TERMS, 0);
        assert_eq!(standing.ban(0), None);
        standing.hear(ban, &TERMS, 0);
        assert_eq!(standing.ban(0), Some(ban));
    }

    proptest! {
        /// A clock that jumps makes no ban longer than its cap.
        #[test]
        fn no_clock_makes_a_ban_longer(times in prop::collection::vec(0_u64..1_000_000, 1..300)) {
            let mut standing = Standing::good(&TERMS, 0);
            for now_ms in times {
                if let Some(ban) = standing.offend(Rule::RefusedShares, &TERMS, now_ms) {
                    prop_assert!(ban.until_ms - now_ms <= TERMS.most_ms);
                }
            }
        }
    }
}
