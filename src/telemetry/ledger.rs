//! What the ledger's writer counts and measures.

use super::counter::{Counter, Gauge};
use super::histogram::Histogram;

/// The numbers of the ledger; only its writer writes them.
#[repr(align(128))]
#[derive(Debug)]
pub struct LedgerTelemetry {
    /// Shares made durable.
    pub shares: Counter,
    /// Entries of all kinds made durable.
    pub entries: Counter,
    /// Commits: each is one write batch and one fsync.
    pub batches: Counter,
    /// Bytes of the write batches.
    pub bytes: Counter,

    /// Shares that wait for a parent that no node of ours has seen, now.
    pub waiting: Gauge,
    /// Of such shares those that count since they were judged, and those that never will.
    pub waited_good: Counter,
    pub waited_lost: Counter,
    /// Sequence that the next share gets.
    pub sequence: Gauge,
    pub payees: Gauge,
    pub workers: Gauge,
    /// Since when the oldest entry of the batch that is being written has waited, in ns of the writer's clock; 0 where
    /// none is. What is stuck on the disk shows as an age that grows: see [`Self::queue_age_ns`].
    pub waiting_since_ns: Gauge,
    /// Shares that became hourly work.
    pub shares_rolled_up: Counter,
    /// The sequence of the first share that is kept.
    pub kept_from: Gauge,
    /// When the last shares became hourly work, s since 1970; 0 where none has.
    pub rolled_up_s: Gauge,
    /// `prime_id`s that no session was given yet.
    pub prime_ids_left: Gauge,
    /// Bytes that the disk has left for the process.
    pub disk_free_bytes: Gauge,
    /// Bytes of memory that the database fills and empties by itself: what is not in its files yet, and blocks it has read.
    pub memory_bytes: Gauge,
    /// 1 once a write or fsync has failed.
    pub failed: Gauge,

    /// Times that as many batches waited for the bookkeeper as may, and the writer with the next.
    pub bookkeeper_full: Counter,

    /// Channel keys that are kept for gateways that may come back.
    pub channel_keys: Gauge,
    /// Those that were not, since no place was ready for them.
    pub channel_keys_not_kept: Counter,
    /// Times that the disk did not take what wipes such keys; written by the thread that does.
    pub channel_key_wipe_failures: Counter,

    // The books; the bookkeeper writes them.
    /// Events: settlements, what became of blocks, payments by hand, terms.
    pub events: Gauge,
    /// Shares in the window.
    pub window_shares: Gauge,
    /// 1 while the window lacks shares that are no longer kept.
    pub window_short: Gauge,
    /// Payees that the latest snapshot can pay.
    pub split_payees: Gauge,
    /// Candidates that were found and do not book themselves.
    pub blocks_by_hand: Counter,
    /// How long snapshots take, in ns.
    pub snapshot: Histogram,

    // Written by the housekeeper.
    /// Looks for shares that may go.
    pub housekeeping_rounds: Counter,
    /// Such that could not be made.
    pub housekeeping_failures: Counter,

    /// Entries of a batch.
    pub batch_entries: Histogram,
    /// Write and fsync of a batch, in ns.
    pub commit: Histogram,
    /// How long the oldest entry of a batch has waited in its ring when the batch starts, in ns.
    pub queue_age: Histogram,
}

impl Default for LedgerTelemetry {
    fn default() -> Self {
        Self {
            shares: Counter::default(),
            entries: Counter::default(),
            batches: Counter::default(),
            bytes: Counter::default(),
            waiting: Gauge::default(),
            waited_good: Counter::default(),
            waited_lost: Counter::default(),
            sequence: Gauge::default(),
            payees: Gauge::default(),
            workers: Gauge::default(),
            waiting_since_ns: Gauge::default(),
            shares_rolled_up: Counter::default(),
            kept_from: Gauge::default(),
            rolled_up_s: Gauge::default(),
            prime_ids_left: Gauge::default(),
            disk_free_bytes: Gauge::default(),
            memory_bytes: Gauge::default(),
            failed: Gauge::default(),
            bookkeeper_full: Counter::default(),
            channel_keys: Gauge::default(),
            channel_keys_not_kept: Counter::default(),
            channel_key_wipe_failures: Counter::default(),
            events: Gauge::default(),
            window_shares: Gauge::default(),
            window_short: Gauge::default(),
            split_payees: Gauge::default(),
            blocks_by_hand: Counter::default(),
            snapshot: Histogram::of_times(),
            housekeeping_rounds: Counter::default(),
            housekeeping_failures: Counter::default(),
            batch_entries: Histogram::of_counts(),
            commit: Histogram::of_times(),
            queue_age: Histogram::of_times(),
        }
    }
}

impl LedgerTelemetry {
    /// How long the oldest entry of the batch that is being written has waited, in ns; `now_ns` is of the writer's clock.
    #[must_use]
    pub fn queue_age_ns(&self, now_ns: u64) -> u64 {
        match self.waiting_since_ns.value() {
            0 => 0,
            since_ns => now_ns.saturating_sub(since_ns),
        }
    }

    /// All zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}
