//! How one session behaves: shares refused in a window, and shares against what its difficulty implies.

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
const SETTLE_S: u64 = 150;

/// No gateway has more, in hashes a second: 10 EH/s.
const HASHRATE_MAX: u64 = 10_000_000_000_000_000_000;

/// More shares a second than this are no gateway's, whatever their difficulty.
const SHARES_PER_S_MAX: u64 = 4_000;

/// Shares that a session may send whose pool steers it to `shares_per_minute`, now by `min_diff`.
///
/// On and on it is some times what it is steered to. At once it may be what the fastest gateway finds at this difficulty
/// until steering has come to rest: much at a low one, as a newcomer has it, and little at the one it belongs to. A gateway
/// may grow a thousandfold in a moment, and each of its shares is as much work as the difficulty says all the same.
#[must_use]
pub fn share_rate(shares_per_minute: u32, min_diff: u64) -> Rate {
    let steered = u64::from(shares_per_minute);
    let fastest = ((HASHRATE_MAX >> 32) / min_diff.max(1)).clamp(1, SHARES_PER_S_MAX);
    let fit = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Rate {
        per_s: fit((steered * SHARES_FACTOR).div_ceil(60)),
        burst: fit(fastest * SETTLE_S + steered * SHARES_FACTOR),
    }
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

/// Shares against what the difficulty implies.
#[derive(Debug)]
struct Steered {
    rate: Rate,
    bucket: Bucket,
    /// What holds for a difficulty that was raised, and from when on: until then miners may be at work on the former.
    raised: Option<(Rate, u64)>,
}

/// The conduct of one session.
#[derive(Debug)]
pub struct Conduct {
    refused: Bucket,
    /// None where the pool does not steer.
    shares: Option<Steered>,
    slowed: u32,
    slowed_until_ms: u64,
}

impl Conduct {
    #[must_use]
    pub fn new(refused: Rate, now_ms: u64) -> Self {
        Self {
            refused: Bucket::full(refused, now_ms),
            shares: None,
            slowed: 0,
            slowed_until_ms: 0,
        }
    }

    /// The session is steered by a CONFIG with this `min_diff` from now on; a pool that does not steer never says so.
    pub fn steer(&mut self, shares_per_minute: u32, min_diff: u64, now_ms: u64) {
        let rate = share_rate(shares_per_minute, min_diff);
        match &mut self.shares {
            Some(steered) if rate.burst < steered.rate.burst => {
                steered.raised = Some((rate, now_ms + SETTLE_S * 1_000));
            }
            // Changes are few (`work/difficulty.rs`), so what each gives is too.
            shares => *shares = Some(Steered::new(rate, now_ms)),
        }
    }

    /// The pool steers the session no further: what it sends at the highest difficulty is its own.
    pub fn let_go(&mut self) {
        self.shares = None;
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
        if let Some(steered) = &mut self.shares {
            let wait_ms = steered.spend(shares, now_ms);
            if wait_ms > 0 {
                return self.escalate(Rule::ShareRate, wait_ms, now_ms);
            }
        }
        Step::Go
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

impl Steered {
    fn new(rate: Rate, now_ms: u64) -> Self {
        Self {
            rate,
            bucket: Bucket::full(rate, now_ms),
            raised: None,
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

    #[test]
    fn refused_shares_slow_a_session_down_and_then_cut_it_off() {
        let mut conduct = Conduct::new(REFUSED, 0);
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
            let mut conduct = Conduct::new(REFUSED, 0);
            // A hundred such a second, for an hour.
            for second in 0..3_600 {
                let weight = 33 * refusal_weight(reason);
                assert_eq!(conduct.note(100, REFUSED, weight, second * 1_000), Step::Go);
            }
        }
    }

    #[test]
    fn without_steering_any_rate_of_good_shares_goes() {
        let mut conduct = Conduct::new(REFUSED, 0);
        assert_eq!(conduct.note(u32::MAX, REFUSED, 0, 0), Step::Go);
    }

    #[test]
    fn a_steered_session_has_time_to_settle_and_then_keeps_to_its_rate() {
        // A new gateway at difficulty 65,536, whose 1 EH/s are some 3,500 shares a second, until it is steered away.
        let mut conduct = Conduct::new(REFUSED, 0);
        conduct.steer(20, 1 << 16, 0);
        for second in 0..40 {
            assert_eq!(conduct.note(3_500, REFUSED, 0, second * 1_000), Step::Go);
        }
        conduct.steer(20, 1 << 30, 40_000);
        for minute in 1..600 {
            assert_eq!(conduct.note(40, REFUSED, 0, 40_000 + minute * 60_000), Step::Go);
        }
        // A flood of shares at the difficulty it belongs to.
        let now_ms = 40_000 + 600 * 60_000;
        let mut steps: Vec<_> = (0..20)
            .map(|n| conduct.note(50_000, REFUSED, 0, now_ms + n * 20_000))
            .collect();
        steps.dedup();
        assert!(steps.contains(&Step::Cut(Rule::ShareRate)), "{steps:?}");
    }

    #[test]
    fn the_rate_follows_from_the_difficulty() {
        let low = share_rate(20, 1);
        let high = share_rate(20, 1 << 40);
        assert_eq!(low.per_s, high.per_s);
        assert!(low.burst > high.burst);
        assert_eq!(u64::from(high.burst), SETTLE_S + 160);
        assert!(share_rate(u32::MAX, 0).per_s > 0);
    }
}
