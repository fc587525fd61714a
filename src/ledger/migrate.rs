//! Ledgers of older schemas, brought to this one when a pool first serves them. `docs/LEDGER.md` says what each lacked.

use rocksdb::{BottommostLevelCompaction, CompactOptions, DB, FlushOptions, IteratorMode, WriteBatch};

use super::channel_keys::ChannelKeysAtRest;
use super::error::LedgerError;
use super::event_rows::event;
use super::kept::Kept;
use super::ledger_books::{accounts_at, events_before};
use super::log::numbered;
use super::open::durably;
use super::rows::{candidate, session};
use super::schema::{self, SCHEMA_MIGRATED_FROM, SCHEMA_VERSION, family, meta};

/// The first schema with the row that says from where on shares are kept.
const WITH_KEPT: u32 = 3;

/// The first schema in which no channel key lies open.
const WITH_SEALED_KEYS: u32 = 4;

/// The first schema in which a booking says how many payees there were, and a candidate how many events.
const WITH_PLACES: u32 = 5;

/// The first schema in which a candidate says what was dictated.
const WITH_DICTATED: u32 = 6;

/// Rows of one write.
const AT_ONCE: usize = 1_024;

/// What a new ledger begins with.
pub(super) fn begin(batch: &mut WriteBatch) {
    batch.put(meta::SCHEMA, SCHEMA_VERSION.to_le_bytes());
    batch.put(meta::KEPT, Kept::default().encode());
}

/// # Errors
/// The schema is not among those that are migrated.
pub(super) fn knows(schema: u32) -> Result<(), LedgerError> {
    match schema {
        SCHEMA_MIGRATED_FROM..=SCHEMA_VERSION => Ok(()),
        other => Err(LedgerError::schema(other)),
    }
}

/// Families that a schema lacks were made when the database was opened. The row that names the schema is written last: what
/// ends before that is done again.
///
/// # Errors
/// RocksDB's, a damaged row, or the channel keys cannot be written.
pub(super) fn migrate(db: &DB, from: u32, keys: &mut ChannelKeysAtRest) -> Result<(), LedgerError> {
    if from == SCHEMA_VERSION {
        return Ok(());
    }
    if from < WITH_SEALED_KEYS {
        seal_channel_keys(db, keys)?;
    }
    if from < WITH_PLACES {
        count_payees(db)?;
        place_candidates(db)?;
    }
    if from < WITH_DICTATED {
        rewrite(db, schema::CANDIDATES, |_, row| Ok(candidate::of_schema_5(row)?))?;
    }
    let mut batch = WriteBatch::default();
    batch.put(meta::SCHEMA, SCHEMA_VERSION.to_le_bytes());
    if from < WITH_KEPT {
        batch.put(meta::KEPT, Kept::default().encode());
    }
    db.write_opt(batch, &durably())?;
    tracing::info!(from, to = SCHEMA_VERSION, "the ledger was migrated");
    Ok(())
}

/// Seals what lay open, and has the database give up the files in which it did.
fn seal_channel_keys(db: &DB, keys: &mut ChannelKeysAtRest) -> Result<(), LedgerError> {
    let sessions = family(db, schema::SESSIONS);
    let mut batch = WriteBatch::default();
    for row in db.iterator_cf(sessions, IteratorMode::Start) {
        let (name, row) = row?;
        let (prime_id, kind) = session::decode_key(&name)?;
        if kind != session::KEY {
            continue;
        }
        let Some(open) = session::decode_open_key(&row)? else {
            continue;
        };
        match keys.seal(prime_id, &open)? {
            Some(sealed) => batch.put_cf(sessions, &name, session::encode_sealed_key(&sealed)),
            None => batch.delete_cf(sessions, &name),
        }
        if batch.len() >= AT_ONCE {
            db.write_opt(std::mem::take(&mut batch), &durably())?;
        }
    }
    db.write_opt(batch, &durably())?;
    // The log of writes goes with what it was written for, in all families.
    for name in std::iter::once("default").chain(schema::FAMILIES) {
        db.flush_cf_opt(family(db, name), &FlushOptions::default())?;
    }
    let mut all = CompactOptions::default();
    all.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
    db.compact_range_cf_opt(sessions, None::<&[u8]>, None::<&[u8]>, &all);
    Ok(())
}

/// Adds to what was booked how many payees there were. That is not known any more: all count that there are.
fn count_payees(db: &DB) -> Result<(), LedgerError> {
    let mut payees = 0;
    for row in numbered(db, schema::PAYEES) {
        row?;
        payees += 1;
    }
    rewrite(db, schema::EVENTS, |_, row| Ok(event::of_schema_4(row, payees)))
}

/// Adds to candidates where among the events they stand: before the one that booked them, whose terms they were booked by; or
/// else where their time says.
fn place_candidates(db: &DB) -> Result<(), LedgerError> {
    let accounts = accounts_at(db, u64::MAX)?;
    rewrite(db, schema::CANDIDATES, |hash, row| {
        candidate::of_schema_4(row, |sequence, time_ms| {
            let booked = hash.try_into().ok().and_then(|hash| accounts.block(hash));
            booked.map_or_else(|| events_before(db, sequence, time_ms), |block| Ok(block.settled_by))
        })
    })
}

/// Writes the rows of a family anew for which `again` gives another value. One that is of this schema already, since a
/// migration did not come to its end, must be none of them.
fn rewrite(
    db: &DB,
    name: &'static str,
    mut again: impl FnMut(&[u8], &[u8]) -> Result<Option<Vec<u8>>, LedgerError>,
) -> Result<(), LedgerError> {
    let rows = family(db, name);
    let mut batch = WriteBatch::default();
    for row in db.iterator_cf(rows, IteratorMode::Start) {
        let (key, row) = row?;
        if let Some(row) = again(&key, &row)? {
            batch.put_cf(rows, &key, row);
        }
        if batch.len() >= AT_ONCE {
            db.write_opt(std::mem::take(&mut batch), &durably())?;
        }
    }
    Ok(db.write_opt(batch, &durably())?)
}
