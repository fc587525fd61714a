//! One thread's gateways on their sockets: connects them, mines for the time given, and waits for the last answers.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, OnceLock};
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use crate::cli::Sources;
use crate::connection::Ended;
use crate::gateway::{Behaviour, Gateway, World};
use crate::progress::Live;
use crate::restart::Restarts;
use crate::schedule::Schedule;
use crate::tally::Tally;

mod calls;
mod seat;
#[cfg(test)]
mod tests;

use self::seat::{Seat, Visit};

const SECOND_NS: u64 = 1_000_000_000;
const MILLISECOND_NS: u64 = 1_000_000;

/// Gateways look at their clocks this often.
const TICK_NS: u64 = 50 * MILLISECOND_NS;

/// At a rate above this a thread looks at its sockets in steps, which adds as much to the latencies it measures.
const RATE_IN_STEPS: f64 = 5_000.0;
const STEP_NS: u64 = MILLISECOND_NS / 2;

/// All gateways must be connected by then, and for each a little more time.
const RAMP_NS: u64 = 30 * SECOND_NS;
const RAMP_EACH_NS: u64 = 10 * MILLISECOND_NS;

/// How long the last answers may take, and the last gateways to be connected again.
const DRAIN_NS: u64 = 25 * SECOND_NS;

/// Shares of a gateway that then only stays connected.
const HOLD_SHARES: u64 = 8;

/// Requests for a split that one thread sends before it reads.
const ASK_AT_ONCE: u64 = 64;

/// Above what all answers and splits of one read can be.
const READ_BUFFER: usize = 256 * 1_024;

/// What a thread is to do.
pub struct Plan {
    pub pool: SocketAddr,
    pub sources: Option<Sources>,
    /// The first of this thread's gateways among all.
    pub first: usize,
    pub gateways: usize,
    /// Shares, or in a storm connections, a second of this thread; none for the closed loop.
    pub rate: Option<f64>,
    pub burst: u32,
    /// Mining before what is measured, this itself, and mining after it.
    pub warm_up_ns: u64,
    pub duration_ns: u64,
    pub cool_down_ns: u64,
    /// The node's own are not counted.
    pub tip_every_ns: Option<u64>,
    /// Blocks of all threads after which it is over.
    pub blocks: Option<usize>,
    pub drop_every_ns: Option<u64>,
    /// At the end a tip comes, and all gateways ask for a split within so long.
    pub ask_within_ns: Option<u64>,
}

/// The one run that all threads take part in.
pub struct SharedRun {
    pub origin: Instant,
    pub all_connected: Barrier,
    pub failed: AtomicBool,
    /// Mining is over, whatever time is left.
    pub is_over: AtomicBool,
    /// When mining began, in ns of the run.
    pub start_ns: OnceLock<u64>,
    pub live: Live,
    pub restarts: Restarts,
}

/// What a thread brings home.
pub struct Outcome {
    pub tally: Tally,
    /// Gateways without a session at the end.
    pub down: usize,
    /// Why the run did not begin.
    pub failure: Option<String>,
}

pub struct Driver {
    plan: Plan,
    run: Arc<SharedRun>,
    world: World,
    poll: Poll,
    seats: Vec<Seat>,
    phase: Phase,
    schedule: Option<Schedule>,
    buf: Vec<u8>,
    out: Vec<u8>,
    connecting: usize,
    connections: u64,
    /// Of a node.
    tips_brought: u64,
    failure: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Ramp,
    Mining,
    Draining,
}

impl Driver {
    /// # Errors
    /// The system gives no poll.
    pub fn new(plan: Plan, run: Arc<SharedRun>, mut world: World) -> io::Result<Self> {
        let seats = (0..plan.gateways)
            .map(|at| Seat::new(Gateway::new(plan.first + at, &world.setup, &mut world.rng)))
            .collect();
        Ok(Self {
            plan,
            run,
            world,
            poll: Poll::new()?,
            seats,
            phase: Phase::Ramp,
            schedule: None,
            buf: vec![0; READ_BUFFER],
            out: Vec::new(),
            connecting: 0,
            connections: 0,
            tips_brought: 0,
            failure: None,
        })
    }

