//! The tasks of a shard beside its sessions: releasing answers, taking parcels, watching deadlines.

use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bitcoin::hex::DisplayHex;
use futures_lite::future::{or, poll_fn};

use super::dialogue::LastMarks;
use super::due::DueEntry;
use super::inbox::{NewChain, Parcel, ShardCommand, Validate};
use super::mailbox::Mailbox;
use super::slots::SlotKey;
use super::{Doors, Shard, askers, handover, handshake, listener, pulse, question, spawn};
use crate::telemetry::{Bound, EndReason, POTS};
use crate::work::{Checked, ValidateOutcome};

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(500);

/// Silence towards a gateway after which it gets a PING, in ms: an operator may have set its patience to 10 s.
pub const PING_AFTER_MS: u64 = 4_000;

/// A gateway that said nothing for so long is gone, in ms: an idle one asks for a split every 120 s at least.
pub const SILENT_AFTER_MS: u64 = 150_000;

/// A started frame must be complete within this, in ms; of a large answer each 64 KiB.
pub const FRAME_DEADLINE_MS: u64 = 30_000;

/// Sessions whose deadlines are looked at before other tasks have their turn: some 0.1 ms.
const WATCH_PART: usize = 1_024;

/// Ticks between two log lines on what has come and gone: 10 s.
const SUMMARY_EVERY: u32 = 20;

/// Accepting ends at once where its socket could be closed, and is cut off after this where not.
const ACCEPT_END: Duration = Duration::from_millis(500);

/// Runs the shard until it has drained or the ledger has failed.
pub(super) async fn run(shard: Rc<Shard>, doors: Doors) {
    let closers: Vec<_> = doors.listeners.iter().map(listener::Closer::new).collect();
    let accepts = doors.listeners.into_iter();
    let accepting: Vec<_> = accepts
        .map(|socket| spawn(listener::accept(shard.clone(), socket), shard.handshake_queue))
        .collect();
    for connection in doors.connections {
        listener::welcome(&shard, handover::attach(connection));
    }
    let others = [
        // Not behind sessions: a new tip would wait for the thousands that have a PING to write, or all read at once.
        spawn(take_parcels(shard.clone()), shard.answer_queue),
        spawn(watch(shard.clone()), shard.session_queue),
        spawn(release(shard.clone()), shard.answer_queue),
        spawn(wake_writer(shard.clone()), shard.answer_queue),
        spawn(askers::dictate(shard.clone()), shard.split_queue),
        spawn(askers::go_on_behind_sessions(shard.clone()), shard.session_queue),
        spawn(pulse::beat(shard.clone()), shard.answer_queue),
    ];

    shard.until_stop().await;
    let mut standing = Vec::new();
    if shard.settings.standing.stays() {
        // Left alone: to cancel them would lose what the kernel accepts at that moment.
        standing = accepting;
    } else {
        closers.into_iter().for_each(listener::Closer::close);
        for accepting in accepting {
            or(accepting, glommio::timer::sleep(ACCEPT_END)).await;
        }
    }
    shard.end().await;
    for accepting in standing {
        accepting.cancel().await;
    }
    for task in others {
        task.cancel().await;
    }
    let inbox = &shard.peers[shard.index];
    inbox.close();
    while let Some(parcel) = inbox.take() {
        receive(&shard, parcel);
    }
    shard.telemetry.bounds[Bound::Inbox].add(inbox.take_refused());
    tracing::info!(shard = shard.index, "stopped");
}

/// Hands out what the writer has made durable, each time it has committed, and has it said at once: behind all the
/// sessions that have something to read, answers would wait for new work to be done first.
async fn release(shard: Rc<Shard>) {
    let mut answered = Vec::new();
    loop {
        let failed = poll_fn(|cx| {
            let mut ledger = shard.ledger.borrow_mut();
            ledger.register(cx.waker());
            if ledger.failed() {
                return Poll::Ready(true);
            }
            match shard.due.borrow().is_released(ledger.durable()) {
                true => Poll::Pending,
                false => Poll::Ready(false),
            }
        });
        if failed.await {
            return shard.fail();
        }
        release_durable(&shard, &mut answered);
        for session in answered.drain(..) {
            let mailbox = shard.slots.borrow().find(session).cloned();
            if let Some(session) = mailbox.and_then(|mailbox| mailbox.session()) {
                session.borrow_mut().answer();
            }
            glommio::yield_if_needed().await;
        }
    }
}

