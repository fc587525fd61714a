//! The rows of sessions, and the channel keys that are kept with them.

use std::time::Instant;

use super::Step;
use crate::ledger::channel_keys::ChannelKeys;
use crate::ledger::entry::{Mark, SessionMark, SessionRow};
use crate::ledger::rows;
use crate::ledger::schema::{self, family, meta};
use crate::wire::ChannelKey;

impl Step<'_> {
    pub fn session(&mut self, row: &SessionRow) {
        let prime_id = row.terms.prime_id;
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
                self.keep_key(mark.prime_id, channel_key, keys);
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
            Mark::Left { key: channel_key } => {
                self.batch.put_cf(sessions, key(rows::session::ENDED), time);
                self.keep_key(mark.prime_id, channel_key, keys);
                keys.end(mark.prime_id, Instant::now());
            }
            Mark::Abandoned => {
                self.batch.delete_cf(sessions, key(rows::session::OPENED));
                self.batch.delete_cf(sessions, key(rows::session::ENDED));
            }
        }
    }

    fn keep_key(&mut self, prime_id: u32, key: &ChannelKey, keys: &mut ChannelKeys) {
        if let Some(sealed) = keys.keep(prime_id, key) {
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