    /// The whole run of this thread.
    pub fn run(mut self) -> Outcome {
        self.look_at_clock();
        if self.behaviour() == Behaviour::Storm {
            // So that the first of them all come at once.
            for seat in &mut self.seats {
                seat.gateway.prepare(&mut self.world);
            }
        } else {
            self.ramp();
        }
        if self.failure.is_some() {
            self.run.failed.store(true, Ordering::SeqCst);
        }
        self.run.all_connected.wait();
        if !self.run.failed.load(Ordering::SeqCst) {
            self.mine();
            self.phase = Phase::Draining;
            if let Some(within_ns) = self.plan.ask_within_ns {
                self.all_ask(within_ns);
            }
            self.drain();
        }
        let storm = self.behaviour() == Behaviour::Storm;
        Outcome {
            down: self
                .seats
                .iter()
                .filter(|seat| !storm && !seat.gateway.is_ready())
                .count(),
            tally: self.world.tally,
            failure: self.failure,
        }
    }

    fn ramp(&mut self) {
        let deadline_ns = self.world.now_ns + RAMP_NS + RAMP_EACH_NS * self.seats.len() as u64;
        let mut events = Events::with_capacity(1_024);
        let mut next_tick_ns = 0;
        while self.failure.is_none() && self.seats.iter().any(|seat| !seat.gateway.is_ready()) {
            self.turn(&mut events, &mut next_tick_ns, self.world.now_ns + 20 * MILLISECOND_NS);
            if self.world.now_ns > deadline_ns {
                let there = self.seats.iter().filter(|seat| seat.gateway.is_ready()).count();
                self.failure = Some(format!(
                    "{there} of {} gateways were connected and configured in time. {}",
                    self.seats.len(),
                    self.world.tally.samples.join("; ")
                ));
            }
        }
    }

    fn mine(&mut self) {
        self.look_at_clock();
        let start_ns = *self.run.start_ns.get_or_init(|| self.world.now_ns);
        let measured_ns = start_ns + self.plan.warm_up_ns..start_ns + self.plan.warm_up_ns + self.plan.duration_ns;
        let end_ns = measured_ns.end + self.plan.cool_down_ns;
        self.phase = Phase::Mining;
        let Plan { rate, burst, .. } = self.plan;
        self.schedule = rate.map(|rate| Schedule::new(start_ns, self.seats.len(), rate, burst));
        if let Some(every_ns) = self.plan.drop_every_ns {
            for seat in &mut self.seats {
                seat.drop_ns = start_ns + every_ns / 2 + self.world.rng.below(every_ns);
            }
        }
        for at in 0..self.seats.len() {
            if rate.is_none() {
                self.push(at);
            }
        }
        let mut events = Events::with_capacity(4_096);
        let mut next_tick_ns = 0;
        while self.world.now_ns < end_ns && !self.run.is_over.load(Ordering::Relaxed) && !self.has_found_all() {
            self.world.measuring = measured_ns.contains(&self.world.now_ns);
            self.bring_tips(start_ns);
            self.push_due(self.world.now_ns);
            let next_ns = self.schedule.as_ref().map_or(u64::MAX, Schedule::next_ns);
            self.turn(&mut events, &mut next_tick_ns, next_ns.min(end_ns));
        }
        // What fell due in the last turn still counts, sent or not.
        self.push_due(end_ns.min(self.world.now_ns));
        self.world.measuring = false;
    }

    fn has_found_all(&self) -> bool {
        let (Some(node), Some(blocks)) = (self.world.source.node(), self.plan.blocks) else {
            return false;
        };
        node.blocks_found() >= blocks
    }

    /// Where a tip is due: it is the next; the first thread has a node make it.
    fn bring_tips(&mut self, start_ns: u64) {
        let due = (self.world.now_ns - start_ns) / self.plan.tip_every_ns.unwrap_or(u64::MAX);
        let Some(node) = self.world.source.node() else {
            self.world.tip = 1 + due as u32;
            return;
        };
        if self.tips_brought < due && self.plan.first == 0 {
            self.tips_brought = due;
            if let Err(error) = node.make_block() {
                self.failure = Some(error);
            }
        }
    }

    /// Sends what was due by `until_ns`, as far as gateways may.
    fn push_due(&mut self, until_ns: u64) {
        while let Some((at, due)) = self.schedule.as_mut().and_then(|schedule| schedule.next_due(until_ns)) {
            self.seats[at].due = due;
            self.push(at);
        }
    }

