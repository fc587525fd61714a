//! How hard a gateway's shares should be, so that it sends about as many as the pool wants.
//!
//! Pure: time is an argument. What is measured is work, not the number of shares. Miners work at their gateway's own
//! difficulty where that lies above ours, and after a change at the former one until their next notify; the work of a
//! share is right in both cases, so neither is taken for a change of hashrate, and the difficulty does not run down
//! where a lower one would bring no more shares.

use super::terms::MinDiff;

/// Between CONFIG and the next one that raises the difficulty, in ms: a gateway takes the terms with its next job.
pub const RISE_AFTER_MS: u64 = 5_000;

/// The same for one that lowers it: too few shares cost the pool nothing.
pub const FALL_AFTER_MS: u64 = 60_000;

/// Changes that a session may have at once, and after how long it may have one more, in ms: 32 in its first hour, half of
/// the terms that are remembered of a gateway ([`super::TERMS_MAX`]).
pub const CHANGES_AT_ONCE: u32 = 8;
pub const CHANGE_EVERY_MS: u64 = 150_000;

/// What is measured over: half of it is let go at a time, in ms.
const LONG_HALF_MS: u64 = 150_000;

/// Sudden falls are looked for over this, in ms: all of it has as many shares as tell a tenth of what is wanted from chance.
const MIDDLE_HALF_MS: u64 = 30_000;

/// Sudden rises are looked for over this, in ms.
const SHORT_HALF_MS: u64 = 5_000;

/// Standard deviations that a Poisson count must lie beyond the band. Looked at twice a second for a day, chance alone
/// gets so far less than once.
const SIGMAS: f64 = 3.0;

/// Shares from which their work says how far to fall; with fewer the step is [`QUIET_STEP`].
const TELLING: u64 = 8;

/// Powers of two by which the difficulty falls where hardly anything comes: miners that pause are soon back.
const QUIET_STEP: u8 = 2;

/// How often the wait for such a step doubles where nothing comes at all, up to 32 minutes: who has fallen far in a pause sends
/// as many times too much when they are back, until their next job. Half an hour of silence is 8 powers of two.
const QUIET_DOUBLINGS: u32 = 5;

const MS_PER_MINUTE: f64 = 60_000.0;

/// What the operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SteerRule {
    /// Not 0.
    pub shares_per_minute: u32,
    /// A newcomer starts here.
    pub least: MinDiff,
    /// Not below `least`.
    pub most: MinDiff,
}

impl SteerRule {
    /// The difficulty within the bounds that is nearest to the one that a gateway had.
    #[must_use]
    pub fn bound(&self, former: MinDiff) -> MinDiff {
        former.clamp(self.least, self.most)
    }
}

/// Shares of one session since it began: as many, and the sum of their `2^pot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Done {
    pub shares: u64,
    pub work: u128,
}

impl Done {
    fn since(self, before: Self) -> Self {
        Self {
            shares: self.shares - before.shares,
            work: self.work - before.work,
        }
    }
}

/// Steers one session.
#[derive(Debug, Clone)]
pub struct Steerer {
    rule: SteerRule,
    pot: u8,
    told_ms: u64,
    long: Measure,
    middle: Measure,
    short: Measure,
    /// How far the work of a share lay above `2^pot` when shares last came, at least 1: the gateway may have its miners
    /// work above our difficulty, and few shares are no silence then.
    excess: f64,
    /// Steps down since the last share.
    silent_steps: u32,
    changes_left: u32,
    refilled_ms: u64,
}

impl Steerer {
    /// A session whose first CONFIG has said `min_diff`.
    #[must_use]
    pub fn new(rule: SteerRule, min_diff: MinDiff, now_ms: u64) -> Self {
        Self {
            rule,
            pot: min_diff.pot(),
            told_ms: now_ms,
            long: Measure::begin(now_ms, Done::default()),
            middle: Measure::begin(now_ms, Done::default()),
            short: Measure::begin(now_ms, Done::default()),
            excess: 1.0,
            silent_steps: 0,
            changes_left: CHANGES_AT_ONCE,
            refilled_ms: now_ms,
        }
    }

    /// The difficulty that the gateway should be told, where that is another than the one in force. It is asked again
    /// until [`Self::told`]. `done` never falls, nor does `now_ms`.
    pub fn look(&mut self, done: Done, now_ms: u64) -> Option<MinDiff> {
        self.refill(now_ms);
        if self.long.is_untouched() && done.shares > 0 {
            // The time until the first share says when mining began, not how fast it is.
            self.measure_from(now_ms, done);
            return None;
        }
        self.long.note(done, now_ms, LONG_HALF_MS);
        self.middle.note(done, now_ms, MIDDLE_HALF_MS);
        self.short.note(done, now_ms, SHORT_HALF_MS);
        let lately = self.long.lately();
        if lately.shares > 0 {
            let at_pot = lately.work as f64 / 2_f64.powi(self.pot.into());
            self.excess = (at_pot / lately.shares as f64).max(1.0);
            self.silent_steps = 0;
        }
        if self.changes_left == 0 {
            return None;
        }
        let since_ms = now_ms.saturating_sub(self.told_ms);
        let rise = (since_ms >= RISE_AFTER_MS).then(|| self.rise(now_ms)).flatten();
        let pot = rise.or_else(|| (since_ms >= self.fall_after_ms()).then(|| self.fall(now_ms)).flatten())?;
        let bounded = self.rule.bound(MinDiff::from_pot(pot)?);
        (bounded.pot() != self.pot).then_some(bounded)
    }

