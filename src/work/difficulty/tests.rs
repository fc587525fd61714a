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

/// What an operator of main has who says nothing; `tests/config/chain.rs` holds the configuration to it.
fn rule() -> SteerRule {
    let pot = |pot| MinDiff::from_pot(pot).expect("a pot");
    SteerRule {
        shares_per_minute: 30,
        least: pot(14),
        most: pot(40),
    }
}

/// A gateway whose miners take a new difficulty only after a while, and never go below their own.
#[derive(Clone)]
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

    /// One that comes back at the difficulty where this hashrate belongs.
    fn settled(seed: u64, hashrate: f64, notify_after_ms: u64) -> Self {
        let min_diff = MinDiff::from_pot(ideal_pot(hashrate).round() as u8).expect("a pot");
        Self::new(seed, min_diff, 0, notify_after_ms)
    }

    /// Powers of two by which the difficulty lies below the one that the hashrate calls for.
    fn off_by(&self, hashrate: f64) -> f64 {
        ideal_pot(hashrate) - f64::from(self.steerer.pot)
    }
}

/// The pot at which a gateway of this hashrate sends what is wanted, or the least where that is too much for it.
fn ideal_pot(hashrate: f64) -> f64 {
    let wanted_per_s = f64::from(rule().shares_per_minute) / 60.0;
    let ideal = (hashrate / 2_f64.powi(32) / wanted_per_s).log2();
    ideal.max(rule().least.pot().into())
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
        let is_at_least = ideal_pot(hashrate) <= rule().least.pot().into();
        let enough = if is_at_least { 0.0 } else { 10.0 };
        assert!(
            (enough..=75.0).contains(&a_minute),
            "{hashrate:e}: {a_minute} shares a minute"
        );
    }
}

/// What one gateway of a pool does over a day.
#[derive(Clone, Copy)]
enum Day {
    Constant,
    /// Two hundred and fifty-six times as much at noon as at midnight.
    Ramp,
    /// Sixteen times as much for three hours, and then not.
    Steps,
    /// Half an hour of silence in five.
    Pauses,
}

impl Day {
    fn factor(self, minute: u64) -> f64 {
        match self {
            Self::Ramp => 2_f64.powf(-4.0 * (minute as f64 / 1_440.0 * std::f64::consts::TAU).cos()),
            Self::Steps if (minute / 180).is_multiple_of(2) => 1.0 / 16.0,
            Self::Pauses if minute % 300 < 30 => 0.0,
            Self::Constant | Self::Steps | Self::Pauses => 1.0,
        }
    }

    /// Changes of the difficulty in a day.
    fn changes_max(self) -> u64 {
        match self {
            Self::Constant => 8,
            Self::Ramp | Self::Steps => 60,
            Self::Pauses => 80,
        }
    }
}

struct Member {
    hashrate: f64,
    day: Day,
    /// Its own minute of the day when the pool's begins: not all pause at once.
    phase: u64,
    notify_after_ms: u64,
    /// None before it comes for the first time.
    miner: Option<Miner>,
    joins_at: u64,
}

/// Half of the pool was there before it began again, and comes back at its difficulty; the others come for the first time, in the
/// course of the day. Every minute counts.
#[test]
fn a_pool_of_all_kinds_sends_what_is_wanted_and_little_more_in_every_minute_of_a_day() {
    let mut members: Vec<Member> = (0..60_u64)
        .map(|n| {
            let hashrate = hashrates().nth(n as usize % 13).expect("13 of them");
            let day = [Day::Constant, Day::Ramp, Day::Steps, Day::Pauses][n as usize % 4];
            let (phase, notify_after_ms) = (97 * n + 60, 1_000 * (n % 30));
            let is_there = n < 30;
            let first = hashrate * day.factor(phase).max(1.0 / 16.0);
            Member {
                hashrate,
                day,
                phase,
                notify_after_ms,
                miner: is_there.then(|| Miner::settled(100 + n, first, notify_after_ms)),
                joins_at: if is_there { 0 } else { 40 * (n - 29) },
            }
        })
        .collect();
    let wanted_of_one = u64::from(rule().shares_per_minute);
    let (mut all, mut wanted_in_all, mut worst) = (0, 0, 0.0_f64);
    for minute in 0..24 * 60_u64 {
        let (mut shares, mut wanted) = (0, 0);
        for (n, member) in members
            .iter_mut()
            .enumerate()
            .filter(|(_, member)| member.joins_at <= minute)
        {
            let hashrate = member.hashrate * member.day.factor(minute + member.phase);
            let is_new = member.miner.is_none();
            let newcomer = || Miner::new(100 + n as u64, rule().least, 0, member.notify_after_ms);
            let sent = member.miner.get_or_insert_with(newcomer).run(MINUTE_MS, |_| hashrate);
            wanted += wanted_of_one;
            if is_new {
                // At the least difficulty until its first job behind the CONFIG, and that says the right one.
                let until_told_s = (RISE_AFTER_MS + 2 * TICK_MS + member.notify_after_ms) as f64 / 1_000.0;
                let at_least_per_s = hashrate / 2_f64.powi(32) / 2_f64.powi(rule().least.pot().into());
                let most = 1.1 * at_least_per_s * until_told_s + 4.0 * wanted_of_one as f64;
                assert!(
                    sent as f64 <= most,
                    "{:e} hashes a second: {sent} shares, {most} are its due",
                    member.hashrate
                );
            } else {
                shares += sent;
            }
        }
        worst = worst.max(shares as f64 / wanted as f64);
        all += shares;
        wanted_in_all += wanted;
    }
    let mean = all as f64 / wanted_in_all as f64;
    assert!((0.3..=1.25).contains(&mean), "{mean} times what is wanted");
    assert!(worst <= 6.0, "{worst} times what is wanted in a minute");
    for (n, member) in members.iter().enumerate() {
        let changes = member.miner.as_ref().map_or(0, Miner::changes);
        let most = member.day.changes_max();
        assert!(changes <= most, "gateway {n}: {changes} changes in a day");
    }
}

