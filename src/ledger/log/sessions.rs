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
        if self.log.last_script != row.terms.script {
            self.log.last_script = row.terms.script.clone();
            self.heard.pool_scripts.push(row.terms.script.clone());
        }
        if self.log.last_tag != row.terms.tag {
            self.log.last_tag = row.terms.tag.clone();
            self.heard.pool_tags.push(row.terms.tag.clone());
        }
        if prime_id > self.log.last_prime_id {
            self.log.last_prime_id = prime_id;
            self.batch.put(meta::LAST_PRIME_ID, prime_id.to_le_bytes());
        }
    }

    pub fn mark(&mut self, mark: &SessionMark, keys: &mut ChannelKeys) {
        let sessions = family(self.db, schema::SESSIONS);
        let key = |kind| rows::session::key(mark.prime_id, kind);
        let time = rows::session::encode_mark(mark.time_ms);
        match &mark.mark {
            Mark::Proven {
                key: channel_key,
                replaces,
                adopts,
            } => {
                self.batch.put_cf(sessions, key(rows::session::PROVEN), &time);
                // Most often it lies there since the session began.
                if !keys.holds(mark.prime_id) {
                    let sealed = keys.keep(mark.prime_id, channel_key);
                    self.put_key(mark.prime_id, sealed);
                }
                if let Some(replaced) = replaces {
                    self.forget_key(*replaced, keys);
                }
                for adopted in adopts {
                    let key = rows::session::key(*adopted, rows::session::PROVEN);
                    self.batch.put_cf(sessions, key, &time);
                    self.forget_key(*adopted, keys);
                }
            }
            // Their keys are still needed: the gateway may come once more before it proves anything.
            Mark::Adopted { adopts } => {
                for adopted in adopts {
                    let key = rows::session::key(*adopted, rows::session::PROVEN);
                    self.batch.put_cf(sessions, key, &time);
                }
            }
            Mark::Ended => {
                self.batch.put_cf(sessions, key(rows::session::ENDED), time);
                keys.end(mark.prime_id, Instant::now());
            }
            Mark::Abandoned => {
                self.batch.delete_cf(sessions, key(rows::session::OPENED));
                self.batch.delete_cf(sessions, key(rows::session::ENDED));
                self.forget_key(mark.prime_id, keys);
            }
        }
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
