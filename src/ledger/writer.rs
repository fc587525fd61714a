//! The writer: the one thread that writes the ledger.
//!
//! A batch forms by itself while the one before it commits: nothing waits on a timer for it to fill.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rocksdb::{DB, WriteBatch};
use rustix::thread::CpuSet;

use super::bookkeeper::{Bookkeeper, Published};
use super::channel_keys::ChannelKeys;
use super::disk;
use super::entry::{CandidateRow, Entry};
use super::error::LedgerError;
use super::health::Health;
use super::housekeeper::{Housekeeper, Housekeeping};
use super::ledger_books::unix_ms;
use super::log::{JudgedCount, Log, Step};
use super::messages::{BatchDesk, OrderDesk};
use super::monotonic_ns;
use super::open::{Ledger, durably};
use super::reload::Reloader;
use super::ring::{FailOnPanic, Ordered, Rings, ShardLedger};
use super::schema;
use crate::telemetry::LedgerTelemetry;
use crate::work::SPLIT_KNOWN_FOR_S;

/// Entries of one batch. More would keep the first of them waiting for the last; fewer would sync too often.
pub const BATCH_ENTRIES_MAX: usize = 8_192;

/// How often the disk's room is looked at.
const DISK_CHECK: Duration = Duration::from_secs(1);

/// How often splits are let go that nobody needs to know of any more.
const SPLITS_FORGET_EVERY: Duration = Duration::from_secs(60);

/// Below so many ids for sessions, a sixteenth of all, the log says how many are left; no more often than this.
const PRIME_IDS_FEW: u32 = 1 << 28;
const PRIME_IDS_SAID_EVERY: Duration = Duration::from_secs(86_400);

/// How the writer is started.
pub struct WriterOptions {
    pub shards: usize,
    /// Entries of each shard's ring.
    pub ring_entries: usize,
    /// The core that the thread is pinned to.
    pub core: Option<usize>,
    pub telemetry: Arc<LedgerTelemetry>,
    /// Output script of what splits leave over.
    pub own_script: Vec<u8>,
    /// Hears of each candidate as soon as it is durable; must not wait.
    pub found: Option<Found>,
    pub housekeeping: Housekeeping,
}

/// Whom the writer tells of candidates, and the bookkeeper of those that the operator books.
pub type Found = Arc<dyn Fn(&CandidateRow) + Send + Sync>;

/// The running writer. Dropping it stops it as [`Writer::stop`] does.
pub struct Writer {
    thread: Option<JoinHandle<()>>,
    rings: Arc<Rings>,
    health: Health,
    bookkeeper: Bookkeeper,
    housekeeper: Housekeeper,
    reloader: Reloader,
}

impl Writer {
    /// Starts the thread; gives each shard its end of a ring.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(ledger: Ledger, options: WriterOptions) -> Result<(Self, Vec<ShardLedger>), LedgerError> {
        let rings = Arc::new(Rings::new(options.shards, options.ring_entries));
        let health = Health::default();
        let Ledger {
            db,
            log,
            books,
            path,
            disk_floor_bytes,
            channel_keys,
            resume_for,
            ..
        } = ledger;
        let db = Arc::new(db);
        let (bookkeeper, books) = Bookkeeper::start(
            books,
            options.own_script,
            db.clone(),
            rings.clone(),
            health.clone(),
            options.telemetry.clone(),
            options.found.clone(),
        )?;
        let housekeeper = Housekeeper::start(
            options.housekeeping,
            resume_for,
            db.clone(),
            bookkeeper.sender.clone(),
            rings.clone(),
            health.clone(),
            options.telemetry.clone(),
        )?;
        let reloader = Reloader::start(db.clone(), rings.clone(), health.clone())?;
        let shard = |lane| ShardLedger::new(&rings, lane, reloader.sender.clone());
        let shards = (0..options.shards).map(shard).collect();
        let mut task = Task {
            db,
            log,
            path,
            disk_floor_bytes,
            disk_checked: Instant::now(),
            prime_ids_said: None,
            splits_forgotten: Instant::now(),
            channel_keys: channel_keys.serve(resume_for, options.telemetry.clone())?,
            rings: rings.clone(),
            health: health.clone(),
            telemetry: options.telemetry,
            books,
            published: bookkeeper.published.clone(),
            found: options.found,
            chunk: Vec::new(),
            taken: vec![0; options.shards],
        };
        task.log.serve_shards(options.shards);
        task.rings.waiting.store(task.log.waiting.len(), Ordering::Relaxed);
        task.count();
        task.check_disk();
        let thread = std::thread::Builder::new()
            .name("ledger".into())
            .spawn(move || {
                if let Some(core) = options.core {
                    pin(core);
                }
                task.run();
            })
            .map_err(LedgerError::Thread)?;
        let writer = Self {
            thread: Some(thread),
            rings,
            health,
            bookkeeper,
            housekeeper,
            reloader,
        };
        Ok((writer, shards))
    }

    #[must_use]
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Where the latest split is found.
    #[must_use]
    pub fn published(&self) -> Published {
        self.bookkeeper.published.clone()
    }

    /// Takes orders for the books.
    #[must_use]
    pub fn desk(&self) -> OrderDesk {
        OrderDesk::new(self.bookkeeper.sender.clone())
    }

    /// Writes what the rings still hold and closes the database. Call when no shard pushes any more.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        self.housekeeper.stop();
        self.reloader.stop();
        self.rings.closing.store(true, Ordering::Release);
        self.rings.wake_writer();
        if thread.join().is_err() {
            self.health.fail("the writer panicked".into());
        }
        self.bookkeeper.join();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the thread owns.
