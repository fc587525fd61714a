//! One simulated gateway, sans-IO: bytes from the pool in, bytes for the pool out, time and chain passed in.
//!
//! It behaves as the real one does: 8 slots in turn, each section once a job and connection, a split asked for before
//! every job, terms obeyed from the next job on, old jobs sent again after a reconnect, and shares that leave early,
//! under the former key, while it shakes hands.

use std::rc::Rc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bitcoin::Network;
use millrace::wire::{FromPool, FromPoolFrame, PublicKeys, SecretKeys, Share, ShareResponse};

use crate::asic::{Asic, Floor, Found, Search};
use crate::coinbase::{Payout, Secondary, Terms};
use crate::line::{Broken, Line};
use crate::mix::Mix;
use crate::payee::Payees;
use crate::rng::Rng;
use crate::slots::Slots;
use crate::tally::{Answered, Expected, InFlight, Tally, Waiting};
use crate::template::{Source, Spoilt};

mod bad;
mod blocks;
mod questions;
mod templates;
#[cfg(test)]
mod tests;

use self::templates::DictatedIds;

const SECOND_NS: u64 = 1_000_000_000;

/// How long a gateway waits for a split.
const SPLIT_PATIENCE_NS: u64 = 5 * SECOND_NS;
/// After so long without a word a gateway ends the connection: the least that an operator may set. A pool sends PING
/// after 4 s.
const SILENCE_NS: u64 = 10 * SECOND_NS;
/// So long after the last accepted share it does the same where it sends shares and none counts.
const UNACCEPTED_NS: u64 = 30 * SECOND_NS;
/// Shares further apart than this do not make it impatient.
const SLOW_NS: u64 = 25 * SECOND_NS;
/// Early shares that were not answered by then were not read.
const EARLY_PATIENCE_NS: u64 = 10 * SECOND_NS;
/// How often an idle gateway asks for a split, which keeps its session alive.
const IDLE_ASK_NS: u64 = 60 * SECOND_NS;

/// What a share is padded with; a gateway takes 1 to 80 bytes.
const PADDING: [u8; 80] = [0x5c; 80];

/// What all gateways have in common.
#[derive(Debug, Clone)]
pub struct Setup {
    pub pool: PublicKeys,
    pub asics: u8,
    pub payees: Payees,
    /// Whose addresses miners have.
    pub networks: &'static [Network],
    pub in_flight_max: usize,
    pub job_every_ns: u64,
    pub behaviour: Behaviour,
    /// What the first so many gateways do to their templates.
    pub spoils: Option<Spoilt>,
    pub spoilers: usize,
    /// Whether miners pass blocks over.
    pub no_blocks: bool,
    /// Whether acknowledged shares are remembered by their hashes.
    pub by_hash: bool,
}

/// What a gateway is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Mines, with new templates all the time.
    Mine,
    /// Mines a little on one template, then stays connected.
    Hold,
    /// Connects, sends one share, and closes.
    Storm,
}

/// What the gateways of one thread see and use together.
pub struct World {
    pub setup: Setup,
    /// Ns of the run.
    pub now_ns: u64,
    /// Seconds since 1970.
    pub unix_s: u32,
    pub tip: u32,
    /// Nobody works any more: all gateways ask for a split of the last tip.
    pub all_ask: bool,
    /// Whether answers count as within the measured time.
    pub measuring: bool,
    pub source: Source,
    pub tally: Tally,
    pub mix: Mix,
    pub rng: Rng,
}

pub struct Gateway {
    long_term: SecretKeys,
    secondary: Secondary,
    spoils: Option<Spoilt>,
    line: Line,
    terms: Option<Rc<Terms>>,
    /// CONFIG came on this connection.
    configured: bool,
    slots: Slots,
    asics: Box<[Asic]>,
    next_asic: usize,
    nonce: u32,
    in_flight: InFlight,
    asking: Option<Asking>,
    asked_ns: u64,
    dictated: DictatedIds,
    /// Jobs end at this time, and when the tip changes.
    next_job_ns: u64,
    tip: u32,
    variant: u32,
    connect_due_ns: u64,
    heard_ns: u64,
    sent_share_ns: u64,
    accepted_ns: u64,
    /// A share of this connection was acknowledged.
    mines: bool,
    recent: Option<Recent>,
    stale_parent: Option<[u8; 32]>,
}

