//! What shards dictate by: the latest snapshot, and whether its balances may be paid.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ledger::books::{BlockHash, Snapshot};
use crate::ledger::entry::CandidateRow;
use crate::ledger::ledger_books::LedgerBooks;
use crate::ledger::report::shown;
use crate::ledger::retention::REVIVES_FOR_MS;
use crate::work::{Booking, Candidate, MinedBlock};

/// The latest snapshot; any thread may take it.
#[derive(Debug, Clone, Default)]
pub struct Published(Arc<Mutex<Board>>);

#[derive(Debug, Default)]
struct Board {
    latest: Option<Latest>,
    /// Candidates that the writer has recorded, and those of them that the bookkeeper has heard of.
    recorded: u64,
    heard: u64,
}

/// What splits are dictated by from now on.
#[derive(Debug, Clone)]
pub struct Latest {
    pub snapshot: Arc<Snapshot>,
    /// Whether its balances may be paid. Not while a block is recorded that pays of them and is not booked: on top of that block
    /// the same carry would be paid again.
    pub with_balances: bool,
}

impl Published {
    /// None where there is nothing to split by yet.
    #[must_use]
    pub fn latest(&self) -> Option<Latest> {
        let board = self.board();
        let mut latest = board.latest.clone()?;
        // What the bookkeeper has not heard of may be one that pays balances.
        latest.with_balances &= board.recorded == board.heard;
        Some(latest)
    }

    /// The writer has recorded so many, before anybody else hears of them: no split on top of them may come before this.
    pub(in crate::ledger) fn candidates_are_recorded(&self, count: usize) {
        self.board().recorded += count as u64;
    }

    /// The bookkeeper has heard of so many. With them, the latest snapshot's balances may be paid or not.
    pub(in crate::ledger) fn candidates_are_heard_of(&self, count: usize, balances_stand: bool) {
        let board = &mut *self.board();
        board.heard += count as u64;
        if let Some(latest) = &mut board.latest {
            // What was withheld comes with the next snapshot, whose balances are others.
            latest.with_balances &= balances_stand;
        }
    }

    pub(super) fn publish(&self, snapshot: Option<Snapshot>, with_balances: bool) {
        let latest = snapshot.map(|snapshot| Latest {
            snapshot: Arc::new(snapshot),
            with_balances,
        });
        let former = mem::replace(&mut self.board().latest, latest);
        // It may be the last that has it, and it is large: shards need not wait for its end.
        drop(former);
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Blocks that pay of balances and are not booked. They are the rows that book themselves, for a moment, those that wait for
/// the operator and whose split is known, and blocks of the chain whose share may still come.
#[derive(Debug, Default)]
pub(super) struct Unbooked {
    found: HashMap<BlockHash, Found>,
}

#[derive(Debug, Clone, Copy)]
struct Found {
    /// Ms since 1970.
    time_ms: u64,
    /// The chain has left it, or never had it: nobody builds on what it pays.
    is_lost: bool,
}

impl Unbooked {
    /// The chain has a block of ours, seen first at this time, that is not recorded; it will be, whether its share comes or not.
    pub fn see(&mut self, block: &MinedBlock, booking: Booking, seen_ms: u64, books: &LedgerBooks) {
        if pays_balances(booking, &block.coinbase, books) {
            self.note(block.hash, seen_ms);
        }
    }

    /// A row is durable; where a share takes the place of what the chain had, its word counts.
    pub fn hear(&mut self, row: &CandidateRow, books: &LedgerBooks) {
        let Candidate {
            hash,
            booking,
            coinbase,
            ..
        } = &row.candidate;
        if books.accounts.block(hash).is_none() && pays_balances(*booking, coinbase, books) {
            self.note(*hash, row.time_ms);
        } else {
            self.found.remove(hash);
        }
    }

    /// The chain has one of these, or it has been lost for some blocks.
    pub fn follow(&mut self, hash: &BlockHash, is_in_chain: bool) {
        if let Some(found) = self.found.get_mut(hash) {
            found.is_lost = !is_in_chain;
        }
    }

    fn note(&mut self, hash: BlockHash, time_ms: u64) {
        let is_lost = false;
        self.found.insert(hash, Found { time_ms, is_lost });
    }

    /// The block is booked: what it pays has left the balances.
    pub fn is_booked(&mut self, hash: &BlockHash) {
        self.found.remove(hash);
    }

    /// Whether there are none that the chain has. One that nobody has booked for so long that its shares may be gone is let go of.
    pub fn is_empty_at(&mut self, now_ms: u64) -> bool {
        self.found.retain(|hash, found| {
            let stays = now_ms < found.time_ms.saturating_add(REVIVES_FOR_MS);
            if !stays {
                tracing::warn!(
                    block = shown(hash),
                    "a block that nobody has booked for 14 days does not keep balances out of splits any more"
                );
            }
            stays
        });
        self.found.values().all(|found| found.is_lost)
    }
}

/// Whether the block pays anybody what was owed before it: by its split, or by coins at a script that is the pool's and a payee's.
fn pays_balances(booking: Booking, coinbase: &[u8], books: &LedgerBooks) -> bool {
    match booking {
        Booking::Pays(split) if split.with_balances => true,
        Booking::Pays(_) | Booking::WithoutPayouts => books.pays_a_payee_as_the_pool(coinbase),
        // Whatever it pays, it keeps to no split, and it may be nobody's.
        Booking::ByHand { .. } => false,
    }
}
