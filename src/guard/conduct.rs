//! How one session behaves: shares refused in a window, and shares against what its difficulty implies, or any gateway finds.

use super::bucket::{Bucket, Rate};
use super::rule::Rule;

/// Times that a session is slowed down for the same before it is cut off.
const SLOWED_MAX: u32 = 4;

/// A session that was not slowed down for so long begins anew, in ms.
const FORGET_MS: u64 = 60_000;

/// The least time that slowing down is worth, in ms.
const SLOW_MIN_MS: u64 = 500;

/// How many times the shares that it should send a steered session may send on and on.
const SHARES_FACTOR: u64 = 8;

/// Steering has come to rest by then, in s: until then as many shares come as the gateway has hashrate for. Miners take a new
/// difficulty with their next job, which is up to 120 s away; what comes before that is steering's.
pub const SETTLE_S: u64 = 150;

/// No gateway has more, in hashes a second: 10 EH/s.
const HASHRATE_MAX: u64 = 10_000_000_000_000_000_000;

/// What a session that nobody steers may send at once, in s of what it may send on and on: what waited while its pool was away.
const UNSTEERED_BURST_S: u32 = 10;

/// Shares that a session may send: `most_per_s` where nobody steers it, which is more than any gateway finds.
///
/// One that is steered to `shares_per_minute`, now by `min_diff`, may on and on send some times what it is steered to. At once it
/// may be what the fastest gateway finds at this difficulty until steering has come to rest: much at a low one, as a newcomer
/// has it, and little at the one it belongs to. A gateway may grow a thousandfold in a moment, and each of its shares is as much
/// work as the difficulty says all the same.
#[must_use]
pub fn share_rate(most_per_s: u32, steered: Option<Steered>) -> Rate {
    let Some(Steered {
        shares_per_minute,
        min_diff,
    }) = steered
    else {
        return Rate::with_burst(most_per_s, UNSTEERED_BURST_S);
    };
    let wanted = u64::from(shares_per_minute);
    let fastest = ((HASHRATE_MAX >> 32) / min_diff.max(1)).clamp(1, u64::from(most_per_s.max(1)));
    let fit = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Rate {
        per_s: fit((wanted * SHARES_FACTOR).div_ceil(60)),
        burst: fit(fastest * SETTLE_S + wanted * SHARES_FACTOR),
    }
}

/// How a session is steered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steered {
    pub shares_per_minute: u32,
    /// As CONFIG says it.
    pub min_diff: u64,
}

/// What is to become of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Go,
    /// Read nothing from it until then.
    Slow {
        until_ms: u64,
        rule: Rule,
    },
    /// End it.
    Cut(Rule),
}

/// Shares against what may come.
#[derive(Debug)]
struct Allowance {
    rate: Rate,
    bucket: Bucket,
    /// What holds for a difficulty that was raised, and from when on: until then miners may be at work on the former.
    raised: Option<(Rate, u64)>,
}

/// The conduct of one session.
#[derive(Debug)]
pub struct Conduct {
    refused: Bucket,
    /// Shares a second where nobody steers.
    most_per_s: u32,
    /// None before it is known whether somebody does.
    shares: Option<Allowance>,
    slowed: u32,
    slowed_until_ms: u64,
}

impl Conduct {
    /// Of a session that begins: `refused` as [`Self::note`] has it, and shares a second where nobody steers it.
    #[must_use]
    pub fn new(refused: Rate, most_per_s: u32, now_ms: u64) -> Self {
        Self {
            refused: Bucket::full(refused, now_ms),
            most_per_s,
            shares: None,
            slowed: 0,
            slowed_until_ms: 0,
        }
    }

    /// The session is steered so from now on. Where it is none, what it sends is its own, up to what any gateway finds: the
    /// pool steers nobody, or raises this one no further.
    pub fn steer(&mut self, steered: Option<Steered>, now_ms: u64) {
        let rate = share_rate(self.most_per_s, steered);
        match &mut self.shares {
            None => self.shares = Some(Allowance::new(rate, now_ms)),
            Some(allowance) => allowance.change(rate, now_ms),
        }
    }

