//! The ledger: what was accepted, on disk before anybody hears of it.
//!
//! Shards push [`Entry`]s into a ring each; one [`Writer`] thread drains all rings into one RocksDB write batch, syncs
//! it, and then publishes how many entries of each shard are durable. `docs/LEDGER.md` has the layout on disk, byte by
//! byte. This module knows no session and no socket.

mod audit;
mod bookkeeper;
pub mod books;
pub mod bundle;
mod channel_keys;
mod disk;
mod entry;
mod error;
mod event_rows;
mod export;
mod fields;
mod health;
mod hours;
mod housekeeper;
mod kept;
mod lasting;
mod ledger_books;
mod log;
mod messages;
mod migrate;
mod open;
mod pace;
mod payments;
mod reader;
mod record;
mod reload;
pub mod report;
mod restore;
mod retention;
mod ring;
mod rows;
mod schema;
mod share_log;
mod stats;
mod submissions;
mod verify;
mod waiting;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use rustix::time::{ClockId, clock_gettime};

pub use self::audit::{Audit, AuditError, LeftOut, audit};
pub use self::bookkeeper::{Latest, Published};
pub use self::channel_keys::CHANNEL_KEYS_MAX;
pub use self::disk::free_bytes;
pub use self::entry::{
    CandidateRow, Entry, HelloName, Mark, MinerRow, Searched, SessionMark, SessionRow, ShareEntry, SplitRow,
    WaitingEntry, hello_name,
};
pub use self::error::LedgerError;
pub use self::export::{Format, Table, export};
pub use self::health::{Health, HealthState};
pub use self::hours::{HOUR_WORKERS_MAX, HourRow, Sum};
pub use self::housekeeper::{Housekeeping, KEEP_DAYS_MIN};
pub use self::kept::{Kept, WindowGone};
pub use self::ledger_books::{LedgerBooks, SettleError, unix_ms};
pub use self::messages::{ChainPlace, Done, Order, OrderDesk, OrderError, Record, Reply, Whose};
pub use self::open::{Ledger, LedgerOptions, PrimeIds};
pub use self::pace::step_back;
pub use self::reader::{LedgerReader, check_opens};
pub use self::record::{RECORD_LEN, ShareRecord};
pub use self::reload::{AnswerReload, Reload, Reloaded};
pub use self::restore::{RestoredGateway, UNPROVED_MAX, Unproved};
pub use self::ring::{ShardLedger, WAITING_MAX};
pub use self::schema::{OPEN_FILES_MAX, SCHEMA_VERSION};
pub use self::stats::{Stats, stats};
pub use self::submissions::{SubmissionRow, Submitted, WORDS_MAX};
pub use self::verify::{Findings, verify};
pub use self::waiting::WAIT_MAX_MS;
pub use self::writer::{BATCH_ENTRIES_MAX, Found, Writer, WriterOptions};

/// A moment of [`monotonic_ns`] in s since 1970: the time of day at the first call, and what has passed since. So it is
/// comparable with what is written down, and nobody who sets the time makes anything older or younger than it is.
#[must_use]
pub fn steady_s(monotonic_ns: u64) -> u64 {
    static START_MS: LazyLock<u64> = LazyLock::new(|| unix_ms().saturating_sub(self::monotonic_ns() / 1_000_000));
    (*START_MS + monotonic_ns / 1_000_000) / 1_000
}

/// The clock of everything that is measured between threads: ns of the system's monotonic clock, which is the same for all
/// processes, and which no change of the time of day moves.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let whole = u64::try_from(now.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000);
    whole.saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}
