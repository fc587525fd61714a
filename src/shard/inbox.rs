//! What other threads leave for a shard: connections it owns and commands of the control plane.
//!
//! Nobody reaches into a session from outside; a shard takes these in its own time. Nothing here is on the way of a
//! share.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use crossbeam::queue::ArrayQueue;
use thiserror::Error;

use super::guarding::AskGuards;
use super::handover::Travels;
use super::question::SealedAnswer;
use crate::guard::{Banned, Pressure, Subject};
use crate::identity::{KeyRing, PoolKey};
use crate::wire::{Hello, Skipped};
use crate::work::{Ask, Chain, Checked, OwnTemplate, Policy, Purpose, ValidateOutcome};

/// Arrivals and commands that may wait for one shard. Past it a connection is dropped and a command refused.
pub const INBOX_MAX: usize = 4_096;

/// Wakes in a row that a shard did not answer by looking into its inbox, half an hour of them, after which it is given up. Each
/// holds a reference to its task until it has been heard, and so does each parcel.
const WAKES_MAX: u32 = 16_384;

const _: () = assert!(
    INBOX_MAX + (WAKES_MAX as usize) < i16::MAX as usize,
    "glommio counts references by an i16"
);

/// What the control plane may ask of a shard.
#[derive(Debug, Clone)]
pub enum ShardCommand {
    /// Stop reading, answer what is under way, close. Ends the shard.
    Drain,
    /// A line for the log of every gateway on the shard.
    Info(Arc<str>),
    /// The chain has changed.
    Chain(NewChain),
    /// The pool's long-term keys have changed.
    Keys(Arc<KeyRing>),
    /// Who may mine has changed.
    Policy(Arc<Policy>),
    /// Ask one gateway for the transactions of a job (protocol section 7).
    Validate(Validate),
    /// What a node of ours would mine on.
    OwnTemplate(OwnTemplate),
    /// A job's template was checked.
    Checked(Box<Checked>),
    /// Memory is so near its limit.
    Pressure(Pressure),
    /// Say who is banned, and lift it where asked to.
    Guards(AskGuards),
    /// Say that all that was left before is taken.
    Taken(Sender<()>),
}

/// The chain as it is from now on.
#[derive(Debug, Clone)]
pub struct NewChain {
    pub chain: Arc<Chain>,
    /// Whether there is a new block, of which gateways are told (protocol section 8).
    pub new_block: bool,
    /// When the pool heard of it, and when it was left for the shards, by [`crate::ledger::monotonic_ns`].
    pub heard_ns: u64,
    pub left_ns: u64,
}

/// One question to one gateway; the shard that has no session of that gateway says [`ValidateOutcome::NoSession`].
#[derive(Debug, Clone)]
pub struct Validate {
    /// The gateway's long-term Ed25519 key.
    pub gateway: [u8; 32],
    /// The job's slot, 0 to 7.
    pub job: u8,
    pub ask: Ask,
    pub purpose: Purpose,
    /// Hears the outcome once. Of the shards that are asked all but the gateway's own say
    /// [`ValidateOutcome::NoSession`].
    pub reply: ReplyTo,
}

/// Who asked. Called on a shard's thread, so it must not wait; one that has gone away does not matter.
#[derive(Clone)]
pub struct ReplyTo(Arc<dyn Fn(Reply) + Send + Sync>);

impl ReplyTo {
    pub fn new(tell: impl Fn(Reply) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    pub(super) fn send(&self, reply: Reply) {
        (self.0)(reply);
    }
}

impl fmt::Debug for ReplyTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplyTo")
    }
}

/// What a shard leaves for who asked.
#[derive(Debug)]
pub enum Reply {
    Outcome(ValidateOutcome),
    Sealed(Box<SealedAnswer>),
}

impl Reply {
    /// Takes ms where the answer is large: not for a thread that others wait for.
    #[must_use]
    pub fn open(self) -> ValidateOutcome {
        match self {
            Self::Outcome(outcome) => outcome,
            Self::Sealed(sealed) => sealed.open(),
        }
    }
}

/// A connection whose HELLO was verified on another shard, with the bytes read behind it.
pub(super) struct Arrival {
    pub socket: OwnedFd,
    pub peer: SocketAddr,
    pub hello: Box<Hello>,
    /// The one that HELLO is sealed to.
    pub pool_key: Arc<PoolKey>,
    pub behind: Vec<u8>,
    pub skipped: Skipped,
    pub accepted: Instant,
    pub travels: Travels,
}

pub(super) enum Parcel {
    Arrival(Box<Arrival>),
    Command(ShardCommand),
    /// Another shard has banned an address.
    Ban(Banned),
    /// An address has a session on another shard that mines.
    Mined(Subject),
    /// Duplicates were read back.
    Reloaded,
}

/// The sending side of a shard's inbox; any thread may hold one.
#[derive(Clone)]
pub struct InboxHandle(Arc<Inbox>);

