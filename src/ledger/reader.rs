//! Reads the ledger, in the writer's process or beside it.

use std::path::Path;
use std::time::Duration;

use rocksdb::{DB, Direction, IteratorMode, ReadOptions};
use tempfile::TempDir;

use super::bundle::Privacy;
use super::entry::{CandidateRow, Searched, SessionRow, SplitRow};
use super::error::{Damage, LedgerError};
use super::event_rows;
use super::hours::{self, HourRow};
use super::kept::Kept;
use super::record::ShareRecord;
use super::rows;
use super::schema::{self, SCHEMA_MIGRATED_FROM, SCHEMA_VERSION, family, meta};
use super::share_log::{self, READ_AHEAD};
use super::submissions::{self, SubmissionRow};
use super::waiting::WaitingRow;
use crate::work::{CoinbaseMark, Pin};

/// Opening beside a writer can meet a file that it has just replaced; so often it is tried.
const OPEN_TRIES: u32 = 5;

/// How long it rests between two tries.
const OPEN_REST: Duration = Duration::from_millis(50);

/// A view of the ledger as it was when it was opened. It writes nothing to the data folder, and may stand beside the
/// pool that does.
pub struct LedgerReader {
    pub(super) db: DB,
    /// RocksDB wants a folder of its own for a reader's log. Goes with the reader, after the database.
    _scratch: TempDir,
}

/// Whether [`super::Ledger::open`] can read what lies there, or bring it to its schema; where nothing does it makes a new one. A pool may
/// be writing meanwhile.
///
/// # Errors
/// It cannot: a newer millrace made it, say.
pub fn check_opens(data_dir: &Path) -> Result<(), LedgerError> {
    match LedgerReader::open_whatever(data_dir) {
        Ok((_, SCHEMA_MIGRATED_FROM..=SCHEMA_VERSION)) | Err(LedgerError::Missing(_)) => Ok(()),
        Ok((_, found)) => Err(LedgerError::schema(found)),
        Err(error) => Err(error),
    }
}

impl LedgerReader {
    /// # Errors
    /// There is no ledger, or none of this schema, or it cannot be read.
    pub fn open(data_dir: &Path) -> Result<Self, LedgerError> {
        match Self::open_whatever(data_dir)? {
            (reader, SCHEMA_VERSION) => Ok(reader),
            (_, found) => Err(LedgerError::schema(found)),
        }
    }

    /// The same of any schema, with that.
    fn open_whatever(data_dir: &Path) -> Result<(Self, u32), LedgerError> {
        let path = schema::path(data_dir);
        if !path.join("CURRENT").is_file() {
            return Err(LedgerError::Missing(data_dir.to_path_buf()));
        }
        let scratch = TempDir::with_prefix("millrace-reader-").map_err(|error| LedgerError::Io {
            path: std::env::temp_dir(),
            error,
        })?;
        let scratch_path = scratch.path().to_path_buf();
        for tries in 1.. {
            // A ledger of an older schema lacks families; what it is then, its own row says.
            let opened = schema::families_of(&path).and_then(|families| {
                DB::open_cf_descriptors_as_secondary(&schema::secondary(), &path, &scratch_path, families)
            });
            match opened {
                Ok(db) => {
                    let found = schema_of(&db, &path)?;
                    return Ok((Self { db, _scratch: scratch }, found));
                }
                Err(error) if tries == OPEN_TRIES => return Err(LedgerError::Open { path, error }),
                Err(_) => std::thread::sleep(OPEN_REST),
            }
        }
        unreachable!("the last try returns")
    }

    /// The chain that the ledger belongs to.
    ///
    /// # Errors
    /// RocksDB's.
    pub fn chain(&self) -> Result<String, LedgerError> {
        Ok(chain(&self.db)?.unwrap_or_default())
    }

    /// How the pool's configuration has audit bundles name payees.
    ///
    /// # Errors
    /// RocksDB's, or a damaged row.
    pub fn bundle_privacy(&self) -> Result<Privacy, LedgerError> {
        Ok(bundle_privacy(&self.db)?.unwrap_or(Privacy::Clear))
    }

    /// The sequence of the next share: how many there are.
    ///
    /// # Errors
    /// RocksDB's, or a damaged chunk.
    pub fn sequence(&self) -> Result<u64, LedgerError> {
        share_log::next_sequence(&self.db)
    }

    /// How far back the log is kept share by share.
    ///
    /// # Errors
    /// RocksDB's, or a damaged row.
    pub fn kept(&self) -> Result<Kept, LedgerError> {
        Kept::read(&self.db)
    }

    /// Work of shares that are gone, by time.
    pub fn hours(&self) -> impl Iterator<Item = Result<HourRow, LedgerError>> {
        hours::rows(&self.db)
    }

    /// The same of one payee.
    pub fn hours_of(&self, payee: u32) -> impl Iterator<Item = Result<HourRow, LedgerError>> {
        hours::rows_of(&self.db, payee)
    }

