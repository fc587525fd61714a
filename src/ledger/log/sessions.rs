//! The rows of sessions, and the channel keys that are kept with them.

use std::time::Instant;

use super::Step;
use crate::ledger::channel_keys::{ChannelKeys, SealedKey};
use crate::ledger::entry::{Mark, SessionMark, SessionRow};
use crate::ledger::rows;
use crate::ledger::schema::{self, family, meta};
use crate::wire::ChannelKey;

impl Step<'_> {
    pub fn session(&mut self, row: &SessionRow, channel_key: Option<&ChannelKey>, keys: &mut ChannelKeys) {
        let prime_id = row.terms.prime_id;
        let sealed = channel_key.and_then(|channel_key| keys.keep_unproved(prime_id, channel_key));
        self.put_key(prime_id, sealed);
        let key = rows::session::key(prime_id, rows::session::OPENED);
        self.batch
            .put_cf(family(self.db, schema::SESSIONS), key, rows::session::encode(row));
        self.opened.insert(prime_id, row.clone());
        let news = self.log.lasting.told.hear(&row.terms);
        if news.script {
            self.heard.pool_scripts.push(row.terms.script.clone());
        }
        if news.tag {
            self.heard.pool_tags.push(row.terms.tag.clone());
        }
        if prime_id > self.log.last_prime_id {
            self.log.last_prime_id = prime_id;
            self.batch.put(meta::LAST_PRIME_ID, prime_id.to_le_bytes());
        }
    }

    /// What becomes of a session that was forgotten is of no interest, in whatever order one hears of it.
    ///
    /// # Errors
    /// RocksDB's.
    pub fn mark(&mut self, mark: &SessionMark, keys: &mut ChannelKeys) -> Result<(), rocksdb::Error> {
        let prime_id = mark.prime_id;
        match &mark.mark {
            Mark::Proven {
                key: channel_key,
                replaces,
                adopts,
            } => {
                let is_there = self.put_mark(prime_id, rows::session::PROVEN, mark.time_ms)?;
                // Most often it lies there since the session began.
                if is_there && !keys.holds(prime_id) {
                    let sealed = keys.keep(prime_id, channel_key);
                    self.put_key(prime_id, sealed);
                }
                if let Some(replaced) = replaces {
                    self.forget_key(*replaced, keys);
                }
                for adopted in adopts {
                    self.put_mark(*adopted, rows::session::PROVEN, mark.time_ms)?;
                    self.forget_key(*adopted, keys);
                }
            }
            // Their keys are still needed: the gateway may come once more before it proves anything.
            Mark::Adopted { adopts } => {
                for adopted in adopts {
                    self.put_mark(*adopted, rows::session::PROVEN, mark.time_ms)?;
                }
            }
            Mark::Ended { has_work } => {
                self.put_mark(prime_id, rows::session::ENDED, mark.time_ms)?;
                keys.end(prime_id, *has_work, Instant::now());
            }
            Mark::Abandoned => {
                self.forget_key(prime_id, keys);
                self.forget_session(prime_id)?;
            }
        }
        Ok(())
    }

    /// Sessions of which no share is kept and none can come.
    ///
    /// # Errors
    /// RocksDB's.
    pub fn forget_sessions(&mut self, sessions: &[u32]) -> Result<(), rocksdb::Error> {
        self.heard.noted = true;
        sessions.iter().try_for_each(|prime_id| self.forget_session(*prime_id))
    }

    /// Removes the rows of a session, but for those that stay.
    ///
    /// # Errors
    /// RocksDB's.
    pub fn forget_session(&mut self, prime_id: u32) -> Result<(), rocksdb::Error> {
        let Some(row) = self.opened_row(prime_id)? else {
            return Ok(());
        };
        let sessions = family(self.db, schema::SESSIONS);
        let proof = rows::session::key(prime_id, rows::session::PROVEN);
        let is_proven = self.proven.contains(&prime_id) || self.db.get_pinned_cf(sessions, proof)?.is_some();
        let lasting = &mut self.log.lasting;
        if lasting.keeps(prime_id, &row.gateway.ed25519) || is_proven && lasting.told.keep_if_needed(&row.terms) {
            return Ok(());
        }
        for kind in rows::session::KINDS {
            self.batch.delete_cf(sessions, rows::session::key(prime_id, kind));
        }
        self.opened.remove(&prime_id);
        self.removed.insert(prime_id);
        Ok(())
    }

    /// False where the session was forgotten.
    fn put_mark(&mut self, prime_id: u32, kind: u8, time_ms: u64) -> Result<bool, rocksdb::Error> {
        let is_there = self.is_opened(prime_id)?;
        if is_there && kind == rows::session::PROVEN {
            self.proven.insert(prime_id);
        }
        if is_there {
            let key = rows::session::key(prime_id, kind);
            self.batch.put_cf(
                family(self.db, schema::SESSIONS),
                key,
                rows::session::encode_mark(time_ms),
            );
        }
        Ok(is_there)
    }

    /// Whether the session was opened and not forgotten, as of this place in the batch, whatever its row says.
    fn is_opened(&self, prime_id: u32) -> Result<bool, rocksdb::Error> {
        if self.opened.contains_key(&prime_id) || self.removed.contains(&prime_id) {
            return Ok(!self.removed.contains(&prime_id));
        }
        let key = rows::session::key(prime_id, rows::session::OPENED);
        let row = self.db.get_pinned_cf(family(self.db, schema::SESSIONS), key)?;
        Ok(row.is_some())
    }

    /// A session as it was opened, as of this place in the batch; none where there is no such session.
    pub(super) fn opened_row(&self, prime_id: u32) -> Result<Option<SessionRow>, rocksdb::Error> {
        if let Some(row) = self.opened.get(&prime_id) {
            return Ok(Some(row.clone()));
        }
        if self.removed.contains(&prime_id) {
            return Ok(None);
        }
        let key = rows::session::key(prime_id, rows::session::OPENED);
        let row = self.db.get_pinned_cf(family(self.db, schema::SESSIONS), key)?;
        // One that does not decode is none: a start refuses it.
        Ok(row.and_then(|row| rows::session::decode(prime_id, &row).ok()))
    }

    fn put_key(&mut self, prime_id: u32, sealed: Option<SealedKey>) {
        if let Some(sealed) = sealed {
            let row = rows::session::encode_sealed_key(&sealed);
            let key = rows::session::key(prime_id, rows::session::KEY);
            self.batch.put_cf(family(self.db, schema::SESSIONS), key, row);
        }
    }

    /// Nothing will come under the channel key of this session any more.
    pub fn forget_key(&mut self, prime_id: u32, keys: &mut ChannelKeys) {
        if keys.let_go(prime_id) {
            let key = rows::session::key(prime_id, rows::session::KEY);
            self.batch.delete_cf(family(self.db, schema::SESSIONS), key);
        }
    }
}
