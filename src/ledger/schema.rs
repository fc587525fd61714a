//! The database: its column families, and how RocksDB is told to keep them.

use std::path::{Path, PathBuf};

use rocksdb::properties::{BLOCK_CACHE_USAGE, SIZE_ALL_MEM_TABLES};
use rocksdb::{BlockBasedOptions, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, Options};

/// The layout of everything below; a change of it migrates or refuses, never guesses.
pub const SCHEMA_VERSION: u32 = 7;

/// The oldest that is migrated; one before it had no books.
pub(super) const SCHEMA_MIGRATED_FROM: u32 = 2;

/// The column families beside `default`, which holds the rows named in [`meta`].
pub(super) const FAMILIES: [&str; 11] = [
    SHARES,
    PAYEES,
    WORKERS,
    SESSIONS,
    CANDIDATES,
    TOTALS,
    EVENTS,
    SPLITS,
    HOURS,
    WAITING,
    SUBMISSIONS,
];

/// Chunks of shares by the sequence of their first.
pub(super) const SHARES: &str = "shares";
/// Output scripts by number.
pub(super) const PAYEES: &str = "payees";
/// Names of workers by number.
pub(super) const WORKERS: &str = "workers";
/// Sessions and their marks by `prime_id`.
pub(super) const SESSIONS: &str = "sessions";
/// Hashes that met the network target, by hash.
pub(super) const CANDIDATES: &str = "candidates";
/// What each payee did, by its number.
pub(super) const TOTALS: &str = "totals";
/// Work of an hour by payee and worker, of shares that are no longer kept.
pub(super) const HOURS: &str = "hours";
/// Shares that wait for a parent that no node of ours has seen, by number.
pub(super) const WAITING: &str = "waiting";
/// Events of the books by number.
pub(super) const EVENTS: &str = "events";
/// Splits that were dictated lately, by time.
pub(super) const SPLITS: &str = "splits";
/// What nodes said of blocks of ours, by block and time.
pub(super) const SUBMISSIONS: &str = "submissions";

/// Keys of the family `default`.
pub(super) mod meta {
    /// u32, little-endian: [`super::SCHEMA_VERSION`] of who made the ledger.
    pub const SCHEMA: &[u8] = b"schema";
    /// The name of the chain, UTF-8.
    pub const CHAIN: &[u8] = b"chain";
    /// u64, little-endian: shares below this sequence are counted in the totals of their payees.
    pub const TOTALS_FROM: &[u8] = b"totals_from";
    /// u32, little-endian: every `prime_id` up to this one was given, though its session may not be kept.
    pub const LAST_PRIME_ID: &[u8] = b"last_prime_id";
    /// Up to where the chain was searched: see [`super::super::rows::searched`].
    pub const SEARCHED: &[u8] = b"searched";
    /// From where on shares are kept: see [`super::super::kept`].
    pub const KEPT: &[u8] = b"kept";
    /// How audit bundles name payees: see [`super::super::rows::bundle_privacy`].
    pub const BUNDLE_PRIVACY: &[u8] = b"bundle_privacy";
}

/// A memtable of shares: some seconds of a busy pool. It is what a start after a crash reads again.
const SHARES_BUFFER: usize = 32 * MIB;
/// Memtables of the small families.
const SMALL_BUFFER: usize = 4 * MIB;
/// Small families that hardly change would keep old logs alive; past this they are flushed so that logs can go.
const WAL_MAX: u64 = 256 * MIB as u64;
/// Cache of blocks: reads are scans and start-up, so a little is enough.
const BLOCK_CACHE: usize = 32 * MIB;
/// Shares are read in order, and their parents repeat: large blocks compress well.
const SHARES_BLOCK: usize = 64 * 1_024;
/// Files that flushes and compactions write are synced in such steps, so that no commit waits behind all of them.
const SYNC_STEP: u64 = 256 * 1_024;
/// What flushes and compactions may write, bytes a second in parts of [`BACKGROUND_PART_US`]: the disk is the commits'
/// first. At 80,000 shares a second both need some 40 MiB.
const BACKGROUND_RATE: i64 = 128 * MIB as i64;
const BACKGROUND_PART_US: i64 = 2_000;
/// One in so many parts goes to compactions before flushes; RocksDB's own default.
const BACKGROUND_FAIRNESS: i32 = 10;
/// RocksDB's own log files, and how large each may grow.
const INFO_LOGS: usize = 4;
const INFO_LOG_MAX: usize = 4 * MIB;
const MIB: usize = 1_024 * 1_024;

