//! The tasks of a shard beside its sessions: releasing answers, taking parcels, watching deadlines, stopping.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use glommio::{Task, TaskQueueHandle};
use socket2::Socket;

use super::due::DueEntry;
use super::inbox::{Parcel, ShardCommand, Validate, ValidateOutcome};
use super::{Shard, handshake, listener, question};
use crate::telemetry::EndReason;

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(500);

/// Silence towards a gateway after which it gets a PING, in ms: an operator may have set its patience to 10 s.
pub const PING_AFTER_MS: u64 = 4_000;

/// A gateway that said nothing for so long is gone, in ms: an idle one asks for a split every 120 s at least.
pub const SILENT_AFTER_MS: u64 = 150_000;

/// A started frame must be complete within this, in ms.
pub const FRAME_DEADLINE_MS: u64 = 30_000;

/// From the order to stop to the end of every session.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(8);

/// How often gateways without a session are looked through, in ticks.
const EXPIRE_EVERY: u32 = 20;

/// Records one session is expected to push when it is woken from the line for the ring.
const RECORDS_PER_WAKE: usize = 32;

/// Runs the shard until it has drained or the ledger has failed.
pub(super) async fn run(shard: Rc<Shard>, socket: Socket) {
    let accepting = spawn(listener::accept(shard.clone(), socket), shard.handshake_queue);
    let watching = spawn(watch(shard.clone()), shard.session_queue);
    let releasing = spawn(release(shard.clone()), shard.session_queue);

    spawn(take_parcels(shard.clone()), shard.session_queue).await;

    shard.stopping.set(true);
    accepting.cancel().await;
    let deadline = shard.now_ms() + u64::try_from(DRAIN_DEADLINE.as_millis()).unwrap_or(u64::MAX);
    while !shard.slots.borrow().is_empty() && shard.now_ms() < deadline {
        glommio::timer::sleep(Duration::from_millis(10)).await;
    }
    watching.cancel().await;
    releasing.cancel().await;
}

fn spawn<T: 'static>(task: impl Future<Output = T> + 'static, queue: TaskQueueHandle) -> Task<T> {
    glommio::spawn_local_into(task, queue).expect("the queue was made by this shard")
}

/// Hands out what the writer has made durable, each time it has committed.
async fn release(shard: Rc<Shard>) {
    poll_fn(|cx| {
        shard.ledger.borrow_mut().register(cx.waker());
        release_durable(&shard);
        if shard.ledger.borrow().failure().is_some() {
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
    fail(&shard);
}

fn release_durable(shard: &Shard) {
    let durable = shard.ledger.borrow().durable();
    let slots = shard.slots.borrow();
    let mut due = shard.due.borrow_mut();
    let now_ns = shard.now_ns();
    while let Some(entry) = due.release(durable) {
        match entry {
            DueEntry::Answer { to, answer } => {
                shard.telemetry.frame_to_durable.record(now_ns.saturating_sub(answer.complete_ns));
                // A session that has ended takes no answer; its share counts all the same.
                if let Some(session) = slots.find(to) {
                    session.answer(answer);
                }
            }
            DueEntry::Config { to } => {
                if let Some(session) = slots.find(to) {
                    session.config_is_durable();
                }
            }
            DueEntry::Nobody => {}
        }
    }
    let mut wakes = due.room() / RECORDS_PER_WAKE;
    drop(due);
    let mut line = shard.line.borrow_mut();
    while wakes > 0 && let Some(next) = line.pop_front() {
        if let Some(session) = slots.find(next) {
            session.wake();
            wakes -= 1;
        }
    }
}

/// The end of the log is unknown: no share may be accepted any more, and none of those under way is answered.
fn fail(shard: &Shard) {
    tracing::error!(shard = shard.index, "the ledger has failed; closing all sessions");
    shard.stopping.set(true);
    for session in shard.slots.borrow().iter() {
        session.end(EndReason::PoolFailed);
    }
    // A full inbox means that a stop is not the only thing the shard will hear of; the control plane sends one too.
    let _ = shard.peers[shard.index].leave(Parcel::Command(ShardCommand::Drain));
}

/// Takes arrivals and commands until the order to stop.
async fn take_parcels(shard: Rc<Shard>) {
    let inbox = shard.peers[shard.index].clone();
    loop {
        let parcel = poll_fn(|cx| {
            inbox.register(cx.waker());
            inbox.take().map_or(Poll::Pending, Poll::Ready)
        });
        match parcel.await {
            Parcel::Arrival(arrival) => handshake::spawn_admission(&shard, arrival),
            Parcel::Command(ShardCommand::Info(line)) => {
                for session in shard.slots.borrow().iter() {
                    session.info(line.clone());
                }
            }
            Parcel::Command(ShardCommand::Validate(validate)) => ask(&shard, validate),
            Parcel::Command(ShardCommand::Drain) => {
                for session in shard.slots.borrow().iter() {
                    session.info(Arc::from("the pool is stopping; reconnecting will resume"));
                    session.drain();
                }
                return;
            }
        }
    }
}

fn ask(shard: &Shard, validate: Validate) {
    let gateway = shard.gateways.borrow().find(&validate.gateway);
    let session = gateway.and_then(|gateway| gateway.borrow().session);
    let slots = shard.slots.borrow();
    match session.and_then(|session| slots.find(session)) {
        None => question::reply(&validate, ValidateOutcome::NoSession),
        Some(session) => {
            if let Err(refused) = session.ask(validate) {
                question::reply(&refused, ValidateOutcome::Busy);
            }
        }
    }
}

/// Looks at every session's deadlines: cheap enough for all of them, twice a second.
async fn watch(shard: Rc<Shard>) {
    for tick in 0_u32.. {
        glommio::timer::sleep(TICK).await;
        let now_ms = shard.now_ms();
        for session in shard.slots.borrow().iter() {
            session.check_deadlines(now_ms);
        }
        if tick % EXPIRE_EVERY == 0 {
            shard.gateways.borrow_mut().expire(shard.unix_s());
        }
    }
}