    /// Shares in the order of the log, from a sequence on, or from the first that is kept.
    ///
    /// # Errors
    /// RocksDB's; each share may be damaged by itself.
    pub fn shares(
        &self,
        from: u64,
    ) -> Result<impl Iterator<Item = Result<(u64, ShareRecord), LedgerError>>, LedgerError> {
        share_log::shares(&self.db, from)
    }

    /// Payees by number: their scripts.
    pub fn payees(&self) -> impl Iterator<Item = Result<(u32, Box<[u8]>), LedgerError>> {
        super::log::numbered(&self.db, schema::PAYEES).map(|row| {
            let (id, row) = row?;
            Ok((id, rows::payee::decode(&row)?.into()))
        })
    }

    /// Workers by number: their payees and names.
    pub fn workers(&self) -> impl Iterator<Item = Result<(u32, u32, Box<[u8]>), LedgerError>> {
        super::log::numbered(&self.db, schema::WORKERS).map(|row| {
            let (id, row) = row?;
            let (payee, name) = rows::worker::decode(&row)?;
            Ok((id, payee, name.into()))
        })
    }

    /// Sessions by `prime_id`.
    pub fn sessions(&self) -> impl Iterator<Item = Result<Session, LedgerError>> {
        sessions(&self.db)
    }

    /// Candidates by hash, each with its place in the log.
    pub fn candidates(&self) -> impl Iterator<Item = Result<(Pin, CandidateRow), LedgerError>> {
        candidates(&self.db)
    }

    /// What nodes said of blocks of ours, by block, and the oldest of each first.
    pub fn submissions(&self) -> impl Iterator<Item = Result<SubmissionRow, LedgerError>> {
        submissions::submissions(&self.db)
    }
}

/// Shares that wait for their parent, by number.
pub(super) fn waiting(db: &DB) -> impl Iterator<Item = Result<(u64, WaitingRow), LedgerError>> + use<'_> {
    scan(db, schema::WAITING, IteratorMode::Start).map(|row| {
        let (key, row) = row?;
        let number = key.as_ref().try_into().map_err(|_| Damage::Value {
            what: schema::WAITING,
            field: "key",
        })?;
        Ok((u64::from_be_bytes(number), WaitingRow::decode(&row)?))
    })
}

pub(super) fn candidates(db: &DB) -> impl Iterator<Item = Result<(Pin, CandidateRow), LedgerError>> + use<'_> {
    scan(db, schema::CANDIDATES, IteratorMode::Start).map(|row| {
        let (hash, row) = row?;
        Ok(rows::candidate::decode(&hash, &row)?)
    })
}

/// One candidate by its hash, with its place in the log.
pub(super) fn candidate(db: &DB, hash: &[u8; 32]) -> Result<Option<(Pin, CandidateRow)>, LedgerError> {
    let row = db.get_cf(family(db, schema::CANDIDATES), hash)?;
    Ok(row.map(|row| rows::candidate::decode(hash, &row)).transpose()?)
}

/// A session as it was opened; none where there was none, or it ended without being proved.
pub(super) fn session(db: &DB, prime_id: u32) -> Result<Option<SessionRow>, LedgerError> {
    let row = db.get_cf(
        family(db, schema::SESSIONS),
        rows::session::key(prime_id, rows::session::OPENED),
    )?;
    Ok(row.map(|row| rows::session::decode(prime_id, &row)).transpose()?)
}

/// The pool's script that the split of a candidate was made with: that of the session whose terms its coinbase names. A coinbase
/// that keeps to no split may name none, or another's: then it is that of the last session that its gateway had begun by then.
/// Empty where there is none either.
pub(super) fn script_of_split(db: &DB, row: &CandidateRow) -> Result<Box<[u8]>, LedgerError> {
    let prime_id = CoinbaseMark::of(&row.candidate.coinbase).map_or(0, |mark| mark.prime_id);
    let named =
        session(db, prime_id)?.filter(|session| session.gateway.ed25519 == row.gateway || !row.keeps_to_no_split());
    if let Some(session) = named {
        return Ok(session.terms.script);
    }
    let mut last = None;
    for session in sessions(db) {
        let session = session?.row;
        if session.gateway.ed25519 == row.gateway && session.opened_ms <= row.time_ms {
            last = Some(session.terms.script);
        }
    }
    Ok(last.unwrap_or_default())
}

/// Up to where the chain was searched; none where it never was.
pub(super) fn searched(db: &DB) -> Result<Option<Searched>, LedgerError> {
    let row = db.get(meta::SEARCHED)?;
    Ok(row.map(|row| rows::searched::decode(&row)).transpose()?)
}

/// None where no pool has said so yet.
pub(super) fn bundle_privacy(db: &DB) -> Result<Option<Privacy>, LedgerError> {
    let row = db.get(meta::BUNDLE_PRIVACY)?;
    Ok(row.map(|row| rows::bundle_privacy::decode(&row)).transpose()?)
}