/// Table files that the writer holds open: the newest, some 30 GiB of shares. More would take the descriptors of sessions,
/// and without a bound their number grows with the ledger.
pub const OPEN_FILES_MAX: i32 = 512;

/// The same where the system allows this process few descriptors: a quarter of them.
fn open_files() -> i32 {
    let allowed = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    allowed.map_or(OPEN_FILES_MAX, |allowed| {
        i32::try_from(allowed / 4).unwrap_or(OPEN_FILES_MAX).min(OPEN_FILES_MAX)
    })
}

/// Where the database lies in a data folder.
pub(super) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("ledger")
}

/// For the one process that writes.
pub(super) fn primary() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // A torn last write was never acknowledged and may go; damage anywhere before it must be seen, not skipped.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_paranoid_checks(true);
    options.set_max_open_files(open_files());
    options.set_max_total_wal_size(WAL_MAX);
    options.set_bytes_per_sync(SYNC_STEP);
    options.set_ratelimiter(BACKGROUND_RATE, BACKGROUND_PART_US, BACKGROUND_FAIRNESS);
    // One flush and one compaction: more would take cores from shards.
    options.set_max_background_jobs(2);
    options.set_keep_log_file_num(INFO_LOGS);
    options.set_max_log_file_size(INFO_LOG_MAX);
    options.set_stats_dump_period_sec(0);
    options
}

/// For readers beside it.
pub(super) fn secondary() -> Options {
    let mut options = Options::default();
    // A reader that closes files could not open them again once the primary has deleted them.
    options.set_max_open_files(-1);
    options.set_stats_dump_period_sec(0);
    options
}

pub(super) fn families() -> Vec<ColumnFamilyDescriptor> {
    of(&FAMILIES)
}

/// Those of them that the ledger at `path` has: all, but for an older schema.
///
/// # Errors
/// RocksDB's.
pub(super) fn families_of(path: &Path) -> Result<Vec<ColumnFamilyDescriptor>, rocksdb::Error> {
    let there = DB::list_cf(&Options::default(), path)?;
    let mut names = FAMILIES.to_vec();
    names.retain(|name| there.iter().any(|there| there == name));
    Ok(of(&names))
}

fn of(names: &[&str]) -> Vec<ColumnFamilyDescriptor> {
    let cache = rocksdb::Cache::new_lru_cache(BLOCK_CACHE);
    let default = ColumnFamilyDescriptor::new("default", small(&cache));
    let others = names.iter().map(|name| {
        let options = if *name == SHARES { shares(&cache) } else { small(&cache) };
        ColumnFamilyDescriptor::new(*name, options)
    });
    std::iter::once(default).chain(others).collect()
}

/// Bytes that the database holds in memory of what is not in its files yet, and of blocks that it has read.
pub(super) fn memory_bytes(db: &DB) -> u64 {
    let buffers = FAMILIES.iter().map(|name| {
        let bytes = db.property_int_value_cf(family(db, name), SIZE_ALL_MEM_TABLES);
        bytes.ok().flatten().unwrap_or(0)
    });
    // All families share one cache.
    let cache = db.property_int_value(BLOCK_CACHE_USAGE).ok().flatten().unwrap_or(0);
    buffers.sum::<u64>() + cache
}

fn shares(cache: &rocksdb::Cache) -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(SHARES_BUFFER);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_block_based_table_factory(&table(cache, SHARES_BLOCK));
    options
}

fn small(cache: &rocksdb::Cache) -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(SMALL_BUFFER);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_block_based_table_factory(&table(cache, 16 * 1_024));
    options
}

fn table(cache: &rocksdb::Cache, block: usize) -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(block);
    table
}

/// A family of an open ledger.
pub(super) fn family<'db>(db: &'db DB, name: &str) -> &'db rocksdb::ColumnFamily {
    db.cf_handle(name).expect("every family was opened with the database")
}