#[test]
fn a_sudden_rise_is_met_in_seconds() {
    for (seed, factor) in [(1, 8.0), (2, 64.0), (3, 1e5)] {
        for from in [10.0 * TERA, 1e15] {
            let to = (from * factor).min(EXA);
            let mut miner = Miner::started(seed);
            miner.run(HOUR_MS, |_| from);
            miner.run(30_000, |_| to);
            assert!(miner.off_by(to).abs() <= 1.5, "{from:e}, {factor} times as much");
        }
    }
}

/// A fall shows in shares that do not come: at 30 a minute it takes one to tell that there are far fewer, and a few more to
/// tell how few.
#[test]
fn a_sudden_fall_is_met_in_minutes() {
    for (seed, factor, minutes) in [(1, 4.0, 6), (2, 64.0, 6), (3, 1_024.0, 10)] {
        let mut miner = Miner::started(seed);
        miner.run(HOUR_MS, |_| EXA);
        let before = miner.falls;
        let mut first_s = 0;
        for second in 1..=minutes * 60_u64 {
            miner.run(1_000, |_| EXA / factor);
            if miner.falls > before && first_s == 0 {
                first_s = second;
            }
        }
        assert!(
            factor < 64.0 || first_s <= 100,
            "a {factor}th: first told after {first_s} s"
        );
        assert!(
            miner.off_by(EXA / factor) >= -1.5,
            "a {factor}th: {}",
            miner.off_by(EXA / factor)
        );
    }
}

#[test]
fn a_slow_ramp_is_followed_all_the_way() {
    // Twice as much every half hour for four hours, and back.
    let low = 1e15;
    let rate = |ms: u64| {
        let doublings = ms as f64 / (HOUR_MS as f64 / 2.0);
        low * 2_f64.powf(if doublings < 8.0 { doublings } else { 16.0 - doublings })
    };
    let mut miner = Miner::settled(8, low, 20_000);
    for minute in 0..8 * 60 {
        miner.run(MINUTE_MS, |ms| rate(minute * MINUTE_MS + ms));
        let off_by = miner.off_by(rate(miner.now_ms));
        assert!(off_by.abs() <= 2.0, "minute {minute}: {off_by}");
    }
    assert!((10..=24).contains(&miner.changes()), "{} changes", miner.changes());
}

#[test]
fn silence_lowers_the_difficulty_by_steps_and_not_at_once() {
    let mut miner = Miner::started(5);
    miner.run(HOUR_MS, |_| EXA);
    let before = miner.steerer.pot;
    miner.run(FALL_AFTER_MS / 2, |_| 0.0);
    assert_eq!(miner.steerer.pot, before, "half a minute is nothing");
    let mut last = before;
    for _ in 0..30 {
        miner.run(MINUTE_MS, |_| 0.0);
        assert!(miner.steerer.pot + QUIET_STEP >= last);
        last = miner.steerer.pot;
    }
    assert!(
        (4..=8).contains(&(before - last)),
        "2^{before} before, 2^{last} after half an hour"
    );
    let mut back = miner.clone();
    miner.run(3 * HOUR_MS, |_| 0.0);
    assert_eq!(miner.steerer.pot, rule().least.pot());
    let changes = miner.changes();
    miner.run(DAY_MS, |_| 0.0);
    assert_eq!(miner.changes(), changes, "there is nothing below the least");
    // Back after half an hour: what comes too much is over at the next look.
    let shares = back.run(MINUTE_MS, |_| EXA);
    assert!(back.off_by(EXA).abs() <= 1.5);
    assert!(shares <= 10 * u64::from(rule().shares_per_minute), "{shares} shares");
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
