//! Why the ledger cannot be opened, read or written, with what a person can do about it.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::schema::{SCHEMA_MIGRATED_FROM, SCHEMA_VERSION};

#[derive(Debug, Error)]
pub enum LedgerError {
    #[error("another process serves the ledger in {0}; stop it, or give this one a data folder of its own")]
    InUse(PathBuf),
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("there is no ledger in {0}: name the data folder of a pool that has run")]
    Missing(PathBuf),
    #[error(
        "{path} has {free} bytes free, and the floor is {floor}: free some, or lower `ledger.disk_floor_bytes` knowingly"
    )]
    DiskLow { path: PathBuf, free: u64, floor: u64 },
    #[error("{0} is a RocksDB database, but no ledger of millrace; name another data folder")]
    Foreign(PathBuf),
    #[error("the ledger has schema {found}, this version of millrace knows {known}; use the version that wrote it")]
    Schema { found: u32, known: u32 },
    #[error(
        "the ledger has schema {found}, and this version of millrace reads {known}: start the pool with it once, which \
         migrates the ledger, or use the version that wrote it"
    )]
    NotMigrated { found: u32, known: u32 },
    #[error("the ledger belongs to the chain {found}, not to {asked}; name the data folder of that chain")]
    Chain { found: String, asked: String },
    #[error("the ledger in {path} cannot be opened: {error}. Restore it from a copy; do not delete files in it")]
    Open { path: PathBuf, error: rocksdb::Error },
    #[error("the ledger is damaged: {0}")]
    Damaged(#[from] Damage),
    #[error("RocksDB: {0}")]
    Rocks(#[from] rocksdb::Error),
    #[error("the writer cannot start: {0}")]
    Thread(io::Error),
    #[error(
        "{path} has mode {mode:04o}: others than its owner may read the channel keys. Run `chmod 600 {path}`; if they may have \
         read it, remove it instead: gateways that come back lose what they send before their new session is made"
    )]
    KeysTooOpen { path: PathBuf, mode: u32 },
    #[error(
        "{0} does not begin as a file of channel keys: another program wrote it, or a newer millrace. Move it away; gateways \
         that come back lose what they send before their new session is made"
    )]
    KeysForeign(PathBuf),
    #[error("the ledger is being closed")]
    Closing,
}

impl LedgerError {
    /// That a ledger has another schema than this version's.
    pub(super) fn schema(found: u32) -> Self {
        let known = SCHEMA_VERSION;
        if (SCHEMA_MIGRATED_FROM..known).contains(&found) {
            Self::NotMigrated { found, known }
        } else {
            Self::Schema { found, known }
        }
    }
}

/// A row that cannot be what the ledger wrote.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Damage {
    #[error("a row of {what} has version {version}, which this version of millrace does not know")]
    Version { what: &'static str, version: u8 },
    #[error("a row of {what} is too short")]
    Short { what: &'static str },
    #[error("a row of {what} is too long")]
    Long { what: &'static str },
    #[error("a row of {what} has an impossible {field}")]
    Value { what: &'static str, field: &'static str },
    #[error("share {sequence} names {what} {id}, which the ledger does not have")]
    Unknown { sequence: u64, what: &'static str, id: u32 },
    #[error("shares are missing: {expected} should follow, {found} does")]
    Gap { expected: u64, found: u64 },
    #[error("the {what} should be numbered without a gap: {expected} should follow, {found} does")]
    Numbering {
        what: &'static str,
        expected: u32,
        found: u32,
    },
}