/// Splits dictated since a time in s, the oldest first.
pub(super) fn splits(db: &DB, since_s: u64) -> impl Iterator<Item = Result<SplitRow, LedgerError>> + use<'_> {
    scan(
        db,
        schema::SPLITS,
        IteratorMode::From(&since_s.to_be_bytes(), Direction::Forward),
    )
    .map(|row| {
        let (key, row) = row?;
        Ok(event_rows::split::decode(&key, &row)?)
    })
}

/// A session with its marks, ms since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub row: SessionRow,
    pub proven_ms: Option<u64>,
    pub ended_ms: Option<u64>,
}

/// The schema of a ledger.
pub(super) fn schema_of(db: &DB, path: &Path) -> Result<u32, LedgerError> {
    let row = db
        .get(meta::SCHEMA)?
        .ok_or_else(|| LedgerError::Foreign(path.to_path_buf()))?;
    let row = row
        .as_slice()
        .try_into()
        .map_err(|_| Damage::Short { what: "schema" })?;
    Ok(u32::from_le_bytes(row))
}

pub(super) fn chain(db: &DB) -> Result<Option<String>, LedgerError> {
    Ok(db
        .get(meta::CHAIN)?
        .map(|name| String::from_utf8_lossy(&name).into_owned()))
}

/// The highest `prime_id` that was ever given; 0 where none was.
pub(super) fn last_prime_id(db: &DB) -> Result<u32, LedgerError> {
    match db.get(meta::LAST_PRIME_ID)? {
        None => Ok(0),
        Some(row) => {
            let row = row
                .as_slice()
                .try_into()
                .map_err(|_| Damage::Short { what: "last_prime_id" })?;
            Ok(u32::from_le_bytes(row))
        }
    }
}

/// Every share below it is counted in its payee's total.
pub(super) fn totals_from(db: &DB) -> Result<u64, LedgerError> {
    match db.get(meta::TOTALS_FROM)? {
        None => Ok(0),
        Some(row) => {
            let row = row
                .as_slice()
                .try_into()
                .map_err(|_| Damage::Short { what: "totals_from" })?;
            Ok(u64::from_le_bytes(row))
        }
    }
}

/// The number behind the last event.
pub(super) fn next_event(db: &DB) -> Result<u64, LedgerError> {
    match db.iterator_cf(family(db, schema::EVENTS), IteratorMode::End).next() {
        None => Ok(0),
        Some(last) => Ok(share_log::sequence(&last?.0)? + 1),
    }
}

/// Sessions with their marks, by `prime_id`. One that nobody proved may have been abandoned before its end came: what is left of
/// it is that mark, and is passed over.
pub(super) fn sessions(db: &DB) -> impl Iterator<Item = Result<Session, LedgerError>> + use<'_> {
    let mut rows = scan(db, schema::SESSIONS, IteratorMode::Start).peekable();
    std::iter::from_fn(move || {
        let is_left = |row: &Result<Row, LedgerError>| {
            let kind = row
                .as_ref()
                .ok()
                .and_then(|(key, _)| rows::session::decode_key(key).ok());
            kind.is_some_and(|(_, kind)| kind == rows::session::ENDED)
        };
        // The end of any other session is taken with its beginning.
        while rows.next_if(is_left).is_some() {}
        let row = rows.next()?;
        let read = || {
            let (key, row) = row?;
            let (prime_id, kind) = rows::session::decode_key(&key)?;
            if kind != rows::session::OPENED {
                return Err(Damage::Value {
                    what: schema::SESSIONS,
                    field: "mark without a session",
                }
                .into());
            }
            let mut session = Session {
                row: rows::session::decode(prime_id, &row)?,
                proven_ms: None,
                ended_ms: None,
            };
            let own = prime_id.to_be_bytes();
            while let Some(mark) = rows.next_if(|row| row.as_ref().is_ok_and(|(key, _)| key.starts_with(&own))) {
                let (key, row) = mark?;
                match rows::session::decode_key(&key)?.1 {
                    rows::session::PROVEN => session.proven_ms = Some(rows::session::decode_mark(&row)?),
                    rows::session::ENDED => session.ended_ms = Some(rows::session::decode_mark(&row)?),
                    // For the start alone.
                    _ => {
                        rows::session::decode_sealed_key(&row)?;
                    }
                }
            }
            Ok(session)
        };
        Some(read())
    })
}

type Row = (Box<[u8]>, Box<[u8]>);

fn scan<'db>(
    db: &'db DB,
    name: &str,
    mode: IteratorMode<'_>,
) -> impl Iterator<Item = Result<Row, LedgerError>> + use<'db> {
    let mut options = ReadOptions::default();
    options.set_readahead_size(READ_AHEAD);
    // A scan passes each block once: it must not push out what the pool needs again.
    options.fill_cache(false);
    db.iterator_cf_opt(family(db, name), options, mode)
        .map(|row| row.map_err(LedgerError::from))
}
