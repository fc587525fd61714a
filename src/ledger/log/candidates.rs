//! The rows of candidates: a share's, and those of the chain alone; and what nodes say of them.

use super::Step;
use crate::ledger::entry::CandidateRow;
use crate::ledger::rows;
use crate::ledger::schema::{self, family};
use crate::ledger::submissions::SubmissionRow;
use crate::work::{Booking, Candidate, CoinbaseMark, Pin};

impl Step<'_> {
    /// The first that is recorded of a hash stays: a share sent again is another verdict on the same block. Where the row
    /// is of the chain alone, the bookkeeper hears of the share, and has it take that place unless the block is booked.
    ///
    /// # Errors
    /// RocksDB's.
    pub fn candidate(&mut self, row: CandidateRow) -> Result<(), rocksdb::Error> {
        let hash = row.candidate.hash;
        if self.candidates.contains(&hash) {
            return Ok(());
        }
        let family = family(self.db, schema::CANDIDATES);
        match self.db.get_pinned_cf(family, hash)? {
            None => self.put_candidate(self.place(), row),
            Some(known) if rows::candidate::is_unannounced(&known) => {
                self.candidates.push(hash);
                self.heard.candidates.push((self.place(), row));
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// A candidate from the bookkeeper: one of the chain alone, which gives way to any that is recorded, or a share's that
    /// takes the place of such.
    ///
    /// # Errors
    /// RocksDB's.
    pub fn note(&mut self, place: Pin, row: CandidateRow) -> Result<(), rocksdb::Error> {
        self.heard.noted = true;
        let hash = row.candidate.hash;
        let known = self.candidates.contains(&hash)
            || self
                .db
                .get_pinned_cf(family(self.db, schema::CANDIDATES), hash)?
                .is_some();
        if row.announced || !known {
            let row = self.without_a_session_that_is_gone(row)?;
            self.put_candidate(place, row);
        }
        Ok(())
    }

    /// The bookkeeper has found out of a block of the chain whose session it names. Where that was forgotten meanwhile, it is as if it
    /// never was: later on nobody could follow what was found.
    fn without_a_session_that_is_gone(&self, row: CandidateRow) -> Result<CandidateRow, rocksdb::Error> {
        let mark = CoinbaseMark::of(&row.candidate.coinbase).filter(|_| !row.announced && row.gateway != [0; 32]);
        let is_gone = match mark {
            Some(mark) => self.opened_row(mark.prime_id)?.is_none(),
            None => false,
        };
        Ok(match is_gone {
            false => row,
            true => CandidateRow {
                gateway: [0; 32],
                candidate: Candidate {
                    booking: Booking::ByHand { told: None },
                    ..row.candidate
                },
                ..row
            },
        })
    }

    /// A node's word on a block of ours.
    pub fn submission(&mut self, row: &SubmissionRow) {
        let family = family(self.db, schema::SUBMISSIONS);
        self.batch.put_cf(family, row.key(), row.value());
        self.heard.noted = true;
    }

    /// The end of the log.
    fn place(&self) -> Pin {
        Pin {
            sequence: self.log.sequence,
            event: self.log.events,
        }
    }

    fn put_candidate(&mut self, place: Pin, row: CandidateRow) {
        let hash = row.candidate.hash;
        let family = family(self.db, schema::CANDIDATES);
        self.candidates.push(hash);
        self.log.lasting.hear_candidate(&row);
        self.batch.put_cf(family, hash, rows::candidate::encode(place, &row));
        self.heard.candidates.push((place, row));
    }
}
