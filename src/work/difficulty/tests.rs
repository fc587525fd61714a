//! Whole days of virtual time: gateways of any size, with Poisson arrivals from a fixed seed.

use super::arrivals::Arrivals;
use super::*;

/// How often a shard looks, in ms.
const TICK_MS: u64 = 500;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

const TERA: f64 = 1e12;
const EXA: f64 = 1e18;

fn rule() -> SteerRule {
    let pot = |pot| MinDiff::from_pot(pot).expect("a pot");
    SteerRule {
        shares_per_minute: 30,
        least: pot(4),
        most: pot(40),
    }
}

/// A gateway whose miners take a new difficulty only after a while, and never go below their own.
struct Miner {
    steerer: Steerer,
    arrivals: Arrivals,
    done: Done,
    now_ms: u64,
    /// Of the gateway's own vardiff.
    own_pot: u8,
    mines_at: u8,
    notify_after_ms: u64,
    next: Option<(u64, u8)>,
    rises: u64,
    falls: u64,
}

impl Miner {
    fn new(seed: u64, min_diff: MinDiff, own_pot: u8, notify_after_ms: u64) -> Self {
        Self {
            steerer: Steerer::new(rule(), min_diff, 0),
            arrivals: Arrivals::new(seed),
            done: Done::default(),
            now_ms: 0,
            own_pot,
            mines_at: min_diff.pot().max(own_pot),
            notify_after_ms,
            next: None,
            rises: 0,
            falls: 0,
        }
    }

    fn started(seed: u64) -> Self {
        Self::new(seed, rule().least, 0, 0)
    }

    /// One tick at a hashrate; the shares that it brought.
    fn tick(&mut self, hashrate: f64) -> u64 {
        self.now_ms += TICK_MS;
        if let Some((_, pot)) = self.next.take_if(|(from_ms, _)| *from_ms <= self.now_ms) {
            self.mines_at = pot.max(self.own_pot);
        }
        let per_s = hashrate / 2_f64.powi(32) / 2_f64.powi(self.mines_at.into());
        let shares = self.arrivals.poisson(per_s * TICK_MS as f64 / 1_000.0);
        self.done.shares += shares;
        self.done.work += u128::from(shares) << self.mines_at;
        if let Some(min_diff) = self.steerer.look(self.done, self.now_ms) {
            assert!((rule().least..=rule().most).contains(&min_diff), "{min_diff:?}");
            if min_diff.pot() > self.steerer.pot {
                self.rises += 1;
            } else {
                self.falls += 1;
            }
            self.steerer.told(min_diff, self.done, self.now_ms);
            self.next = Some((self.now_ms + self.notify_after_ms, min_diff.pot()));
        }
        shares
    }

    fn run(&mut self, ms: u64, hashrate: impl Fn(u64) -> f64) -> u64 {
        let from_ms = self.now_ms;
        let mut shares = 0;
        while self.now_ms - from_ms < ms {
            shares += self.tick(hashrate(self.now_ms - from_ms));
        }
        shares
    }

    fn changes(&self) -> u64 {
        self.rises + self.falls
    }

    /// Powers of two by which the difficulty lies below the one that the hashrate calls for.
    fn off_by(&self, hashrate: f64) -> f64 {
        let wanted_per_s = f64::from(rule().shares_per_minute) / 60.0;
        let ideal = (hashrate / 2_f64.powi(32) / wanted_per_s).log2();
        ideal.max(rule().least.pot().into()) - f64::from(self.steerer.pot)
    }
}

/// 1 TH/s to 1 EH/s, two to a power of ten.
fn hashrates() -> impl Iterator<Item = f64> {
    (0..=12).map(|half_decade| TERA * 10_f64.powf(f64::from(half_decade) / 2.0))
}

#[test]
fn a_newcomer_is_near_its_difficulty_within_a_minute_and_stays_there_for_a_day() {
    for (seed, hashrate) in (1..).zip(hashrates()) {
        let mut miner = Miner::started(seed);
        miner.run(MINUTE_MS, |_| hashrate);
        assert!(
            miner.off_by(hashrate).abs() <= 1.5,
            "{hashrate:e}: {miner_pot}",
            miner_pot = miner.steerer.pot
        );
        assert!(miner.changes() <= 3, "{hashrate:e}: {} changes", miner.changes());
        let settled = miner.changes();
        let shares = miner.run(DAY_MS, |_| hashrate);
        assert!(
            miner.changes() - settled <= 3,
            "{hashrate:e}: {} more a day",
            miner.changes() - settled
        );
        let a_minute = shares as f64 / (DAY_MS / MINUTE_MS) as f64;
        assert!(
            (10.0..=75.0).contains(&a_minute),
            "{hashrate:e}: {a_minute} shares a minute"
        );
    }
}