    /// A tip that no work follows: gateways ask for its split, one after the other.
    fn all_ask(&mut self, within_ns: u64) {
        self.look_at_clock();
        self.world.tip += 1;
        self.world.all_ask = true;
        let (start_ns, count) = (self.world.now_ns, self.seats.len() as u64);
        let mut events = Events::with_capacity(4_096);
        let mut next_tick_ns = 0;
        let mut asked = 0;
        while asked < count {
            let mut at_once = 0;
            while asked < count && at_once < ASK_AT_ONCE && start_ns + within_ns * asked / count <= self.world.now_ns {
                let at = asked as usize;
                let gateway = &mut self.seats[at].gateway;
                if gateway.is_ready() && !gateway.is_asking() {
                    gateway.new_tip(&mut self.world, &mut self.out);
                    self.send(at);
                }
                asked += 1;
                at_once += 1;
            }
            self.turn(&mut events, &mut next_tick_ns, 0);
        }
    }

    fn drain(&mut self) {
        if self.schedule.is_some() && self.behaviour() != Behaviour::Hold {
            let unsent: u64 = self.seats.iter().map(|seat| seat.due.saturating_sub(seat.issued)).sum();
            self.world.tally.unsent += unsent;
        }
        let deadline_ns = self.world.now_ns + DRAIN_NS;
        let mut events = Events::with_capacity(4_096);
        let mut next_tick_ns = 0;
        let storm = self.behaviour() == Behaviour::Storm;
        let all_ask = self.world.all_ask;
        let is_unfinished = |seat: &Seat| {
            let gateway = &seat.gateway;
            gateway.in_flight() > 0 || !storm && !gateway.is_ready() || all_ask && gateway.is_asking()
        };
        while self.world.now_ns < deadline_ns && self.seats.iter().any(is_unfinished) {
            self.turn(&mut events, &mut next_tick_ns, self.world.now_ns + 5 * MILLISECOND_NS);
        }
        for seat in &mut self.seats {
            let (early, later) = seat.gateway.give_up();
            self.world.tally.unread_early += early;
            self.world.tally.missing += later;
        }
        self.publish();
    }

    /// Waits for the sockets, until `until_ns` at most, and does what they and the clock ask for.
    fn turn(&mut self, events: &mut Events, next_tick_ns: &mut u64, until_ns: u64) {
        let until_ns = until_ns.min(*next_tick_ns);
        // Many small answers are read together, as many shares are sent together: waking for each would cost the pool
        // the core that this thread takes.
        if self.plan.rate.is_some_and(|rate| rate > RATE_IN_STEPS) {
            std::thread::sleep(Duration::from_nanos(STEP_NS));
        }
        // What falls due within the next ms is sent together.
        let wait_ns = until_ns.saturating_sub(self.world.now_ns).max(MILLISECOND_NS);
        if let Err(error) = self.poll.poll(events, Some(Duration::from_nanos(wait_ns)))
            && error.kind() != io::ErrorKind::Interrupted
        {
            self.failure = Some(format!("poll: {error}"));
        }
        self.look_at_clock();
        for event in events.iter() {
            self.serve(event.token().0);
        }
        if self.world.now_ns >= *next_tick_ns {
            *next_tick_ns = self.world.now_ns + TICK_NS;
            self.tick();
        }
        if self.phase == Phase::Ramp || self.behaviour() == Behaviour::Storm {
            self.connect_all();
        }
    }

    /// Does what an event on a socket asks for.
    fn serve(&mut self, at: usize) {
        let Some(seat) = self.seats.get_mut(at) else {
            return;
        };
        let Some(connection) = &mut seat.connection else {
            return;
        };
        match connection.newly_established() {
            Ok(true) => seat.gateway.greet(seat.began_ns, &mut self.world, &mut self.out),
            Ok(false) if !connection.is_established() => return,
            Ok(false) => {}
            Err(error) => return self.lost(at, Ended::Socket(error)),
        }
        let (world, out, gateway) = (&mut self.world, &mut self.out, &mut seat.gateway);
        let was_ready = gateway.is_ready();
        let done = connection
            .read(&mut self.buf, |bytes| gateway.receive(bytes, world, out))
            .and_then(|()| connection.flush().map_err(Ended::Socket));
        if let Err(ended) = done {
            return self.lost(at, ended);
        }
        if !was_ready && seat.gateway.is_ready() {
            self.connecting = self.connecting.saturating_sub(1);
            if let Some(lost_ns) = seat.lost_ns.take() {
                let away_ns = self.world.now_ns.saturating_sub(lost_ns).max(1);
                self.world.tally.away_ns.saturating_record(away_ns);
            }
        }
        self.note_return(at);
        if self.phase == Phase::Mining || self.behaviour() == Behaviour::Storm {
            self.push(at);
        } else {
            self.send(at);
        }
        if self.behaviour() == Behaviour::Storm {
            self.finish_storm_visit(at);
        }
    }

