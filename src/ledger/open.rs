//! Opening the ledger for writing: who may, what is checked, what is read back.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rocksdb::{DB, IteratorMode, WriteBatch, WriteOptions};

use super::books::{BlockState, Event, Terms, What};
use super::bundle::Privacy;
use super::channel_keys::ChannelKeysAtRest;
use super::disk;
use super::entry::{CandidateRow, Searched};
use super::error::LedgerError;
use super::event_rows;
use super::lasting::Lasting;
use super::ledger_books::LedgerBooks;
use super::log::Log;
use super::migrate;
use super::reader;
use super::restore::{self, Left, RestoredGateway};
use super::rows;
use super::schema::{self, family, meta};

/// What the ledger is opened with.
#[derive(Debug, Clone)]
pub struct LedgerOptions {
    /// The chain it must belong to; a new ledger is bound to it.
    pub chain: &'static str,
    /// The first `prime_id` of a new ledger.
    pub first_prime_id: u32,
    /// Bytes that must stay free on its disk.
    pub disk_floor_bytes: u64,
    /// How long a gateway's terms and duplicates outlive its last session, in s.
    pub resume_for_s: u64,
    /// Gateways that are read back at most: as many as all shards remember.
    pub gateways_max: usize,
    /// Seconds since 1970.
    pub now_s: u64,
    /// What splits depend on from now on.
    pub terms: Terms,
    /// Output script of what splits leave over.
    pub own_script: Vec<u8>,
}

/// A ledger that is open for the one process that writes it; [`super::Writer::start`] takes it over.
pub struct Ledger {
    pub(super) db: DB,
    pub(super) log: Log,
    pub(super) books: LedgerBooks,
    pub(super) path: PathBuf,
    pub(super) disk_floor_bytes: u64,
    pub(super) channel_keys: ChannelKeysAtRest,
    pub(super) resume_for: Duration,
    prime_ids: PrimeIds,
    restored: Vec<RestoredGateway>,
    took: OpenTook,
}

/// How long the parts of opening took.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenTook {
    /// RocksDB, with what it had only written to its log.
    pub database: Duration,
    /// Names and totals.
    pub names: Duration,
    /// Events, and the shares of the window.
    pub books: Duration,
    /// Sessions, duplicates, and splits that may still be used.
    pub gateways: Duration,
}

impl Ledger {
    /// Opens the ledger in a data folder, or makes it there, and reads back what was open when it was last written:
    /// after a kill -9 too.
    ///
    /// # Errors
    /// Another process has it, its disk is at its floor, it is damaged, foreign, of another schema or chain, or others may
    /// read its channel keys.
    pub fn open(data_dir: &Path, options: &LedgerOptions) -> Result<Self, LedgerError> {
        let path = schema::path(data_dir);
        // Nobody else has a need to read usernames and coinbases.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            // Or a power cut could take the folder itself.
            .and_then(|()| fs::File::open(data_dir)?.sync_all())
            .map_err(|error| LedgerError::Io {
                path: path.clone(),
                error,
            })?;
        check_disk(&path, options.disk_floor_bytes)?;
        let mut took = OpenTook::default();
        let mut began = Instant::now();
        let mut lap = || std::mem::replace(&mut began, Instant::now()).elapsed();
        let db = open_database(&path)?;
        // Behind the database, whose lock says that nobody else has them.
        let mut channel_keys = ChannelKeysAtRest::open(data_dir)?;
        bind_to_chain(&db, &path, options.chain, &mut channel_keys)?;
        took.database = lap();

        let mut log = Log::load(&db)?;
        took.names = lap();
        let mut books = LedgerBooks::load(&db)?;
        log.lasting = Lasting::read(&db, books.told().clone())?;
        books.add_pool_script(&options.own_script);
        if books.accounts.terms != Some(options.terms) {
            let event = Event {
                sequence: log.sequence,
                time_ms: options.now_s * 1_000,
                what: What::Terms(options.terms),
            };
            let row = event_rows::event::encode(&event);
            db.put_cf_opt(family(&db, schema::EVENTS), log.events.to_be_bytes(), row, &durably())?;
            log.events += 1;
            books.apply(&event, &db)?;
        }
        took.books = lap();
        let restored = restore::restore(&db, &books, options, &mut channel_keys)?;
        end_sessions(&db, &restored.left, &log.lasting, options.now_s * 1_000)?;
        channel_keys.wipe_others()?;
        took.gateways = lap();
        let prime_ids = PrimeIds::after(log.last_prime_id, options.first_prime_id);
        Ok(Self {
            db,
            log,
            books,
            path,
            disk_floor_bytes: options.disk_floor_bytes,
            channel_keys,
            resume_for: Duration::from_secs(options.resume_for_s),
            prime_ids,
            restored: restored.gateways,
            took,
        })
    }

