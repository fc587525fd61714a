//! What other threads leave for a shard: connections it owns and commands of the control plane.
//!
//! Nobody reaches into a session from outside; a shard takes these in its own time. Nothing here is on the way of a
//! share.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Instant;

use crossbeam::queue::ArrayQueue;
use thiserror::Error;

use crate::wire::{Hello, Skipped};

/// Arrivals and commands that may wait for one shard. Past it a connection is dropped and a command refused.
pub const INBOX_MAX: usize = 4_096;

/// What the control plane may ask of a shard.
#[derive(Debug, Clone)]
pub enum ShardCommand {
    /// Stop reading, answer what is under way, close. Ends the shard.
    Drain,
    /// A line for the log of every gateway on the shard.
    Info(Arc<str>),
    /// Ask one gateway for the transactions of a job (protocol section 7).
    Validate(Validate),
}

/// One question to one gateway; the shard that has no session of that gateway says [`ValidateOutcome::NoSession`].
#[derive(Debug, Clone)]
pub struct Validate {
    /// The gateway's long-term Ed25519 key.
    pub gateway: [u8; 32],
    /// The job's slot, 0 to 7.
    pub job: u8,
    pub ask: Ask,
    /// Hears the outcome once.
    pub reply: Sender<ValidateOutcome>,
}

/// The three questions of protocol section 7.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    ShortIds,
    /// Indexes into the template, each once.
    ByIndex(Vec<u16>),
    All,
}

/// How a question to a gateway ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValidateOutcome {
    /// The gateway has no session on this shard.
    NoSession,
    /// A question is already under way there, or the process has no memory left for another large answer.
    Busy,
    /// The gateway answered with transactions or short ids.
    Answered { transactions: u32, bytes: u32 },
    /// The gateway answered with one of its errors, `F0` to `F4`.
    Refused { error: u8 },
    /// What came does not answer what was asked.
    Contradictory,
    /// Nothing came in time.
    Late,
    /// The session ended first.
    SessionEnded,
}

/// A connection whose HELLO was verified on another shard, with the bytes read behind it.
pub(super) struct Arrival {
    pub socket: OwnedFd,
    pub peer: SocketAddr,
    pub hello: Box<Hello>,
    pub behind: Vec<u8>,
    pub skipped: Skipped,
    pub accepted: Instant,
}

pub(super) enum Parcel {
    Arrival(Box<Arrival>),
    Command(ShardCommand),
}

/// The sending side of a shard's inbox; any thread may hold one.
#[derive(Clone)]
pub struct InboxHandle(Arc<Inbox>);

struct Inbox {
    parcels: ArrayQueue<Parcel>,
    waker: OnceLock<Waker>,
}

/// The shard has more waiting for it than it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the shard's inbox is full ({INBOX_MAX} parcels); it is overloaded or gone, try again later")]
pub struct InboxFull;

impl InboxHandle {
    pub(super) fn new() -> Self {
        Self(Arc::new(Inbox {
            parcels: ArrayQueue::new(INBOX_MAX),
            waker: OnceLock::new(),
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
        self.0.parcels.push(parcel)?;
        if let Some(waker) = self.0.waker.get() {
            waker.wake_by_ref();
        }
        Ok(())
    }

    /// The shard's own side: the task that takes parcels registers itself once, then takes until `None`.
    pub(super) fn register(&self, waker: &Waker) {
        self.0.waker.get_or_init(|| waker.clone());
    }

    pub(super) fn take(&self) -> Option<Parcel> {
        self.0.parcels.pop()
    }
}