    /// So many shares came since the last call, and those of them that were refused weigh so much (in tenths, by
    /// [`super::refusal_weight`]).
    pub fn note(&mut self, shares: u32, refused: Rate, refused_weight: u32, now_ms: u64) -> Step {
        if refused_weight > 0 {
            let wait_ms = self.refused.spend(refused, refused_weight, now_ms);
            if wait_ms > 0 {
                return self.escalate(Rule::RefusedShares, wait_ms, now_ms);
            }
        }
        let unsteered = || Allowance::new(share_rate(self.most_per_s, None), now_ms);
        match self.shares.get_or_insert_with(unsteered).spend(shares, now_ms) {
            0 => Step::Go,
            wait_ms => self.escalate(Rule::ShareRate, wait_ms, now_ms),
        }
    }

    fn escalate(&mut self, rule: Rule, wait_ms: u64, now_ms: u64) -> Step {
        if now_ms.saturating_sub(self.slowed_until_ms) >= FORGET_MS {
            self.slowed = 0;
        }
        self.slowed += 1;
        if self.slowed > SLOWED_MAX {
            return Step::Cut(rule);
        }
        self.slowed_until_ms = now_ms + wait_ms.max(SLOW_MIN_MS);
        Step::Slow {
            until_ms: self.slowed_until_ms,
            rule,
        }
    }
}

impl Allowance {
    fn new(rate: Rate, now_ms: u64) -> Self {
        Self {
            rate,
            bucket: Bucket::full(rate, now_ms),
            raised: None,
        }
    }

    /// Less counts later, more at once. What stays the same is not filled anew: a session that floods has its difficulty
    /// raised for it.
    fn change(&mut self, rate: Rate, now_ms: u64) {
        if rate == self.rate {
            self.raised = None;
        } else if rate.burst < self.rate.burst {
            self.raised = Some((rate, now_ms + SETTLE_S * 1_000));
        } else {
            // Changes are few (`work/difficulty.rs`), so what each gives is too.
            *self = Self::new(rate, now_ms);
        }
    }

