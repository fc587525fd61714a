//! What a real session has sent is sent again: by somebody who was on the path and has no keys.
//!
//! A gateway is recorded on one connection after another, on which its shares leave early, before HELLO and behind it, under
//! the key of the connection before. There are more of them than HELLOs that a pool knows again. They are sent again in their
//! order, all of each and twice: the first makes the pool shake hands and look at every early frame, the second it knows. Half
//! of the time the gateway mines on meanwhile, and for the other half it is gone; at the end it comes back. That it is harmed
//! is a failure.

use std::time::{Duration, Instant};

use super::actor::{Actor, Stage};
use super::repeat::Volley;
use super::{Args, Report, Victim};
use crate::socket;

/// Connections that are recorded.
const RECORDED: usize = 96;

/// Shares of the one who is recorded, on each connection.
const SHARES: u64 = 3;

/// Those that leave before the response is there.
const EARLY_SHARES: u64 = 3;

/// How long one that the pool turned away waits: it lets an address connect so often in a second.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Connections at a time. Each is there until the pool ends it, or for as long as it takes to shake hands under load.
const IN_FLIGHT: usize = 256;
const HELD_FOR: Duration = Duration::from_secs(5);

/// Between two templates of the one who is recorded: a pool knows so many of a gateway's connections by what they were told, and
/// no honest gateway works on a template for longer than those.
const JOB_EVERY: Duration = Duration::from_millis(100);

/// Between two shares while it is attacked.
const SHARE_EVERY: Duration = Duration::from_millis(100);

/// How long a connection or an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// For `lasts` from when all is recorded; when that was.
///
/// # Errors
/// No session could be recorded.
pub fn run(args: &Args, lasts: Duration, report: &mut Report) -> Result<Instant, String> {
    let mut victim = Recorded::new(args);
    let recorded = victim.record()?;
    let began = Instant::now();
    let (half, until) = (began + lasts / 2, began + lasts);
    let mut volley = Volley::new(IN_FLIGHT, HELD_FOR);
    let mut scripts = recorded.iter().flat_map(|script| [script, script]).cycle();
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
        if volley.has_room(report)
            && let Some(script) = scripts.next()
        {
            volley.fire(script, args, report);
        } else {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    volley.end(report);
    if victim.connect(EARLY_SHARES).is_err() || victim.mine(SHARES).is_err() {
        victim.shown.cut_off += 1;
    }
    victim.shown.recorded = recorded.len() as u64;
    victim.shown.acknowledged = victim.stage.world.tally.accepted;
    victim.shown.sent = victim.stage.world.tally.sent_good;
    report.victim = Some(victim.shown);
    Ok(began)
}

/// The one who is recorded.
struct Recorded<'a> {
    args: &'a Args,
    stage: Stage,
    actor: Actor,
    is_there: bool,
    shown: Victim,
}

impl<'a> Recorded<'a> {
    fn new(args: &'a Args) -> Self {
        let mut stage = Stage::new(args.pubkey);
        stage.world.setup.job_every_ns = JOB_EVERY.as_nanos() as u64;
        Self {
            args,
            actor: Actor::new(true, &mut stage),
            stage,
            is_there: false,
            shown: Victim::default(),
        }
    }

    /// What it said on each of its connections. It stays on the last.
    fn record(&mut self) -> Result<Vec<Vec<u8>>, String> {
        let mut recorded = Vec::new();
        while recorded.len() < RECORDED {
            if self.is_there {
                self.leave();
            }
            // Its shares go out with HELLO, under the channel key of the connection before.
            let early = if recorded.is_empty() { 0 } else { EARLY_SHARES };
            let deadline = Instant::now() + PATIENCE;
            while let Err(error) = self.connect(early) {
                if Instant::now() > deadline {
                    return Err(error);
                }
                self.leave();
                std::thread::sleep(AGAIN_AFTER);
            }
            self.mine(SHARES)?;
            recorded.push(self.actor.said.clone());
        }
        // What was turned away was not lost to an attack.
        self.shown = Victim::default();
        self.stage.world.tally.accepted = 0;
        self.stage.world.tally.sent_good = 0;
        Ok(recorded)
    }

    fn connect(&mut self, early: u64) -> Result<(), String> {
        let stream = socket::connect(self.args.pool, Some(self.args.victim)).map_err(|error| error.to_string())?;
        self.stage.look_at_clock();
        self.actor.greet(stream, &mut self.stage);
        for _ in 0..early {
            self.actor.share(&mut self.stage);
        }
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
            .tick(&mut self.stage)
            .and_then(|()| self.actor.write(usize::MAX))
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