/// A split that is awaited.
#[derive(Debug)]
struct Asking {
    /// The job that it is for; none where an idle gateway asks.
    serial: Option<u32>,
    value: u64,
    /// Asked with all others.
    at_tip: bool,
}

/// A share that counted, or may yet: what a duplicate is made of.
#[derive(Debug)]
struct Recent {
    asic: usize,
    found: Found,
    accepted: bool,
}

impl World {
    /// Moves on to now. `origin`: when the run began.
    pub fn look_at_clock(&mut self, origin: Instant) {
        self.now_ns = u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.unix_s = u32::try_from(unix.as_secs()).unwrap_or(u32::MAX);
        if let Some(node) = self.source.node() {
            self.tip = node.tip();
        }
    }
}

impl Gateway {
    /// # Panics
    /// The system has no randomness for keys.
    pub fn new(index: usize, setup: &Setup, rng: &mut Rng) -> Self {
        let spoils = setup.spoils.filter(|_| index < setup.spoilers);
        let asics = (0..setup.asics).map(|number| {
            let nth = index * usize::from(setup.asics) + usize::from(number);
            let usernames = setup.payees.usernames(index, number, nth, setup.networks);
            // Good blocks come of work without transactions: each moves the tip, and the template is another before anybody
            // has looked at it.
            Asic::new(number, usernames, !spoils.is_some_and(Spoilt::is_refused))
        });
        Self {
            long_term: SecretKeys::generate().expect("the system has randomness"),
            secondary: [Secondary::None, Secondary::Short, Secondary::None, Secondary::Long][index % 4],
            spoils,
            line: Line::new(),
            terms: None,
            configured: false,
            slots: Slots::default(),
            asics: asics.collect(),
            next_asic: 0,
            nonce: rng.next_u32(),
            in_flight: InFlight::default(),
            asking: None,
            asked_ns: 0,
            dictated: DictatedIds::default(),
            next_job_ns: 0,
            tip: 0,
            variant: rng.next_u32() % 1_000,
            connect_due_ns: 0,
            heard_ns: 0,
            sent_share_ns: 0,
            accepted_ns: 0,
            mines: false,
            recent: None,
            stale_parent: None,
        }
    }

    /// Whether the next HELLO is made.
    pub fn is_prepared(&self) -> bool {
        self.line.is_prepared()
    }

    /// Makes the next HELLO ahead of its time.
    pub fn prepare(&mut self, world: &mut World) {
        self.line.prepare(&self.long_term, &world.setup.pool, &mut world.rng);
    }

    /// Begins a connection with HELLO. `due_ns`: when it was to begin.
    pub fn greet(&mut self, due_ns: u64, world: &mut World, out: &mut Vec<u8>) {
        self.connect_due_ns = due_ns;
        self.heard_ns = world.now_ns;
        self.slots.forget_sent();
        // Now and then a share is found while a gateway that was there before connects again.
        let before_hello = u32::from(self.terms.is_some() && world.rng.below(4) == 0);
        world.tally.lost_before_hello += u64::from(before_hello);
        self.line
            .greet(&self.long_term, &world.setup.pool, before_hello, &mut world.rng, out);
    }

    /// The connection is gone, and with it what was unanswered.
    pub fn close(&mut self, world: &mut World) {
        self.line.close();
        self.configured = false;
        let (early, later) = self.in_flight.clear();
        world.tally.lost_early += early;
        world.tally.lost += later;
        self.recent = None;
        self.stale_parent = None;
        self.sent_share_ns = 0;
        self.mines = false;
        self.stop_asking();
    }

    /// Configured, with a job to work on.
    pub fn is_ready(&self) -> bool {
        self.configured && self.slots.newest().is_some()
    }

    /// Whether a share may leave now.
    pub fn has_room(&self, world: &World) -> bool {
        (self.is_ready() || self.line.is_early()) && self.in_flight.len() < world.setup.in_flight_max
    }

    /// Whether shares found now could leave, once there is room.
    pub fn is_online(&self) -> bool {
        self.is_ready() || self.line.is_early()
    }