    fn spend(&mut self, shares: u32, now_ms: u64) -> u64 {
        if let Some((rate, _)) = self.raised.take_if(|(_, from_ms)| *from_ms <= now_ms) {
            *self = Self::new(rate, now_ms);
        }
        self.bucket.spend(self.rate, shares, now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::refusal_weight;
    use crate::wire::Reason;

    const REFUSED: Rate = Rate {
        per_s: 100,
        burst: 1_000,
    };

    const MOST_PER_S: u32 = 4_000;

    #[expect(clippy::unnecessary_wraps, reason = "as `steer` takes it")]
    fn steered(min_diff: u64) -> Option<Steered> {
        Some(Steered {
            shares_per_minute: 20,
            min_diff,
        })
    }

    #[test]
    fn refused_shares_slow_a_session_down_and_then_cut_it_off() {
        let mut conduct = Conduct::new(REFUSED, MOST_PER_S, 0);
        let weight = refusal_weight(Reason::BadJobId);
        assert_eq!(conduct.note(100, REFUSED, 100 * weight, 0), Step::Go);
        let mut now_ms = 0;
        for _ in 0..SLOWED_MAX {
            match conduct.note(50, REFUSED, 50 * weight, now_ms) {
                Step::Slow { until_ms, rule } => {
                    assert_eq!(rule, Rule::RefusedShares);
                    assert!(until_ms >= now_ms + SLOW_MIN_MS);
                    now_ms = until_ms;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(
            conduct.note(50, REFUSED, 50 * weight, now_ms),
            Step::Cut(Rule::RefusedShares)
        );
    }

    #[test]
    fn what_honest_gateways_do_every_day_is_let_through() {
        for reason in [Reason::HNotZero, Reason::HighHash, Reason::StaleBlock] {
            let mut conduct = Conduct::new(REFUSED, MOST_PER_S, 0);
            // A hundred such a second, for an hour.
            for second in 0..3_600 {
                let weight = 33 * refusal_weight(reason);
                assert_eq!(conduct.note(100, REFUSED, weight, second * 1_000), Step::Go);
            }
        }
    }

    #[test]
    fn without_steering_a_session_sends_what_any_gateway_finds_and_no_more() {
        let mut conduct = Conduct::new(REFUSED, MOST_PER_S, 0);
        let all_day = (0..86_400_u64).all(|second| conduct.note(MOST_PER_S, REFUSED, 0, second * 1_000) == Step::Go);
        assert!(all_day);
        let steps = flood(&mut conduct, 2 * MOST_PER_S, 86_400_000);
        assert_eq!(steps.last(), Some(&Step::Cut(Rule::ShareRate)), "{steps:?}");
        let slowed = |step: &&Step| {
            matches!(
                step,
                Step::Slow {
                    rule: Rule::ShareRate,
                    ..
                }
            )
        };
        assert_eq!(steps.iter().filter(slowed).count(), SLOWED_MAX as usize);
    }

    /// Sends so many shares a second, when it is read, until it is cut off.
    fn flood(conduct: &mut Conduct, per_s: u32, mut now_ms: u64) -> Vec<Step> {
        let mut steps = Vec::new();
        while !matches!(steps.last(), Some(Step::Cut(_))) && steps.len() < 10_000 {
            steps.push(conduct.note(per_s, REFUSED, 0, now_ms));
            now_ms = match steps.last() {
                Some(Step::Slow { until_ms, .. }) => *until_ms,
                _ => now_ms + 1_000,
            };
        }
        steps
    }

    #[test]
    fn a_steered_session_has_time_to_settle_and_then_keeps_to_its_rate() {
        // A new gateway at difficulty 65,536, whose 1 EH/s are some 3,500 shares a second, until it is steered away.
        let mut conduct = Conduct::new(REFUSED, MOST_PER_S, 0);
        conduct.steer(steered(1 << 16), 0);
        for second in 0..40 {
            assert_eq!(conduct.note(3_500, REFUSED, 0, second * 1_000), Step::Go);
        }
        conduct.steer(steered(1 << 30), 40_000);
        for minute in 1..600 {
            assert_eq!(conduct.note(40, REFUSED, 0, 40_000 + minute * 60_000), Step::Go);
        }
        // A flood of shares at the difficulty it belongs to.
        let steps = flood(&mut conduct, 100, 40_000 + 600 * 60_000);
        assert_eq!(steps.last(), Some(&Step::Cut(Rule::ShareRate)), "{steps:?}");
        assert!(steps.len() < 20, "within seconds: {steps:?}");
    }

    #[test]
    fn one_that_comes_back_is_held_to_its_difficulty_at_once_and_one_let_go_to_what_any_gateway_finds() {
        let mut conduct = Conduct::new(REFUSED, MOST_PER_S, 0);
        conduct.steer(steered(1 << 40), 0);
        assert!(matches!(conduct.note(1_000, REFUSED, 0, 0), Step::Slow { .. }));
        conduct.steer(None, 0);
        assert_eq!(conduct.note(1_000, REFUSED, 0, 0), Step::Go);
        assert!(matches!(conduct.note(50_000, REFUSED, 0, 0), Step::Slow { .. }));
    }

    #[test]
    fn a_difficulty_that_allows_the_same_gives_nothing_anew() {
        let mut conduct = Conduct::new(REFUSED, 2, 0);
        let mut shares = 0;
        for pot in (0..20).cycle() {
            conduct.steer(steered(1 << pot), 0);
            if conduct.note(100, REFUSED, 0, 0) != Step::Go {
                break;
            }
            shares += 100;
        }
        assert!(shares <= 2 * SETTLE_S + 20 * SHARES_FACTOR, "{shares}");
    }

    #[test]
    fn the_rate_follows_from_the_difficulty() {
        let low = share_rate(MOST_PER_S, steered(1));
        let high = share_rate(MOST_PER_S, steered(1 << 40));
        assert_eq!(low.per_s, high.per_s);
        assert!(low.burst > high.burst);
        assert_eq!(u64::from(high.burst), SETTLE_S + 160);
        let many = Steered {
            shares_per_minute: u32::MAX,
            min_diff: 0,
        };
        assert!(share_rate(0, Some(many)).per_s > 0);
    }
}
