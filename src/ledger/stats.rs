//! What the ledger holds, in a few numbers.

use serde::Serialize;

use super::error::LedgerError;
use super::log::Log;
use super::reader::LedgerReader;
use super::schema::{self, SCHEMA_VERSION, family};

/// Counts of a ledger. Work is written as text: it does not fit what JSON readers take for a number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stats {
    pub schema: u32,
    pub chain: String,
    pub shares: u64,
    /// The sum of `2^pot`.
    #[serde(serialize_with = "as_text")]
    pub work: u128,
    pub payees: u64,
    pub workers: u64,
    pub sessions: u64,
    pub candidates: u64,
    /// The sequence of the next share.
    pub sequence: u64,
    /// The sequence of the first share that is kept: so many are known as hourly work alone.
    pub kept_from: u64,
    /// When the last of those went, ms since 1970; none while all are kept.
    pub rolled_up_ms: Option<u64>,
    /// Ms since 1970 of the first share that is kept, and of the last.
    pub first_share_ms: Option<u64>,
    pub last_share_ms: Option<u64>,
    /// Bytes of table files; what is only in the log of writes is not among them.
    pub table_bytes: u64,
}

/// Counts what a ledger holds. Reads the shares at its end that no total has counted yet, and not the others.
///
/// # Errors
/// RocksDB's, or rows that cannot be what was written.
pub fn stats(reader: &LedgerReader) -> Result<Stats, LedgerError> {
    let log = Log::load(&reader.db)?;
    let total = log.total();
    let time_of = |sequence: u64| -> Result<Option<u64>, LedgerError> {
        let share = reader.shares(sequence)?.next().transpose()?;
        Ok(share.map(|(_, share)| share.time_ms))
    };
    let mut sessions = 0;
    for session in reader.sessions() {
        session?;
        sessions += 1;
    }
    let mut candidates = 0;
    for candidate in reader.candidates() {
        candidate?;
        candidates += 1;
    }
    let mut table_bytes = 0;
    for name in schema::FAMILIES {
        let bytes = reader
            .db
            .property_int_value_cf(family(&reader.db, name), "rocksdb.total-sst-files-size")?;
        table_bytes += bytes.unwrap_or(0);
    }
    Ok(Stats {
        schema: SCHEMA_VERSION,
        chain: reader.chain()?,
        shares: total.shares,
        work: total.work,
        payees: log.payees() as u64,
        workers: log.workers() as u64,
        sessions,
        candidates,
        sequence: log.sequence,
        kept_from: log.kept.from,
        rolled_up_ms: Some(log.kept.time_ms).filter(|_| log.kept.from > 0),
        first_share_ms: time_of(log.kept.from)?,
        last_share_ms: log.sequence.checked_sub(1).map(time_of).transpose()?.flatten(),
        table_bytes,
    })
}

pub(super) fn as_text<S: serde::Serializer>(number: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}
