//! Which gateways a start reads back, where the ledger has more than the shards remember: whoever worked, then the newest.

use std::collections::{BTreeMap, HashMap, HashSet};

use rocksdb::DB;

use super::Horizon;
use crate::ledger::error::LedgerError;
use crate::ledger::reader::{self, Session};
use crate::ledger::share_log;

/// How much a gateway is worth remembering: the least goes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub has_work: bool,
    pub is_proven: bool,
    /// Its last session, by `prime_id`.
    pub last: u32,
}

/// Gateways by Ed25519 key; none where all are.
pub(super) struct Chosen(Option<HashMap<[u8; 32], Rank>>);

impl Chosen {
    /// Of those with a session that may go on, `most` at most. The shares are read once more where there are too many, for who
    /// worked; memory is that of `most`, and of the sessions with such shares.
    ///
    /// # Errors
    /// RocksDB's, or damage.
    pub fn read(db: &DB, horizon: &Horizon, most: usize) -> Result<Self, LedgerError> {
        let goes_on = |session: &Result<Session, LedgerError>| session.as_ref().map_or(true, |s| horizon.goes_on(s));
        let mut sessions = 0;
        for session in reader::sessions(db).filter(goes_on) {
            session?;
            sessions += 1;
        }
        if sessions <= most {
            return Ok(Self(None));
        }
        let mut worked = HashSet::new();
        for share in share_log::shares(db, share_log::first_since(db, horizon.oldest_ms)?)? {
            worked.insert(share?.1.prime_id);
        }
        let mut best = Best::default();
        for session in reader::sessions(db).filter(goes_on) {
            let session = session?;
            let last = session.row.terms.prime_id;
            let is_proven = session.proven_ms.is_some();
            let rank = Rank {
                has_work: is_proven && (worked.contains(&last) || !horizon.has_all_shares_of(&session.row)),
                is_proven,
                last,
            };
            best.note(session.row.gateway.ed25519, rank, most);
        }
        if best.left_out > 0 {
            tracing::warn!(
                remembered = best.ranks.len(),
                left_out = best.left_out,
                "more gateways in the ledger than the shards remember: those are left out that did no work, then the oldest"
            );
        }
        Ok(Self(Some(best.ranks)))
    }

    /// Whether this gateway is read back.
    pub fn has(&self, gateway: &[u8; 32]) -> bool {
        self.0.as_ref().is_none_or(|ranks| ranks.contains_key(gateway))
    }
}

/// The best of those that were noted.
#[derive(Default)]
struct Best {
    ranks: HashMap<[u8; 32], Rank>,
    /// A rank is of one session, so of one gateway.
    by_rank: BTreeMap<Rank, [u8; 32]>,
    left_out: u64,
}

impl Best {
    /// A session of a gateway, in the order of `prime_id`s.
    fn note(&mut self, gateway: [u8; 32], session: Rank, most: usize) {
        let known = self.ranks.get(&gateway).copied();
        let former = known.unwrap_or_default();
        let rank = Rank {
            has_work: session.has_work || former.has_work,
            is_proven: session.is_proven || former.is_proven,
            last: session.last,
        };
        if let Some(former) = known {
            self.by_rank.remove(&former);
        }
        self.ranks.insert(gateway, rank);
        self.by_rank.insert(rank, gateway);
        if self.ranks.len() > most
            && let Some((_, least)) = self.by_rank.pop_first()
        {
            self.ranks.remove(&least);
            self.left_out += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_stay_that_worked_and_then_the_newest() {
        let mut best = Best::default();
        let mut note = |gateway: u8, last, has_work, is_proven| {
            let rank = Rank {
                has_work,
                is_proven,
                last,
            };
            best.note([gateway; 32], rank, 3);
        };
        note(1, 1, true, true);
        note(2, 2, false, true);
        note(3, 3, false, true);
        note(4, 4, false, false);
        // 4 has proved nothing; 2 is back, so 3 is older.
        note(2, 5, false, true);
        note(5, 6, true, true);
        // What it did in a session before counts.
        note(1, 7, false, false);
        let mut gateways: Vec<u8> = best.ranks.keys().map(|gateway| gateway[0]).collect();
        gateways.sort_unstable();
        assert_eq!(gateways, [1, 2, 5]);
        assert_eq!(best.left_out, 2);
    }
}