fn release_durable(shard: &Shard, answered: &mut Vec<SlotKey>) {
    let durable = shard.ledger.borrow().durable();
    let slots = shard.slots.borrow();
    let mut due = shard.due.borrow_mut();
    let now_ns = shard.now_ns();
    let (mut accepted, mut tentative) = (0, 0);
    while let Some(entry) = due.release(durable) {
        match entry {
            DueEntry::Answer { to, answer } => {
                accepted += u64::from(!answer.tentative);
                tentative += u64::from(answer.tentative);
                shard
                    .telemetry
                    .frame_to_durable
                    .record(now_ns.saturating_sub(answer.complete_ns));
                // A session that has ended takes no answer; its share counts all the same.
                if slots.find(to).is_some_and(|session| session.answer(answer)) {
                    answered.push(to);
                }
            }
            DueEntry::Config { to } => {
                if let Some(session) = slots.find(to) {
                    session.config_is_durable();
                }
            }
            DueEntry::Split { to, coinbaser_id } => shard.askers.borrow_mut().is_durable(to, coinbaser_id),
            DueEntry::Nobody => {}
        }
    }
    shard.telemetry.shares_accepted.add(accepted);
    shard.telemetry.shares_tentative.add(tentative);
    drop(due);
    drop(slots);
    shard.leave_reloads();
    shard.let_in();
}

async fn wake_writer(shard: Rc<Shard>) {
    shard.wake_writer_at_the_end_of_rounds().await;
}

/// Takes arrivals and commands for as long as the shard lives; while it stops it turns the former away.
async fn take_parcels(shard: Rc<Shard>) {
    let inbox = shard.peers[shard.index].clone();
    loop {
        let parcel = poll_fn(|cx| {
            inbox.register(cx.waker());
            inbox.take().map_or(Poll::Pending, Poll::Ready)
        });
        receive(&shard, parcel.await);
        glommio::yield_if_needed().await;
    }
}

fn receive(shard: &Rc<Shard>, parcel: Parcel) {
    match parcel {
        Parcel::Arrival(arrival) => handshake::spawn_admission(shard, arrival),
        Parcel::Command(ShardCommand::Info(line)) => {
            for session in shard.slots.borrow().iter() {
                if session.info(line.clone()).is_err() {
                    shard.telemetry.bounds[Bound::InfoLines].add(1);
                }
            }
        }
        Parcel::Command(ShardCommand::Chain(new)) => shard.follow(new),
        Parcel::Command(ShardCommand::Keys(ring)) => shard.take_keys(ring),
        Parcel::Command(ShardCommand::Validate(validate)) => ask(shard, validate),
        Parcel::Command(ShardCommand::Policy(policy)) => shard.take_policy(policy),
        Parcel::Command(ShardCommand::OwnTemplate(own)) => shard.own_template.set(Some(own)),
        Parcel::Command(ShardCommand::Checked(checked)) => tell_checked(shard, *checked),
        Parcel::Command(ShardCommand::Pressure(pressure)) => shard.feel_pressure(pressure),
        Parcel::Command(ShardCommand::Guards(ask)) => shard.answer_guards(&ask),
        Parcel::Command(ShardCommand::Taken(reply)) => {
            // Who asked may have given up.
            let _ = reply.send(());
        }
        Parcel::Command(ShardCommand::Drain) => shard.drain(),
        Parcel::Ban(banned) => shard.hear_ban(banned),
        Parcel::Mined(subject) => shard.hear_mined(subject),
        Parcel::Reloaded => shard.take_reloaded(),
    }
}

impl Shard {
    /// Judges by the new chain from now on, and has every gateway told of a new block.
    fn follow(&self, new: NewChain) {
        let waited_ns = self.now_ns().saturating_sub(new.left_ns);
        self.telemetry.chain_to_shard.record(waited_ns);
        *self.chain.borrow_mut() = new.chain;
        if new.new_block {
            self.slots
                .borrow()
                .iter()
                .for_each(|session| session.new_block(new.heard_ns));
            self.askers.borrow_mut().hold();
        }
    }
}

fn ask(shard: &Shard, validate: Validate) {
    match session_of(shard, &validate.gateway) {
        None => question::reply(&validate, ValidateOutcome::NoSession),
        Some(session) => {
            if let Err(refused) = session.ask(validate) {
                question::reply(&refused, ValidateOutcome::Busy);
            }
        }
    }
}

