//! What a real session has sent is sent again: by somebody who was on the path and has no keys.
//!
//! A gateway is recorded twice: from its first HELLO, and on the connection after, on which its shares leave early under the
//! key of the first. Half of the time it mines on while both are sent again, and for the other half it is gone; at the end it
//! comes back. That it is harmed is a failure.

use std::time::{Duration, Instant};

use super::actor::{Actor, Stage};
use super::repeat::Volley;
use super::{Args, Report, Victim};
use crate::socket;

/// Shares of the one who is recorded, on each connection.
const SHARES: u64 = 20;

/// Of these, those that leave before the response is there.
const EARLY_SHARES: u64 = 5;

/// Between two shares while it is attacked.
const SHARE_EVERY: Duration = Duration::from_millis(100);

/// How long a connection or an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// # Errors
/// No session could be recorded.
pub fn run(args: &Args, until: Instant, report: &mut Report) -> Result<(), String> {
    let half = Instant::now() + until.saturating_duration_since(Instant::now()) / 2;
    let mut victim = Recorded::new(args);
    victim.connect(0)?;
    victim.mine(SHARES)?;
    let first = victim.actor.said.clone();
    victim.actor.leave(&mut victim.stage);
    // Its shares go out with HELLO, under the channel key of the first.
    victim.connect(EARLY_SHARES)?;
    let hello_and_early = victim.greeting.clone();
    victim.mine(SHARES)?;
    let second = victim.actor.said.clone();
    let scripts = [&second, &hello_and_early, &first];

    let mut volley = Volley::default();
    let mut next_share = Instant::now();
    while Instant::now() < until {
        let lives = Instant::now() < half;
        if lives && Instant::now() >= next_share {
            next_share += SHARE_EVERY;
            victim.say_share();
        }
        if lives {
            victim.turn();
        } else if victim.is_there {
            victim.settle();
            victim.leave();
        }
        volley.fire(scripts[(report.connected % 3) as usize], args, report);
    }
    volley.end(report);
    if victim.connect(EARLY_SHARES).is_err() || victim.mine(SHARES).is_err() {
        victim.shown.cut_off += 1;
    }
    victim.shown.early_frames = EARLY_SHARES;
    victim.shown.acknowledged = victim.stage.world.tally.accepted;
    victim.shown.sent = victim.stage.world.tally.sent_good;
    report.victim = Some(victim.shown);
    Ok(())
}

/// The one who is recorded.
struct Recorded<'a> {
    args: &'a Args,
    stage: Stage,
    actor: Actor,
    is_there: bool,
    /// What the present connection began with: HELLO, and what left before the response.
    greeting: Vec<u8>,
    shown: Victim,
}

impl<'a> Recorded<'a> {
    fn new(args: &'a Args) -> Self {
        let mut stage = Stage::new(args.pubkey);
        Self {
            args,
            actor: Actor::new(true, &mut stage),
            stage,
            is_there: false,
            greeting: Vec::new(),
            shown: Victim::default(),
        }
    }

    fn connect(&mut self, early: u64) -> Result<(), String> {
        let stream = socket::connect(self.args.pool, Some(self.args.victim)).map_err(|error| error.to_string())?;
        self.stage.look_at_clock();
        self.actor.greet(stream, &mut self.stage);
        for _ in 0..early {
            self.actor.share(&mut self.stage);
        }
        self.greeting = self.actor.unsent.clone();
        self.is_there = true;
        self.until(|actor| actor.gateway.is_ready())
    }

    /// Sends shares one by one, each once the one before is answered.
    fn mine(&mut self, shares: u64) -> Result<(), String> {
        for _ in 0..shares {
            self.say_share();
            self.until(|actor| actor.gateway.in_flight() == 0)?;
        }
        Ok(())
    }

    fn say_share(&mut self) {
        self.stage.look_at_clock();
        if self.is_there {
            self.actor.share(&mut self.stage);
        }
    }

    /// Waits for the answers that are due.
    fn settle(&mut self) {
        let _ = self.until(|actor| actor.gateway.in_flight() == 0);
    }

    fn leave(&mut self) {
        self.actor.leave(&mut self.stage);
        self.is_there = false;
    }

    /// Moves what there is, once.
    fn turn(&mut self) {
        if !self.is_there {
            return;
        }
        self.stage.look_at_clock();
        let moved = self
            .actor
            .write(usize::MAX)
            .and_then(|_| self.actor.read(&mut self.stage));
        if moved.is_err() {
            self.shown.cut_off += 1;
            self.leave();
        }
    }

    fn until(&mut self, done: impl Fn(&Actor) -> bool) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while !done(&self.actor) {
            if !self.is_there || Instant::now() > deadline {
                return Err(format!(
                    "the gateway at {} that is recorded gets no answer",
                    self.args.victim
                ));
            }
            self.turn();
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }
}