    /// Whether a share of this connection was acknowledged.
    pub fn mines(&self) -> bool {
        self.mines
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// What is still unanswered will not be any more; says how many left early, and how many later.
    pub fn give_up(&mut self) -> (u64, u64) {
        self.in_flight.clear()
    }

    /// Takes whole frames off the front of `buf`; says how many bytes they had.
    ///
    /// # Errors
    /// The connection is to be closed.
    pub fn receive(&mut self, buf: &mut [u8], world: &mut World, out: &mut Vec<u8>) -> Result<usize, Broken> {
        let mut at = 0;
        while let Some((header, len)) = self.line.frame(&buf[at..])? {
            let opened = self.line.open(header, &mut buf[at..at + len], &world.setup.pool)?;
            at += len;
            self.heard_ns = world.now_ns;
            match opened {
                FromPoolFrame::Response(_) => {}
                FromPoolFrame::Ping => world.tally.pings += 1,
                FromPoolFrame::Info(line) => {
                    world.tally.infos += 1;
                    let line = line.escape_ascii().to_string();
                    world.tally.sample(|| format!("the pool says: {line}"));
                }
                FromPoolFrame::Message(FromPool::ShareResponse(answer)) => self.answer(&answer, world),
                FromPoolFrame::Message(FromPool::Config(config)) => self.configure(&config, world, out),
                FromPoolFrame::Message(FromPool::Coinbaser(split)) => {
                    let payouts = split.outputs.iter().map(|output| Payout {
                        value: output.value,
                        script: output.script,
                    });
                    self.split(split.value, split.coinbaser_id, payouts, world);
                }
                FromPoolFrame::Message(FromPool::Ask(ask)) => self.answer_question(&ask, world, out),
                FromPoolFrame::Message(FromPool::NewBlock) => world.tally.new_blocks += 1,
            }
        }
        Ok(at)
    }

    /// Whether it has waited for a word too long.
    pub fn hears_nothing(&self, now_ns: u64) -> bool {
        self.line.is_open() && now_ns.saturating_sub(self.heard_ns) > SILENCE_NS
    }

    /// What time brings: new jobs, and waits that are over. Call some ten times a second.
    ///
    /// # Errors
    /// The connection is to be closed.
    pub fn tick(&mut self, world: &mut World, out: &mut Vec<u8>) -> Result<(), Broken> {
        let now_ns = world.now_ns;
        if !self.line.is_open() {
            return Ok(());
        }
        if self.hears_nothing(now_ns) {
            return Err(Broken::Silent);
        }
        if self.sent_share_ns.saturating_sub(self.accepted_ns) >= UNACCEPTED_NS {
            return Err(Broken::NothingAccepted);
        }
        world.tally.unread_early += self.in_flight.expire_early(now_ns.saturating_sub(EARLY_PATIENCE_NS));
        self.end_patience(world);
        if !self.configured || self.asking.is_some() {
            return Ok(());
        }
        match world.setup.behaviour {
            Behaviour::Mine if self.tip != world.tip => self.new_tip(world, out),
            Behaviour::Mine if now_ns >= self.next_job_ns => self.new_job(world, out),
            // Who has no work looks at the tip all the same, where there is a node that has one.
            Behaviour::Hold if world.source.node().is_some() && self.tip != world.tip => self.new_tip(world, out),
            Behaviour::Hold if now_ns.saturating_sub(self.asked_ns) >= IDLE_ASK_NS => self.ask(None, world, out),
            _ => {}
        }
        Ok(())
    }

    pub fn is_asking(&self) -> bool {
        self.asking.is_some()
    }

    /// Goes on without a split that took too long.
    pub fn end_patience(&mut self, world: &mut World) {
        if let Some(asking) = &self.asking
            && world.now_ns.saturating_sub(self.asked_ns) >= SPLIT_PATIENCE_NS
        {
            world.tally.splits_late += 1;
            world.tally.at_tip.late += u64::from(asking.at_tip);
            self.stop_asking();
        }
    }

    /// Sends one share that is due since `due_ns`, good or bad as the mix has it; false where there is no job.
    pub fn share(&mut self, due_ns: u64, world: &mut World, out: &mut Vec<u8>) -> bool {
        if self.line.is_open()
            && let Some(bad) = world.mix.next()
        {
            if self.bad_share(bad, due_ns, world, out) {
                world.mix.made();
                return true;
            }
            world.mix.pass();
        }
        let asic = self.next_asic;
        self.next_asic = (asic + 1) % self.asics.len();
        let search = match world.setup.no_blocks {
            true => Search::NoBlock,
            false => Search::Meets,
        };
        let Some(found) = self.search(asic, search, world) else {
            return false;
        };
        let expected = match self.spoils.is_some_and(Spoilt::is_refused) {
            true => Expected::Condemned,
            false => Expected::Accepted,
        };
        self.send(asic, &found, expected, due_ns, world, out);
        if self.recent.is_none() && self.line.is_open() {
            self.recent = Some(Recent {
                asic,
                found,
                accepted: false,
            });
        }
        true
    }

    fn search(&mut self, asic: usize, search: Search, world: &mut World) -> Option<Found> {
        let mut floor = Floor {
            slots: &self.slots,
            secondary: self.secondary,
            min_pot: self.terms.as_ref()?.min_pot,
            unix_s: world.unix_s,
            by_hash: world.setup.by_hash,
            nonce: &mut self.nonce,
            rng: &mut world.rng,
        };
        self.asics[asic].search(search, &mut floor)
    }

    /// Sends a share as it was found, with the sections that its job still owes the pool.
    fn send(
        &mut self,
        asic: usize,
        found: &Found,
        expected: Expected,
        due_ns: u64,
        world: &mut World,
        out: &mut Vec<u8>,
    ) {
        let early = self.line.is_early();
        let flags = self.bring_block(found, expected, world);
        let Some(job) = self.slots.job_mut(found.place.slot) else {
            return;
        };
        let coinbase_id = found.place.coinbase_id;
        let missing = job.missing(coinbase_id);
        let early_section = job.mark_sent(coinbase_id, early);
        let job = &*job;
        let coinbase = (missing.job || missing.coinbase).then(|| job.coinbase(coinbase_id, self.secondary));
        let share = Share {
            job_id: found.place.slot,
            coinbase_id,
            flags,
            target_pot: found.pot,
            ntime: found.ntime,
            nonce: found.nonce,
            version: found.version,
            extranonce: &found.extranonce,
            username: self.asics[asic].username(),
            reserved: [0; 4],
            job: coinbase
                .filter(|_| missing.job)
                .map(|coinbase| job.template.section(&coinbase.cut, job.coinbaser_id)),
            coinbase: coinbase
                .filter(|_| missing.coinbase)
                .map(|coinbase| coinbase.cut.section(coinbase_id)),
            padding: padding(&mut world.rng),
        };
        self.line.send(&share, out);
        self.expect(
            Waiting {
                due_ns,
                nonce: found.nonce,
                pot: found.pot,
                job_id: found.place.slot,
                expected,
                early,
                early_section,
                pays: found.pays,
                hash64: found.hash64,
            },
            world,
        );
    }

    fn expect(&mut self, waiting: Waiting, world: &mut World) {
        // As the gateway does it: a slow miner is no sign of a dead pool.
        if world.now_ns.saturating_sub(self.sent_share_ns) > SLOW_NS {
            self.accepted_ns = world.now_ns;
        }
        self.sent_share_ns = world.now_ns;
        world.tally.sent(&waiting);
        self.in_flight.push(waiting);
    }

    fn answer(&mut self, answer: &ShareResponse, world: &mut World) {
        let waiting = self.in_flight.take(answer);
        let answered = world
            .tally
            .answered(answer, waiting.as_ref(), world.now_ns, world.measuring);
        if answered == Answered::Accepted {
            self.accepted_ns = world.now_ns;
            self.mines = true;
        }
        let nonce = answer.nonce;
        if let Some(recent) = self.recent.as_mut().filter(|recent| recent.found.nonce == nonce) {
            match answered {
                Answered::Accepted => recent.accepted = true,
                _ => self.recent = None,
            }
        }
    }
}

fn padding(rng: &mut Rng) -> &'static [u8] {
    &PADDING[..1 + rng.below(PADDING.len() as u64) as usize]
}