struct Task {
    db: Arc<DB>,
    log: Log,
    path: PathBuf,
    disk_floor_bytes: u64,
    disk_checked: Instant,
    /// When the log was last told how few ids are left.
    prime_ids_said: Option<Instant>,
    splits_forgotten: Instant,
    channel_keys: ChannelKeys,
    rings: Arc<Rings>,
    health: Health,
    telemetry: Arc<LedgerTelemetry>,
    /// Hears of everything that is durable.
    books: BatchDesk,
    published: Published,
    found: Option<Found>,
    /// Memory for the records of a batch.
    chunk: Vec<u8>,
    /// Entries taken from each ring for the batch that is being made.
    taken: Vec<u64>,
}

impl Task {
    fn run(&mut self) {
        // A panic here must not leave shards waiting for a writer that is gone.
        let _watch = FailOnPanic::new("the writer", &self.rings, &self.health);
        self.rings.attend();
        if let Err(error) = self.write_until_closed() {
            tracing::error!(%error, "the ledger cannot be written; stopping");
            // Where the log ends is unknown now: nothing more is tried on this database.
            self.telemetry.failed.set(1);
            self.health.fail(error.to_string());
            self.rings.fail();
        }
        self.db.cancel_all_background_work(true);
    }

    fn write_until_closed(&mut self) -> Result<(), rocksdb::Error> {
        loop {
            // Asked first: what was pushed before the order to close is in the rings by now.
            let closing = self.rings.closing.load(Ordering::Acquire);
            if self.write_a_batch()? == 0 {
                if closing {
                    return self.close();
                }
                self.rings.rest(DISK_CHECK);
            }
            if self.disk_checked.elapsed() >= DISK_CHECK {
                self.check_disk();
                self.check_prime_ids();
            }
        }
    }

    /// Drains the rings into one batch, commits it, and publishes what is durable. Says how many entries it took.
    fn write_a_batch(&mut self) -> Result<usize, rocksdb::Error> {
        let mut step = Step::begin(&self.db, &mut self.log, &mut self.chunk);
        let mut count = 0;
        let mut oldest_ns = u64::MAX;
        self.taken.fill(0);
        // Each ring may fill its part, so that a busy shard cannot keep a quiet one waiting.
        let part = BATCH_ENTRIES_MAX / self.rings.lanes.len();
        for (shard, lane) in self.rings.lanes.iter().enumerate() {
            while self.taken[shard] < part as u64
                && let Some(entry) = lane.ring.pop()
            {
                self.taken[shard] += 1;
                count += 1;
                match entry {
                    Entry::Share(share) => {
                        oldest_ns = oldest_ns.min(share.enqueued_ns);
                        step.share(shard, &share);
                    }
                    Entry::Miner { local, miner } => step.miner(shard, local, *miner),
                    Entry::Session(row, key) => step.session(&row, key.as_deref(), &mut self.channel_keys),
                    Entry::Mark(mark) => step.mark(&mark, &mut self.channel_keys)?,
                    Entry::Candidate(row) => step.candidate(*row)?,
                    Entry::Split(row) => step.split(&row),
                    Entry::Waiting(waiting) => step.waiting(shard, &waiting),
                }
            }
        }
        let mut gone = 0;
        let mut judged = JudgedCount::default();
        if let Some(order) = self.rings.take_order() {
            count += 1;
            match order {
                Ordered::Event(what) => step.event(what, unix_ms()),
                Ordered::LetGo(removal) => {
                    step.let_go(&removal, unix_ms());
                    gone = removal.upto - removal.from;
                }
                Ordered::Judge(chain) => judged = step.judge(&chain, unix_ms()),
                Ordered::Candidate(place, row) => step.note(place, *row)?,
                Ordered::Searched(searched) => step.searched(&searched),
                Ordered::Submission(row) => step.submission(&row),
                Ordered::ForgetSessions(sessions) => step.forget_sessions(&sessions)?,
            }
        }
        for prime_id in self.channel_keys.due(Instant::now()) {
            step.forget_key(prime_id, &mut self.channel_keys);
            count += 1;
        }
        if count == 0 {
            return Ok(0);
        }
        if self.splits_forgotten.elapsed() >= SPLITS_FORGET_EVERY {
            self.splits_forgotten = Instant::now();
            step.forget_splits((unix_ms() / 1_000).saturating_sub(SPLIT_KNOWN_FOR_S));
        }
        let (batch, heard, shares) = step.finish();
        let began_ns = monotonic_ns();
        if shares > 0 {
            self.telemetry.queue_age.record(began_ns.saturating_sub(oldest_ns));
        }
        self.telemetry.waiting_since_ns.set(oldest_ns.min(began_ns));
        self.commit(batch)?;
        self.telemetry.waiting_since_ns.set(0);
        self.channel_keys.batch_is_durable();
        self.telemetry.batch_entries.record(count as u64);
        self.telemetry.entries.add(count as u64);
        self.telemetry.shares.add(shares);
        self.telemetry.shares_rolled_up.add(gone);
        self.telemetry.waited_good.add(judged.good);
        self.telemetry.waited_lost.add(judged.lost);
        let no_longer = usize::try_from(judged.good + judged.lost).unwrap_or(usize::MAX);
        self.rings.waiting.fetch_sub(no_longer, Ordering::Relaxed);
        if !heard.candidates.is_empty() {
            self.published.candidates_are_recorded(heard.candidates.len());
        }
        for (lane, taken) in self.rings.lanes.iter().zip(&self.taken) {
            if *taken > 0 {
                lane.publish(*taken);
            }
        }
        if let Some(found) = &self.found {
            heard.candidates.iter().for_each(|(_, row)| found(row));
        }
        if !heard.is_empty() {
            // Where it has ended it has said why, and the rings have failed.
            self.books.leave(heard, &self.telemetry.bookkeeper_full);
        }
        Ok(count)
    }

