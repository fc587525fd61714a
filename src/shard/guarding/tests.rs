//! Steering and the guard of share rates together, over hours of virtual time: what an honest gateway does is never held
//! against it, however its hashrate jumps, and a flood at the difficulty that it belongs to is.

use super::*;
use crate::guard::Rate;
use crate::work::{Arrivals, Done, Steerer};

/// How often a shard looks at its sessions, and here at what came, in ms.
const TICK_MS: u64 = 500;

const MINUTE_MS: u64 = 60_000;

/// No share is refused here.
const REFUSED: Rate = Rate { per_s: 1, burst: 1 };

/// Of a session that nobody steers.
const MOST_PER_S: u32 = 4_000;

/// What an operator of main has who says nothing; `tests/config/chain.rs` holds the configuration to it.
fn rule() -> SteerRule {
    let pot = |pot| MinDiff::from_pot(pot).expect("a pot");
    SteerRule {
        shares_per_minute: 30,
        least: pot(14),
        most: pot(40),
    }
}

/// A session as the shard has it, and its miners, which take a new difficulty with their next job.
struct Run {
    steerer: Steerer,
    conduct: Conduct,
    arrivals: Arrivals,
    done: Done,
    now_ms: u64,
    mines_at: u8,
    job_ms: u64,
    next: Option<(u64, u8)>,
}

impl Run {
    fn new(seed: u64, job_ms: u64) -> Self {
        let least = rule().least;
        let mut conduct = Conduct::new(REFUSED, MOST_PER_S, 0);
        conduct.steer(steered(rule(), least), 0);
        Self {
            steerer: Steerer::new(rule(), least, 0),
            conduct,
            arrivals: Arrivals::new(seed),
            done: Done::default(),
            now_ms: 0,
            mines_at: least.pot(),
            job_ms,
            next: None,
        }
    }

    /// One look at a gateway of this hashrate, in hashes a second; what the guard says to what came.
    fn tick(&mut self, hashrate: f64) -> Step {
        self.now_ms += TICK_MS;
        if let Some((_, pot)) = self.next.take_if(|(from_ms, _)| *from_ms <= self.now_ms) {
            self.mines_at = pot;
        }
        let per_s = hashrate / 2_f64.powi(32) / 2_f64.powi(self.mines_at.into());
        let shares = self.arrivals.poisson(per_s * TICK_MS as f64 / 1_000.0);
        self.come(shares)
    }

    fn come(&mut self, shares: u64) -> Step {
        let step = self
            .conduct
            .note(u32::try_from(shares).expect("few enough"), REFUSED, 0, self.now_ms);
        self.done.shares += shares;
        self.done.work += u128::from(shares) << self.mines_at;
        if let Some(min_diff) = self.steerer.look(self.done, self.now_ms) {
            self.steerer.told(min_diff, self.done, self.now_ms);
            self.conduct.steer(steered(rule(), min_diff), self.now_ms);
            // The next job says what holds by then.
            let job_ms = self.next.map_or(self.now_ms + self.job_ms, |(from_ms, _)| from_ms);
            self.next = Some((job_ms, min_diff.pot()));
        }
        step
    }
}

#[test]
fn an_honest_gateway_whose_hashrate_jumps_a_thousandfold_is_never_held_back() {
    for (seed, low) in (1..).zip([1e12, 3e13, 1e15, 1e16]) {
        for job_ms in [0, 30_000, 120_000] {
            // Long enough to come to rest between two jumps, and hardly long enough for that.
            for every_ms in [30 * MINUTE_MS, 10 * MINUTE_MS] {
                let mut run = Run::new(seed, job_ms);
                while run.now_ms < 12 * 60 * MINUTE_MS {
                    let is_high = run.now_ms / every_ms % 2 == 1;
                    let step = run.tick(if is_high { low * 1_000.0 } else { low });
                    assert_eq!(
                        step,
                        Step::Go,
                        "{low:e} hashes a second and a thousand times as many, jobs {job_ms} ms, jumps {every_ms} ms, at {} s",
                        run.now_ms / 1_000
                    );
                }
            }
        }
    }
}

#[test]
fn a_gateway_that_comes_back_while_its_miners_are_on_an_old_job_is_not_held_back() {
    let mut run = Run::new(3, 120_000);
    // Long enough that all miners have a job.
    while run.now_ms < 10 * MINUTE_MS {
        assert_eq!(run.tick(3e16), Step::Go);
    }
    let former = run.steerer.min_diff();
    // It grows to 1 EH/s; its uplink goes as soon as the pool has told it so, and miners go on with what they have.
    while run.steerer.min_diff().pot() < former.pot() + 5 {
        assert_eq!(run.tick(1e18), Step::Go);
    }
    let min_diff = run.steerer.min_diff();
    let held = |former| {
        let mut conduct = Conduct::new(REFUSED, MOST_PER_S, run.now_ms);
        begin(&mut conduct, rule(), (former, min_diff), run.now_ms);
        let per_s = (1e18 / 2_f64.powi(32) / 2_f64.powi(run.mines_at.into())) as u32;
        assert!(per_s > 0);
        (0..120).any(|second| conduct.note(per_s, REFUSED, 0, run.now_ms + second * 1_000) != Step::Go)
    };
    assert!(held(None), "the difficulty that it belongs to would not do");
    assert!(!held(Some(former)));
}

#[test]
fn a_flood_at_the_difficulty_where_a_gateway_belongs_is_cut_off() {
    let mut run = Run::new(9, 0);
    while run.now_ms < 60 * MINUTE_MS {
        assert_eq!(run.tick(1e18), Step::Go);
    }
    // Shares that lie at its difficulty by no work that it could do; the steering raises that, and it pays no heed.
    let began_ms = run.now_ms;
    loop {
        run.now_ms += TICK_MS;
        match run.come(2_000) {
            Step::Cut(rule) => break assert_eq!(rule, Rule::ShareRate),
            // It sends on as soon as it is read again.
            Step::Slow { until_ms, .. } => run.now_ms = until_ms,
            Step::Go => {}
        }
        assert!(run.now_ms - began_ms < 10 * MINUTE_MS, "it is never cut off");
    }
}