    /// CONFIG with this difficulty is on its way.
    pub fn told(&mut self, min_diff: MinDiff, done: Done, now_ms: u64) {
        if min_diff.pot() < self.pot && self.short.lately().shares == 0 {
            self.silent_steps += 1;
        }
        self.pot = min_diff.pot();
        self.told_ms = now_ms;
        self.changes_left = self.changes_left.saturating_sub(1);
        self.measure_from(now_ms, done);
    }

    /// As it was last told.
    #[must_use]
    pub fn min_diff(&self) -> MinDiff {
        MinDiff::from_pot(self.pot).expect("it was a difficulty")
    }

    fn measure_from(&mut self, now_ms: u64, done: Done) {
        self.long = Measure::begin(now_ms, done);
        self.middle = Measure::begin(now_ms, done);
        self.short = Measure::begin(now_ms, done);
    }

    /// The greatest pot that one of the measures asks for, where one is sure of more than twice the shares that are wanted.
    fn rise(&self, now_ms: u64) -> Option<u8> {
        let asked = [&self.long, &self.short].into_iter().filter_map(|measure| {
            let Seen { shares, at_pot, ms } = measure.seen(self.pot, now_ms);
            let sure_of = at_pot * (1.0 - SIGMAS / shares.sqrt());
            (shares > 0.0 && sure_of >= 2.0 * self.wanted(ms)).then(|| self.nearest(at_pot, ms))
        });
        asked.max().filter(|pot| *pot > self.pot)
    }

    /// The least pot that one of the measures asks for, where even the most that chance allows is less than half of what is
    /// wanted.
    fn fall(&self, now_ms: u64) -> Option<u8> {
        let asked = [&self.long, &self.middle].into_iter();
        asked.filter_map(|measure| self.fall_by(measure, now_ms)).min()
    }

    fn fall_by(&self, measure: &Measure, now_ms: u64) -> Option<u8> {
        let Seen { shares, at_pot, ms } = measure.seen(self.pot, now_ms);
        let at_most = self.excess * (shares + SIGMAS * shares.sqrt() + SIGMAS * SIGMAS);
        if at_most > self.wanted(ms) / 2.0 {
            return None;
        }
        let quiet = self.pot.saturating_sub(QUIET_STEP);
        let pot = if shares >= TELLING as f64 {
            self.nearest(at_pot, ms)
        } else {
            quiet
        };
        (pot < self.pot).then_some(pot)
    }

    fn fall_after_ms(&self) -> u64 {
        FALL_AFTER_MS << self.silent_steps.min(QUIET_DOUBLINGS)
    }

    /// Shares that are wanted in so many ms.
    fn wanted(&self, ms: f64) -> f64 {
        f64::from(self.rule.shares_per_minute) * ms / MS_PER_MINUTE
    }

    /// The pot at which as many shares would have come as are wanted, to the nearest power of two. Against the band of
    /// two either way, that rounds by half a power at most, so chance does not bring the next change.
    fn nearest(&self, at_pot: f64, ms: f64) -> u8 {
        let pot = f64::from(self.pot) + (at_pot / self.wanted(ms)).log2().round();
        // Saturates, and cannot be no number: both are above 0.
        pot as u8
    }

    fn refill(&mut self, now_ms: u64) {
        let more = now_ms.saturating_sub(self.refilled_ms) / CHANGE_EVERY_MS;
        self.refilled_ms += more * CHANGE_EVERY_MS;
        let left = u64::from(self.changes_left) + more;
        self.changes_left = u32::try_from(left).unwrap_or(u32::MAX).min(CHANGES_AT_ONCE);
    }
}

/// What was done lately: since the beginning of the half before the present one.
#[derive(Debug, Clone, Copy)]
struct Measure {
    before: Mark,
    half: Mark,
    now: Done,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    ms: u64,
    done: Done,
}

/// Shares that came in `ms`, and how many they would have been at the pot in force.
struct Seen {
    shares: f64,
    at_pot: f64,
    ms: f64,
}

impl Measure {
    fn begin(ms: u64, done: Done) -> Self {
        let mark = Mark { ms, done };
        Self {
            before: mark,
            half: mark,
            now: done,
        }
    }

    fn is_untouched(&self) -> bool {
        self.now.shares == 0
    }

    fn note(&mut self, done: Done, now_ms: u64, half_ms: u64) {
        if now_ms.saturating_sub(self.half.ms) >= half_ms {
            self.before = self.half;
            self.half = Mark { ms: now_ms, done };
        }
        self.now = done;
    }

    fn lately(&self) -> Done {
        self.now.since(self.before.done)
    }

    fn seen(&self, pot: u8, now_ms: u64) -> Seen {
        let Done { shares, work } = self.lately();
        Seen {
            shares: shares as f64,
            at_pot: work as f64 / 2_f64.powi(pot.into()),
            ms: now_ms.saturating_sub(self.before.ms).max(1) as f64,
        }
    }
}

#[cfg(test)]
pub mod arrivals;
#[cfg(test)]
mod tests;