    /// Lets a gateway send what it may now.
    fn push(&mut self, at: usize) {
        let (behaviour, rate) = (self.behaviour(), self.plan.rate);
        let seat = &mut self.seats[at];
        let Some(connection) = seat.connection.as_ref().filter(|_| seat.gateway.is_online()) else {
            // A gateway forgets what its miners find meanwhile. A storm's connections are what is due, not shares.
            if behaviour != Behaviour::Storm {
                self.world.tally.lost_offline += seat.due.saturating_sub(seat.issued);
                seat.issued = seat.issued.max(seat.due);
            }
            return self.send(at);
        };
        let clogged = connection.is_clogged();
        loop {
            let (wanted, due_ns) = match (behaviour, &self.schedule) {
                (Behaviour::Storm, _) => (seat.visit == Visit::Begun && seat.gateway.is_ready(), self.world.now_ns),
                (Behaviour::Hold, _) if seat.issued >= HOLD_SHARES => (false, 0),
                (_, Some(schedule)) => (seat.issued < seat.due, schedule.due_ns(at, seat.issued)),
                (_, None) => (rate.is_none(), self.world.now_ns),
            };
            if !wanted || clogged || !seat.gateway.has_room(&self.world) {
                break;
            }
            if !seat.gateway.share(due_ns, &mut self.world, &mut self.out) {
                break;
            }
            match behaviour {
                Behaviour::Storm => seat.visit = Visit::Sent,
                _ => seat.issued += 1,
            }
        }
        self.send(at);
    }

    fn send(&mut self, at: usize) {
        if self.out.is_empty() {
            return;
        }
        let sent = match &mut self.seats[at].connection {
            Some(connection) => connection.send(&mut self.out),
            None => Ok(()),
        };
        self.out.clear();
        if let Err(error) = sent {
            self.lost(at, Ended::Socket(error));
        }
    }

    fn tick(&mut self) {
        let now_ns = self.world.now_ns;
        for at in 0..self.seats.len() {
            let seat = &mut self.seats[at];
            if seat.connection.is_none() {
                if now_ns >= seat.connect_ns && self.phase != Phase::Ramp && self.behaviour() != Behaviour::Storm {
                    self.connect(at);
                }
                continue;
            }
            if self.phase == Phase::Mining && now_ns >= seat.drop_ns {
                seat.drop_ns = now_ns + self.plan.drop_every_ns.unwrap_or(u64::MAX / 2);
                self.disconnect(at, now_ns);
                continue;
            }
            if self.phase == Phase::Draining {
                if self.world.all_ask {
                    seat.gateway.end_patience(&mut self.world);
                }
                continue;
            }
            if seat.gateway.hears_nothing(now_ns) {
                // What this thread was too slow to read is not the pool's silence.
                self.serve(at);
            }
            let seat = &mut self.seats[at];
            match seat.gateway.tick(&mut self.world, &mut self.out) {
                Ok(()) => self.send(at),
                Err(broken) => self.lost(at, Ended::Content(broken)),
            }
        }
        if self.phase == Phase::Mining {
            self.prepare_some();
        }
        self.publish();
    }

    fn behaviour(&self) -> Behaviour {
        self.world.setup.behaviour
    }

    fn look_at_clock(&mut self) {
        self.world.look_at_clock(self.run.origin);
    }

    /// Shows the figures to the thread that prints them.
    fn publish(&self) {
        let in_flight = self.seats.iter().map(|seat| seat.gateway.in_flight() as u64).sum();
        let online = self.seats.iter().filter(|seat| seat.gateway.is_ready()).count() as u64;
        self.run
            .live
            .publish(self.plan.first, &self.world.tally, online, in_flight);
    }
}
