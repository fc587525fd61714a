//! Proof of one block: window and split recomputed from the log alone, beside what was dictated and what was paid.

mod booked;
mod dictated;
mod paid;

use std::mem;

use bitcoin::Transaction;
use bitcoin::consensus::deserialize;
use serde::Serialize;

use self::paid::HeldToSplit;
use super::books::{BlockHash, Scheme, settle};
use super::error::LedgerError;
use super::ledger_books::{BookedBlock, SettleError};
use super::payments::Payments;
use super::reader::{self, LedgerReader};
use super::report::shown;
use crate::work::Split;

/// What an audit found. It holds where `differences` is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// As people write it.
    pub block: String,
    pub state: String,
    /// Shares of the window: from this one on, before that one.
    pub window_from: u64,
    pub window_end: u64,
    pub window_work: u128,
    /// Whether the window lacked work because older shares were no longer kept: it was shared over what was left.
    pub window_short: bool,
    pub payees: usize,
    /// Satoshi.
    pub value: u64,
    pub fee: u64,
    pub to_pool: u64,
    pub paid: u64,
    /// Outputs that the split has by the log.
    pub split_outputs: usize,
    /// Outputs that were dictated, which are compared with these. None where that was not kept, or nothing was dictated.
    pub dictated_outputs: Option<usize>,
    /// Outputs of them that the coinbase pays, in their place and to the satoshi.
    pub paid_outputs: usize,
    /// Those that it does not pay. A coinbase may pay a part of its split: these stay due.
    pub left_out: Vec<LeftOut>,
    /// The operator booked it: its coinbase is not one that keeps to a split.
    pub by_hand: bool,
    /// Of such a block, to the satoshi, how its coinbase departs from the split that its job was told. They are why it did not
    /// book itself, and no differences.
    pub departures: Vec<String>,
    /// To the satoshi, what disagrees.
    pub differences: Vec<String>,
}

/// An output of the split that the coinbase lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    pub address: String,
    /// Satoshi.
    pub value: u64,
}

/// Why there is no audit.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("no candidate of this hash was recorded")]
    NotRecorded,
    #[error("the block is not booked: there is nothing to check it against")]
    NotBooked,
    #[error(transparent)]
    Settle(#[from] SettleError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Recomputes a block.
///
/// # Errors
/// There is no such block, it is not booked, shares of its window are gone, or the ledger cannot be read.
pub fn audit(reader: &LedgerReader, hash: &BlockHash) -> Result<Audit, AuditError> {
    let db = &reader.db;
    let (place, row) = reader::candidate(db, hash)?.ok_or(AuditError::NotRecorded)?;
    let candidate = &row.candidate;
    let BookedBlock {
        block,
        settlement: booked,
        pin,
        books: then,
        before,
    } = BookedBlock::load(db, candidate, place)?.ok_or(AuditError::NotBooked)?;

    // The split as it must have been dictated, from the log alone.
    let coinbase: Transaction = deserialize(&candidate.coinbase).map_err(|_| SettleError::NoCoinbase)?;
    let own_script = reader::script_of_split(db, &row)?;
    let snapshot = then.snapshot_at(pin, &own_script).ok_or(SettleError::NoTerms)?;
    let held_to = candidate.booking.split();
    let split = held_to.map_or_else(Vec::new, |split| snapshot.payouts(candidate.value, split.with_balances));
    let HeldToSplit {
        paid: paid_outputs,
        left_out,
        mut differences,
    } = HeldToSplit::of(&Payments::of(&coinbase), &split, &own_script);
    let by_hand = row.keeps_to_no_split();
    let mut departures = Vec::new();
    if by_hand {
        departures = mem::take(&mut differences);
        if held_to.is_none() {
            // There is nothing to depart from.
            departures.clear();
        }
    }
    if let Some(dictated) = &candidate.dictated {
        differences.extend(dictated::differences(dictated, &split));
    }

    // The booking, from the window and the balances of then.
    let terms = then.terms_at(pin.event).ok_or(SettleError::NoTerms)?;
    let finder = then.finder(&candidate.username);
    let weights = terms.scheme.weights(then.window(), finder);
    let mined = then.mined(&coinbase);
    let payees = then
        .scripts()
        .iter()
        .zip(0_u32..)
        .map(|(script, payee)| (payee, before.of(payee).balance, &**script));
    let again = settle(*hash, pin.sequence, &mined, &terms.split, &weights, payees);
    differences.extend(booked::differences(&booked, &again, then.scripts()));

    let window = then.window();
    Ok(Audit {
        block: shown(hash),
        state: block.state.to_string(),
        window_from: window.front(),
        window_end: window.end(),
        window_work: window.total(),
        window_short: window.is_short(),
        payees: booked.postings.len(),
        value: booked.value,
        fee: booked.fee,
        to_pool: booked.to_pool,
        paid: booked.postings.iter().map(|posting| posting.paid).sum(),
        split_outputs: split.len(),
        dictated_outputs: candidate.dictated.as_ref().map(Vec::len),
        paid_outputs,
        left_out,
        by_hand,
        departures,
        differences,
    })
}