#[test]
fn a_pool_of_all_kinds_sends_what_is_wanted_and_little_more_all_day() {
    let mut miners: Vec<(f64, Miner)> = (0..60)
        .map(|n| {
            let hashrate = hashrates().nth(n as usize % 13).expect("13 of them");
            (hashrate, Miner::new(100 + n, rule().least, 0, 1_000 * (n % 30)))
        })
        .collect();
    let wanted_a_minute = rule().shares_per_minute as usize * miners.len();
    let mut changes = 0;
    let (mut all, mut worst) = (0, 0);
    for minute in 0..24 * 60_u64 {
        let mut shares = 0;
        for (n, (hashrate, miner)) in miners.iter_mut().enumerate() {
            let phase = minute + 97 * n as u64;
            let rate = match n % 4 {
                // Constant; a slow ramp over the day; steps of 16 every three hours; silence for half an hour in five.
                0 => *hashrate,
                1 => *hashrate * 2_f64.powf(4.0 * (phase as f64 / 1_440.0 * std::f64::consts::TAU).sin()),
                2 if (phase / 180).is_multiple_of(2) => *hashrate / 16.0,
                3 if minute >= 60 && phase % 300 < 30 => 0.0,
                _ => *hashrate,
            };
            shares += miner.run(MINUTE_MS, |_| rate);
        }
        if minute >= 3 {
            worst = worst.max(shares);
        }
        all += if minute >= 3 { shares } else { 0 };
    }
    for (n, (_, miner)) in miners.iter().enumerate() {
        changes += miner.changes();
        let most = [8, 60, 60, 80][n % 4];
        assert!(
            miner.changes() <= most,
            "gateway {n}: {} changes in a day",
            miner.changes()
        );
    }
    let mean = all / (24 * 60 - 3);
    assert!(
        mean as usize <= 2 * wanted_a_minute,
        "{mean} shares a minute, {wanted_a_minute} wanted"
    );
    assert!(
        mean as usize >= wanted_a_minute / 3,
        "{mean} shares a minute, {wanted_a_minute} wanted"
    );
    // A gateway that was silent begins low; all of it is over within seconds.
    assert!(
        worst < 100 * wanted_a_minute as u64,
        "{worst} shares in a minute, {wanted_a_minute} wanted"
    );
    assert!(changes > 0);
}

#[test]
fn a_sudden_rise_is_met_in_seconds_and_a_sudden_fall_in_minutes() {
    for (seed, factor) in [(1, 8.0), (2, 64.0), (3, 1e6)] {
        let mut miner = Miner::started(seed);
        miner.run(HOUR_MS, |_| 10.0 * TERA);
        miner.run(30_000, |_| 10.0 * TERA * factor);
        assert!(miner.off_by(10.0 * TERA * factor) <= 1.5, "{factor} times as much");
    }
    let mut miner = Miner::started(4);
    miner.run(HOUR_MS, |_| EXA);
    miner.run(10 * MINUTE_MS, |_| EXA / 64.0);
    assert!(miner.off_by(EXA / 64.0) >= -1.5, "{}", miner.off_by(EXA / 64.0));
}

#[test]
fn silence_lowers_the_difficulty_by_steps_and_not_at_once() {
    let mut miner = Miner::started(5);
    miner.run(HOUR_MS, |_| EXA);
    let before = miner.steerer.pot;
    miner.run(FALL_AFTER_MS / 2, |_| 0.0);
    assert_eq!(miner.steerer.pot, before, "half a minute is nothing");
    let mut last = before;
    for _ in 0..2 * DAY_MS / HOUR_MS {
        miner.run(MINUTE_MS, |_| 0.0);
        assert!(miner.steerer.pot + QUIET_STEP >= last);
        last = miner.steerer.pot;
    }
    miner.run(2 * HOUR_MS, |_| 0.0);
    assert_eq!(miner.steerer.pot, rule().least.pot());
    let changes = miner.changes();
    miner.run(DAY_MS, |_| 0.0);
    assert_eq!(miner.changes(), changes, "there is nothing below the least");
}

#[test]
fn miners_that_work_above_our_difficulty_do_not_run_it_down() {
    // 1 PH/s should mine at 2^19; its gateway has them at 2^24, and sends a 32nd of what is wanted.
    let hashrate = 1e15;
    let mut miner = Miner::new(6, MinDiff::from_pot(19).expect("a pot"), 24, 0);
    miner.run(DAY_MS, |_| hashrate);
    assert!(miner.off_by(hashrate).abs() <= 2.0, "2^{}", miner.steerer.pot);
    assert!(miner.changes() <= 3, "{} changes", miner.changes());
}

#[test]
fn a_gateway_that_takes_its_time_is_not_told_more_for_it() {
    let mut miner = Miner::new(7, rule().least, 0, 2 * MINUTE_MS);
    miner.run(4 * MINUTE_MS, |_| 1e14);
    assert!(miner.changes() <= 2, "{} changes", miner.changes());
    assert!(miner.off_by(1e14).abs() <= 1.0);
}

#[test]
fn changes_are_bounded_whatever_comes() {
    let mut steerer = Steerer::new(rule(), rule().least, 0);
    let (mut done, mut changes) = (Done::default(), 0_u64);
    for now_ms in (TICK_MS..=HOUR_MS).step_by(TICK_MS as usize) {
        // A flood of the greatest shares for a minute, and nothing for three.
        if (now_ms / MINUTE_MS).is_multiple_of(4) {
            done.shares += 1_000;
            done.work += 1_000 << 40;
        }
        if let Some(min_diff) = steerer.look(done, now_ms) {
            steerer.told(min_diff, done, now_ms);
            changes += 1;
        }
    }
    let most = u64::from(CHANGES_AT_ONCE) + HOUR_MS / CHANGE_EVERY_MS;
    assert!((2..=most).contains(&changes), "{changes} changes");
    assert!(most as usize <= crate::work::TERMS_MAX / 2);
}