    /// Writes down how audit bundles are to name payees, for whoever exports one beside the pool.
    ///
    /// # Errors
    /// RocksDB's, or a damaged row.
    pub fn note_bundle_privacy(&self, privacy: Privacy) -> Result<(), LedgerError> {
        if reader::bundle_privacy(&self.db)? != Some(privacy) {
            let row = rows::bundle_privacy::encode(privacy);
            self.db.put_opt(meta::BUNDLE_PRIVACY, row, &durably())?;
        }
        Ok(())
    }

    /// Where the `prime_id` of each new session comes from.
    #[must_use]
    pub fn prime_ids(&self) -> PrimeIds {
        self.prime_ids.clone()
    }

    /// The gateways whose work in flight still counts; empty when asked again.
    #[must_use]
    pub fn take_restored(&mut self) -> Vec<RestoredGateway> {
        std::mem::take(&mut self.restored)
    }

    /// How long opening took.
    #[must_use]
    pub fn took(&self) -> OpenTook {
        self.took
    }

    /// The books as of the end of the log.
    #[must_use]
    pub fn books(&self) -> &LedgerBooks {
        &self.books
    }

    /// Candidates of which something may still become; of those that are mature, orphaned or refused the ones from this height on.
    ///
    /// # Errors
    /// RocksDB's, or rows that cannot be what was written.
    pub fn open_blocks(&self, settled_from: u32) -> Result<Vec<CandidateRow>, LedgerError> {
        use BlockState::{Candidate, Mature, Maturing, Orphaned, Rejected};
        let is_final = |row: &CandidateRow| {
            let block = self.books.accounts.block(&row.candidate.hash);
            let is_settled = block.is_some_and(|block| match block.state {
                Mature | Orphaned | Rejected => true,
                Candidate | Maturing => false,
            });
            is_settled && row.candidate.height < settled_from
        };
        let rows = reader::candidates(&self.db).map(|row| row.map(|(_, row)| row));
        rows.filter(|row| !row.as_ref().is_ok_and(is_final)).collect()
    }

    /// Up to where the chain was searched for blocks of ours that no share announced; none where it never was.
    ///
    /// # Errors
    /// RocksDB's, or a damaged row.
    pub fn searched(&self) -> Result<Option<Searched>, LedgerError> {
        reader::searched(&self.db)
    }

    /// Whether any session was ever begun: before the first nothing of the chain can be ours.
    #[must_use]
    pub fn had_sessions(&self) -> bool {
        self.log.last_prime_id > 0
    }

    /// Shares that the log holds.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.log.sequence
    }
}

/// Gives each session an id of its own, unique for the ledger's life.
#[derive(Debug, Clone)]
pub struct PrimeIds(Arc<AtomicU32>);

impl PrimeIds {
    /// Behind `last`, and not before `first`. Where all ids are used up the next one is 0.
    fn after(last: u32, first: u32) -> Self {
        let next = last.checked_add(1).map_or(0, |next| next.max(first));
        Self(Arc::new(AtomicU32::new(next)))
    }

    /// The next id, never 0; none when all are used up. An id that never reached the disk may be given again by a
    /// later process, since its CONFIG never left.
    #[must_use]
    pub fn next(&self) -> Option<u32> {
        let step = |next: u32| (next != 0).then(|| next.wrapping_add(1));
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).ok()
    }
}

pub(super) fn check_disk(path: &Path, floor: u64) -> Result<(), LedgerError> {
    let free = disk::free_bytes(path).map_err(|error| LedgerError::Io {
        path: path.to_path_buf(),
        error,
    })?;
    if free < floor {
        return Err(LedgerError::DiskLow {
            path: path.to_path_buf(),
            free,
            floor,
        });
    }
    Ok(())
}

/// What every write of the ledger is: on disk when it returns.
pub(super) fn durably() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}