/// The gateway's memory hears of it, which its next session has too; and the session that it has, for its jobs.
fn tell_checked(shard: &Shard, checked: Checked) {
    let Some(gateway) = shard.gateways.borrow().find(&checked.gateway) else {
        return;
    };
    let refuses = shard
        .settings
        .templates
        .as_ref()
        .is_some_and(|checks| checks.refuses_unshown);
    if gateway.borrow_mut().memory.templates.note(&checked, refuses) {
        shard.telemetry.gateways_unshown.add(1);
        tracing::warn!(
            gateway = checked.gateway.to_lower_hex_string(),
            found = ?checked.found,
            refused = refuses,
            "a gateway does not show the transactions that its work is made of"
        );
    }
    if let Some(session) = session_of(shard, &checked.gateway)
        && session.checked(checked).is_err()
    {
        shard.telemetry.bounds[Bound::InfoLines].add(1);
    }
}

/// The session that a gateway has proved last.
fn session_of(shard: &Shard, gateway: &[u8; 32]) -> Option<Rc<Mailbox>> {
    let gateway = shard.gateways.borrow().find(gateway)?;
    let session = gateway.borrow().session?;
    shard.slots.borrow().find(session).cloned()
}

/// Looks at every session's deadlines twice a second, and at gateways and usernames that may be forgotten.
async fn watch(shard: Rc<Shard>) {
    let mut last = Summary::default();
    for tick in 1_u32.. {
        glommio::timer::sleep(TICK).await;
        let now_ms = shard.now_ms();
        let mut first = 0;
        let mut by_pot = [0; POTS];
        while check_part(&shard, first, now_ms, &mut by_pot) {
            first += WATCH_PART;
            glommio::yield_if_needed().await;
        }
        shard.telemetry.set_sessions_by_pot(&by_pot);
        let mut gateways = shard.gateways.borrow_mut();
        let expired = gateways.expire(shard.steady_s());
        let gone = gateways.take_gone();
        shard.telemetry.gateways.set(gateways.len() as u64);
        shard.telemetry.bounds[Bound::GatewayMemory].add(expired.for_memory);
        drop(gateways);
        if !gone.is_empty() {
            let marking = shard.clone();
            shard.spawn_session(async move { LastMarks::abandon(gone).push(&marking).await });
        }
        for session in expired.sessions {
            if let Some(session) = shard.slots.borrow().find(session) {
                session.end(EndReason::GatewayMemory);
            }
        }
        shard.miners.borrow_mut().forget_unused(shard.steady_s());
        shard.take_reloaded();
        shard.say_more_bans();
        shard.telemetry.guard_addresses.set(shard.guards.borrow().len() as u64);
        let refused = shard.peers[shard.index].take_refused();
        shard.telemetry.bounds[Bound::Inbox].add(refused);
        if tick.is_multiple_of(SUMMARY_EVERY) {
            last = Summary::log_since(&shard, last);
        }
    }
}

/// Whether there were any slots from `first` on.
fn check_part(shard: &Shard, first: usize, now_ms: u64, by_pot: &mut [u64]) -> bool {
    let slots = shard.slots.borrow();
    let Some(sessions) = slots.part(first, WATCH_PART) else {
        return false;
    };
    sessions.for_each(|session| {
        session.check_deadlines(now_ms);
        if let Some(pot) = session.steer(now_ms) {
            by_pot[usize::from(pot)] += 1;
        }
    });
    true
}

/// What has come and gone, for one log line instead of one for each connection.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
struct Summary {
    begun: u64,
    failed: u64,
    ended: u64,
}

impl Summary {
    fn log_since(shard: &Shard, last: Self) -> Self {
        let telemetry = &shard.telemetry;
        let failed = telemetry.handshakes_failed.value();
        let now = Self {
            begun: telemetry.handshakes_ok.value(),
            failed,
            ended: telemetry.ends.total() - failed,
        };
        if now != last {
            tracing::info!(
                shard = shard.index,
                sessions = telemetry.sessions.value(),
                begun = now.begun - last.begun,
                ended = now.ended - last.ended,
                handshakes_failed = now.failed - last.failed,
                "connections"
            );
        }
        now
    }
}
