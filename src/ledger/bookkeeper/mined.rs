//! Blocks of the chain that no share announced: whose they are, and how one of ours is recorded for the operator to book.
//!
//! A share may be lost on its way while its gateway's node brings the block to the network. Then the chain is the first to
//! tell of it, and it tells what a share does but for who found it.

use std::ops::ControlFlow;

use bitcoin::Transaction;
use bitcoin::consensus::deserialize;
use rocksdb::DB;

use super::Desk;
use crate::ledger::entry::{CandidateRow, SplitRow};
use crate::ledger::error::LedgerError;
use crate::ledger::ledger_books::{self, LedgerBooks};
use crate::ledger::messages::{ChainPlace, MinedAsk, Record, Whose};
use crate::ledger::reader;
use crate::ledger::ring::Ordered;
use crate::ledger::share_log;
use crate::work::{
    Booking, Candidate, CoinbaseMark, FormedCoinbase, MinedBlock, Pin, SPLIT_GOOD_FOR_S, SPLITS_MAX, Terms,
};

impl Desk {
    /// Says whose the block is, and records it first where that was asked for and it is ours.
    pub(super) fn hear_mined(&mut self, ask: MinedAsk) -> Result<(), LedgerError> {
        let MinedAsk {
            block,
            seen_ms,
            record,
            reply,
        } = ask;
        let finding = Finding::of(&block, &self.books, &self.db)?;
        if let (Whose::Ours { .. }, Record::Nothing) = (finding.whose, &record) {
            // What it pays is not paid again while its share may come, or until it is recorded without one.
            self.unbooked.see(&block, finding.booking, seen_ms, &self.books);
            self.publish_balances();
        }
        let place = match (finding.whose, record) {
            (Whose::Ours { .. }, Record::Ours(place) | Record::ByHand(place)) => Some(place),
            (Whose::TagAlone { to_payees: 1.. }, Record::ByHand(place)) => Some(place),
            _ => None,
        };
        if let Some(place) = place {
            let mined_ms = mined_ms(&block, seen_ms);
            let sequence = share_log::first_since(&self.db, mined_ms)?;
            let pin = Pin {
                sequence,
                event: ledger_books::events_before(&self.db, sequence, mined_ms)?,
            };
            let row = finding.row(block, place, mined_ms);
            self.note(Ordered::Candidate(pin, Box::new(row)))?;
        }
        // Where nobody waits any more the block is recorded all the same.
        let _ = reply.send(finding.whose);
        Ok(())
    }

    /// A share announces a block that was found in the chain before: it takes that row's place. False where that has been done, or
    /// there was none.
    pub(super) fn take_over(&mut self, row: &CandidateRow, place: Pin) -> Result<bool, LedgerError> {
        let known = reader::candidate(&self.db, &row.candidate.hash)?;
        let takes_place = known.is_some_and(|(_, known)| !known.announced);
        if takes_place {
            self.note(Ordered::Candidate(place, Box::new(row.clone())))?;
        }
        Ok(takes_place)
    }