fn open_database(path: &Path) -> Result<DB, LedgerError> {
    let foreign = path.join("CURRENT").is_file()
        && DB::list_cf(&schema::primary(), path).is_ok_and(|names| !names.iter().any(|name| name == schema::SHARES));
    if foreign {
        return Err(LedgerError::Foreign(path.to_path_buf()));
    }
    DB::open_cf_descriptors(&schema::primary(), path, schema::families()).map_err(|error| {
        // RocksDB has no kind of its own for a lock that somebody else holds: in this process, or in another.
        if ["lock hold by current process", "Resource temporarily unavailable"]
            .iter()
            .any(|text| error.as_ref().contains(text))
        {
            LedgerError::InUse(path.to_path_buf())
        } else {
            LedgerError::Open {
                path: path.to_path_buf(),
                error,
            }
        }
    })
}

/// A new ledger is bound to its chain; an old one must be of it, and is brought to this schema.
fn bind_to_chain(db: &DB, path: &Path, chain: &str, keys: &mut ChannelKeysAtRest) -> Result<(), LedgerError> {
    if db.iterator(IteratorMode::Start).next().is_none() {
        let mut batch = WriteBatch::default();
        batch.put(meta::CHAIN, chain);
        migrate::begin(&mut batch);
        return Ok(db.write_opt(batch, &durably())?);
    }
    let from = reader::schema_of(db, path)?;
    migrate::knows(from)?;
    match reader::chain(db)? {
        Some(found) if found == chain => {}
        found => {
            return Err(LedgerError::Chain {
                found: found.unwrap_or_default(),
                asked: chain.into(),
            });
        }
    }
    migrate::migrate(db, from, keys)
}

/// Rows that one batch of a start changes.
const SESSIONS_AT_ONCE: usize = 16_384;

/// Sessions that a process left open ended with it. This process cannot know when; not later than now. Nothing is kept
/// of those that nobody proved in time, nor of those that nobody worked under and nobody can any more, and no keys under which
/// nothing will come.
fn end_sessions(db: &DB, left: &Left, lasting: &Lasting, now_ms: u64) -> Result<(), LedgerError> {
    let sessions = family(db, schema::SESSIONS);
    let ended = rows::session::encode_mark(now_ms);
    for open in left.open.chunks(SESSIONS_AT_ONCE) {
        let mut batch = WriteBatch::default();
        for prime_id in open {
            batch.put_cf(sessions, rows::session::key(*prime_id, rows::session::ENDED), &ended);
        }
        db.write_opt(batch, &durably())?;
    }
    for useless in left.useless.chunks(SESSIONS_AT_ONCE) {
        let mut batch = WriteBatch::default();
        for (prime_id, gateway) in useless {
            if !lasting.keeps(*prime_id, gateway) {
                for kind in [rows::session::OPENED, rows::session::PROVEN, rows::session::ENDED] {
                    batch.delete_cf(sessions, rows::session::key(*prime_id, kind));
                }
            }
            batch.delete_cf(sessions, rows::session::key(*prime_id, rows::session::KEY));
        }
        db.write_opt(batch, &durably())?;
    }
    for useless in left.useless_keys.chunks(SESSIONS_AT_ONCE) {
        let mut batch = WriteBatch::default();
        for prime_id in useless {
            batch.delete_cf(sessions, rows::session::key(*prime_id, rows::session::KEY));
        }
        db.write_opt(batch, &durably())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rocksdb::statistics::Ticker;
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_write_is_synced_before_it_returns() {
        let data = TempDir::new().expect("a folder");
        let mut rocks = schema::primary();
        rocks.enable_statistics();
        let db = DB::open_cf_descriptors(&rocks, data.path(), schema::families()).expect("a database");
        let synced = || rocks.get_ticker_count(Ticker::WalFileSynced);
        for writes in 1..4 {
            let mut batch = WriteBatch::default();
            batch.put(b"key", [writes]);
            let before = synced();
            db.write_opt(batch, &durably()).expect("a write");
            assert_eq!(synced(), before + 1);
        }
    }

    #[test]
    fn ids_go_on_behind_the_last_and_end_without_a_zero() {
        assert_eq!(PrimeIds::after(0, 1).next(), Some(1));
        assert_eq!(PrimeIds::after(7, 1).next(), Some(8));
        assert_eq!(PrimeIds::after(7, 1_000).next(), Some(1_000));
        let ids = PrimeIds::after(u32::MAX - 1, 1);
        assert_eq!(ids.next(), Some(u32::MAX));
        assert_eq!(ids.next(), None);
        assert_eq!(ids.clone().next(), None);
        assert_eq!(PrimeIds::after(u32::MAX, 1).next(), None);
    }
}
