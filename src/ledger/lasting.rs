//! Sessions whose rows stay, whatever becomes of the others.
//!
//! A session that nobody can work under any more, and that no share was made under, is forgotten ([`super::Mark::Abandoned`]). Two
//! kinds of them are read again all the same. The pool's own scripts and tags are those that sessions were told, so of the proven ones
//! that were told each of these one stays. And audits take the script of a block's split from the session that its coinbase names, or from the last
//! that its gateway had begun; so the sessions that candidates name stay, and those of their gateways.

use std::collections::HashSet;

use rocksdb::DB;

use super::entry::CandidateRow;
use super::error::LedgerError;
use super::reader;
use crate::work::{CoinbaseMark, Terms};

/// What sessions were told, each script and each tag once, in their order.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    scripts: Vec<Box<[u8]>>,
    tags: Vec<Box<[u8]>>,
    /// Those of which a session stays that was told them.
    lasting_scripts: Vec<Box<[u8]>>,
    lasting_tags: Vec<Box<[u8]>>,
    /// Such sessions, by `prime_id`; each is proven, since of one that is not nothing is kept.
    stay: HashSet<u32>,
}

/// What a session was told that none was before it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct News {
    pub script: bool,
    pub tag: bool,
}

impl Told {
    /// # Errors
    /// RocksDB's, or damage.
    pub fn read(db: &DB) -> Result<Self, LedgerError> {
        let mut told = Self::default();
        for session in reader::sessions(db) {
            let session = session?;
            told.hear(&session.row.terms);
            if session.proven_ms.is_some() {
                told.keep_if_needed(&session.row.terms);
            }
        }
        Ok(told)
    }

    /// A session is told these.
    pub fn hear(&mut self, terms: &Terms) -> News {
        News {
            script: self.add_script(&terms.script),
            tag: self.add_tag(&terms.tag),
        }
    }

    /// Whether the proven session of these terms stays: no other does that was told as much. If so, it does from now on.
    pub fn keep_if_needed(&mut self, terms: &Terms) -> bool {
        let is_script_new = add(&mut self.lasting_scripts, &terms.script);
        let is_tag_new = add(&mut self.lasting_tags, &terms.tag);
        if is_script_new || is_tag_new {
            self.stay.insert(terms.prime_id);
        }
        self.stay.contains(&terms.prime_id)
    }

    /// False where it was there before.
    pub fn add_script(&mut self, script: &[u8]) -> bool {
        add(&mut self.scripts, script)
    }

    /// False where it was there before.
    pub fn add_tag(&mut self, tag: &[u8]) -> bool {
        add(&mut self.tags, tag)
    }

    pub fn scripts(&self) -> &[Box<[u8]>] {
        &self.scripts
    }

    pub fn tags(&self) -> &[Box<[u8]>] {
        &self.tags
    }
}

/// An operator changes them now and then, so they are few.
fn add(known: &mut Vec<Box<[u8]>>, new: &[u8]) -> bool {
    let is_new = !known.iter().any(|known| **known == *new);
    if is_new {
        known.push(new.into());
    }
    is_new
}

/// Which sessions' rows stay.
#[derive(Debug, Default)]
pub(super) struct Lasting {
    pub told: Told,
    /// Those that coinbases of candidates name, by `prime_id`.
    named: HashSet<u32>,
    /// Ed25519 keys of the gateways that candidates are of.
    finders: HashSet<[u8; 32]>,
}

impl Lasting {
    /// `told`: as the sessions of the ledger were.
    ///
    /// # Errors
    /// RocksDB's, or damage.
    pub fn read(db: &DB, told: Told) -> Result<Self, LedgerError> {
        let mut lasting = Self {
            told,
            ..Self::default()
        };
        for candidate in reader::candidates(db) {
            lasting.hear_candidate(&candidate?.1);
        }
        Ok(lasting)
    }

    /// A candidate is recorded.
    pub fn hear_candidate(&mut self, row: &CandidateRow) {
        let mark = CoinbaseMark::of(&row.candidate.coinbase);
        self.named.extend(mark.map(|mark| mark.prime_id));
        self.finders.insert(row.gateway);
    }

    /// Whether the rows of this session of a gateway stay.
    pub fn keeps(&self, prime_id: u32, gateway: &[u8; 32]) -> bool {
        self.told.stay.contains(&prime_id) || self.named.contains(&prime_id) || self.finders.contains(gateway)
    }
}