    /// Has the writer note something beside events, and waits until it is durable.
    pub(super) fn note(&mut self, ordered: Ordered) -> Result<(), LedgerError> {
        self.noted = false;
        self.rings.order(ordered);
        while !self.noted {
            match self.receiver.recv() {
                Ok(message) => self.take(message)?,
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }
}

/// What is found out of a block of the chain.
struct Finding {
    whose: Whose,
    booking: Booking,
    /// That of the session whose terms the coinbase names; zeros where it names none of ours.
    gateway: [u8; 32],
}

impl Finding {
    fn of(block: &MinedBlock, books: &LedgerBooks, db: &DB) -> Result<Self, LedgerError> {
        let mut finding = Self {
            whose: Whose::Nobodys,
            booking: Booking::ByHand { told: None },
            gateway: [0; 32],
        };
        if reader::candidate(db, &block.hash)?.is_some() {
            finding.whose = Whose::Recorded;
            return Ok(finding);
        }
        let (to_pool, to_payees) = books.coins(&block.coinbase);
        let mark = CoinbaseMark::of(&block.coinbase);
        let is_tagged = mark.is_some_and(|mark| books.pool_tags().any(|tag| mark.has_tag(tag)));
        if to_pool == 0 && !is_tagged {
            return Ok(finding);
        }
        let session = mark.map(|mark| reader::session(db, mark.prime_id)).transpose()?;
        if let Some(session) = session.flatten() {
            finding.gateway = session.gateway.ed25519;
            finding.booking = booking(block, &session.terms, &finding.gateway, books, db)?;
        }
        let pays_a_split = matches!(finding.booking, Booking::Pays(_));
        finding.whose = match to_pool > 0 || pays_a_split {
            true => Whose::Ours { to_pool },
            false => Whose::TagAlone { to_payees },
        };
        Ok(finding)
    }

    fn row(&self, block: MinedBlock, place: ChainPlace, mined_ms: u64) -> CandidateRow {
        let mark = CoinbaseMark::of(&block.coinbase);
        let outputs = deserialize::<Transaction>(&block.coinbase).map(|coinbase| coinbase.output);
        let paid = outputs.unwrap_or_default().into_iter();
        let candidate = Candidate {
            hash: block.hash,
            header: block.header,
            branches: place.branches,
            height: place.height,
            value: paid.map(|output| output.value.to_sat()).sum(),
            tx_count: block.tx_count,
            // Where the job lay in its session, and of what class its coinbase was, the chain does not say.
            job_id: 0,
            coinbase_id: 0,
            flags: 0,
            target_pot: mark.map_or(0, |mark| mark.target_pot),
            verdict: Ok(()),
            username: Vec::new(),
            booking: self.booking,
            // The log alone says what its split was.
            dictated: None,
            coinbase: block.coinbase,
        };
        CandidateRow {
            announced: false,
            ..CandidateRow::new(candidate, self.gateway, mined_ms)
        }
    }
}

/// What the coinbase comes to in the books, by the terms of the session that it names: as for a share's, but that what was
/// dictated is known as long as its row is there.
fn booking(
    block: &MinedBlock,
    terms: &Terms,
    gateway: &[u8; 32],
    books: &LedgerBooks,
    db: &DB,
) -> Result<Booking, LedgerError> {
    let Some(coinbase) = FormedCoinbase::read(&block.coinbase).filter(|coinbase| coinbase.keeps(terms)) else {
        return Ok(Booking::ByHand { told: None });
    };
    if !coinbase.has_payouts() {
        return Ok(Booking::WithoutPayouts);
    }
    let splits = dictated(gateway, coinbase.value(), &block.parent(), db)?;
    let mut pins: Vec<Pin> = splits.iter().map(|row| row.split.pin).collect();
    pins.sort_unstable_by(|a, b| b.cmp(a));
    pins.dedup();
    let mut paid = None;
    books.each_former_snapshot(&pins, &terms.script, db, |pin, split| {
        let mut of_pin = splits.iter().filter(|row| row.split.pin == pin);
        paid = of_pin
            .find(|row| coinbase.pays_a_part_of(&split, row.value, row.split.with_balances))
            .map(|row| Booking::Pays(row.split));
        match paid {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        }
    })?;
    Ok(paid.unwrap_or_else(|| Booking::ByHand {
        told: splits.first().map(|newest| newest.split),
    }))
}

/// Splits of this value and parent that were dictated to the gateway, in any of its sessions; the newest first.
fn dictated(gateway: &[u8; 32], value: u64, parent: &[u8; 32], db: &DB) -> Result<Vec<SplitRow>, LedgerError> {
    let mut splits = Vec::new();
    for row in reader::splits(db, 0) {
        let row = row?;
        if row.value == value
            && row.parent == *parent
            && reader::session(db, row.prime_id)?.is_some_and(|session| session.gateway.ed25519 == *gateway)
        {
            splits.push(row);
        }
    }
    splits.reverse();
    // Whoever asked more often is held to the last of them, as its shares are.
    splits.truncate(SPLITS_MAX);
    Ok(splits)
}

/// When it was found, as far as the pool knows: when it saw it, or, of one that it was long in seeing, when its header says.
fn mined_ms(block: &MinedBlock, seen_ms: u64) -> u64 {
    let said_ms = u64::from(block.time_s()) * 1_000;
    match seen_ms.saturating_sub(said_ms) > SPLIT_GOOD_FOR_S * 1_000 {
        true => said_ms,
        false => seen_ms,
    }
}