struct Inbox {
    parcels: ArrayQueue<Parcel>,
    /// Parcels that found the inbox full. Any thread counts here, and the shard takes it over into its own numbers.
    refused: AtomicU64,
    /// [`InboxHandle::wake`] since the shard last looked.
    wakes: AtomicU32,
    /// The shard's task that takes parcels, while it lives.
    ///
    /// A glommio waker may be used on another thread: its reference count is atomic, and waking from a foreign thread
    /// touches nothing of the task but sends a clone to the executor, which does the rest on its own thread. Dropping
    /// the *last* reference on a foreign thread is what is not safe there, since it reads the task after giving the
    /// reference up. So the waker stays under this lock, is only ever woken by reference, and goes where it came
    /// from: on the shard's own thread, in [`InboxHandle::close`].
    waker: Mutex<Option<Waker>>,
}

/// The shard has more waiting for it than it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the shard's inbox is full ({INBOX_MAX} parcels); it is overloaded or gone, try again later")]
pub struct InboxFull;

impl InboxHandle {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inbox {
            parcels: ArrayQueue::new(INBOX_MAX),
            refused: AtomicU64::new(0),
            wakes: AtomicU32::new(0),
            waker: Mutex::new(None),
        }))
    }

    /// Leaves a command and wakes the shard.
    ///
    /// # Errors
    /// [`InboxFull`]: the command was not left.
    pub fn send(&self, command: ShardCommand) -> Result<(), InboxFull> {
        self.leave(Parcel::Command(command)).map_err(|_| InboxFull)
    }

    /// Leaves a parcel and wakes the shard; a full inbox gives it back.
    pub(super) fn leave(&self, parcel: Parcel) -> Result<(), Parcel> {
        if let Err(parcel) = self.0.parcels.push(parcel) {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
            return Err(parcel);
        }
        if let Some(waker) = &*self.waker() {
            waker.wake_by_ref();
        }
        Ok(())
    }

    /// Wakes the shard and leaves nothing; whether it has heard what woke it before does not matter.
    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker()
            && self.0.wakes.fetch_add(1, Ordering::Relaxed) < WAKES_MAX
        {
            waker.wake_by_ref();
        }
    }

    // The shard's own side.

    /// The task to wake. Called before each [`Self::take`] that may find nothing, so that no parcel goes unheard.
    pub(super) fn register(&self, waker: &Waker) {
        let mut kept = self.waker();
        self.0.wakes.store(0, Ordering::Relaxed);
        match &mut *kept {
            Some(kept) => kept.clone_from(waker),
            None => *kept = Some(waker.clone()),
        }
    }

    pub(super) fn take(&self) -> Option<Parcel> {
        self.0.parcels.pop()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.parcels.is_empty()
    }

    /// Parcels refused since this was last asked.
    pub(super) fn take_refused(&self) -> u64 {
        self.0.refused.swap(0, Ordering::Relaxed)
    }

    /// Nobody takes parcels any more.
    pub(super) fn close(&self) {
        self.waker().take();
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.0.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicU64);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_full_inbox_refuses_and_counts() {
        let inbox = InboxHandle::new();
        for _ in 0..INBOX_MAX {
            assert_eq!(inbox.send(ShardCommand::Drain), Ok(()));
        }
        assert_eq!(inbox.send(ShardCommand::Drain), Err(InboxFull));
        assert_eq!(inbox.take_refused(), 1);
        assert_eq!(inbox.take_refused(), 0);
        assert!(matches!(inbox.take(), Some(Parcel::Command(ShardCommand::Drain))));
        assert_eq!(inbox.send(ShardCommand::Drain), Ok(()));
    }

    #[test]
    fn a_wake_needs_no_room_and_no_answer_to_the_last() {
        let wakes = Arc::new(Wakes::default());
        let inbox = InboxHandle::new();
        inbox.wake();
        inbox.register(&wakes.clone().into());
        while inbox.send(ShardCommand::Drain).is_ok() {}
        let before = wakes.0.load(Ordering::Relaxed);
        let woken = || wakes.0.load(Ordering::Relaxed) - before;
        (0..10).for_each(|_| inbox.wake());
        assert_eq!(
            (woken(), inbox.take_refused()),
            (10, 1),
            "the one is the last that was sent"
        );
        // One that is dead is given up in the end, and one that looks again is not.
        (0..2 * WAKES_MAX).for_each(|_| inbox.wake());
        assert_eq!(woken(), u64::from(WAKES_MAX));
        inbox.register(&wakes.clone().into());
        inbox.wake();
        assert_eq!(woken(), u64::from(WAKES_MAX) + 1);
        inbox.close();
        inbox.wake();
        assert_eq!(woken(), u64::from(WAKES_MAX) + 1);
    }

    #[test]
    fn a_parcel_wakes_the_shard_until_it_has_closed() {
        let wakes = Arc::new(Wakes::default());
        let inbox = InboxHandle::new();
        inbox.register(&wakes.clone().into());
        inbox.register(&wakes.clone().into());
        assert_eq!(Arc::strong_count(&wakes), 2, "one waker is kept");
        inbox.send(ShardCommand::Drain).expect("room");
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        inbox.close();
        assert_eq!(
            Arc::strong_count(&wakes),
            1,
            "none is left to be dropped by another thread"
        );
        inbox.send(ShardCommand::Drain).expect("room");
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    }
}
