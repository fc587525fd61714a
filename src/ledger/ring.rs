//! Between shards and writer: a ring each way in, a count each way back.
//!
//! There is no ring back, so nothing can wait in a circle. A shard may push as many entries as its ring holds before
//! the first of them is durable; it keeps count of them itself.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Waker;
use std::thread::Thread;
use std::time::Duration;

use crossbeam::channel::Sender;
use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

use super::books::What;
use super::entry::{CandidateRow, Entry, Searched};
use super::health::Health;
use super::reload::Reload;
use super::retention::Removal;
use super::submissions::SubmissionRow;
use crate::work::{Chain, Pin};

/// Shares that may wait for a parent that no node of ours has seen: some seconds of a large pool's.
pub const WAITING_MAX: usize = 65_536;

/// What shards and the writer share.
pub(super) struct Rings {
    pub lanes: Vec<Lane>,
    /// The writer has found nothing to do and is about to park, or has.
    resting: CachePadded<AtomicBool>,
    writer: OnceLock<Thread>,
    /// A write failed.
    failed: AtomicBool,
    /// What the bookkeeper wants written next, one at a time.
    order: Mutex<Option<Ordered>>,
    /// Shares that wait for their parent, those in the rings too. Shards may overshoot the bound by one each.
    pub waiting: AtomicUsize,
    /// No shard pushes any more.
    pub closing: AtomicBool,
}

/// What the bookkeeper has written.
pub(super) enum Ordered {
    Event(What),
    /// Old shares go.
    LetGo(Box<Removal>),
    /// Shares that wait are judged by this chain.
    Judge(Arc<Chain>),
    /// A candidate that does not come by a shard, with its place in the log.
    Candidate(Pin, Box<CandidateRow>),
    /// So far the chain was searched.
    Searched(Searched),
    /// A node's word on a block of ours.
    Submission(Box<SubmissionRow>),
    /// Sessions of which no share is kept and none can come, by `prime_id`.
    ForgetSessions(Vec<u32>),
}

/// One shard's way to the disk and back.
pub(super) struct Lane {
    pub ring: ArrayQueue<Entry>,
    durable: CachePadded<AtomicU64>,
    /// Taken once a commit by either side; never on the way of a share.
    waker: Mutex<Option<Waker>>,
}

impl Rings {
    pub fn new(shards: usize, entries: usize) -> Self {
        let lane = || Lane {
            ring: ArrayQueue::new(entries),
            durable: CachePadded::default(),
            waker: Mutex::default(),
        };
        Self {
            lanes: std::iter::repeat_with(lane).take(shards).collect(),
            resting: CachePadded::default(),
            writer: OnceLock::new(),
            failed: AtomicBool::default(),
            order: Mutex::default(),
            waiting: AtomicUsize::default(),
            closing: AtomicBool::default(),
        }
    }

    // The writer's side.

    /// The calling thread is the one to wake.
    pub fn attend(&self) {
        let _ = self.writer.set(std::thread::current());
    }

    /// Waits until a shard has pushed something, or for so long.
    pub fn rest(&self, at_most: Duration) {
        self.resting.store(true, Ordering::Relaxed);
        // Either the shard sees that we rest, or we see what it pushed: both fences are in one order.
        fence(Ordering::SeqCst);
        if self.lanes.iter().all(|lane| lane.ring.is_empty()) {
            std::thread::park_timeout(at_most);
        }
        self.resting.store(false, Ordering::Relaxed);
    }

    /// What the bookkeeper wants written.
    pub fn take_order(&self) -> Option<Ordered> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// No more of any shard becomes durable.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::Release);
        self.lanes.iter().for_each(Lane::wake);
    }

    /// From the bookkeeper: something to be written.
    pub fn order(&self, order: Ordered) {
        let former = self.order.lock().unwrap_or_else(PoisonError::into_inner).replace(order);
        assert!(former.is_none(), "one order is under way at a time");
        self.wake_writer();
    }

    pub fn wake_writer(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }
}

impl Lane {
    /// So many more entries of the shard are on disk.
    pub fn publish(&self, entries: u64) {
        // The writer alone stores; Release makes the commit happen before what the shard does with the count.
        let durable = self.durable.load(Ordering::Relaxed) + entries;
        self.durable.store(durable, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner) {
            waker.wake_by_ref();
        }
    }
}

/// Stops the pool where the thread that holds it panics: nobody may wait for a thread that is gone.
pub(super) struct FailOnPanic {
    who: &'static str,
    rings: Arc<Rings>,
    health: Health,
}

impl FailOnPanic {
    pub fn new(who: &'static str, rings: &Arc<Rings>, health: &Health) -> Self {
        Self {
            who,
            rings: rings.clone(),
            health: health.clone(),
        }
    }
}

impl Drop for FailOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.health.fail(format!("{} panicked", self.who));
            self.rings.fail();
        }
    }
}

/// A shard's end of its ring.
pub struct ShardLedger {
    rings: Arc<Rings>,
    lane: usize,
    /// Entries pushed since the writer was last woken.
    unheard: usize,
    reloads: Sender<Reload>,
}

impl ShardLedger {
    pub(super) fn new(rings: &Arc<Rings>, lane: usize, reloads: Sender<Reload>) -> Self {
        Self {
            rings: rings.clone(),
            lane,
            unheard: 0,
            reloads,
        }
    }

    /// Entries that may be pushed and not yet durable.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.lane().ring.capacity()
    }

    /// Pushes an entry; it is looked at when the writer is next awake.
    ///
    /// # Errors
    /// The ring is full, and the entry is given back.
    pub fn push(&mut self, entry: Entry) -> Result<(), Entry> {
        let waits = matches!(entry, Entry::Waiting(_));
        self.lane().ring.push(entry)?;
        if waits {
            self.rings.waiting.fetch_add(1, Ordering::Relaxed);
        }
        self.unheard += 1;
        Ok(())
    }

    /// Entries pushed since the writer was last woken.
    #[must_use]
    pub fn unheard(&self) -> usize {
        self.unheard
    }

    /// Wakes the writer where it rests and something was pushed since.
    pub fn wake_writer(&mut self) {
        if std::mem::take(&mut self.unheard) == 0 {
            return;
        }
        fence(Ordering::SeqCst);
        if self.rings.resting.load(Ordering::Relaxed) && self.rings.resting.swap(false, Ordering::Relaxed) {
            self.rings.wake_writer();
        }
    }

    /// Whether there is room for another share that waits for its parent.
    #[must_use]
    pub fn may_wait(&self) -> bool {
        self.rings.waiting.load(Ordering::Relaxed) < WAITING_MAX
    }

    /// How many of this shard's entries are on disk, in the order they were pushed.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.lane().durable.load(Ordering::Acquire)
    }

    /// Has duplicates read back from what is durable now.
    pub fn reload(&self, reload: Reload) {
        if let Err(refused) = self.reloads.send(reload) {
            refused.into_inner().fail();
        }
    }

    /// Whom to wake after each commit.
    pub fn register(&mut self, waker: &Waker) {
        let mut kept = self.lane().waker.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *kept {
            Some(kept) => kept.clone_from(waker),
            None => *kept = Some(waker.clone()),
        }
    }

    /// A write failed: no share that is under way may be answered.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.rings.failed.load(Ordering::Acquire)
    }

    fn lane(&self) -> &Lane {
        &self.rings.lanes[self.lane]
    }
}

impl Drop for ShardLedger {
    /// A waker must not outlive its executor: it goes here, on the shard's own thread.
    fn drop(&mut self) {
        self.lane().waker.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
