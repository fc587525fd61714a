//! How gateways come and go: connecting, being cut off, trying again as the real gateway does.

use mio::Token;

use super::seat::Away;
use super::{Driver, Phase, SECOND_NS, Visit};
use crate::connection::{Connection, Ended};
use crate::gateway::Behaviour;
use crate::line::Broken;

/// Connections that are begun and not configured, at the start of a run.
const CONNECTING_MAX: usize = 64;

/// HELLOs that are made ahead at each look at the clock: 1 or 2 ms of it.
const PREPARED_AT_ONCE: usize = 10;

/// From one try to connect to the next a gateway lets pass so long, drawn anew each time.
const RETRY_NS: std::ops::Range<u64> = 5 * SECOND_NS..20 * SECOND_NS;

impl Driver {
    /// Connects those whose turn it is, not too many at a time.
    pub(super) fn connect_all(&mut self) {
        let storm = self.behaviour() == Behaviour::Storm;
        if storm && self.phase != Phase::Mining {
            return;
        }
        for at in 0..self.seats.len() {
            if !storm && self.connecting >= CONNECTING_MAX {
                return;
            }
            let seat = &self.seats[at];
            let due = !storm || self.schedule.is_none() || seat.issued < seat.due;
            if seat.connection.is_none() && due && self.world.now_ns >= seat.connect_ns {
                self.connect(at);
            }
        }
    }

    pub(super) fn connect(&mut self, at: usize) {
        let seat = &mut self.seats[at];
        self.connections += 1;
        let source = self
            .plan
            .sources
            .map(|sources| sources.address(self.connections + self.plan.first as u64));
        seat.began_ns = self.world.now_ns;
        if self.world.setup.behaviour == Behaviour::Storm
            && let Some(schedule) = &self.schedule
        {
            seat.began_ns = schedule.due_ns(at, seat.issued);
        }
        seat.issued += u64::from(self.world.setup.behaviour == Behaviour::Storm);
        match Connection::open(self.plan.pool, source, self.poll.registry(), Token(at)) {
            Ok(connection) => {
                seat.connection = Some(connection);
                self.connecting += 1;
            }
            Err(error) => self.lost(at, Ended::Socket(error)),
        }
    }

    /// The connection ended, and not by this side's plan.
    pub(super) fn lost(&mut self, at: usize, ended: Ended<Broken>) {
        let number = self.plan.first + at;
        let seat = &self.seats[at];
        let tally = &mut self.world.tally;
        let established = seat.connection.as_ref().is_some_and(Connection::is_established);
        match ended {
            // Which of its shares were good is not the pool's fault.
            Ended::Content(Broken::NothingAccepted) => {
                tally.sample(|| format!("gateway {number} ended its connection: {}", Broken::NothingAccepted));
            }
            Ended::Content(broken) => tally.fault(|| format!("gateway {number} ended its connection: {broken}")),
            Ended::Socket(error) if established => {
                tally.cut_off += 1;
                tally.sample(|| format!("gateway {number} was cut off: {error}"));
            }
            Ended::Socket(error) => {
                tally.failed_connects += 1;
                tally.sample(|| format!("gateway {number} could not connect: {error}"));
                if self.phase == Phase::Ramp && tally.handshakes == 0 {
                    self.failure = Some(format!("no pool answers at {}: {error}", self.plan.pool));
                }
            }
        }
        if established {
            self.note_restart(at);
        }
        let wait_ns = RETRY_NS.start + self.world.rng.below(RETRY_NS.end - RETRY_NS.start);
        let retry_ns = self.seats[at].began_ns + wait_ns;
        self.disconnect(at, retry_ns);
        // A connection that had lasted is made anew at once.
        if self.phase != Phase::Ramp && self.behaviour() != Behaviour::Storm && retry_ns <= self.world.now_ns {
            self.connect(at);
        }
    }

    /// A session has ended: by the newest restart that was asked for, if there was one.
    fn note_restart(&mut self, at: usize) {
        let seat = &mut self.seats[at];
        let Some(restart) = self.run.restarts.newest() else {
            return;
        };
        let comeback = self.world.tally.comeback(restart);
        comeback.lost += seat.gateway.in_flight() as u64;
        if seat.gateway.is_ready() && seat.away.is_none() {
            comeback.cut += 1;
            seat.away = Some(Away {
                since_ns: self.world.now_ns,
                restart,
            });
        }
    }

    /// The gateway mines again, on the first share acknowledged since a restart ended its session.
    pub(super) fn note_return(&mut self, at: usize) {
        let seat = &mut self.seats[at];
        if seat.gateway.mines()
            && let Some(Away { since_ns, restart }) = seat.away.take()
        {
            let signal_ns = self.run.restarts.asked_ns().get(restart).copied().unwrap_or(since_ns);
            let comeback = self.world.tally.comeback(restart);
            comeback.mines_again(signal_ns, since_ns, self.world.now_ns);
        }
    }

    /// Makes some HELLOs ahead of a restart: gateways have a machine each for it, this thread has one for all of them.
    pub(super) fn prepare_some(&mut self) {
        if !self.run.restarts.are_planned() {
            return;
        }
        let without = self.seats.iter_mut().filter(|seat| !seat.gateway.is_prepared());
        for seat in without.take(PREPARED_AT_ONCE) {
            seat.gateway.prepare(&mut self.world);
        }
    }

    pub(super) fn disconnect(&mut self, at: usize, connect_ns: u64) {
        let storm = self.behaviour() == Behaviour::Storm;
        let seat = &mut self.seats[at];
        if !seat.gateway.is_ready() || storm {
            self.connecting = self.connecting.saturating_sub(1);
        }
        if seat.gateway.is_ready() && !storm {
            seat.lost_ns = Some(self.world.now_ns);
            self.world.tally.reconnects += 1;
        }
        seat.connection = None;
        seat.gateway.close(&mut self.world);
        seat.connect_ns = connect_ns;
        seat.visit = Visit::Begun;
        self.out.clear();
    }

    /// In a storm: closes what has its answer.
    pub(super) fn finish_storm_visit(&mut self, at: usize) {
        let seat = &self.seats[at];
        if seat.connection.is_some() && seat.visit == Visit::Sent && seat.gateway.in_flight() == 0 {
            self.disconnect(at, self.world.now_ns);
        }
    }
}