    fn commit(&self, batch: WriteBatch) -> Result<(), rocksdb::Error> {
        let began_ns = monotonic_ns();
        let bytes = batch.size_in_bytes() as u64;
        self.db.write_opt(batch, &durably())?;
        self.telemetry.commit.record(monotonic_ns() - began_ns);
        self.telemetry.batches.add(1);
        self.telemetry.bytes.add(bytes);
        self.count();
        Ok(())
    }

    fn count(&self) {
        self.telemetry.sequence.set(self.log.sequence);
        self.telemetry.payees.set(self.log.payees() as u64);
        self.telemetry.workers.set(self.log.workers() as u64);
        self.telemetry.waiting.set(self.log.waiting.len() as u64);
        self.telemetry.prime_ids_left.set(self.log.prime_ids_left().into());
        self.telemetry.kept_from.set(self.log.kept.from);
        self.telemetry.rolled_up_s.set(self.log.kept.time_ms / 1_000);
    }

    /// Leaves no total behind that the next start would have to count again.
    fn close(&mut self) -> Result<(), rocksdb::Error> {
        let step = Step::begin(&self.db, &mut self.log, &mut self.chunk);
        let batch = step.finish_all();
        if batch.is_empty() { Ok(()) } else { self.commit(batch) }
    }

    /// Ids are of the ledger's life: who sees that they come to an end has years, or somebody who uses them up.
    fn check_prime_ids(&mut self) {
        let left = self.log.prime_ids_left();
        let was_said = self
            .prime_ids_said
            .is_some_and(|said| said.elapsed() < PRIME_IDS_SAID_EVERY);
        if left < PRIME_IDS_FEW && !was_said {
            self.prime_ids_said = Some(Instant::now());
            tracing::warn!(
                left,
                "ids for sessions come to an end: each is given once in the ledger's life, and without one no session begins"
            );
        }
    }

    fn check_disk(&mut self) {
        self.disk_checked = Instant::now();
        match disk::free_bytes(&self.path) {
            Ok(free) => {
                self.telemetry.disk_free_bytes.set(free);
                if free < self.disk_floor_bytes {
                    self.health.disk_is_low(free, self.disk_floor_bytes);
                }
            }
            Err(error) => tracing::warn!(%error, "cannot see how full the ledger's disk is"),
        }
        self.telemetry.memory_bytes.set(schema::memory_bytes(&self.db));
    }
}

/// Pins the calling thread; a core that is not there is no reason not to serve.
fn pin(core: usize) {
    let mut set = CpuSet::new();
    if core >= CpuSet::MAX_CPU {
        tracing::warn!(
            core,
            "the ledger's core is beyond what the system can name; it runs unpinned"
        );
        return;
    }
    set.set(core);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!(core, %error, "the ledger's thread runs unpinned");
    }
}
